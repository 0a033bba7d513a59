"""Crops are moved as plates store them, and have the same bits wherever and with whatever others they are finished."""

from __future__ import annotations

import pickle
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from viscy_train.config.schema import CropSettings
from viscy_train.crops.native_crops import NativeCrops
from viscy_train.crops.resampling import ResampledAxis
from viscy_train.crops.window import CropWindow
from viscy_train.loading.crop_batch import CropBatch, with_torch_type
from viscy_train.loading.crops import CropReader
from viscy_train.loading.datasets import CropDataset, finish_batch

DTYPES = ["uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "float16", "float32", ">f8", ">u2", "bool"]


def make_window(length=8.0, side=8, *, z_slices=1, depth=1.0, mode="middle", is_aligned=True):
    """Return what crops cover of an image of 5 slices of 40 x 50 pixels."""
    y, x = (ResampledAxis(n, length, side, is_aligned) for n in (40, 50))
    return CropWindow(z=ResampledAxis(5, depth, z_slices), y=y, x=x, mode=mode)


def make_crops(n=6, window=None, dtype="uint16", slots=None, seed=0):
    """Return n crops of two channels of noise, cut anywhere."""
    window = make_window() if window is None else window
    generator = np.random.default_rng(seed)
    n_slices = 1 if window.mode == "maximum" else window.z.n_read
    pixels = generator.integers(0, 2 if dtype == "bool" else 120, (n, 2, n_slices, *window.sides)).astype(dtype)
    centers = generator.random((n, 2)) * [40, 50]
    return NativeCrops(
        pixels=pixels,
        slots=np.arange(n) if slots is None else np.asarray(slots),
        window=window,
        starts=np.asarray(window.starts(centers), dtype=np.float64),
        first_slices=np.array([window.first_slice() for _ in range(n)]),
    )


def expected(crops, center, spread):
    """Finish crops one by one with scipy."""
    window, finished = crops.window, []
    for pixels, start, first, c, s in zip(crops.pixels, crops.starts, crops.first_slices, center, spread, strict=True):
        if window.mode != "maximum":
            pixels = window.z.resample(pixels, 1, float(first))
        pixels = window.x.resample(window.y.resample(pixels, 2, float(start[0])), 3, float(start[1]))
        pixels = np.asarray(pixels).astype(np.float32)
        pixels -= c[:, None, None, None]
        pixels /= s[:, None, None, None]
        finished.append(pixels)
    return np.stack(finished)


def normalization(n, seed=1):
    """Return center and spread of two channels of n crops."""
    generator = np.random.default_rng(seed)
    return (generator.random((n, 2)) * 50).astype(np.float32), (generator.random((n, 2)) + 0.5).astype(np.float32)


def batch_of(*parts, seed=1):
    """Return a batch of some crops."""
    n, window = sum(len(part.slots) for part in parts), parts[0].window
    shape = (1 if window.mode == "maximum" else window.z.n_resampled, window.y.n_resampled, window.x.n_resampled)
    return CropBatch.of([with_torch_type(part) for part in parts], *normalization(n, seed), shape)


RESAMPLED = [
    make_window(10.3),
    make_window(13.7, is_aligned=False),
    make_window(5.1, 8),
    make_window(8.0, 8, is_aligned=False),
    make_window(11.0, 8, mode="maximum"),
    make_window(17.3, 12, z_slices=2, depth=3.3),
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_crops_that_are_not_resampled_have_the_bits_that_numpy_gives(dtype):
    crops = make_crops(dtype=dtype)
    finished = batch_of(crops).finish()
    assert (finished.dtype, finished.shape) == (torch.float32, (6, 2, 1, 8, 8))
    np.testing.assert_array_equal(finished.numpy(), expected(crops, *normalization(6)))


def test_finishing_does_not_change_the_pixels():
    crops = make_crops(dtype="float32")
    before, batch = crops.pixels.copy(), batch_of(crops)
    assert torch.equal(batch.finish(), batch.finish())
    np.testing.assert_array_equal(crops.pixels, before)


@pytest.mark.parametrize("window", RESAMPLED)
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_resampled_crops_are_those_of_scipy(window, dtype):
    crops = make_crops(window=window, dtype=dtype)
    finished = batch_of(crops).finish().numpy()
    # Before normalization, pixels are below 120.
    np.testing.assert_allclose(finished, expected(crops, *normalization(6)), rtol=1e-6, atol=120 * 4e-6)


@settings(max_examples=30)
@given(st.data(), st.sampled_from(RESAMPLED))
def test_a_crop_has_the_same_bits_alone_and_in_any_batch(data, window):
    n = data.draw(st.integers(1, 9))
    crops = make_crops(n, window)
    center, spread = normalization(n)
    whole = batch_of(crops).finish()
    chosen = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=5))
    part = replace(
        crops,
        slots=np.arange(len(chosen)),
        **{name: getattr(crops, name)[chosen] for name in ("pixels", "starts", "first_slices")},
    )
    finished = CropBatch.of([part], center[chosen], spread[chosen], tuple(whole.shape[2:])).finish()
    assert torch.equal(finished, whole[chosen])


