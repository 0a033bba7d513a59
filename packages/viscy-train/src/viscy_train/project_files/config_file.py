"""Configuration file: a `config.yaml` to start from, with the settings that plates suggest."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Crops of this size, in micrometers, show a cell and its surroundings.
CROP_UM = 30.0
_MULTIPLE = 16
_SMALLEST = 16
_DEFAULT = 64
_TOLERANCE = 0.05
_BATCH_SIZE = 128
# A batch has an anchor, and another one that it is compared with.
_SMALLEST_BATCH = 2
# At least this part of the anchors is for training, also if positions differ in their number of cells.
_TRAINED = 0.6


@dataclass(frozen=True, kw_only=True)
class ConfigDraft:
    """What is known about the images of a project.

    Parameters
    ----------
    scales : tuple of float
        Micrometers per pixel of each experiment, as far as they are known.
    all_known : bool
        Whether the scale of each experiment is known.
    side : int, optional
        Width or height of the smallest image, in pixels.
    n_slices : int
        Largest number of slices of a stack.
    n_frames : int
        Largest number of frames.
    one_channel : bool
        Whether an encoder must see one channel at a time, because experiments have different ones.
    keeps_positions : bool
        Whether there are enough positions to keep some for validation.
    n_anchors : int, optional
        About how many anchors there are, if tracks are known.
    """

    scales: tuple[float, ...] = ()
    all_known: bool = False
    side: int | None = None
    n_slices: int = 1
    n_frames: int = 2
    one_channel: bool = False
    keeps_positions: bool = True
    n_anchors: int | None = None


def config_text(draft: ConfigDraft) -> str:
    """Return the text of a configuration file."""
    split = "{by: position, fraction: 0.2}" if draft.keeps_positions else "{by: none}"
    return _CONFIG.format(
        crop=_crop_lines(draft),
        z=_z_lines(draft),
        channels=_channel_lines(draft),
        positive=_positive(draft),
        split=split,
        batch_size=_batch_size_lines(draft),
    )


def suggested_crop(micrometers_per_pixel: float | None, side: int | None) -> int:
    """Return a side of crops, in pixels, that shows about 30 micrometers and fits into an image."""
    pixels = _DEFAULT if micrometers_per_pixel is None else CROP_UM / micrometers_per_pixel
    largest = math.inf if side is None else side // _MULTIPLE * _MULTIPLE
    crop = min(max(_SMALLEST, round(pixels / _MULTIPLE) * _MULTIPLE), largest)
    return int(crop) or int(side or _SMALLEST)


def suggested_batch_size(n_anchors: int | None, *, keeps_positions: bool) -> int:
    """Return a power of 2, at most 128, that anchors for training fill even if a part of them is for validation."""
    if n_anchors is None:
        return _BATCH_SIZE
    n_trained = max(_SMALLEST_BATCH, n_anchors * (_TRAINED if keeps_positions else 1))
    return min(_BATCH_SIZE, 2 ** int(math.log2(n_trained)))


def _batch_size_lines(draft: ConfigDraft) -> str:
    size = suggested_batch_size(draft.n_anchors, keeps_positions=draft.keeps_positions)
    if size == _BATCH_SIZE:
        return f"    batch_size: {size}"
    return f"    # Small, because the tracks have only about {draft.n_anchors} anchors.\n    batch_size: {size}"


def _crop_lines(draft: ConfigDraft) -> str:
    coarsest = max(draft.scales, default=None)
    crop = suggested_crop(coarsest, draft.side)
    if coarsest is None:
        return (
            "  # The encoder sees a square of this many pixels around each cell. The plates do not state their scale.\n"
            f"  crop: {crop}"
        )
    if coarsest > min(draft.scales) * (1 + _TOLERANCE) and draft.all_known:
        sizes = " and ".join(f"{size:g}" for size in sorted(set(draft.scales)))
        return (
            f"  # Pixels are {sizes} micrometers wide, so crops of one size in micrometers are resampled to\n"
            "  # `crop` pixels.\n"
            f"  crop_um: {_crop_um(draft, crop * coarsest):g}\n  crop: {crop}"
        )
    return (
        f"  # The encoder sees a square of this many pixels around each cell: {crop * coarsest:.3g} micrometers at "
        f"{coarsest:g} micrometers per pixel.\n  crop: {crop}"
    )


def _crop_um(draft: ConfigDraft, micrometers: float) -> float:
    """Return the side of crops in micrometers, no more than what the smallest image shows at the finest scale."""
    return micrometers if draft.side is None else min(micrometers, draft.side * min(draft.scales))


def _z_lines(draft: ConfigDraft) -> str:
    if draft.n_slices == 1:
        return "  z_slices: 1"
    return (
        f"  # Stacks have {draft.n_slices} slices, of which only the middle one is read, unless z is sharpest,\n"
        "  # random or maximum (a projection), or z_slices is larger.\n"
        "  z_slices: 1\n  z: middle"
    )


def _channel_lines(draft: ConfigDraft) -> str:
    if draft.one_channel:
        return (
            "  # Experiments have different channels, so an encoder sees a cell in one channel at a time.\n"
            "  channels: one"  # on a line of its own
        )
    return (
        "  # all: an encoder sees all channels of a cell. one: a cell in each channel is an anchor of its own.\n"
        "  channels: all"
    )


def _positive(draft: ConfigDraft) -> str:
    return "{min_frames: 1, max_frames: 4}" if draft.n_frames > 1 else "{min_frames: 0, max_frames: 0}"


_CONFIG = """\
# Build the anchor table, look at the composition of batches, and train:
#   viscy-train index --config THIS_FILE
#   viscy-train inspect --config THIS_FILE
#   viscy-train fit --config THIS_FILE
# Relative paths start at the directory of this file.

seed_everything: 0

# A new or empty directory for the results.
output: run

trainer:
  max_epochs: 20

model:
  # A small network to begin with. Any other name is a model of timm, such as convnext_tiny.
  encoder: {{name: tiny}}

data:
  experiments: experiments.yaml
  anchors: anchors.parquet

{crop}
{z}

  # Intensities are normalized by center and spread of each channel: by experiment, position or frame. With percentiles
  # in place of mean_std, a few bright cells hardly change them.
  normalization: {{by: experiment, method: mean_std}}

{channels}

  # The positive of an anchor belongs to the same lineage, this many frames earlier or later. With min_hours and
  # max_hours, the range is in hours; without tracks over time, use {{min_frames: 0, max_frames: 0}}.
  positive: {positive}

  # The composition of the batches. These are the parameters of viscy_data.FlexibleBatchSampler. To find out whether it
  # pays on your cells: viscy-train compare --config THIS_FILE
  sampler:
{batch_size}
    # Each batch comes from one experiment. Set this to false where experiments have one condition each: there it hurt.
    experiment_aware: true
    # Each condition makes up an equal part of each batch, which helps to find a rare one.
    condition_balanced: true
    # Off, because neither gained anything where it was measured. A leak takes a part of each batch, such as 0.125, from
    # other experiments, and undid part of their mixing. Temporal enrichment takes most of each batch from within
    # temporal_window_hours of one time, and embeddings said less of the hours: turn it on only if time is a nuisance.
    leaky: 0.0
    temporal_enrichment: false

  # What to keep for validation: by position, by experiment, or none.
  split: {split}

evaluation:
  # What pages call the times of cells, such as "hours after seeding".
  time: hours post infection
"""
