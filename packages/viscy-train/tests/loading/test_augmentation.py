from dataclasses import fields, replace

import pytest
import torch

from viscy_train.errors import UserError
from viscy_train.loading.augmentation import Augment, AugmentationConfig

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
    """Return crops with the same blob four pixels right of the middle in all slices and channels."""
    across = torch.arange(side) - side // 2
    blob = torch.exp(-((across[:, None] ** 2 + (across - 4) ** 2) / 4))
    return blob.expand(n, 2, 3, side, side)


def test_with_all_switched_off_crops_stay_as_they_are():
    crops = make_crops()
    assert torch.equal(Augment(OFF)(crops, 1), crops)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_shape_type_and_input_are_kept(dtype):
    crops = make_crops(n_slices=3).to(dtype)
    before = crops.clone()
    varied = Augment(EVERYTHING)(crops, 1)
    assert (varied.shape, varied.dtype) == (crops.shape, dtype)
    assert torch.equal(crops, before)
    assert torch.isfinite(varied).all()


def test_a_seed_gives_the_same_pixels_each_time_and_another_seed_others():
    augment, crops = Augment(EVERYTHING), make_crops()
    assert torch.equal(augment(crops, 5), augment(crops, 5))
    assert not torch.equal(augment(crops, 5), augment(crops, 6))


def test_global_generators_are_neither_used_nor_moved():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    once = Augment(EVERYTHING)(make_crops(), 5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(Augment(EVERYTHING)(make_crops(), 5), once)


def test_a_slot_is_not_changed_by_the_pixels_of_others():
    crops = make_crops()
    other = crops.clone()
    other[1:] = 7
    assert torch.equal(Augment(EVERYTHING)(crops, 5)[0], Augment(EVERYTHING)(other, 5)[0])


def test_what_is_done_to_a_slot_does_not_depend_on_the_number_of_slots():
    options = replace(EVERYTHING, noise=0)
    few, many = (Augment(options)(make_crops(40)[:n], 5) for n in (3, 40))
    torch.testing.assert_close(few, many[:3])


@pytest.mark.parametrize("name", [field.name for field in fields(AugmentationConfig) if field.name != "blur_sigma"])
def test_each_option_alone_changes_crops(name):
    options = replace(OFF, **{name: True if name == "flip" else 0.4})
    assert not torch.equal(Augment(options)(make_crops(), 5), make_crops())


@pytest.mark.parametrize("name", ["rotation", "flip", "scale", "translation", "blur"])
def test_slices_and_channels_of_a_slot_are_moved_alike_and_slots_differently(name):
    options = replace(OFF, **{name: True if name == "flip" else getattr(EVERYTHING, name)})
    varied = Augment(options)(make_blobs(), 5)
    torch.testing.assert_close(varied, varied[:, :1, :1].expand_as(varied))
    assert len({tuple(slot.flatten().tolist()) for slot in varied[:, 0, 0]}) > 3


def test_a_crop_is_turned_about_its_middle_by_any_angle():
    varied = Augment(replace(OFF, rotation=180))(make_blobs(200), 5)[:, 0, 0]
    centre = torch.arange(33.0) - 16
    y, x = (torch.einsum(f"nyx,{axis}->n", varied, centre) / varied.sum((1, 2)) for axis in "yx")
    torch.testing.assert_close(torch.hypot(y, x), torch.full((200,), 4.0), atol=0.1, rtol=0)
    quarters = torch.histc(torch.atan2(y, x), 4, min=-torch.pi, max=torch.pi)
    assert quarters.min() > 25


def test_a_mirrored_crop_has_the_pixels_of_the_other_side():
    crops = make_crops(64)
    varied = Augment(replace(OFF, flip=True))(crops, 5)
    kinds = [crops.flip(axes) if axes else crops for axes in ((), (-1,), (-2,), (-1, -2))]
    found = torch.stack([(varied - kind).abs().amax((1, 2, 3, 4)) < 1e-4 for kind in kinds])
    assert (found.sum(0) == 1).all()
    assert (found.sum(1) > 5).all()


def test_a_shift_is_at_most_what_was_asked_for():
    varied = Augment(replace(OFF, translation=0.1))(make_blobs(200), 5)[:, 0, 0]
    position = torch.einsum("nyx,y->n", varied, torch.arange(33.0) - 16) / varied.sum((1, 2))
    assert 2.5 < position.abs().max() <= 3.31


def test_brightness_changes_by_channel_within_its_bounds():
    varied = Augment(replace(OFF, gain=0.2, offset=0.3))(torch.ones(500, 2, 1, 4, 4), 5)[:, :, 0, 0, 0]
    assert varied.min() >= 0.5
    assert varied.max() <= 1.5
    assert varied.min() < 0.6
    assert abs(torch.corrcoef(varied.T)[0, 1]) < 0.2


def test_noise_has_at_most_the_deviation_that_was_asked_for():
    deviations = Augment(replace(OFF, noise=0.5))(torch.zeros(200, 1, 1, 32, 32), 5).flatten(1).std(1)
    assert 0.45 < deviations.max() < 0.55
    assert deviations.min() < 0.05


def test_some_slots_are_blurred():
    crops = make_crops(200)
    varied = Augment(replace(OFF, blur=0.25, blur_sigma=1.5))(crops, 5)
    changed = (varied != crops).flatten(1).any(1)
    assert 30 < changed.sum() < 70
    assert (varied.flatten(1).std(1) <= crops.flatten(1).std(1) + 1e-6).all()


def test_channels_are_dropped_as_often_as_asked_for_but_never_all():
    varied = Augment(replace(OFF, channel_dropout=0.6))(torch.ones(4000, 2, 1, 2, 2), 5)[:, :, 0, 0, 0]
    assert set(varied.flatten().tolist()) == {0.0, 1.0}
    assert (varied.sum(1) >= 1).all()
    # Of a slot whose channels would all go, either stays with equal chances.
    assert (varied == 0).float().mean(0).tolist() == pytest.approx([0.6 - 0.18] * 2, abs=0.03)


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
def test_a_wrong_option_is_told_in_one_line(name, value, message):
    with pytest.raises(UserError, match=message):
        AugmentationConfig(**{name: value})
