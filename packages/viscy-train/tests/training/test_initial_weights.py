"""The weights that a new run starts from."""

import os
import struct
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file

from viscy_train.config.schema import CropSettings, EncoderConfig, NormalizationConfig
from viscy_train.errors import UserError
from viscy_train.model.encoder import Encoder
from viscy_train.model.encoder_input import ENCODER_INPUT, EncoderInput
from viscy_train.model.exported import _checksum, read_encoder, read_safetensors, write_encoder
from viscy_train.training.initial_weights import load_initial_weights

TINY = EncoderConfig(width=4, features=8, projection=4)


def make_encoder(seed, n_channels=2, config=TINY, crop=16):
    torch.manual_seed(seed)
    return Encoder(n_channels, 1, crop, config).eval()


def make_timm(n_channels, name="resnet10t", crop=32):
    """Return a network of timm that classifies RGB images, and an encoder of the same network."""
    import timm

    torch.manual_seed(0)
    options = {"img_size": 32} if name.startswith("vit") else {}
    encoder = make_encoder(1, n_channels, EncoderConfig(name=name), crop)
    return timm.create_model(name, num_classes=5, **options), encoder


def checkpoint_of(encoder, *, temperature=False):
    """Return the content of a checkpoint of this package, as far as it matters."""
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    weights |= {"loss.log_temperature": torch.tensor(-1.0)} if temperature else {}
    return {"state_dict": weights, "loops": {}, "PairDataModule": {}}


def write_export(path, encoder, config=TINY, takes=None):
    takes = EncoderInput(channels=["a", "b"], z_slices=1, crop=16) if takes is None else takes
    write_encoder(path, encoder, config, takes, "0.1.0")


def input_of(*markers, is_any=False, **settings):
    """Return what an encoder takes: channels with these markers, or one channel with any of them."""
    crops = CropSettings(**{"crop": 16} | settings)
    names = [markers] if is_any else [(name,) for name in markers]
    return EncoderInput.of(["one channel"] if is_any else list(markers), names, crops)


def write_checkpoint(path, encoder, config=TINY, takes=None):
    content = checkpoint_of(encoder)
    torch.save(content | {"PairDataModule": {ENCODER_INPUT: asdict(takes)}}, path)


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (lambda path, encoder: torch.save(checkpoint_of(encoder), path), "a checkpoint"),
        (write_export, "an exported encoder"),
        (lambda path, encoder: torch.save(encoder.state_dict(), path), "weights of an encoder of viscy-train"),
        (
            lambda path, encoder: save_file(checkpoint_of(encoder)["state_dict"], path),
            "weights of a module of viscy-train",
        ),
    ],
)
def test_the_weights_of_an_encoder_of_this_package_give_its_embeddings_and_projections(tmp_path, write, kind):
    """Whatever the file is called."""
    source, encoder, path = make_encoder(1), make_encoder(2), tmp_path / "weights"
    write(path, source)
    [loaded] = load_initial_weights(path, encoder)
    n = len(source.state_dict())
    assert loaded == f"Starting from {kind}, {path}: loaded the network and the projection head, {n} weights"
    crops = torch.randn(3, 2, 1, 16, 16)
    assert torch.equal(encoder(crops), source(crops))
    assert torch.equal(encoder.project(encoder(crops)), source.project(source(crops)))


def test_a_projection_head_of_another_size_and_a_learned_temperature_are_left_out(tmp_path):
    source = make_encoder(1, config=EncoderConfig(width=4, features=8, projection=6))
    encoder, path = make_encoder(2), tmp_path / "last.ckpt"
    head = {name: value.clone() for name, value in encoder.head.state_dict().items()}
    torch.save(checkpoint_of(source, temperature=True), path)
    [loaded] = load_initial_weights(path, encoder)
    assert loaded.endswith(
        "loaded the network, 14 weights; left out the learned temperature; left out the projection head, which has "
        "other sizes"
    )
    assert all(torch.equal(head[name], value) for name, value in encoder.head.state_dict().items())
    assert torch.equal(encoder(torch.ones(1, 2, 1, 16, 16)), source(torch.ones(1, 2, 1, 16, 16)))


