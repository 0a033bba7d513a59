"""Batch plots with many names, of which the rarest are gray."""

import re

import numpy as np
import pandas as pd
import pytest

from viscy_train.report.batch_plots import MAX_BATCHES_WITH_TARGETS, plot_batches
from viscy_train.report.palette import MAX_COLORS, OTHERS_GRAY, condition_colors

N_BATCHES = 40


def plot(n_names, targets=None, *, name="condition {:04d}", n_batches=N_BATCHES, epochs=1, focal_hours=None):
    """Plot batches with shares of some conditions of one experiment; return the picture and the colors it may have."""
    names = [name.format(number) for number in range(n_names)]
    # The first names are the rarest, so that those in gray are not the last ones.
    anchors = pd.DataFrame({"experiment": "one", "condition": np.repeat(names, np.arange(1, n_names + 1))})
    index = pd.MultiIndex.from_product([range(epochs), range(n_batches // epochs)], names=["epoch", "batch"])
    conditions = pd.DataFrame(np.random.default_rng(0).dirichlet(np.ones(n_names), n_batches), index, names)
    experiments = pd.DataFrame({"one": np.ones(n_batches)}, index)
    drawing = plot_batches(
        experiments=experiments,
        conditions=conditions,
        hours=pd.DataFrame(0.5, index, [0.0, 1.0]),
        targets={"experiment": experiments, "condition": conditions if targets is None else targets(conditions)},
        focal_hours=None if focal_hours is None else pd.Series(focal_hours, index),
        half_width=0.5,
        anchors=anchors,
    )
    return drawing, set(condition_colors(anchors).values())


def bars_of(shapes, colors):
    """Return left, top, right and bottom of the bars of some colors, without the patches of the legend."""
    paths = [path.get("d") for path in shapes("path") if path.get("fill") in colors]
    corners = [re.findall(r"M(\S+) (\S+)H(\S+)V(\S+)H\S+Z", path) for path in paths]
    bars = np.array([bar for path in corners for bar in path if len(path) > 1], dtype=float)
    return bars.reshape(-1, 4)


def heights_of_lines(shapes, color):
    """Return the heights of the lines of a color, ascending, without that of the legend."""
    paths = [path.get("d") for path in shapes("path") if path.get("stroke") == color]
    return sorted({y for path in paths for y in re.findall(r"M\S+ (\S+)L", path) if path.count("M") > 1}, key=float)


@pytest.mark.parametrize("n_names", [3, 40, 1000])
def test_targets_that_are_met_are_where_the_colors_change(n_names, shapes_of):
    drawing, colors = plot(n_names)
    bars = bars_of(shapes_of(drawing), colors)
    upper_edge = {f"{bars[:, 1].min():g}"}
    tops = {f"{top:g}" for top in bars[:, 1]} - upper_edge
    assert len(tops) > 30
    assert set(heights_of_lines(shapes_of(drawing), "black")) - upper_edge == tops


def test_a_thousand_conditions_have_a_bar_for_each_color(shapes_of):
    drawing, colors = plot(1000)
    assert len(colors) == MAX_COLORS
    assert OTHERS_GRAY in colors
    bars = bars_of(shapes_of(drawing), colors)
    assert len(bars) == MAX_COLORS * N_BATCHES
    of_batch = bars[bars[:, 0] == bars[0, 0]]
    assert (of_batch[:, 3] - of_batch[:, 1]).sum() == pytest.approx(182, abs=1.5), "bars must add up to the panel"


def test_targets_that_are_not_known_are_not_drawn(shapes_of):
    assert heights_of_lines(shapes_of(plot(40)[0]), "black") != []
    assert heights_of_lines(shapes_of(plot(40, targets=lambda conditions: conditions.iloc[:, :0])[0]), "black") == []


def test_many_batches_are_one_shape_for_each_color_without_targets(shapes_of):
    drawing, colors = plot(3, n_batches=MAX_BATCHES_WITH_TARGETS + 2, epochs=2)
    shapes = shapes_of(drawing)
    areas = [path for path in shapes("path") if path.get("fill") in colors and path.get("shape-rendering")]
    assert len(areas) == len(colors)
    assert "target" not in [text.text for text in shapes("text")]
    assert [text.text for text in shapes("text") if (text.text or "").startswith("epoch")] == ["epoch 1", "epoch 2"]


def test_both_ends_of_a_temporal_window_are_marked_within_the_panel(shapes_of):
    drawing, _ = plot(2, focal_hours=0.0)
    shapes = shapes_of(drawing)
    image, _ = shapes("image")
    top, bottom = float(image.get("y")), float(image.get("y")) + float(image.get("height"))
    upper, lower = (float(y) for y in heights_of_lines(shapes, "#D1495B"))
    assert lower == pytest.approx(bottom, abs=0.1), "an end below the first hour is drawn at the edge"
    # Half a step of hours is added to 0.5 hours, and the panel is two hours high.
    assert upper == pytest.approx(bottom - 0.75 * (bottom - top), abs=0.1)


@pytest.mark.parametrize(
    "name", ["c{}", "condition {:04d}", "{:04d}, a name that is longer than others", "条件の名前{}"]
)
@pytest.mark.parametrize("n_names", [2, 6, 12, 1000])
def test_a_legend_is_next_to_the_title_and_inside_the_picture(n_names, name, shapes_of):
    drawing, colors = plot(n_names, name=name)
    shapes = shapes_of(drawing)
    patches = [path.get("d") for path in shapes("path") if path.get("fill") in colors and path.get("d").count("M") == 1]
    corners = np.array([re.findall(r"M(\S+) (\S+)H(\S+)V(\S+)H", path)[0] for path in patches], dtype=float)
    assert len(corners) == len(colors)
    (title,) = (text for text in shapes("text") if text.text == "Conditions")
    left, baseline = float(title.get("x")), float(title.get("y"))
    beside = corners[np.abs((corners[:, 1] + corners[:, 3]) / 2 - baseline) < 10]
    assert (beside[:, 0] > left + 90).all(), "the legend must not cover the title"
    assert corners[:, 0].min() >= left
    assert corners[:, 2].max() < drawing.width
    assert corners[:, 3].max() < bars_of(shapes, colors)[:, 1].min(), "the legend must be above the bars"
