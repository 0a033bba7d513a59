"""Label images: images whose pixels have the number of the cell that they belong to, and 0 outside of cells."""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.errors import UserError, one_line
from viscy_train.plates.access import zarr_store
from viscy_train.tracks.formats.masks import count_parts

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How a TIFF file begins."""
TIFF_SUFFIXES = (".tif", ".tiff")
_DIGITS = re.compile(r"\d+")
_LABEL_NAME = re.compile("label|mask|segment", re.IGNORECASE)
# What tifffile needs for some compressions, which Pillow can read without.
_CODECS = ("imagecodecs", "compression")
# An image that is not of labels has almost as many values as pixels.
_FEWEST_PIXELS = 3
_MANY_LABELS = 200


def is_label_name(name: str) -> bool:
    """Return whether a channel is called like labels."""
    return bool(_LABEL_NAME.search(name))


def is_tiff(path: Path) -> bool:
    """Return whether a file is called a TIFF file."""
    return path.suffix.lower() in TIFF_SUFFIXES and not path.name.startswith(".")


def cells_in_files(paths: Sequence[Path]) -> tuple[pd.DataFrame, tuple[int, int, int]]:
    """Return the cells in TIFF files of one frame each.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        Files whose names have the number of the frame.

    Returns
    -------
    pandas.DataFrame
        The columns ``t``, ``label``, the center ``y``, ``x`` of each cell, its first pixel row by row and column by
        column, ``first_by_row`` and ``first_by_column``, and how compact it is, ``scatter`` and ``n_parts``, see
        `viscy_train.tracks.formats.masks`.
    tuple of int
        Number of frames, height and width of the images.
    """
    frames = frame_numbers([path.stem for path in paths], str(paths[0].parent))
    in_order = sorted(zip(frames, paths, strict=True))
    return _cells((frame, _read_tiff(path), str(path)) for frame, path in in_order)


def cells_in_stack(path: Path) -> tuple[pd.DataFrame, tuple[int, int, int]]:
    """Return the cells in a TIFF file of all frames, as `cells_in_files` does."""
    import tifffile

    with _reported(path), _quiet("tifffile"):
        try:
            # Frame by frame, if they are stored as they are.
            array = tifffile.memmap(path, mode="r")
        except ValueError:
            array = _read_tiff(path)
        return _cells(_frames_of(array, str(path)))


def cells_in_array(path: Path) -> tuple[pd.DataFrame, tuple[int, int, int]]:
    """Return the cells in a NumPy array of all frames, as `cells_in_files` does."""
    with _reported(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    return _cells(_frames_of(array, str(path)))


def cells_in_zarr(path: Path) -> tuple[pd.DataFrame, tuple[int, int, int]]:
    """Return the cells in a Zarr array, or in an OME-Zarr image or its labels, as `cells_in_files` does."""
    with _reported(path):
        array, channel = label_array(path)
        frames = range(array.shape[0])
        # T, C, Z, Y, X or one of its usual parts
        images = (array[frame, channel] if array.ndim == 5 else array[frame] for frame in frames)
        if array.ndim not in (3, 4, 5):
            raise UserError(f"label images must have the axes T, Y, X or T, Z, Y, X, {path} has shape {array.shape}")
        return _cells((frame, np.asarray(image), str(path)) for frame, image in zip(frames, images, strict=True))


def label_array(path: Path) -> tuple[Any, int]:
    """Return the Zarr array with labels in an array, an image or the labels of an image, and its channel with labels.

    Raises
    ------
    UserError
        If there are none, or several.
    """
    if (path / "labels").is_dir():
        inside = sorted(inner for inner in (path / "labels").iterdir() if inner.is_dir())
        if len(inside) != 1:
            found = ", ".join(inner.name for inner in inside) or "none"
            raise UserError(f"an image must have one label image, {path} has {found}; remove the others")
        path = inside[0]
    import zarr

    node: Any = zarr.open(zarr_store(path), mode="r")
    if isinstance(node, zarr.Array):
        return node, 0
    attributes = dict(node.attrs)
    attributes = attributes.get("ome", attributes)
    array: Any = node[attributes["multiscales"][0]["datasets"][0]["path"]]
    n_channels = array.shape[1] if array.ndim == 5 else 1
    channels = [str(one.get("label", "")) for one in attributes.get("omero", {}).get("channels", [])]
    labeled = [number for number, name in enumerate(channels) if is_label_name(name)]
    if n_channels > 1 and len(labeled) != 1:
        raise UserError(
            f"one channel of label images must be called like labels, {path} has {', '.join(channels) or 'no names'}"
        )
    return array, labeled[0] if n_channels > 1 else 0


def frame_numbers(names: Sequence[str], where: str) -> list[int]:
    """Return the number of the frame in each name: the last number that differs in all names."""
    numbers = [[int(digits) for digits in _DIGITS.findall(name)] for name in names]
    n = min((len(one) for one in numbers), default=0)
    for place in range(1, n + 1):
        frames = [one[-place] for one in numbers]
        if len(set(frames)) == len(frames):
            return frames
    raise UserError(
        f"label images must have the number of their frame in their names, such as mask000.tif, got {names[0]!r} "
        f"({len(names)} files in {where})"
    )


def _frames_of(array: NDArray, where: str) -> Iterator[tuple[int, NDArray, str]]:
    """Yield the frames of an array (T, Y, X) or (T, Z, Y, X); an image is one frame."""
    if array.ndim == 2:
        array = array[np.newaxis]
    if array.ndim not in (3, 4):
        raise UserError(f"label images must have the axes T, Y, X or T, Z, Y, X, {where} has shape {array.shape}")
    for frame in range(array.shape[0]):
        yield frame, np.asarray(array[frame]), where


def _cells(images: Iterator[tuple[int, NDArray, str]]) -> tuple[pd.DataFrame, tuple[int, int, int]]:
    parts: list[pd.DataFrame] = []
    size: tuple[int, ...] = ()
    for frame, image, where in images:
        if image.ndim not in (2, 3):
            raise UserError(f"a label image must have the axes Y, X or Z, Y, X, {where} has shape {image.shape}")
        if size and image.shape[-2:] != size:
            raise UserError(f"label images must have one size, {where} has {image.shape[-2:]}, others have {size}")
        size = image.shape[-2:]
        parts.append(_centers(_as_integers(image, where), where).assign(t=frame))
    if not parts:
        raise UserError("label images must have at least one frame")
    return pd.concat(parts, ignore_index=True), (len(parts), int(size[0]), int(size[1]))


def _centers(image: NDArray, where: str) -> pd.DataFrame:
    """Return the label and the center of each cell, the mean over its pixels, and where it begins and if it is one."""
    pixels = np.nonzero(image)
    labels, first, cell, n_pixels = np.unique(image[pixels], return_index=True, return_inverse=True, return_counts=True)
    if len(labels) > _MANY_LABELS and np.median(n_pixels) < _FEWEST_PIXELS:
        raise UserError(
            f"pixels of a label image must be the number of a cell, or 0, {where} has {len(labels)} different values "
            f"in {len(cell)} pixels; save the labels, not the image"
        )
    y, x = (np.bincount(cell, weights=axis, minlength=len(labels)) / n_pixels for axis in pixels[-2:])
    spread = np.bincount(cell, weights=(pixels[-2] - y[cell]) ** 2 + (pixels[-1] - x[cell]) ** 2, minlength=len(labels))
    scatter = spread / n_pixels / n_pixels
    by_column = np.full(len(labels), image.size)
    np.minimum.at(by_column, cell, np.ravel_multi_index(pixels, image.shape, order="F"))
    return pd.DataFrame(
        {
            "label": labels.astype(np.int64),
            "y": y,
            "x": x,
            "first_by_row": first,
            "first_by_column": by_column,
            "scatter": scatter,
            "n_parts": count_parts(image, labels, scatter),
        }
    )


def _as_integers(image: NDArray, where: str) -> NDArray:
    if image.dtype.kind in "ub":
        return image
    if not np.isfinite(image).all() or (image % 1).any() or (image < 0).any():
        raise UserError(
            f"pixels of a label image must be the number of a cell, or 0, {where} has {image.dtype} values that are "
            "not; save the labels, not the image"
        )
    return image.astype(np.int64)


def _read_tiff(path: Path) -> NDArray:
    import tifffile

    with _reported(path), _quiet("tifffile"):
        try:
            return tifffile.imread(path)
        except (ValueError, KeyError, ImportError) as error:
            if not any(name in str(error) for name in _CODECS):
                raise
            return _read_with_pillow(path)


def _read_with_pillow(path: Path) -> NDArray:
    from PIL import Image, ImageSequence

    with Image.open(path) as image:
        frames = np.stack([np.asarray(frame) for frame in ImageSequence.Iterator(image)])
    return frames[0] if len(frames) == 1 else frames


@contextmanager
def _quiet(name: str) -> Generator[None]:
    """Silence a library that logs what is wrong with a file, which is reported as one error, or does not matter."""
    logger = logging.getLogger(name)
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled


@contextmanager
def _reported(path: Path) -> Generator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the readers of images raise errors of many types
        raise UserError(f"{path} cannot be read as label images, or is damaged: {one_line(error)}") from None