@pytest.mark.parametrize(("section", "prefix"), [(None, ""), ("state_dict", "module."), ("model", "")])
def test_weights_of_timm_are_loaded_without_the_classifier(tmp_path, section, prefix):
    network, encoder = make_timm(3)
    weights = {f"{prefix}{name}": value for name, value in network.state_dict().items()}
    torch.save(weights if section is None else {section: weights, "epoch": 3}, tmp_path / "weights.pth")
    [loaded] = load_initial_weights(tmp_path / "weights.pth", encoder)
    assert "weights of a network of timm" in loaded
    assert "conv1.0.weight has a filter for each of 3 input channels, red, green and blue, in this order; " in loaded
    assert loaded.endswith("left out the classifier (fc.weight, fc.bias)")
    images = torch.randn(2, 3, 32, 32)
    network.eval()
    expected = network.forward_head(network.forward_features(images), pre_logits=True)
    assert torch.equal(encoder(images[:, :, None]), expected)


@pytest.mark.parametrize("n_channels", [1, 4])
def test_the_first_convolution_for_rgb_images_is_adapted_as_timm_does(tmp_path, n_channels):
    import timm

    network, encoder = make_timm(n_channels)
    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path)
    [loaded] = load_initial_weights(path, encoder)
    assert f"adapted conv1.0.weight from 3 to {n_channels} input channels" in loaded
    overlay = {"file": str(path), "num_classes": 5}
    expected = timm.create_model(
        "resnet10t", pretrained=True, pretrained_cfg_overlay=overlay, in_chans=n_channels, num_classes=0
    )
    assert all(torch.equal(expected.state_dict()[name], value) for name, value in encoder.body.state_dict().items())


@pytest.mark.slow
def test_position_embeddings_are_resampled_to_the_size_of_the_crops(tmp_path):
    network, encoder = make_timm(1, "vit_tiny_patch16_224", crop=48)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    [loaded] = load_initial_weights(tmp_path / "weights.safetensors", encoder)
    assert "resampled pos_embed to the size of the crops" in loaded
    assert encoder.body.state_dict()["pos_embed"].shape == (1, 10, 192)


