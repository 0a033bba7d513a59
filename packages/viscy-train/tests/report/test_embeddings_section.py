"""Figures of embeddings: what they are colored by, which tracks and neighbors they show, and how they are drawn."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from viscy_train.evaluation.projection import Projection
from viscy_train.evaluation.smoothness import Smoothness
from viscy_train.report.crop_plots import plot_example_tracks, plot_gallery
from viscy_train.report.dots import draw_dots, rgb_of, viridis
from viscy_train.report.drawing import Drawing
from viscy_train.report.embedding_plots import Coloring, plot_embeddings, plot_trajectories
from viscy_train.report.embeddings_section import choose_colorings, choose_tracks
from viscy_train.report.learned_section import describe_smoothness
from viscy_train.report.neighbor_gallery import choose_gallery
from viscy_train.report.palette import MAX_COLORS, OTHERS_GRAY, condition_colors
from viscy_train.report.panel import Panel


def results_of(observations, plates, **changes):
    """Return what the coloring of a run depends on: its anchors, of which none are held out, and its plates."""
    rows = np.arange(len(observations))
    return SimpleNamespace(
        observations=observations,
        train_rows=rows,
        evaluation=SimpleNamespace(rows=rows),
        experiments=[SimpleNamespace(name=name, plate=plate) for name, plate in plates.items()],
        planned=SimpleNamespace(options={"experiment_by": None, "condition_by": None}),
        time="hours",
        **changes,
    )


@pytest.mark.parametrize(
    ("plates", "names"),
    [
        ({"a": "p/one.zarr", "b": "p/two.zarr", "c": "p/three.zarr"}, []),
        ({"a": "p/one.zarr", "b": "p/one.zarr", "c": "p/two.zarr"}, ["one.zarr", "two.zarr"]),
        ({"a": "p/one.zarr", "b": "p/one.zarr", "c": "q/one.zarr"}, ["p/one.zarr", "q/one.zarr"]),
        ({"a": "p/one.zarr", "b": "p/one.zarr", "c": "p/one.zarr"}, []),
    ],
)
def test_embeddings_are_colored_by_plate_if_experiments_share_some(anchors_of, plates, names):
    observations = anchors_of({(name, "mock"): 10 for name in "abc"})
    colorings = choose_colorings(observations, results_of(observations, plates))
    assert [one.name for one in colorings] == ["condition", "hours", "experiment", *(["plate"] if names else [])]
    assert not names or sorted(colorings[-1].colors) == names


def test_embeddings_are_colored_by_the_wells_of_each_experiment(anchors_of):
    observations = anchors_of({(name, "mock"): 10 for name in "ab"})
    observations["well"] = np.where(np.arange(20) % 2, "A/1", "B/2")
    by_well = choose_colorings(observations, results_of(observations, {"a": "one", "b": "two"}))[-1]
    assert sorted(by_well.colors) == ["a A/1", "a B/2", "b A/1", "b B/2"]
    alone = observations[:10]
    by_well = choose_colorings(alone, results_of(alone, {"a": "one"}))[-1]
    assert sorted(by_well.colors) == ["A/1", "B/2"]


def test_the_longest_tracks_of_the_largest_conditions_are_shown_in_the_order_of_time(anchors_of):
    anchors = anchors_of({("a", f"c{number}"): 80 + 10 * number for number in range(8)})
    shuffled = anchors.sample(frac=1, random_state=0).reset_index(drop=True)
    tracks, n_conditions = choose_tracks(shuffled)
    assert n_conditions == 8
    assert next(iter(tracks)) == "c7: 5 of 15 tracks"
    assert len(tracks) == 6
    for title, ways in tracks.items():
        assert len(ways) == 5
        for way in ways:
            own = shuffled.iloc[way]
            assert own["t"].tolist() == list(range(10))
            assert own["track_id"].nunique() == 1
            assert set(own["condition"]) == {title.partition(":")[0]}


def test_tracks_of_one_frame_are_left_out(anchors_of):
    assert choose_tracks(anchors_of({("a", "mock"): 5}, n_times=1)) == ({}, 0)


def test_conditions_whose_short_names_are_equal_have_a_panel_each(anchors_of):
    name = "a name that is much too long for a title"
    tracks, _ = choose_tracks(anchors_of({("a", f"{name} {number}"): 20 for number in range(2)}))
    assert len(tracks) == 2


@pytest.fixture
def panel():
    return Panel(drawing=Drawing(30, 30), left=0, top=0, width=20, height=20, x_range=(0, 1), y_range=(0, 1))


def drawn(panel, points, colors, monkeypatch, **options):
    """Return the pixels that dots become."""
    images = []
    monkeypatch.setattr(panel.drawing, "image", lambda *of: images.append(of[-1]), raising=False)
    draw_dots(panel, np.array(points), np.array(colors, dtype=np.uint8), **options)
    return images[0]


def test_later_dots_cover_earlier_ones_and_those_outside_are_cut_off(panel, monkeypatch):
    red, blue = [255, 0, 0], [0, 0, 255]
    pixels = drawn(panel, [(0.5, 0.5), (0.5, 0.5), (1.0, 1.0), (9.0, 9.0)], [red, blue, red, blue], monkeypatch)
    assert pixels.shape == (40, 40, 3)
    assert pixels[20, 20].tolist() == blue
    assert pixels[0, 39].tolist() == red
    assert pixels[39, 0].tolist() == [255, 255, 255]
    assert 0 < (pixels != 255).any(axis=-1).mean() < 0.1


def test_numbers_are_colored_from_dark_to_bright():
    colors = viridis(np.array([0.0, 1.0]))
    assert colors.tolist() == rgb_of(["#440154", "#FDE725"]).tolist()


@pytest.mark.parametrize("n", [2, 96, 1000])
def test_the_legend_of_any_number_of_conditions_is_short(shapes_of, n):
    values = pd.Series([f"condition {number % n}" for number in range(1000)])
    anchors = pd.DataFrame({"condition": values})
    coloring = Coloring(name="condition", values=values, colors=condition_colors(anchors))
    hours = Coloring(name="hours", values=pd.Series(np.arange(1000.0)))
    points = np.random.default_rng(0).normal(size=(1000, 2))
    drawing = plot_embeddings(Projection(points=points, axes=("x", "y")), [coloring, hours], 0)
    texts = [text.text for text in shapes_of(drawing)("text")]
    legend = [text for text in texts if text.startswith(("condition ", "and "))]
    assert len(legend) == min(n, MAX_COLORS)
    assert (f"and {n - MAX_COLORS + 1} more" in legend) == (n > MAX_COLORS)
    assert {"by condition", "by hours", "0", "999"} <= set(texts)
    assert drawing.height < 700


def test_gray_dots_are_behind_colored_ones():
    values = pd.Series([f"c{number}" for number in range(100)] + ["c3"] * 10)
    colors = condition_colors(pd.DataFrame({"condition": values}))
    coloring = Coloring(name="c", values=values, colors=colors)
    order = coloring.order(np.random.default_rng(0).permutation(110))
    is_gray = [colors[name] == OTHERS_GRAY for name in values[order]]
    assert sorted(order) == list(range(110))
    assert is_gray == sorted(is_gray, reverse=True)
    assert sum(is_gray) == 100 - (MAX_COLORS - 1)


def test_a_trajectory_ends_in_an_arrow_in_the_direction_of_its_last_movement(shapes_of):
    points = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
    projection = Projection(points=points, axes=("x", "y"))
    drawing = plot_trajectories(projection, {"moving": [np.arange(3)], "resting": [np.array([1, 2])]}, np.arange(4.0))
    arrows = [path.get("d") for path in shapes_of(drawing)("path") if path.get("stroke-width") == "2.2"]
    assert len(arrows) == 1, "what does not move has no direction"
    numbers = [float(number) for number in arrows[0].replace("M", " ").replace("L", " ").split()]
    tip, first, second = numbers[:2], numbers[2:4], numbers[6:]
    assert first[0] == second[0] < tip[0]
    assert first[1] + second[1] == pytest.approx(2 * tip[1], abs=0.2)


def test_smoothness_is_described_with_n_interval_and_chance():
    smoothness = Smoothness(untrained=0.5, trained=0.25, interval=(0.2, 0.3), unit="position", n_units=8, n_steps=1200)
    text = describe_smoothness(smoothness)
    assert "moves 0.25 times as far" in text
    assert "95% interval 0.2 to 0.3 over 8 positions; 1,200 pairs of frames; 0.5 before training; by chance 1" in text
    assert describe_smoothness(None) == ""


@pytest.fixture
def gallery_of(anchors_of):
    """Choose a gallery of some anchors and random embeddings; return it, the anchors and the embeddings."""

    def choose(strata, seed=0, **columns):
        anchors = anchors_of(strata).assign(**columns)
        embeddings = np.random.default_rng(1).normal(size=(len(anchors), 4)).astype(np.float32)
        rows = np.arange(len(anchors))
        gallery = choose_gallery(embeddings, rows, anchors, np.ones(len(anchors), dtype=bool), seed)
        return gallery, anchors, embeddings

    return choose


def test_a_gallery_has_an_anchor_of_each_stratum_and_the_nearest_cells_of_other_experiments(gallery_of):
    gallery, anchors, embeddings = gallery_of({(name, of): 60 for name in "ab" for of in ("mock", "virus")})
    assert gallery.rows.shape == (4, 6)
    assert gallery.n_kinds == 4
    assert gallery.among == "experiment"
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    for rows, similarity in zip(gallery.rows, gallery.similarity, strict=True):
        own = anchors.iloc[rows]
        assert (own["experiment"][1:] != own["experiment"].iloc[0]).all()
        assert own["lineage_id"].is_unique
        assert similarity == pytest.approx(unit[rows] @ unit[rows[0]], abs=1e-5)
        others = (anchors["experiment"] != own["experiment"].iloc[0]).to_numpy()
        assert similarity[1] == pytest.approx((unit[others] @ unit[rows[0]]).max(), abs=1e-5)


def test_the_seed_chooses_the_anchors_of_a_gallery(gallery_of):
    strata = {(name, "mock"): 60 for name in "ab"}
    first, again, other = (gallery_of(strata, seed)[0].rows for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first[:, 0] != other[:, 0]).any()


def test_a_gallery_of_one_experiment_has_cells_of_other_positions_or_lineages(gallery_of):
    assert gallery_of({("a", "mock"): 60})[0].among == "lineage"
    of_positions, anchors, _ = gallery_of({("a", "mock"): 60}, position=np.repeat(["A/1/0", "A/1/1"], 30))
    assert of_positions.among == "position"
    positions = anchors["position"].to_numpy()[of_positions.rows[:, :4]]
    assert (positions[:, 1:] != positions[:, :1]).all()
    assert (of_positions.rows[:, 4:] == -1).all(), "the other position has three lineages"
    assert gallery_of({("a", "mock"): 10})[0] is None


@pytest.mark.parametrize("n", [96, 1000])
def test_a_gallery_of_many_conditions_has_six_anchors(gallery_of, n):
    gallery, _, _ = gallery_of({("a", f"c{number}"): 10 for number in range(n)})
    assert len(gallery.rows) <= 6
    assert gallery.n_kinds == n


@pytest.mark.parametrize("n_channels", [1, 3, 5])
def test_a_gallery_is_drawn_with_a_frame_for_the_same_condition(gallery_of, shapes_of, n_channels):
    gallery, anchors, _ = gallery_of({(name, of): 60 for name in "ab" for of in ("$m$ock", "<b>")})
    crops = np.random.default_rng(0).random((4, 6, n_channels, 8, 8), dtype=np.float32)
    shapes = shapes_of(plot_gallery(crops, gallery, anchors, [f"<c{number}>" for number in range(n_channels)]))
    conditions = anchors["condition"].to_numpy()[gallery.rows]
    frames = [path for path in shapes("path") if path.get("fill") == "#0072B2"]
    assert len(frames) == (conditions[:, 1:] == conditions[:, :1]).sum() > 0
    assert len(list(shapes("image"))) == 24 * min(n_channels, 3)
    assert sum((text.text or "") in ("$m$ock", "<b>") for text in shapes("text")) == 24


@pytest.mark.parametrize(("shift", "n_labels"), [(0.0, 3), (5.0, 6)])
def test_the_hours_of_example_tracks_are_above_columns_or_below_each_crop(shapes_of, shift, n_labels):
    hours = np.arange(3.0) + np.array([0.0, shift])[:, None]
    crops = np.zeros((2, 3, 1, 4, 4), dtype=np.float32)
    drawing = plot_example_tracks(crops, [("a", "mock"), ("b", "virus")], hours, ["Phase"])
    texts = [text.text for text in shapes_of(drawing)("text")]
    assert sum(text.endswith(" h") for text in texts) == n_labels
    assert {"Phase", "a", "b"} <= set(texts)
