"""Drawing: the layout of a contact sheet, from the top to the bottom.

An experiment has a heading, histograms and a plot of its cells over time, then a line for each condition: its name, and
two frames, each a field of view with the crops that are cut from it beside.
"""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.contact_sheet.canvas import FAINT, GRAY, PAPER, Canvas, fitted, lines_of, width_of, wrapped
from viscy_train.contact_sheet.fields import as_gray, shown_size, shrink
from viscy_train.contact_sheet.selection import TILES
from viscy_train.contact_sheet.tiles import Tiles
from viscy_train.errors import UserError
from viscy_train.palette import CONDITION_COLORS
from viscy_train.row_slices import distinct_values
from viscy_train.wording import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.contact_sheet.fields import Field
    from viscy_train.contact_sheet.selection import SampledCondition, SampledExperiment, Selection
    from viscy_train.contact_sheet.tiles import Drawn
    from viscy_train.loading.observed_positions import ObservedPositions

FIELD = 168
"""Longer side of a field of view, in pixels."""
_TILE, _GAP, _MARGIN, _LABEL, _BETWEEN = 82, 4, 24, 176, 26
_CROPS = TILES * _TILE + (TILES - 1) * _GAP
_HALF = FIELD + 10 + _CROPS
_INNER = _LABEL + 2 * _HALF + _BETWEEN
_LINE = FIELD + 34
_TITLE, _HEADING, _PANELS, _PLOT = 124, 58, 128, 78
_NAMES_LINE, _NAMES_LINES, _LABEL_LINES = 18, 2, 4
_DARK, _DOT = 51, "#FFC400"
# In a field of view in which crops are smaller, larger dots would hide the cells.
_SMALL_CROP = 16
_MICROMETERS = "\N{MICRO SIGN}m"
# Of the crops of a frame: as different as possible on gray.
_CROP_COLORS = ["#FF5D5D", "#38B6FF", "#5EE05E", "#FF9F1C", "#E56BFF", "#00D9C0", "#F6F740", "#B5A1FF"]


def draw_sheet(table: AnchorTable, positions: ObservedPositions, selection: Selection, drawn: Sequence[Drawn]) -> Any:
    """Draw a sheet.

    Parameters
    ----------
    table : AnchorTable
        The table.
    positions : ObservedPositions
        Its positions.
    selection : Selection
        What is shown.
    drawn : sequence of Drawn
        Its frames.

    Returns
    -------
    PIL.Image.Image
        The picture: the same for the same table and pixels.
    """
    height = _TITLE + sum(map(_height_of, selection.experiments)) + _names_height(selection.left_out) + _MARGIN
    sheet = _Sheet(table, Tiles(table, positions, drawn), drawn, Canvas(_INNER + 2 * _MARGIN, height))
    sheet.draw_title()
    for experiment in selection.experiments:
        sheet.draw_experiment(experiment)
    sheet.draw_left_out("experiments", selection.left_out)
    return sheet.canvas.finished()


def _height_of(experiment: SampledExperiment) -> int:
    return _HEADING + _PANELS + len(experiment.conditions) * _LINE + _names_height(experiment.left_out)


def _names_height(names: Sequence[str]) -> int:
    return (_NAMES_LINES + 1) * _NAMES_LINE if names else 0