def test_groups_of_a_device_have_the_bits_of_single_crops(monkeypatch):
    """A GPU resamples many crops at once, with the same operations."""
    crops = make_crops(7, make_window(10.3))
    batch = batch_of(crops)
    (part,) = batch._parts
    together = part._resample(slice(None))
    assert torch.equal(part.finish(), together)


def test_crops_of_several_types_and_scales_are_in_one_batch():
    windows = [make_window(), make_window(10.3), make_window(), make_window(5.1)]
    types = ["uint16", "uint8", ">f8", "float32"]
    slots = np.random.default_rng(2).permutation(12).reshape(4, 3)
    parts = [
        make_crops(3, window, dtype, slots=one, seed=seed)
        for seed, (window, dtype, one) in enumerate(zip(windows, types, slots, strict=True))
    ]
    finished = batch_of(*parts).finish().numpy()
    center, spread = normalization(12)
    for part in parts:
        np.testing.assert_allclose(
            finished[part.slots], expected(part, center[part.slots], spread[part.slots]), rtol=1e-6, atol=120 * 4e-6
        )


def test_pixels_are_moved_in_their_own_type():
    n = 6 * 2 * 8 * 8
    sizes = {dtype: batch_of(make_crops(dtype=dtype)).nbytes / n for dtype in DTYPES}
    assert sizes == dict(zip(DTYPES, (1, 1, 2, 2, 4, 4, 4, 2, 4, 4, 4, 4), strict=True))


def test_a_batch_can_be_sent_to_another_process():
    batch = batch_of(make_crops(4, make_window(10.3)))
    assert torch.equal(pickle.loads(ForkingPickler.dumps(batch)).finish(), batch.finish())
    assert len(batch) == 4


def test_a_batch_without_crops_has_the_shape_of_crops():
    empty = np.empty((0, 2), np.float32)
    assert CropBatch.of([], empty, empty, (3, 8, 8)).finish().shape == (0, 2, 3, 8, 8)


def test_a_device_that_does_not_know_the_type_gets_floats():
    batch = batch_of(make_crops()).to("meta")
    assert (batch.device.type, batch._parts[0].pixels.dtype) == ("meta", torch.float32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("window", [make_window(), *RESAMPLED])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "float16", "float32"])
def test_a_gpu_gives_the_bits_of_the_cpu(window, dtype):
    batch = batch_of(make_crops(window=window, dtype=dtype))
    moved = batch.pin_memory().to("cuda")
    assert moved.device.type == "cuda"
    assert torch.equal(moved.finish().cpu(), batch.finish())


def test_crops_of_experiments_of_several_types_are_those_of_each(table_of):
    table, _ = table_of(names=("monday",), dtype="uint16")
    other, _ = table_of(names=("tuesday",), dtype="float64")
    rows = np.arange(len(table.observations))
    columns = ("experiment", "condition", "well", "position")
    joined = pd.concat([table.observations, other.observations], ignore_index=True)
    mixed = replace(
        table,
        experiments=[*table.experiments, *other.experiments],
        intensity=table.intensity | other.intensity,
        observations=joined.astype(dict.fromkeys(columns, "category")),
    )
    order = np.random.default_rng(3).permutation(2 * len(rows))
    together = CropReader(mixed).read(order)
    alone = np.concatenate([CropReader(one).read(rows) for one in (table, other)])
    np.testing.assert_array_equal(together, alone[order])
    assert len(CropReader(mixed).source.read(order)) == 2


def test_a_batch_of_a_dataset_is_finished_on_its_device(noise):
    table, _ = noise
    rows = [5, 2, 5]
    batch = CropDataset(replace(table, crops=CropSettings(crop=8))).__getitems__(rows)
    finished = finish_batch(batch)
    assert list(finished) == ["crops", "row"]
    assert torch.equal(finished["crops"], torch.from_numpy(CropReader(table).read(np.array(rows))))
