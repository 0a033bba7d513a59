"""What a GPU computes is what a CPU does, as far as rounding lets it; runs, kills and commands work there.

Each test runs on a GPU where there is one. The same tests on a CPU show that they work at all; they run weekly.
"""

from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from viscy_train.cli.entry_point import main
from viscy_train.config.schema import AugmentationConfig
from viscy_train.crops.native_crops import NativeCrops
from viscy_train.crops.resampling import ResampledAxis
from viscy_train.crops.window import CropWindow
from viscy_train.loading.augmentation import Augment
from viscy_train.loading.crop_batch import CropBatch, with_torch_type
from viscy_train.run.directory import RunDirectory
from viscy_train.run.metrics_csv import LOSS, read_log
from viscy_train.study.arms import Arm
from viscy_train.study.cases import Case
from viscy_train.study.opened_case import OpenedCase
from viscy_train.study.run_trial import run_trial

pytestmark = [
    pytest.mark.slow,
    # The versions of libraries beside a GPU are not those of the lock file.
    pytest.mark.filterwarnings("default"),
]
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
# A sum of two products, of pixels below 120, rounded otherwise by fused operations.
RESAMPLING_TOLERANCE = 120 * 4e-6
# Of losses and embeddings in float32, whose sums are added in another order.
RELATIVE_TOLERANCE = 2e-3
SHORT = {"trainer.max_epochs": 1, "trainer.limit_train_batches": 4, "trainer.limit_val_batches": 1}
WHOLE, RESAMPLED = (ResampledAxis(40, 16.0, 16, True), ResampledAxis(40, 20.6, 16, True))
NO_REPORT = """
import viscy_train.report.write
viscy_train.report.write.evaluate_and_write_page = lambda *_: None
"""


@pytest.fixture(params=[pytest.param("cpu", marks=pytest.mark.weekly), pytest.param("cuda", marks=NEEDS_GPU)])
def device(request):
    """The type of the device that is tested."""
    return request.param


def batch_of(axis, dtype, n=5):
    """Return a batch of crops of two channels of noise."""
    rng = np.random.default_rng(0)
    window = CropWindow(z=ResampledAxis(1, 1.0, 1), y=axis, x=axis, mode="middle")
    pixels = rng.integers(0, 120, (n, 2, 1, *window.sides)).astype(dtype)
    centers = rng.random((n, 2)) * 40
    crops = NativeCrops(
        pixels=pixels,
        slots=np.arange(n),
        window=window,
        starts=np.asarray(window.starts(centers), dtype=np.float64),
        first_slices=np.full(n, window.first_slice()),
    )
    center = (rng.random((n, 2)) * 50).astype(np.float32)
    return CropBatch.of([with_torch_type(crops)], center, center / 40 + np.float32(0.5), (1, 16, 16))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", ">u2", "int16", "int32", "uint32", "float16", "float32"])
def test_crops_that_are_not_resampled_are_those_of_the_cpu_but_for_one_unit_in_the_last_place(device, dtype):
    batch = batch_of(WHOLE, dtype)
    finished = batch.to(device).finish()
    assert finished.device.type == device
    np.testing.assert_array_max_ulp(finished.cpu().numpy(), batch.finish().numpy(), maxulp=1)


@pytest.mark.parametrize("dtype", ["uint16", ">u2", "float32"])
def test_resampled_crops_are_those_of_the_cpu_up_to_rounding(device, dtype):
    batch = batch_of(RESAMPLED, dtype)
    finished = batch.to(device).finish()
    torch.testing.assert_close(finished.cpu(), batch.finish(), rtol=1e-6, atol=RESAMPLING_TOLERANCE)


def test_pinned_crops_arrive_whole_while_the_device_is_busy(device):
    batches = [batch_of(WHOLE, "uint16", n) for n in range(1, 30)]
    pinned = [batch.pin_memory() if device == "cuda" else batch for batch in batches]
    busy = torch.randn(1000, 1000, device=device)
    arrived = []
    for batch in pinned:
        busy = busy @ busy / 1000
        arrived.append(batch.to(device, non_blocking=True).finish())
    for finished, batch in zip(arrived, batches, strict=True):
        np.testing.assert_array_max_ulp(finished.cpu().numpy(), batch.finish().numpy(), maxulp=1)


def test_a_crop_has_the_same_bits_alone_and_in_a_batch(device):
    whole = batch_of(RESAMPLED, "uint16", 9).to(device)
    (part,) = whole._parts
    for slot in range(9):
        assert torch.equal(part._resample(slice(slot, slot + 1)), part.finish()[slot : slot + 1])


