"""napari accepts the layers and the plugin; the model of its viewer needs no window."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import viscy_train.viewer
from viscy_train.cli.entry_point import main
from viscy_train.cli.view import add_layers
from viscy_train.exit_codes import EXIT_USER_ERROR
from viscy_train.viewer import plugin

MANIFEST = Path(viscy_train.viewer.__file__).with_name("napari.yaml")
NO_NAPARI = "napari is not installed; the extra `napari` has it"


def test_the_command_says_how_to_install_napari(capsys, run, monkeypatch):
    monkeypatch.setattr("viscy_train.cli.view.find_spec", lambda name: None)
    assert main(["view", str(run.directory.path)]) == EXIT_USER_ERROR
    line = capsys.readouterr().err.strip()
    assert line == "viscy-train: error: view needs napari, which is not installed: install viscy-train[napari]"


def test_every_command_of_the_manifest_exists():
    contributions = yaml.safe_load(MANIFEST.read_text())["contributions"]
    names = [command["python_name"] for command in contributions["commands"]]
    assert [name.partition(":")[0] for name in names] == [plugin.__name__] * 2
    assert all(callable(getattr(plugin, name.partition(":")[2])) for name in names)
    ids = {command["id"] for command in contributions["commands"]}
    assert {one["command"] for kind in ("readers", "widgets") for one in contributions[kind]} == ids


@pytest.mark.filterwarnings("default")
def test_the_manifest_is_valid():
    npe2 = pytest.importorskip("npe2", reason=NO_NAPARI)
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    assert manifest.name == "viscy-train"


@pytest.mark.filterwarnings("default")
def test_a_viewer_shows_plate_tracks_and_batch(run):
    components = pytest.importorskip("napari.components", reason=NO_NAPARI)
    viewer = components.ViewerModel()
    layers = plugin.show_position(run.directory.path, color="hours_post_infection", step=0)
    add_layers(viewer, layers)
    assert [type(layer).__name__ for layer in viewer.layers] == ["Image", "Image", "Tracks", "Shapes"]
    assert viewer.layers["tracks"].color_by == "hours_post_infection"
    assert len(viewer.layers[3].features) == viewer.layers[3].nshapes > 0
    assert viewer.layers["tracks"].blending == "translucent"  # added to a bright cell, tracks could not be seen
    assert viewer.dims.current_step[0] == viewer.dims.nsteps[0] // 2
    assert viewer.dims.axis_labels == ("t", "y", "x")
    assert tuple(viewer.layers[0].contrast_limits) == layers[0][1]["contrast_limits"]


def test_the_command_shows_what_its_options_name(run, monkeypatch):
    shown = []
    napari = SimpleNamespace(Viewer=lambda title: shown.append(title), run=lambda: shown.append("run"))
    monkeypatch.setitem(sys.modules, "napari", napari)
    monkeypatch.setattr("viscy_train.cli.view.find_spec", lambda name: name)
    monkeypatch.setattr("viscy_train.cli.view.add_layers", lambda viewer, layers: shown.append(layers))
    assert main(["view", str(run.directory.path), "--position", "B/1/1", "--step", "1"]) == 0
    title, layers, last = shown
    assert title == f"viscy-train: B/1/1 of {run.directory.path}"
    assert [kind for _, _, kind in layers] == ["image", "image", "tracks", "shapes"]
    assert last == "run"


@pytest.mark.filterwarnings("default")
def test_the_form_shows_another_position(run):
    pytest.importorskip("napari", reason=NO_NAPARI)
    pytest.importorskip("qtpy.QtWidgets", reason="Qt is not installed", exc_type=ImportError)
    form = plugin.make_form()
    layers = form(run=run.directory.path, position="B/1/1")
    assert [options["metadata"]["position"] for _, options, kind in layers if kind == "image"] == ["B/1/1"] * 2
