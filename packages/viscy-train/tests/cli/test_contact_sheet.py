"""`index` answers first, then draws a contact sheet; `inspect` shows it, and what was warned of."""

import base64

import pytest
import yaml

from viscy_train.cli.entry_point import main


@pytest.fixture(scope="module")
def indexed(make_project, tmp_path_factory):
    """The configuration of a project with a position that lacks tracks, after `index` and `inspect`."""
    config = make_project(tmp_path_factory.mktemp("sheet"))
    experiments = yaml.safe_load((config.parent / "experiments.yaml").read_text())
    for one in experiments["experiments"]:
        one["micrometers_per_pixel"] = {"monday": 0.5, "tuesday": 0.25}[one["name"]]
    (config.parent / "experiments.yaml").write_text(yaml.safe_dump(experiments, sort_keys=False))
    return config


def run(capsys, *words):
    assert main([*map(str, words)]) == 0
    return capsys.readouterr().out.splitlines()


def test_index_answers_before_it_draws_and_inspect_shows_the_sheet(indexed, capsys):
    sheet, table = indexed.with_name("anchors.contact-sheet.png"), indexed.with_name("anchors.parquet")
    said = run(capsys, "index", "--config", indexed)
    look = f"Look at {sheet}: crops, fields of view, intensities and cells over time, before you train"
    assert said[-2:] == [f"Done. Wrote {table}", look]
    before = sheet.stat().st_mtime_ns
    said = run(capsys, "inspect", "--config", indexed)
    assert look in said
    assert sheet.stat().st_mtime_ns == before
    page = indexed.with_name("inspect.html").read_text()
    assert base64.b64encode(sheet.read_bytes()).decode() in page
    assert str(sheet) in page
    assert "so crops show different sizes; data.crop_um makes them equal" in page
    sheet.unlink()
    run(capsys, "inspect", "--config", indexed)
    assert sheet.exists()


def test_a_quiet_index_prints_warnings_of_sizes_and_of_tracks(indexed, capsys):
    *warnings, last = run(capsys, "index", "--config", indexed, "--sheet", "none", "-q")
    assert last.startswith("Done. ")
    assert all(line.startswith("Warning: ") for line in warnings)
    assert any("so crops show different sizes" in line for line in warnings)


def test_index_leaves_the_sheet_out_on_request(indexed, capsys):
    sheet = indexed.with_name("anchors.contact-sheet.png")
    sheet.unlink(missing_ok=True)
    assert run(capsys, "index", "--config", indexed, "--sheet", "none")[-1].startswith("Done. ")
    assert not sheet.exists()


def test_a_sheet_that_cannot_be_written_is_a_warning(indexed, capsys):
    sheet = indexed.with_name("anchors.contact-sheet.png")
    sheet.write_text("mine")
    for command in ("index", "inspect"):
        said = run(capsys, command, "--config", indexed)
        (warning,) = [line for line in said if "there is no contact sheet" in line]
        assert warning.startswith("Warning: there is no contact sheet, because an output must not replace another file")
    assert sheet.read_text() == "mine"
    sheet.unlink()
