"""An exported encoder: the files that `viscy-train export` writes."""

from types import SimpleNamespace

import pytest
import torch
import yaml

import viscy_train
from viscy_train.anchors.fingerprint import FINGERPRINT
from viscy_train.errors import UserError
from viscy_train.model import onnx_file
from viscy_train.report import export
from viscy_train.report.export import export_encoder
from viscy_train.run.checkpoint import Checkpoint
from viscy_train.run.directory import RunDirectory
from viscy_train.run.provenance import describe_origin
from viscy_train.training.initial_weights import load_initial_weights
from viscy_train.training.lightning_cli import TrainingCLI


@pytest.fixture
def project_with_encoder(make_project, tmp_path):
    """An encoder that has not been trained, with the data and the configuration of a project."""
    make_project(tmp_path)
    cli = TrainingCLI("export", ["--config", str(tmp_path / "config.yaml")], "")
    _, model, data = cli.make_all(training=False)
    content = {"state_dict": {}, "global_step": 7, "PairDataModule": {"epoch": 2, FINGERPRINT: data.table.fingerprint}}
    checkpoint = Checkpoint(tmp_path / "last.ckpt", content)
    return SimpleNamespace(
        encoder=model.encoder.eval(),
        data=data,
        checkpoint=checkpoint,
        run=RunDirectory(tmp_path / "run"),
        config=yaml.safe_load(cli.dump()),
        origin=describe_origin("export", ["--config", "config.yaml"], checkpoint),
    )


def write(project, folder, *, with_onnx=False):
    parts = project.encoder, project.checkpoint, project.data, project.run
    return export_encoder(folder, *parts, config=project.config, origin=project.origin, with_onnx=with_onnx)


def crops_of(project, n=3):
    return torch.randn(n, project.data.n_channels, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def test_an_exported_encoder_gives_the_same_embeddings_in_python_and_as_initial_weights(project_with_encoder, tmp_path):
    files = write(project_with_encoder, tmp_path / "out")
    assert [file.name for file in files] == ["encoder.safetensors", "README.md"]
    crops, encoder = crops_of(project_with_encoder), project_with_encoder.encoder
    assert torch.equal(viscy_train.load_encoder(files[0])(crops), encoder(crops))
    cli = TrainingCLI("fit", ["--config", str(tmp_path / "config.yaml"), "--seed_everything", "77"], "")
    _, other, _ = cli.make_all(training=False)
    assert not torch.equal(other.encoder.eval()(crops), encoder(crops))
    load_initial_weights(files[0], other.encoder)
    assert torch.equal(other.encoder(crops), encoder(crops))


def test_the_model_card_says_what_the_encoder_takes_and_how_it_came_about(project_with_encoder, tmp_path):
    write(project_with_encoder, tmp_path / "out")
    readme = (tmp_path / "out" / "README.md").read_text()
    _, front, text = readme.split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "viscy-train"
    assert "time-lapse" in yaml.safe_load(front)["tags"]
    for part in (
        "input | float32, shape (n, 2, 1, 16, 16)",
        "embedding | 8 numbers",
        "trained for | 2 complete epochs, 7 steps",
        "Channels, in this order: Phase3D, Virus.",
        "mean\\_std by experiment, of each experiment",
        "| monday | infected |",
        "The run has no record of its batches.",
        "temperature: 0.2",
        "command: viscy-train export --config config.yaml",
        f"torch: {torch.__version__.split('+')[0]}",
    ):
        assert part in text, part
    assert str(tmp_path / "anchors.parquet") not in readme
    assert readme.count("```") == 6
    (intensity,) = [line for line in text.splitlines() if line.startswith("| monday | Phase3D |")]
    center, spread = project_with_encoder.data.table.intensity["monday"][0]
    assert intensity.endswith(f"| {center:.4g} | {spread:.4g} |")


def test_another_table_is_refused(project_with_encoder, tmp_path):
    fingerprint = dict.fromkeys(project_with_encoder.checkpoint.data[FINGERPRINT], "other")
    content = {"state_dict": {}, "PairDataModule": {"epoch": 0, FINGERPRINT: fingerprint}}
    project_with_encoder.checkpoint = Checkpoint(tmp_path / "last.ckpt", content)
    with pytest.raises(UserError, match="the checkpoint"):
        write(project_with_encoder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["README.md", "encoder.safetensors", "encoder.onnx"])
def test_other_files_are_not_replaced(project_with_encoder, tmp_path, name):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / name).write_text("mine")
    with pytest.raises(UserError, match="an output must not replace another file"):
        write(project_with_encoder, folder)
    assert [(file.name, file.read_text()) for file in folder.iterdir()] == [(name, "mine")]


def test_a_folder_of_something_else_is_refused(project_with_encoder, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "thesis.docx").write_text("mine")
    with pytest.raises(UserError, match=r"must be new, empty or that of an earlier export, .* has 'thesis.docx'; name"):
        write(project_with_encoder, folder)
    assert [file.name for file in folder.iterdir()] == ["thesis.docx"]


def test_an_onnx_file_of_an_earlier_export_is_deleted_with_a_word(project_with_encoder, tmp_path, capsys):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / ".gitattributes").write_text("")
    (folder / "encoder.onnx").write_bytes(b"\x08\x0a\x12\x0bviscy-train")
    write(project_with_encoder, folder)
    said = capsys.readouterr().out
    assert f"Deleted {folder / 'encoder.onnx'}, which has the weights of an earlier export; --onnx writes it" in said
    assert not (folder / "encoder.onnx").exists()


def test_a_file_in_place_of_the_folder_is_refused(project_with_encoder, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="is a file; name a folder with --out"):
        write(project_with_encoder, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_an_earlier_export_is_replaced(project_with_encoder, tmp_path):
    for _ in range(2):
        write(project_with_encoder, tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["README.md", "encoder.safetensors"]


def test_onnx_without_its_packages_is_refused_before_anything_is_written(project_with_encoder, tmp_path, monkeypatch):
    def missing():
        raise UserError("--onnx needs onnx; install viscy-train[onnx]")

    monkeypatch.setattr(export, "require_onnx", missing)
    with pytest.raises(UserError, match=r"install viscy-train\[onnx\]"):
        write(project_with_encoder, tmp_path / "out", with_onnx=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_onnx_file_gives_the_embeddings_of_torch_for_any_number_of_crops(project_with_encoder, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    files = write(project_with_encoder, tmp_path / "out", with_onnx=True)
    assert [file.name for file in files] == ["encoder.safetensors", "encoder.onnx", "README.md"]
    session = onnxruntime.InferenceSession(files[1], providers=["CPUExecutionProvider"])
    for n in (1, 4):
        crops = crops_of(project_with_encoder, n)
        (found,) = session.run(None, {"crops": crops.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), project_with_encoder.encoder(crops), rtol=1e-4, atol=1e-5)
    assert "ONNX Runtime computed the embeddings of\ntorch to within" in files[2].read_text()
    write(project_with_encoder, tmp_path / "out")
    assert not files[1].exists(), "an export without ONNX must not leave the ONNX file of other weights"


@pytest.mark.slow
def test_an_onnx_file_with_other_embeddings_is_not_written(project_with_encoder, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnx_file, "_TOLERANCE", 0.0)
    with pytest.raises(UserError, match="ONNX Runtime must compute the embeddings of torch"):
        write(project_with_encoder, tmp_path / "out", with_onnx=True)
    assert not (tmp_path / "out").exists()