class _Sheet:
    """A sheet that is drawn from top to bottom."""

    def __init__(self, table: AnchorTable, tiles: Tiles, drawn: Sequence[Drawn], canvas: Canvas) -> None:
        self._table, self._tiles, self.canvas = table, tiles, canvas
        self._drawn = {(one.experiment, one.frame.position, one.frame.frame, id(one.frame)): one for one in drawn}
        self._top = 0
        self._condition_colors = _colors([str(name) for name in distinct_values(table.observations["condition"])])

    def draw_title(self) -> None:
        """Say what is shown."""
        crops, n = self._table.crops, len(self._table.observations)
        size = f"{crops.crop} x {crops.crop} pixels" + (f" ({crops.crop_um:g} {_MICROMETERS})" if crops.crop_um else "")
        slices = f"of the slices that data.z: {crops.z} gives" if crops.z != "middle" else "of the middle slices"
        if crops.z_slices > 1:
            slices += f", the middle one of {crops.z_slices}"
        if self._table.channels_mode == "one":
            slices += ", each in one channel"
        self.canvas.text(_MARGIN, 20, "Contact sheet: what training reads", size=22, bold=True)
        sentences = [
            f"{count(n, 'observation')} of {count(len(self._table.experiments), 'experiment')}. Each colored square is "
            f"cut out of the field of view next to it, a dot is a cell. Fields of view are of the first channel.",
            f"Crops: {size} {slices}, normalized by {crops.normalization.by}; the gray values of a channel are "
            "the same in the whole sheet.",
            "Histograms: pixels of the crops, in spreads around the center (red); heights are square roots of counts.",
        ]
        for number, sentence in enumerate(sentences):
            self.canvas.text(_MARGIN, 54 + 20 * number, fitted(sentence, _INNER), gray=GRAY)
        self._top = _TITLE

    def draw_experiment(self, experiment: SampledExperiment) -> None:
        """Draw an experiment."""
        colors = [self._condition_colors[one.name] for one in experiment.conditions]
        self._draw_heading(experiment)
        self._draw_panels(experiment, colors)
        for color, condition in zip(colors, experiment.conditions, strict=True):
            self._draw_condition(experiment.index, condition, color)
        self.draw_left_out("conditions", experiment.left_out)

    def draw_left_out(self, what: str, names: Sequence[str]) -> None:
        """Name what is not shown."""
        if not names:
            return
        first = f"Not shown, {len(names)} more {what if len(names) > 1 else what[:-1]}:"
        self.canvas.text(_MARGIN, self._top, first, bold=True, gray=GRAY)
        for number, line in enumerate(wrapped(names, _INNER, _NAMES_LINES)):
            self.canvas.text(_MARGIN, self._top + (number + 1) * _NAMES_LINE, line, gray=GRAY)
        self._top += _names_height(names)

    def _draw_heading(self, experiment: SampledExperiment) -> None:
        canvas, top = self.canvas, self._top
        name = self._table.experiments[experiment.index].name
        canvas.surface((_MARGIN, top, _MARGIN + _INNER, top + 1), GRAY)
        canvas.text(_MARGIN, top + 9, fitted(name, _INNER, 18, bold=True), size=18, bold=True)
        canvas.text(_MARGIN, top + 34, fitted(self._facts(experiment), _INNER), gray=GRAY)
        self._top += _HEADING

    def _facts(self, experiment: SampledExperiment) -> str:
        n = len(experiment.conditions) + len(experiment.left_out)
        facts = [count(n, "condition")]
        fields = [one.field for one in self._of(experiment) if not isinstance(one.field, UserError)]
        if fields:
            first, crops = fields[0], self._table.crops
            facts.append(f"fields of view of {first.height} x {first.width} pixels")
            facts.append(_slices_of(first, crops.z))
            if first.micrometers:
                facts.append(f"{first.micrometers:.4g} {_MICROMETERS} a pixel")
                side = f"{first.squares[0, 2] * first.micrometers:.4g}"
                facts.append(f"crops of {side} x {side} {_MICROMETERS}")
            else:
                facts.append("size of a pixel unknown")
        return "  \N{MIDDLE DOT}  ".join(facts)

    def _of(self, experiment: SampledExperiment) -> list[Drawn]:
        return [one for one in self._drawn.values() if one.experiment == experiment.index]

    def _draw_panels(self, experiment: SampledExperiment, colors: list[str]) -> None:
        """Draw a histogram of each channel, then the cells over time."""
        channels = self._tiles.channels_of(experiment.index)[:TILES]
        width = (_INNER - _HALF - _BETWEEN) // max(len(channels), 2)
        for number, (name, channel) in enumerate(channels):
            self._draw_histogram(experiment.index, name, channel, _MARGIN + number * width, width - 24)
        left = _MARGIN + _INNER - _HALF
        self._draw_counts(experiment, colors, left, left + _HALF)
        self._top += _PANELS

    def _draw_histogram(self, experiment: int, name: str, channel: Any, left: int, width: int) -> None:
        canvas, top = self.canvas, self._top + 18
        scale, bottom, right = self._tiles.scales[channel], self._top + 18 + _PLOT, left + width
        canvas.text(left, self._top, fitted(name, width, 12, bold=True), size=12, bold=True)
        canvas.text(
            right, self._top + 1, self._counts_of(experiment, name, width - 12), size=10, gray=GRAY, anchor="ra"
        )
        canvas.bars((left, top, right, bottom), self._tiles.histogram(experiment, channel), GRAY)
        canvas.surface((left, bottom, right, bottom), GRAY)
        center = left + round(width * (0 - scale.first) / (scale.last - scale.first))
        if left <= center <= right:
            canvas.patch((center, top, center, bottom + 3), _CROP_COLORS[0])
        canvas.text(left, bottom + 4, f"{scale.first:.2g}", size=10, gray=GRAY)
        canvas.text(right, bottom + 4, f"{scale.last:.2g} spreads", size=10, gray=GRAY, anchor="ra")

    def _counts_of(self, experiment: int, channel: str, width: float) -> str:
        """Return center and spread of a channel in the units of the images, if there is room beside its name."""
        described = self._table.experiments[experiment]
        center, spread = self._table.intensity[described.name][described.channel_names.index(channel)]
        text = f"center {center:.4g}, spread {spread:.3g}"
        return text if width_of(text, 10) + width_of(channel, 12, bold=True) <= width else ""

    def _draw_counts(self, experiment: SampledExperiment, colors: list[str], left: int, right: int) -> None:
        canvas, top = self.canvas, self._top + 18
        bottom, n_frames = top + _PLOT, max(len(one.counts) for one in experiment.conditions)
        highest = max(float(one.counts.max()) for one in experiment.conditions)
        canvas.text(left, self._top, "cells in each frame, per field of view", size=12, bold=True)
        canvas.surface((left, bottom, right, bottom), GRAY)
        box = left + 34, top, right, bottom
        for color, one in zip(colors, experiment.conditions, strict=True):
            canvas.curve(box, np.arange(len(one.counts)) / max(n_frames - 1, 1), one.counts / highest, color)
        canvas.text(left + 28, top, f"{highest:.3g}", size=10, gray=GRAY, anchor="ra")
        canvas.text(left + 28, bottom, "0", size=10, gray=GRAY, anchor="rs")
        canvas.text(left + 34, bottom + 4, "frame 0", size=10, gray=GRAY)
        canvas.text(right, bottom + 4, f"{n_frames - 1}", size=10, gray=GRAY, anchor="ra")

    def _draw_condition(self, index: int, condition: SampledCondition, color: str) -> None:
        canvas, top = self.canvas, self._top
        canvas.surface((_MARGIN, top, _MARGIN + _INNER, top), FAINT)
        canvas.patch((_MARGIN, top + 14, _MARGIN + 11, top + 25), color)
        below = top + 12
        for line in lines_of(condition.name, _LABEL - 30, _LABEL_LINES, bold=True):
            canvas.text(_MARGIN + 18, below, line, bold=True)
            below += 17
        facts = [count(condition.n_observations, "observation"), count(condition.n_positions, "position")]
        for number, fact in enumerate(facts):
            canvas.text(_MARGIN + 18, below + 8 + 17 * number, fitted(fact, _LABEL - 30, 12), size=12, gray=GRAY)
        for number, frame in enumerate(condition.frames):
            drawn = self._drawn[index, frame.position, frame.frame, id(frame)]
            self._draw_frame(drawn, _MARGIN + _LABEL + number * (_HALF + _BETWEEN), top + 8)
        self._top += _LINE

    def _draw_frame(self, drawn: Drawn, left: int, top: int) -> None:
        frame, canvas = drawn.frame, self.canvas
        self._draw_field(drawn, left, top)
        self._draw_crops(drawn, left + FIELD + 10, top)
        caption = f"{frame.position}, frame {frame.frame}, {count(len(frame.cells), 'cell')}"
        canvas.text(left, top + FIELD + 4, fitted(caption, _HALF, 11), size=11, gray=GRAY)

    def _draw_field(self, drawn: Drawn, left: int, top: int) -> None:
        canvas, field = self.canvas, drawn.field
        if isinstance(field, UserError):
            canvas.surface((left, top, left + FIELD - 1, top + FIELD - 1), FAINT)
            canvas.text(left + FIELD // 2, top + FIELD // 2, "cannot be read", size=12, gray=GRAY, anchor="mm")
            return
        height, width = shown_size((field.height, field.width), FIELD)
        left, top = left + (FIELD - width) // 2, top + (FIELD - height) // 2
        if field.pixels is None:
            canvas.surface((left, top, left + width - 1, top + height - 1), _DARK)
            canvas.text(left + width // 2, top + height - 10, "image not read", size=11, gray=FAINT, anchor="mm")
        else:
            canvas.pixels(left, top, field.pixels)
        scale = width / field.width
        is_small = scale * float(field.squares[0, 2]) < _SMALL_CROP
        canvas.dots((drawn.frame.cells[:, ::-1] + 0.5) * scale + (left, top), _DOT, reach=0 if is_small else 1)
        for (y, x, side), color in zip((field.squares * scale).tolist(), self._colors_of(drawn), strict=True):
            box = (round(left + x), round(top + y), round(left + x + side) - 1, round(top + y + side) - 1)
            canvas.frame(box, color)

    def _colors_of(self, drawn: Drawn) -> list[str]:
        """Return the color of each crop; crops of a cell have one color."""
        tracks = self._table.observations["track_id"].iloc[drawn.frame.rows].tolist()
        color = dict(zip(dict.fromkeys(tracks), _CROP_COLORS, strict=False))
        return [color[track] for track in tracks]

    def _draw_crops(self, drawn: Drawn, left: int, top: int) -> None:
        canvas = self.canvas
        if isinstance(drawn.crops, UserError):
            canvas.surface((left, top, left + _CROPS - 1, top + FIELD - 1), FAINT)
            canvas.text(left + _CROPS // 2, top + FIELD // 2, "cannot be read", size=12, gray=GRAY, anchor="mm")
            return
        x, y = left, top
        for color, images in zip(self._colors_of(drawn), self._tiles.of(drawn), strict=True):
            shown = images[:TILES]
            if x + len(shown) * (_TILE + _GAP) - _GAP > left + _CROPS:
                x, y = left, y + _TILE + _GAP
            for number, (_, channel, pixels) in enumerate(shown):
                scale = self._tiles.scales[channel]
                tile = shrink(as_gray(pixels, scale.black, scale.white), (_TILE, _TILE))
                canvas.pixels(x + number * (_TILE + _GAP), y, np.clip(tile, 0, 255).astype(np.uint8))
            end = x + len(shown) * (_TILE + _GAP) - _GAP
            canvas.frame((x, y, end - 1, y + _TILE - 1), color)
            if self._table.channels_mode == "one":
                name = fitted(images[0][0], _TILE - 12, 10)
                canvas.surface((x + 2, y + _TILE - 16, end - 3, y + _TILE - 3), PAPER)
                canvas.text(x + 5, y + _TILE - 15, name, size=10)
            x = end + _GAP


def _slices_of(field: Field, mode: str) -> str:
    """Return which slices crops have, in words; slices count from 1."""
    if field.n_slices == 1:
        return "1 slice"
    first, last = field.slices.start + 1, field.slices.stop
    if mode == "random":
        return f"random slices of {field.n_slices}"
    if mode == "sharpest":
        return f"sharpest slices of {field.n_slices}"
    slices = f"slice {first}" if first == last else f"slices {first} to {last}"
    return f"{'maximum of ' if mode == 'maximum' else ''}{slices} of {field.n_slices}"


def _colors(names: list[str]) -> dict[str, str]:
    """Return the color of each condition: that of the report, or a hue each if its palette is too small."""
    n = len(names)
    if n <= len(CONDITION_COLORS):
        return dict(zip(names, CONDITION_COLORS, strict=False))
    hues = (colorsys.hsv_to_rgb(0.85 * index / n, 0.75, 0.8) for index in range(n))
    colors = ["#" + "".join(f"{round(255 * part):02X}" for part in hue) for hue in hues]
    return dict(zip(names, colors, strict=True))
