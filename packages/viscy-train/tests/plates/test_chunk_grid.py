"""Boxes touch the chunks that hold their pixels."""

import numpy as np
import pytest

from viscy_train.plates.chunk_grid import Boxes, touched_chunks


def chunks_of_box(boxes, box, size):
    """Return the index of the chunk of every pixel of a box, without duplicates."""
    frame, z = boxes.frames[box], boxes.first_slices[box] + np.arange(boxes.n_slices)
    y, x = boxes.tops[box] + np.arange(boxes.height), boxes.lefts[box] + np.arange(boxes.width)
    pixels = np.stack([one.ravel() for one in np.meshgrid(frame, z, y, x)], axis=1)
    return {tuple(index) for index in (pixels // size).tolist()}


@pytest.mark.parametrize("seed", range(20))
def test_boxes_touch_the_chunks_of_their_pixels(seed):
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, [4, 4, 12, 12]).tolist())
    n_slices, height, width = rng.integers(1, [5, 20, 20]).tolist()
    frames, first_slices, tops, lefts = rng.integers(0, [[5], [5], [30], [30]], (4, 12))
    boxes = Boxes(
        frames=frames,
        first_slices=first_slices,
        tops=tops,
        lefts=lefts,
        n_slices=n_slices,
        height=height,
        width=width,
    )
    touched = touched_chunks(boxes, size)
    assert (np.diff(touched.box) >= 0).all()
    found = [tuple(index) for index in touched.chunk.tolist()]
    for box in range(len(boxes)):
        of_box = [index for at, index in zip(touched.box.tolist(), found, strict=True) if at == box]
        assert len(of_box) == len(set(of_box))
        assert set(of_box) == chunks_of_box(boxes, box, size)
