"""Batch plots with many names, of which the rarest are gray."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from PIL import Image

from viscy_train.report.batch_plots import plot_batches
from viscy_train.report.style import MAX_COLORS, new_figure, png_of

N_BATCHES = 40


def plot(n_names, targets=None, *, name="condition {:04d}"):
    """Plot batches with equal shares of some conditions of one experiment; return the panel of conditions."""
    names = [name.format(number) for number in range(n_names)]
    # The first names are the rarest, so that those in gray are not the last ones.
    anchors = pd.DataFrame({"experiment": "one", "condition": np.repeat(names, np.arange(1, n_names + 1))})
    index = pd.MultiIndex.from_product([[0], range(N_BATCHES)], names=["epoch", "batch"])
    conditions = pd.DataFrame(np.random.default_rng(0).dirichlet(np.ones(n_names), N_BATCHES), index, names)
    experiments = pd.DataFrame({"one": np.ones(N_BATCHES)}, index)
    figure = plot_batches(
        experiments=experiments,
        conditions=conditions,
        hours=pd.DataFrame(0.5, index, [0.0, 1.0]),
        targets={"experiment": experiments, "condition": conditions if targets is None else targets(conditions)},
        focal_hours=None,
        half_width=None,
        anchors=anchors,
    )
    figure.draw_without_rendering()
    return figure.axes[1]


def bars_of(axes):
    """Return the outlines of the bars of a panel."""
    return [bar for bars in axes.collections if isinstance(bars, PolyCollection) for bar in bars.get_paths()]


def targets_of(axes):
    """Return the heights at which targets are drawn in a panel, ascending."""
    lines = [lines for lines in axes.collections if isinstance(lines, LineCollection)]
    return sorted({round(segment[0][1], 9) for one in lines for segment in one.get_segments()})


@pytest.mark.parametrize("n_names", [3, 40, 1000])
def test_targets_that_are_met_are_where_the_colors_change(n_names):
    axes = plot(n_names)
    tops = sorted({round(bar.vertices[:, 1].max(), 9) for bar in bars_of(axes)} - {1.0})
    assert targets_of(axes) == tops


def test_a_thousand_conditions_have_a_bar_for_each_color():
    assert len(bars_of(plot(1000))) == MAX_COLORS * N_BATCHES


def test_targets_that_are_not_known_are_not_drawn():
    assert targets_of(plot(40)) != []
    assert targets_of(plot(40, targets=lambda conditions: conditions.iloc[:, :0])) == []


def test_figures_of_a_page_are_opaque_and_of_the_given_resolution():
    figure = new_figure(2.0, 1.5)
    with Image.open(io.BytesIO(png_of(figure, 40))) as image:
        assert (image.mode, image.size) == ("RGB", (80, 60))


@pytest.mark.parametrize("name", ["c{}", "condition {:04d}", "{:04d}, a name that is longer than others"])
@pytest.mark.parametrize("n_names", [2, 6, 12, 1000])
def test_a_legend_is_next_to_the_title_and_inside_the_figure(n_names, name):
    axes = plot(n_names, name=name)
    legend, title = axes.get_legend().get_window_extent(), axes._left_title.get_window_extent()
    assert not legend.overlaps(title)
    assert legend.x0 >= 0
    assert legend.x1 <= axes.figure.bbox.width
