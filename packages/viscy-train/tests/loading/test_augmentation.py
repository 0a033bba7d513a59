from dataclasses import fields, replace

import pytest
import torch

from viscy_train.config.schema import AugmentationConfig
from viscy_train.errors import UserError
from viscy_train.loading.augmentation import Augment

OFF = AugmentationConfig(
    rotation=0,
    flip=False,
    scale=0,
    translation=0,
    gain=0,
    offset=0,
    noise=0,
    blur=0,
    channel_dropout=0,
)
EVERYTHING = AugmentationConfig(blur=0.5, channel_dropout=0.3)


def make_crops(n=8, n_channels=2, n_slices=1, side=16):
    return torch.randn(n, n_channels, n_slices, side, side, generator=torch.Generator().manual_seed(0))


def make_blobs(n=32, side=33):
    """Return crops with the same blob, four pixels right of the center, in all slices and channels."""
    across = torch.arange(side) - side // 2
    blob = torch.exp(-((across[:, None] ** 2 + (across - 4) ** 2) / 4))
    return blob.expand(n, 2, 3, side, side)


def test_with_all_transforms_off_crops_are_unchanged():
    crops = make_crops()
    assert torch.equal(Augment(OFF)(crops, 1), crops)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_shape_and_type_are_kept_and_the_input_is_not_modified(dtype):
    crops = make_crops(n_slices=3).to(dtype)
    before = crops.clone()
    augmented = Augment(EVERYTHING)(crops, 1)
    assert (augmented.shape, augmented.dtype) == (crops.shape, dtype)
    assert torch.equal(crops, before)
    assert torch.isfinite(augmented).all()


def test_the_same_seed_gives_the_same_pixels_and_another_seed_gives_others():
    augment, crops = Augment(EVERYTHING), make_crops()
    assert torch.equal(augment(crops, 5), augment(crops, 5))
    assert not torch.equal(augment(crops, 5), augment(crops, 6))


def test_global_generators_are_neither_used_nor_changed():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    once = Augment(EVERYTHING)(make_crops(), 5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(Augment(EVERYTHING)(make_crops(), 5), once)


def test_a_slot_does_not_depend_on_the_pixels_of_other_slots():
    crops = make_crops()
    other = crops.clone()
    other[1:] = 7
    assert torch.equal(Augment(EVERYTHING)(crops, 5)[0], Augment(EVERYTHING)(other, 5)[0])


def test_the_transform_of_a_slot_does_not_depend_on_the_number_of_slots():
    options = replace(EVERYTHING, noise=0)
    few, many = (Augment(options)(make_crops(40)[:n], 5) for n in (3, 40))
    torch.testing.assert_close(few, many[:3])


@pytest.mark.parametrize("name", [field.name for field in fields(AugmentationConfig) if field.name != "blur_sigma"])
def test_each_option_has_an_effect_on_its_own(name):
    options = replace(OFF, **{name: True if name == "flip" else 0.4})
    assert not torch.equal(Augment(options)(make_crops(), 5), make_crops())


@pytest.mark.parametrize("name", ["rotation", "flip", "scale", "translation", "blur"])
def test_slices_and_channels_of_a_slot_share_a_geometric_transform_and_slots_do_not(name):
    options = replace(OFF, **{name: True if name == "flip" else getattr(EVERYTHING, name)})
    augmented = Augment(options)(make_blobs(), 5)
    torch.testing.assert_close(augmented, augmented[:, :1, :1].expand_as(augmented))
    assert len({tuple(slot.flatten().tolist()) for slot in augmented[:, 0, 0]}) > 3


def test_a_crop_is_rotated_about_its_center_by_any_angle():
    augmented = Augment(replace(OFF, rotation=180))(make_blobs(200), 5)[:, 0, 0]
    offsets = torch.arange(33.0) - 16
    y, x = (torch.einsum(f"nyx,{axis}->n", augmented, offsets) / augmented.sum((1, 2)) for axis in "yx")
    torch.testing.assert_close(torch.hypot(y, x), torch.full((200,), 4.0), atol=0.1, rtol=0)
    quarters = torch.histc(torch.atan2(y, x), 4, min=-torch.pi, max=torch.pi)
    assert quarters.min() > 25


def test_crops_are_flipped_along_each_axis_independently():
    crops = make_crops(64)
    augmented = Augment(replace(OFF, flip=True))(crops, 5)
    flips = [crops.flip(axes) if axes else crops for axes in ((), (-1,), (-2,), (-1, -2))]
    matches = torch.stack([(augmented - flipped).abs().amax((1, 2, 3, 4)) < 1e-4 for flipped in flips])
    assert (matches.sum(0) == 1).all()
    assert (matches.sum(1) > 5).all()


def test_a_shift_is_at_most_the_configured_translation():
    augmented = Augment(replace(OFF, translation=0.1))(make_blobs(200), 5)[:, 0, 0]
    position = torch.einsum("nyx,y->n", augmented, torch.arange(33.0) - 16) / augmented.sum((1, 2))
    assert 2.5 < position.abs().max() <= 3.31


def test_the_intensity_of_each_channel_changes_within_the_configured_range():
    augmented = Augment(replace(OFF, gain=0.2, offset=0.3))(torch.ones(500, 2, 1, 4, 4), 5)[:, :, 0, 0, 0]
    assert augmented.min() >= 0.5
    assert augmented.max() <= 1.5
    assert augmented.min() < 0.6
    assert abs(torch.corrcoef(augmented.T)[0, 1]) < 0.2


def test_the_noise_has_at_most_the_configured_standard_deviation():
    deviations = Augment(replace(OFF, noise=0.5))(torch.zeros(200, 1, 1, 32, 32), 5).flatten(1).std(1)
    assert 0.45 < deviations.max() < 0.55
    assert deviations.min() < 0.05


def test_slots_are_blurred_with_the_configured_probability():
    crops = make_crops(200)
    augmented = Augment(replace(OFF, blur=0.25, blur_sigma=1.5))(crops, 5)
    changed = (augmented != crops).flatten(1).any(1)
    assert 30 < changed.sum() < 70
    assert (augmented.flatten(1).std(1) <= crops.flatten(1).std(1) + 1e-6).all()


def test_channels_are_dropped_with_the_configured_probability_but_never_all():
    augmented = Augment(replace(OFF, channel_dropout=0.6))(torch.ones(4000, 2, 1, 2, 2), 5)[:, :, 0, 0, 0]
    assert set(augmented.flatten().tolist()) == {0.0, 1.0}
    assert (augmented.sum(1) >= 1).all()
    # If both channels of a slot would be dropped, each of them is kept with the same probability.
    assert (augmented == 0).float().mean(0).tolist() == pytest.approx([0.6 - 0.18] * 2, abs=0.03)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rotation", 181, r"augmentation.rotation must be in \[0, 180\], got 181"),
        ("rotation", None, "augmentation.rotation must be a number, got null"),
        ("flip", 1, "augmentation.flip must be true or false, got 1"),
        ("scale", 1.0, r"augmentation.scale must be in \[0, 1\), got 1.0"),
        ("translation", -0.1, r"augmentation.translation must be in \[0, 0.5\], got -0.1"),
        ("noise", -1, "augmentation.noise must be at least 0, got -1"),
        ("blur", float("nan"), "augmentation.blur must be finite, got nan"),
        ("channel_dropout", 1, r"augmentation.channel_dropout must be in \[0, 1\), got 1"),
    ],
)
def test_an_invalid_option_is_refused(name, value, message):
    with pytest.raises(UserError, match=message):
        AugmentationConfig(**{name: value})