def test_augmented_crops_are_those_of_the_cpu_but_for_noise(device):
    crops = torch.randn(8, 2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    options = AugmentationConfig(blur=0.5, channel_dropout=0.3)
    augmented = Augment(options)(crops.to(device), 3)
    assert (augmented.device.type, augmented.isfinite().all().item()) == (device, True)
    assert torch.equal(augmented, Augment(options)(crops.to(device), 3))
    quiet = Augment(replace(options, noise=0.0))
    torch.testing.assert_close(quiet(crops.to(device), 3).cpu(), quiet(crops, 3), rtol=1e-3, atol=1e-3)


@pytest.fixture
def make(make_project, tmp_path, device):
    """A function that writes a short project that trains on the device, and returns its configuration."""

    def make_short(**changes):
        accelerator = {"cuda": "gpu"}.get(device, device)
        return make_project(tmp_path, **SHORT | {"trainer.accelerator": accelerator} | changes)

    return make_short


def fit(config, *options):
    assert main(["fit", "--config", str(config), *options]) == 0


def losses_of(folder):
    return read_log(RunDirectory(folder / "run").metrics).dropna(subset=LOSS).set_index("step")[LOSS]


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "32-true"])
def test_fit_trains_in_each_precision(make, tmp_path, precision):
    fit(make(**{"trainer.precision": precision}))
    losses = losses_of(tmp_path)
    assert len(losses) == 4
    assert np.isfinite(losses).all()


def test_fit_has_the_losses_of_a_cpu(make, tmp_path):
    off = dict.fromkeys(("rotation", "scale", "translation", "gain", "offset", "noise", "blur", "channel_dropout"), 0.0)
    config = make(**{"data.augmentation": off | {"flip": False}})
    fit(config)
    fit(config, "--output", str(tmp_path / "other" / "run"), "--trainer.accelerator", "cpu")
    np.testing.assert_allclose(losses_of(tmp_path), losses_of(tmp_path / "other"), rtol=1e-2)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_has_the_batches_and_losses_of_one_that_was_not(make, start_viscy_train, tmp_path, workers):
    """Deterministic algorithms are used where there are any; losses may differ by what the others round."""
    changes = {"trainer.limit_train_batches": 16, "checkpoint.every_n_steps": 2, "trainer.deterministic": "warn"}
    make(**changes, **{"data.num_workers": workers})
    before = NO_REPORT + "import os\nos.environ['CUBLAS_WORKSPACE_CONFIG'] = ':4096:8'\n"
    command = ["fit", "--config", "config.yaml", "--ckpt_path", "last", "--output"]
    log = RunDirectory(tmp_path / "killed" / "run").metrics
    with start_viscy_train([*command, "killed/run"], tmp_path, before=before) as running:
        running.wait_until(lambda: (log.exists() and log.read_text().count("\n") > 4) or not running.is_running())
        running.kill()
    for name in ("killed/run", "whole/run"):
        with start_viscy_train([*command, name], tmp_path, before=before) as running:
            running.wait(0)
    killed, whole = (RunDirectory(tmp_path / name / "run") for name in ("killed", "whole"))
    pd.testing.assert_frame_equal(killed.read_batches(), whole.read_batches())
    losses = [losses_of(tmp_path / name) for name in ("killed", "whole")]
    print(f"Largest difference of a loss: {(losses[0] - losses[1]).abs().max():.3g}")
    pd.testing.assert_series_equal(*losses, rtol=1e-4)


def test_embeddings_are_those_of_a_cpu(make, tmp_path):
    config = make()
    fit(config)
    paths = [tmp_path / "here.h5ad", tmp_path / "cpu.h5ad"]
    predict = ["predict", "--config", str(config), "--out"]
    assert main([*predict, str(paths[0])]) == 0
    assert main([*predict, str(paths[1]), "--trainer.accelerator", "cpu"]) == 0
    here, cpu = (np.asarray(anndata.read_h5ad(path).X) for path in paths)
    np.testing.assert_allclose(here, cpu, rtol=RELATIVE_TOLERANCE, atol=RELATIVE_TOLERANCE * np.abs(cpu).max())


def test_headroom_is_measured(make, capsys):
    fit(make(), "--headroom", "2")
    assert "A batch takes " in capsys.readouterr().out


def test_a_run_starts_from_weights_of_another(make, tmp_path):
    config = make()
    fit(config)
    last = RunDirectory(tmp_path / "run").last_checkpoint
    fit(config, "--output", str(tmp_path / "second" / "run"), "--model.init_from", str(last))
    assert len(losses_of(tmp_path / "second")) == 4


def test_losses_are_the_same_from_a_store_and_with_threads(make, tmp_path):
    """What reads a crop, and in how many threads, does not change its bits; the device may round otherwise."""
    config = make(**{"data.sampler.locality": 4})
    assert main(["pack", "--config", str(config)]) == 0
    store = ["--data.store", str(tmp_path / "crops.zarr")]
    for name, options in (("plates", []), ("threads", ["--data.num_workers", "3"]), ("store", store)):
        fit(config, "--output", str(tmp_path / name / "run"), *options)
    for name in ("threads", "store"):
        pd.testing.assert_series_equal(losses_of(tmp_path / name), losses_of(tmp_path / "plates"), rtol=1e-4)


def test_a_trial_of_a_study_repeats_bit_for_bit(project, device):
    accelerator = "gpu" if device == "cuda" else "cpu"
    case = Case(world="project", fold="monday", config=project, held_out=(("monday", None),))
    arm = Arm(name="small", overrides={"data.sampler.batch_size": 8})
    results = [run_trial(OpenedCase(case), arm, 0, 6, accelerator) for _ in range(2)]
    assert repr(results[0]) == repr(results[1])
