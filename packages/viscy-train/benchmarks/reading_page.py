"""Reading page: the tables and the picture of the reading benchmark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from viscy_train.console import make_console

from .layouts import CROP, N_DISTINCT, N_FRAMES, N_POSITIONS, N_TRACKS
from .measure import Speed
from .page import format_median_and_range, format_table
from .ways import CACHED, OURS, VISCY

# Measurements of each round, by layout and way.
type Results = dict[str, dict[str, list[Speed]]]

_INTRODUCTION = """\
# Benchmarks of reading

Written by `make bench-reading`; do not edit by hand. The tables show how many crops one process reads per second, and
the CPU time a crop takes over all its threads, in the type of the plate, before normalization. A batch has {pairs}
pairs of an anchor and a positive, composed by FlexibleBatchSampler with temporal enrichment; a positive is the same
track up to three frames later. Crops have two channels, {crop} x {crop} pixels and all slices. Generated plates
(OME-NGFF 0.5, uint16) have {positions} positions of {frames} frames, {all_frames} in all, with {tracks} cells each;
{distinct} of the frames differ, and the others are links to them. The page cache is warm, so lookup, decoding and
cropping are measured, not the disk. Each way ran {rounds} times, always in a new process, and the ways took turns:
median (minimum to maximum). "CPU of viscy-train" and "CPU of VisCy" are how many times more CPU time these took in the
same round, "over decoded" is how many times more a way took than viscy-train with chunks that are already decoded.
Other processes may use the machine at the same time, so CPU time compares ways better than the wall clock. As much
memory as the crops of a batch need is written to before, because memory that a virtual machine has not used yet takes
several times as long.

{machine}

![crops per second]({picture})
"""
_REMARKS = """
- *viscy-train, locality 8* reads batches with `locality=8` and `place_by="position"`; anchors of a frame have positives
  in the same frame.
- *viscy-train, crop store* reads random rows of a store with a part of the observations.
- *VisCy's dataset* is the dataset of its triplet data module, given the same anchors and positives as rows to predict.
- *zarr-python, crop by crop* and *iohub (zarrs), whole frames* read the same crops in simple ways.
- *Limits*: viscy-train's own reading, where all frames that crops need are in its cache (chunks that are not compressed
  have no cache; they are read from files again); cutting crops from arrays in memory; and copying as many bytes.
"""
_HEADING = ["way", "crops per second", "CPU ms a crop", "CPU of viscy-train", "CPU of VisCy", "over decoded"]


def describe(results: Results, n_pairs: int, machine: str, picture: str) -> str:
    """Return the part of the page."""
    n_rounds = len(next(iter(next(iter(results.values())).values())))
    text = _INTRODUCTION.format(
        pairs=n_pairs,
        crop=CROP,
        positions=N_POSITIONS,
        frames=N_FRAMES,
        all_frames=N_POSITIONS * N_FRAMES,
        tracks=N_TRACKS,
        distinct=N_DISTINCT,
        rounds=n_rounds,
        machine=machine,
        picture=picture,
    )
    for layout, ways in results.items():
        text += f"\n## Chunks: {layout}\n\n" + format_table([_HEADING, *_rows(ways)])
    return text + _REMARKS


def print_tables(results: Results) -> None:
    """Print a table for each layout."""
    for layout, ways in results.items():
        table = Table(*_HEADING, title=layout)
        for row in _rows(ways):
            table.add_row(*row)
        make_console(width=140).print(table)


def draw(results: Results, path: Path) -> None:
    """Draw the median of crops per second of all ways and layouts."""
    figure = Figure(figsize=(9, 1.5 + 1.1 * len(results) * 1.6), layout="constrained")
    axes = figure.subplots(len(results), 1, sharex=True, squeeze=False)[:, 0]
    for one, (layout, ways) in zip(axes, results.items(), strict=True):
        speeds = [np.median([speed.crops_per_second for speed in measured]) for measured in ways.values()]
        colors = ["tab:blue" if way.startswith(OURS) else "tab:orange" if way == VISCY else "silver" for way in ways]
        bars = one.barh(list(ways), speeds, color=colors)
        one.bar_label(bars, [f"{speed:,.0f}" for speed in speeds], padding=3, fontsize=7)
        one.margins(x=0.15)  # for the longest label
        one.invert_yaxis()
        one.set_xscale("log")
        one.set_title(f"Chunks: {layout}", fontsize=9)
        one.tick_params(labelsize=7)
    axes[-1].set_xlabel("crops per second of one process")
    figure.savefig(path, metadata={"Date": None})


def _rows(ways: dict[str, list[Speed]]) -> list[list[str]]:
    def ratio(more: str, less: str) -> str:
        if more == less or not {more, less} <= ways.keys():
            return ""
        pairs = zip(ways[more], ways[less], strict=True)
        return format_median_and_range([one.cpu_ms / other.cpu_ms for one, other in pairs])

    def across(measured: list[Speed], value: Callable[[Speed], float]) -> str:
        return format_median_and_range([value(speed) for speed in measured])

    return [
        [
            way,
            across(measured, lambda speed: speed.crops_per_second),
            across(measured, lambda speed: speed.cpu_ms),
            ratio(OURS, way),
            ratio(VISCY, way),
            ratio(way, CACHED),
        ]
        for way, measured in ways.items()
    ]