REFUSED = {
    "other channels": (lambda: checkpoint_of(make_encoder(1, 3)), "with 3 input channels, and the configured one has"),
    "another width": (
        lambda: checkpoint_of(make_encoder(1, config=EncoderConfig(width=8, features=8))),
        "0.weight has shape",
    ),
    "other features": (
        lambda: checkpoint_of(make_encoder(1, config=EncoderConfig(width=4, features=16))),
        "11.weight has shape",
    ),
    "a network of timm": (lambda: make_timm(3)[0].state_dict(), "none of its weights has a name of the network"),
    "a missing weight": (
        lambda: {name: value for name, value in make_encoder(1).state_dict().items() if name != "body.3.bias"},
        "it lacks 3.bias",
    ),
    "one layer more": (
        lambda: make_encoder(1).state_dict() | {"body.12.weight": torch.ones(2)},
        "the network has no 12.weight",
    ),
    "infinite": (
        lambda: make_encoder(1).state_dict() | {"body.0.bias": torch.full((4,), torch.inf)},
        "has weights that are not finite: 0.bias",
    ),
    "no weights": (lambda: {"state_dict": {"a": 1}}, "contains something else"),
    "empty": (dict, "contains something else"),
    "a list": (lambda: [torch.ones(2)], "contains something else"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_weights_of_another_network_are_refused_and_leave_the_encoder_as_it_is(tmp_path, case):
    make, message = REFUSED[case]
    encoder, path = make_encoder(2), tmp_path / "weights.ckpt"
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    torch.save(make(), path)
    with pytest.raises(UserError, match=message) as error:
        load_initial_weights(path, encoder)
    assert "\n" not in str(error.value)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


@pytest.mark.slow
def test_a_smaller_network_does_not_take_a_part_of_a_larger_one(tmp_path):
    network, _ = make_timm(3, "resnet18")
    _, encoder = make_timm(3, "resnet10t")
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"is of another network than model\.encoder"):
        load_initial_weights(tmp_path / "weights.pth", encoder)


class Code:
    """An object whose reading would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("old_format", [False, True])
def test_code_in_a_file_is_not_run(tmp_path, old_format):
    path, created = tmp_path / "weights.pth", tmp_path / "created"
    torch.save({"a": Code(created)}, path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(UserError, match="damaged or contains other objects"):
        load_initial_weights(path, make_encoder(1))
    assert not created.exists()


def test_a_pickle_of_an_earlier_version_of_torch_is_read(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(make_encoder(1).state_dict(), path, _use_new_zipfile_serialization=False)
    assert "loaded the network and the projection head" in load_initial_weights(path, make_encoder(2))[0]


def damage(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 0x40
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0, 8, -5, "cut", "text", "empty", "directory", "missing"])
def test_a_damaged_file_is_one_line_that_names_the_option(tmp_path, place):
    path = tmp_path / "encoder.safetensors"
    write_export(path, make_encoder(1))
    content = path.read_bytes()
    if isinstance(place, int):
        damage(path, place)
    elif place in ("missing", "directory"):
        path.unlink()
        if place == "directory":
            path.mkdir()
    else:
        path.write_bytes({"cut": content[:-20], "text": b"weights: 3\n", "empty": b""}[place])
    with pytest.raises(UserError, match=r"^model\.init_from") as error:
        load_initial_weights(path, make_encoder(2))
    assert "\n" not in str(error.value)


def test_no_bit_of_the_metadata_of_an_export_changes_unnoticed(tmp_path):
    path = tmp_path / "encoder.safetensors"
    write_export(path, make_encoder(1))
    content = path.read_bytes()
    start = content.index(b"__metadata__")
    for place in range(start, content.index(b'"},', start)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 7]) + content[place + 1 :])
        with pytest.raises(UserError, match=r"damaged|must have version"):
            read_encoder(path)


def test_an_export_of_the_first_version_is_read(tmp_path):
    path = tmp_path / "encoder.safetensors"
    write_export(path, make_encoder(1))
    metadata, weights = read_safetensors(path)
    metadata["version"] = "1"
    # The first version had a checksum of the weights only.
    save_file(weights, path, metadata | {"sha256": _checksum(weights, {})})
    exported = read_encoder(path)
    assert exported is not None
    assert exported.takes == EncoderInput(channels=["a", "b"], z_slices=1, crop=16)


def test_a_header_that_claims_to_be_huge_is_refused(tmp_path):
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(struct.pack("<Q", 2**40) + b"{}")
    with pytest.raises(UserError, match=r"^model\.init_from"):
        load_initial_weights(path, make_encoder(2))


@pytest.mark.parametrize("start", [b"\x80", b"PK"])
def test_a_file_of_safetensors_is_recognized_also_if_its_length_starts_like_a_file_of_torch(tmp_path, start):
    path, weights = tmp_path / "encoder.safetensors", make_encoder(1).state_dict()
    save_file(weights, path, {"": ""})
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    padding = (int.from_bytes(start, "little") - length) % 256 ** len(start)
    save_file(weights, path, {"": "x" * padding})
    assert path.read_bytes().startswith(start)
    assert "loaded the network and the projection head" in load_initial_weights(path, make_encoder(2))[0]


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save(checkpoint_of(make_encoder(1)), path)
    damage(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match="is damaged or contains other objects"):
        load_initial_weights(path, make_encoder(2))


ONE = {"is_any": True}
DIFFERENT = {
    "none": (input_of("a", "b"), input_of("a", "b"), []),
    "order of the channels": (
        input_of("a", "b"),
        input_of("b", "a"),
        ["the channels a, b, and this run has b, a; list `channels` of the experiments in that order"],
    ),
    "other channels": (input_of("a", "b"), input_of("a", "c"), ["the channels a, b, and this run has a, c"]),
    "other markers": (
        input_of("a", "b", **ONE),
        input_of("b", "c", **ONE),
        ["the channels a or b, and this run has b or c"],
    ),
    "some of the markers": (input_of("a", "b", **ONE), input_of("b", **ONE), []),
    "side": (
        input_of("a", crop_um=8),
        input_of("a", crop=24, crop_um=6),
        ["crops that differ from those of this run: data.crop 24 (was 16), data.crop_um 6 (was 8)"],
    ),
    "slices": (
        input_of("a", z_slices=2, z="sharpest"),
        input_of("a", z_slices=2, depth_um=3),
        ["crops that differ from those of this run: data.depth_um 3 (was null), data.z middle (was sharpest)"],
    ),
    "normalization": (
        input_of("a"),
        input_of("a", normalization=NormalizationConfig(by="frame")),
        ["crops that differ from those of this run: data.normalization mean_std by frame (was mean_std by experiment)"],
    ),
    "of an earlier version": (
        EncoderInput(channels=["a", "b"], z_slices=1, crop=16),
        EncoderInput.of(["b", "a"], [["y"], ["x"]], CropSettings(crop=16, z="random")),
        ["the channels a, b, and this run has b, a; list `channels` of the experiments in that order"],
    ),
}


@pytest.mark.parametrize("write", [write_export, write_checkpoint])
@pytest.mark.parametrize("case", DIFFERENT)
def test_a_note_names_what_crops_have_that_those_of_the_file_had_not(tmp_path, case, write):
    before, now, expected = DIFFERENT[case]
    path, n_planes = tmp_path / "weights", len(now.channels) * now.z_slices
    write(path, make_encoder(1, n_planes), takes=before)
    _, *notes = load_initial_weights(path, make_encoder(2, n_planes), now)
    assert notes == [f"Note: the weights in {path} were trained on {one}" for one in expected]


@pytest.mark.parametrize("write", [write_export, write_checkpoint])
def test_another_layout_of_channels_and_slices_is_refused(tmp_path, write):
    """Two channels with a slice are as many input channels of the network as one channel with two slices."""
    path, encoder = tmp_path / "weights", make_encoder(2)
    before = encoder.state_dict()["body.0.weight"].clone()
    write(path, make_encoder(1), takes=input_of("a", "b"))
    message = "is of an encoder of 2 channels with 1 slice each, and that of this run has 1 channel with 2 slices; set"
    with pytest.raises(UserError, match=message):
        load_initial_weights(path, encoder, input_of("a", z_slices=2))
    assert torch.equal(encoder.state_dict()["body.0.weight"], before)


@pytest.mark.parametrize("is_any", [False, True])
def test_channels_and_crops_of_a_checkpoint_of_an_earlier_version_are_those_of_its_table(tmp_path, is_any):
    table = {"channels": '{"e1": ["a", "b"], "e2": ["c", "d"]}', "crop": "16", "z_slices": "1", "data.z": "sharpest"}
    table |= {"data.channels": "one"} if is_any else {}
    path, n_planes = tmp_path / "last.ckpt", 2 - is_any
    torch.save(checkpoint_of(make_encoder(1, n_planes)) | {"PairDataModule": {"anchors": table}}, path)
    now = input_of("b", is_any=True) if is_any else input_of("b", "a")
    _, *notes = load_initial_weights(path, make_encoder(2, n_planes), now)
    assert [note.partition(" were trained on ")[2] for note in notes] == [
        *["the channels a, b, and this run has b, a; list `channels` of the experiments in that order"] * (not is_any),
        "crops that differ from those of this run: data.z middle (was sharpest)",
    ]


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"anchors": {"channels": "[", "crop": "16", "z_slices": "1"}},
        {"anchors": {"channels": "{}", "crop": "16", "z_slices": "1"}},
        {"anchors": 3},
        {ENCODER_INPUT: 3},
        {ENCODER_INPUT: {"channels": "ab", "z_slices": 1, "crop": 16}},
        {ENCODER_INPUT: {"channels": ["a"], "z_slices": 1, "crop": 16, "markers": [["a"], ["b"]]}},
        3,
    ],
)
def test_weights_are_loaded_also_if_the_crops_of_a_checkpoint_are_unknown(tmp_path, state):
    path = tmp_path / "last.ckpt"
    torch.save(checkpoint_of(make_encoder(1)) | {"PairDataModule": state}, path)
    assert len(load_initial_weights(path, make_encoder(2), input_of("a", "b"))) == 1
