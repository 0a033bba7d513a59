import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from viscy_train.errors import UserError
from viscy_train.report.replay_plot import plot_replay, write_picture
from viscy_train.report.style import png_of

AWKWARD = {("$a$ & <b>", "mo[red]ck"): 300, ("$a$ & <b>", "_virus"): 300, ("[/] b", "mo[red]ck"): 100}


@pytest.mark.parametrize("side", [8, 16, 20])
def test_pairs_are_plotted_as_loaded_and_as_augmented(anchors_of, side):
    rows = torch.arange(0, 700, 70)
    loaded = torch.rand(10, 2, 3, 16, 16)
    pairs = {"anchor": loaded, "positive": loaded, "row": rows, "positive_row": rows + 1}
    augmented = {name: torch.rand(10, 2, 1, side, side) for name in ("anchor", "positive")}
    figure = plot_replay(pairs, augmented, anchors_of(AWKWARD), ["Phase $3$D", "_GFP"], "Step 3")
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert "+1 frames, row 140" in labels[2]
    assert png_of(figure, 40).startswith(b"\x89PNG")


def test_a_positive_of_another_cell_is_labeled_with_hours(anchors_of):
    crops = torch.rand(2, 1, 1, 8, 8)
    pairs = {"anchor": crops, "positive": crops, "row": torch.tensor([2, 5]), "positive_row": torch.tensor([13, 5])}
    figure = plot_replay(pairs, None, anchors_of({("a", "mock"): 20}), ["x"], "")
    labels = [text.get_text().splitlines() for text in figure.axes[0].texts]
    assert [lines[2] for lines in labels if len(lines) > 2] == ["+1.0 h, other cell, row 2", "+0 frames, row 5"]


def plot_dim_and_bright(anchors, rows, **options):
    """Plot a dim pair and a pair that is 100 times as bright; return the mean of each anchor, and the figure."""
    crops = torch.rand(2, 1, 1, 8, 8) * torch.tensor([1.0, 100.0])[:, None, None, None, None]
    rows = torch.tensor(rows)
    pairs = {"anchor": crops, "positive": crops, "row": rows, "positive_row": rows}
    figure = plot_replay(pairs, None, anchors, ["x"], "", **options)
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    return float(canvas[:8, :8].mean()), float(canvas[:8, canvas.shape[1] // 2 :][:, :8].mean()), figure


@pytest.mark.parametrize(
    ("rows", "options", "dim_is_seen"),
    [([0, 1], {}, True), ([0, 1], {"contrast": "experiment"}, False), ([0, 10], {"contrast": "experiment"}, True)],
)
def test_a_dim_pair_is_seen_unless_its_experiment_has_one_contrast(anchors_of, rows, options, dim_is_seen):
    anchors = anchors_of({("a", "mock"): 10, ("b", "mock"): 10})
    dim, bright, figure = plot_dim_and_bright(anchors, rows, **options)
    assert (dim > 0.3) == dim_is_seen
    assert bright > 0.3
    unit = "Each experiment" if options else "Each pair"
    assert any(f"{unit} has its own display range per channel." in text.get_text() for text in figure.texts)


def test_both_crops_of_a_pair_and_what_augmentation_made_of_them_have_one_contrast(anchors_of):
    anchor = torch.rand(1, 1, 1, 8, 8)
    pairs = {"anchor": anchor, "positive": anchor / 4, "row": torch.tensor([0]), "positive_row": torch.tensor([1])}
    augmented = {"anchor": anchor / 2, "positive": anchor / 2}
    figure = plot_replay(pairs, augmented, anchors_of({("a", "mock"): 10}), ["x"], "")
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    loaded, positive, lower = canvas[:8, :8], canvas[:8, 9:17], canvas[9:17, :8]
    assert float(positive.mean()) < 0.6 * float(loaded.mean())
    assert float(lower.mean()) < 0.8 * float(loaded.mean())


@pytest.mark.parametrize("name", ["a.png", "a", "a.svg", "a.svgz", "a.PDF", "a.eps", "a.jpg", "a.tif", "a.webp"])
def test_a_picture_is_replaced_by_another_one_only(tmp_path, name):
    path, figure = tmp_path / name, Figure()
    for _ in range(2):
        write_picture(path, figure)
    figure.savefig(path, format=path.suffix.removeprefix(".").lower() or "png")
    with pytest.raises(UserError, match="is not a picture of `viscy-train replay`"):
        write_picture(path, figure)


@pytest.mark.parametrize("name", ["a.png", "a.svg", "a.svgz", "a.eps"])
def test_a_text_that_names_the_command_is_not_a_picture(tmp_path, name):
    path = tmp_path / name
    path.write_text("<!doctype html><p>Look at the pairs with `viscy-train replay`.")
    with pytest.raises(UserError, match="is not a picture of `viscy-train replay`"):
        write_picture(path, Figure())


def test_a_picture_needs_the_extension_of_an_image_format(tmp_path):
    with pytest.raises(UserError, match=r"--out must have the extension of an image format, got .*a\.txt"):
        write_picture(tmp_path / "a.txt", Figure())
    assert list(tmp_path.iterdir()) == []
