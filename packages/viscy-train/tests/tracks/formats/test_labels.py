"""Label images whose numbers do not follow cells, or do not name cells, are noticed."""

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage

from viscy_train.errors import UserError
from viscy_train.tracks.formats import count_swaps, suspicious
from viscy_train.tracks.tracks import Tracks

from . import tracker_files as files

N_FRAMES, SIDE = 8, 120
SHAPE = (N_FRAMES, 1, 1, SIDE, SIDE)


def make_paths(n=36, *, motion=0.5, seed=0):
    """Return positions (frame, cell, axis) of cells that start on a grid, each moving at random."""
    rng = np.random.default_rng(seed)
    start = np.stack(np.divmod(np.arange(n), 6), axis=1) * 18.0 + 12 + rng.uniform(-3, 3, (n, 2))
    steps = rng.normal(0, motion, (N_FRAMES, n, 2))
    steps[0] = 0
    return start + steps.cumsum(axis=0)


def draw(paths, first_frames=None):
    """Return label images of cells, of which some come later."""
    images = np.zeros((N_FRAMES, SIDE, SIDE), dtype=np.uint16)
    for frame, points in enumerate(paths):
        for cell, (y, x) in enumerate(points.round().astype(int)):
            if frame >= (first_frames or {}).get(cell, 0):
                images[frame, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = cell + 1
    return images


def number_anew(images, by_column=False):
    """Return images whose cells are numbered in the order of their first pixels in each frame."""
    anew = [ndimage.label(image.T if by_column else image)[0] for image in images]
    return np.stack([image.T if by_column else image for image in anew]).astype(np.uint16)


def read(path, images, **options):
    np.save(path / "0.npy", images)
    tracks = Tracks(path, **options)
    return tracks.of("0", shape=SHAPE), tracks


def table_of(images):
    """Return the center of each label, as a program writes it that measures labels in each frame."""
    rows = []
    for frame, image in enumerate(images):
        labels = np.unique(image)[1:]
        centers = ndimage.center_of_mass(image > 0, image, labels)
        rows += [(label, frame, *center) for label, center in zip(labels, centers, strict=True)]
    return pd.DataFrame(rows, columns=["track_id", "t", "y", "x"])


@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("motion", [0.0, 1.0])
def test_cells_that_are_numbered_anew_in_each_frame_are_not_tracks(tmp_path, motion, by_column):
    """One more cell from frame 5 on shifts the numbers of others, in that frame only."""
    images = draw(make_paths(motion=motion), {3: 5})
    tracks, source = read(tmp_path, number_anew(images, by_column))
    assert tracks["track_id"].is_unique
    assert source.describe().startswith("cells without tracks")
    assert "labels change from frame to frame" in source.describe()
    tracks, source = read(tmp_path, images)
    assert tracks["track_id"].nunique() == 36
    assert source.describe() == "label images, pixels, 1 position, 36 tracks"
    assert source.doubts() == []


def test_numbers_that_change_in_one_frame_are_a_doubt_in_images_and_tables(tmp_path):
    images = draw(make_paths())
    images[5:][(images[5:] > 6) & (images[5:] < 13)] += 100
    others = np.arange(200, dtype=np.uint16)
    others[107:113] = [8, 9, 10, 11, 12, 7]
    images = others[images]
    for format, write in (("labels", np.save), ("table", lambda path, table: table.to_csv(path, index=False))):
        content = images if format == "labels" else table_of(images)
        name = "0.npy" if format == "labels" else "0.csv"
        (tmp_path / format).mkdir()
        write(tmp_path / format / name, content)
        source = Tracks(tmp_path / format)
        assert source.of("0", shape=SHAPE)["track_id"].nunique() == 36
        (doubt,) = source.doubts()
        assert "from frame 4 to 5 of 0, 6 of 36 tracks jump away, and others take their places; set" in doubt
        remedy = f"to detections if the cells were not tracked, or to {format} if a number is the same cell in all"
        assert remedy in doubt
        stated = Tracks(tmp_path / format, format=format)
        stated.of("0", shape=SHAPE)
        assert stated.doubts() == []


def make_table(paths):
    frames, cells = np.divmod(np.arange(paths.shape[0] * paths.shape[1]), paths.shape[1])
    return pd.DataFrame({"track_id": cells, "t": frames, "y": paths[..., 0].ravel(), "x": paths[..., 1].ravel()})


@pytest.mark.parametrize("motion", ["random", "crossing", "stage", "two"])
def test_cells_that_move_far_or_cross_or_move_together_are_tracks(motion):
    rng = np.random.default_rng(1)
    frames = np.arange(10)[:, np.newaxis, np.newaxis]
    start = rng.uniform(0, 300, (300, 2))  # 17 pixels from one to the next on average
    paths = {
        "random": start + rng.normal(0, 8, (10, 300, 2)).cumsum(axis=0),
        "crossing": start + frames * rng.normal(0, 6, (300, 2)),
        "stage": start + rng.normal(0, 1, (10, 300, 2)) + (frames > 4) * [17.0, 0.0],
        "two": np.array([[[10.0, 10], [10, 20]], [[10, 20], [10, 10]]]),
    }[motion]
    steps = count_swaps(make_table(paths))
    assert steps["n_both"].eq(paths.shape[1]).all()
    assert suspicious(steps).empty


@pytest.mark.parametrize("dtype", [bool, np.uint8])
@pytest.mark.parametrize("format", ["auto", "detections"])
def test_a_mask_is_not_label_images(tmp_path, dtype, format):
    mask = (draw(make_paths()) > 0).astype(dtype)
    mask = mask if dtype is bool else mask * 255
    with pytest.raises(UserError, match=r"0\.npy is a mask: value (1|255) of frame 0 has 36 separate parts; number"):
        read(tmp_path, mask, format=format)
    tracks, _ = read(tmp_path, mask, format="labels")
    assert tracks["track_id"].nunique() == 1


def test_classes_of_pixels_are_a_mask_but_a_few_cells_are_not(tmp_path):
    images = draw(make_paths())
    with pytest.raises(UserError, match=r"is a mask: value 1 of frame 0 has"):
        read(tmp_path, np.where(images % 2, 2, 1) * (images > 0))
    few = np.where(images < 3, images, 0)
    few[0, 0, 0] = 1  # a speck
    assert read(tmp_path, few)[0]["track_id"].nunique() == 2
    one = np.where(images == 1, images, 0) > 0
    assert read(tmp_path, one)[0]["track_id"].nunique() == 1


def test_a_label_of_distant_cells_is_a_doubt(tmp_path):
    images = draw(make_paths())
    images[3][images[3] == 36] = 1
    _, source = read(tmp_path, images)
    (doubt,) = source.doubts()
    assert doubt.startswith("label 1 in frame 3 of 0 has 2 parts that are far apart, and its center is between them; ")


def test_long_cells_are_in_one_part(tmp_path):
    images = draw(make_paths())
    images[:, 1:3, 5:115] = 40
    images[:, 1:115, 1:2] = 41
    _, source = read(tmp_path, images)
    assert source.doubts() == []


@pytest.mark.parametrize("n", [N_FRAMES - 2, N_FRAMES])
def test_label_images_of_other_frames_than_the_plate_are_a_doubt(tmp_path, n):
    _, source = read(tmp_path, draw(make_paths())[:n])
    found = source.doubts()
    assert len(found) == (n < N_FRAMES)
    for doubt in found:
        assert "the label images of 0 are of 6 frames, the images have 8; correct the tracks" in doubt


def test_label_images_with_a_text_file_are_compared_too(tmp_path):
    files.write_ctc(tmp_path)
    images = sorted(tmp_path.glob("*.tif"))
    labels = tifffile.imread(images[1])
    labels[labels == 1] = 4
    labels[30, 5] = 1
    tifffile.imwrite(images[1], labels)
    source = Tracks(tmp_path)
    source.of("0", shape=(6, 1, 1, 48, 64), is_only=True)
    scattered, length = source.doubts()
    assert "label 4 in frame 1 of 0 has 2 parts" in scattered
    assert "are of 4 frames, the images have 6" in length
