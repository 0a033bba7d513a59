"""The weights that a new run starts from."""

import os
import struct

import pytest
import torch
from safetensors.torch import save_file

from viscy_train.config.schema import EncoderConfig
from viscy_train.errors import UserError
from viscy_train.model.encoder import Encoder
from viscy_train.model.exported import EncoderInput, write_encoder
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


def write_export(path, encoder, config=TINY):
    write_encoder(path, encoder, config, EncoderInput(channels=["a", "b"], z_slices=1, crop=16), "0.1.0")


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
    loaded = load_initial_weights(path, encoder)
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
    loaded = load_initial_weights(path, encoder)
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
    loaded = load_initial_weights(tmp_path / "weights.pth", encoder)
    assert "weights of a network of timm" in loaded
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
    loaded = load_initial_weights(path, encoder)
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
    loaded = load_initial_weights(tmp_path / "weights.safetensors", encoder)
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
    assert "loaded the network and the projection head" in load_initial_weights(path, make_encoder(2))


def damage(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 0x40
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0, 8, 300, -5, "cut", "text", "empty", "directory", "missing"])
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


def test_a_header_that_claims_to_be_huge_is_refused(tmp_path):
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(struct.pack("<Q", 2**40) + b"{}")
    with pytest.raises(UserError, match=r"^model\.init_from"):
        load_initial_weights(path, make_encoder(2))


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save(checkpoint_of(make_encoder(1)), path)
    damage(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match="is damaged or contains other objects"):
        load_initial_weights(path, make_encoder(2))
