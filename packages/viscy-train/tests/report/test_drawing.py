"""Drawings: pictures that any program reads, and what is at which place in them."""

import base64
import io
import math
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from viscy_train.report.drawing import Drawing, text_width
from viscy_train.report.html import svg_uri
from viscy_train.report.panel import Entry, Heading, Panel, ticks
from viscy_train.report.share_plots import plot_composition, plot_draws

AWKWARD = ["<b> & 'c'", '"', "a\x00b\x1f", "\ud800 alone", "條件"]


@pytest.mark.parametrize("name", AWKWARD)
def test_any_name_is_text_of_a_picture(name, shapes_of):
    drawing = Drawing(100, 50)
    drawing.text(1, 2, name)
    (text,) = shapes_of(drawing)("text")
    assert text.text == "".join(one for one in name if one not in "\x00\x1f\ud800")


def test_lines_of_a_text_are_below_each_other(shapes_of):
    drawing = Drawing(100, 50)
    drawing.text(7, 2, "one\ntwo", anchor="end", rotate=-30)
    (second,) = shapes_of(drawing)("tspan")
    assert (second.get("x"), second.get("dy"), second.text) == ("7.0", "17.5", "two")


def test_a_picture_is_the_source_of_an_image_element():
    drawing = Drawing(100, 50)
    kind, _, content = svg_uri(drawing).partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(content).decode() == drawing.svg


def test_an_image_within_a_picture_has_its_pixels(shapes_of):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 3)).astype(np.uint8)
    drawing = Drawing(100, 50)
    drawing.image(10, 20, 70, 40, pixels)
    (image,) = shapes_of(drawing)("image")
    assert [float(image.get(name)) for name in ("x", "y", "width", "height")] == [10, 20, 60, 20]
    png = base64.b64decode(image.get("href").partition(",")[2])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), pixels)


def test_wide_characters_take_more_space():
    assert text_width("ab") < text_width("條件") < text_width("條件abc")
    assert text_width("a\nlonger") == text_width("longer")


@pytest.mark.parametrize(
    ("low", "high", "at_most", "expected"),
    [
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 0.19, 5, [0, 0.05, 0.1, 0.15]),
        (0, 1170, 6, [0, 200, 400, 600, 800, 1000]),
        (2.25, 15.75, 6, [5, 10, 15]),
        (-0.25, 0.25, 6, [-0.2, -0.1, 0, 0.1, 0.2]),
        (0, 0, 6, [0]),
    ],
)
def test_ticks_are_round_values_within_the_range(low, high, at_most, expected):
    assert ticks(low, high, at_most) == pytest.approx(expected)


def test_a_panel_has_its_values_at_its_edges():
    panel = Panel(drawing=Drawing(100, 100), left=10, top=20, width=50, height=40, x_range=(-1, 1), y_range=(0, 0.5))
    assert panel.x([-1, 0, 1]).tolist() == [10, 35, 60]
    assert panel.y([0, 0.25, 0.5]).tolist() == [60, 40, 20]


def test_a_title_is_above_a_legend_that_does_not_fit_next_to_it():
    entries = [Entry(f"entry {number}", "black") for number in range(4)]
    wide, narrow = (Heading(title="A title", entries=entries, width=width) for width in (900, 200))
    assert wide.shares_a_row
    assert not narrow.shares_a_row
    assert sum(map(len, narrow.rows)) == 4
    assert all(sum(entry.width for entry in row) <= 200 for row in narrow.rows)
    assert narrow.height > wide.height
    assert Heading().height == 0


def composition(n, name="condition"):
    index = pd.MultiIndex.from_tuples([(f"e{at // 3}", f"{name} {at % 3}") for at in range(n)])
    shares = np.random.default_rng(0).dirichlet(np.ones(n), 3)
    targets = pd.DataFrame({"table_share": shares[0], "target": shares[1]}, index)
    anchors = index.to_frame(index=False, name=["experiment", "condition"])
    return targets, pd.Series(shares[2], index), anchors


@pytest.mark.parametrize(("n", "name"), [(6, "condition"), (12, "a condition with a long name")])
def test_bars_of_a_composition_are_as_high_as_its_shares(n, name, shapes_of):
    targets, observed, anchors = composition(n, name)
    shapes = shapes_of(plot_composition(targets, observed, anchors))
    bars = [path.get("d") for path in shapes("path") if "Z" in path.get("d")]
    (gray,) = (path for path in bars if path.count("Z") == n)
    heights = _heights(gray)
    np.testing.assert_allclose(heights / heights.sum(), targets["table_share"], atol=2e-3)
    # Three patches of the legend and the gray bars are before those of one condition each.
    outlined, filled = (np.concatenate([_heights(path) for path in bars[4 + at :: 2]]) for at in (0, 1))
    np.testing.assert_allclose(outlined / outlined.sum(), targets["target"], atol=2e-3)
    np.testing.assert_allclose(filled / filled.sum(), observed, atol=2e-3)


def _heights(path):
    corners = np.array(re.findall(r"M(\S+) (\S+)H(\S+)V(\S+)H\S+Z", path), dtype=float)
    return corners[:, 3] - corners[:, 1]


def test_unobserved_shares_have_bars_without_height(shapes_of):
    targets, observed, anchors = composition(6)
    shapes = shapes_of(plot_composition(targets, observed * math.nan, anchors))
    bars = [path.get("d") for path in shapes("path") if "Z" in path.get("d")]
    assert [_heights(path).tolist() for path in bars[5::2]] == [[0.0]] * 6


def test_dots_of_a_composition_are_where_its_shares_are(shapes_of):
    targets, observed, anchors = composition(30)
    shapes = shapes_of(plot_composition(targets, observed, anchors))
    rings = [circle for circle in shapes("circle") if circle.get("fill") == "none"][1:]
    disks = [circle for circle in shapes("circle") if circle.get("fill") != "none"][1:]
    for circles, shares in ((rings, targets["target"]), (disks, observed)):
        x = np.array([float(circle.get("cx")) for circle in circles])
        slope = np.polyfit(shares, x, 1)
        np.testing.assert_allclose(np.polyval(slope, shares), x, atol=0.1)
        assert slope[0] > 0
    assert [text.text for text in shapes("text")][-30] == "e0, condition 0"


def test_draws_are_counted_in_bins_that_widen(shapes_of):
    counts = {"a": np.array([5.0, 10, *[0] * 28, 2]), "b": np.array([5.0, 0, 3])}
    shapes = shapes_of(plot_draws(counts, {"a": "#111111", "b": "#222222"}))
    labels = [text.text for text in shapes("text")]
    assert {"0", "10", "11-15", "16-23", "24-35", "anchors", "share of slots"} <= set(labels)
    bars = [path.get("d") for path in shapes("path") if path.get("fill") == "#111111"]
    first, second = (_heights(path) for path in bars if path.count("Z") > 1)
    np.testing.assert_allclose(first / first.sum(), np.array([5, 10, *[0] * 11, 2]) / 17, atol=2e-3)
    np.testing.assert_allclose(second / second.sum(), np.array([0, 10, *[0] * 11, 60]) / 70, atol=2e-3)
