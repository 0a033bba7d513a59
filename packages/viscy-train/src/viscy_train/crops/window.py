"""Crop window: the part of an image that a crop covers, in pixels and slices, and how it becomes a crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.crops.geometry import middle_slices
from viscy_train.crops.resampling import ResampledAxis, Taps
from viscy_train.crops.scale import micrometers_per_pixel, micrometers_per_slice
from viscy_train.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.config.schema import CropSettings
    from viscy_train.experiments.experiments_file import Experiment
    from viscy_train.plates.position_image import PositionImage

# A crop of fewer pixels shows nothing.
_MIN_SIDE = 4


@dataclass(frozen=True, kw_only=True)
class CropWindow:
    """The part of an image that a crop covers.

    Parameters
    ----------
    z, y, x : ResampledAxis
        Slices, rows and columns.
    mode : str
        Which slices, as `CropSettings.z`.
    """

    z: ResampledAxis
    y: ResampledAxis
    x: ResampledAxis
    mode: str

    @property
    def sides(self) -> tuple[int, int]:
        """Number of rows and of columns that are read for a crop."""
        return self.y.n_read, self.x.n_read

    @property
    def n_slices(self) -> int:
        """Number of slices of the crop that is kept before it is resampled, which can be their maximum."""
        return 1 if self.mode == "maximum" else self.z.n_read

    @property
    def is_exact(self) -> bool:
        """Whether a crop has the pixels of the image."""
        return self.mode != "maximum" and self.z.is_exact and self.y.is_exact

    def starts(self, centers: NDArray[np.float64]) -> NDArray[Any]:
        """Return where crops begin.

        Parameters
        ----------
        centers : numpy.ndarray
            Coordinates y and x of cells, 0 in the center of the first pixel, shape (..., 2).

        Returns
        -------
        numpy.ndarray
            Coordinates of edges along y and x, shape (..., 2).
        """
        if self.y.is_exact:
            centers = np.rint(centers)
        return np.stack([axis.start(centers[..., i] + 0.5) for i, axis in enumerate((self.y, self.x))], axis=-1)

    def corners(self, starts: NDArray[Any]) -> NDArray[np.int64]:
        """Return the first row and column to read of crops that begin somewhere, shape (..., 2)."""
        return np.stack([axis.first(starts[..., i]) for i, axis in enumerate((self.y, self.x))], axis=-1)

    def first_slices(
        self, n: int, *, focus: NDArray[np.int64] | None = None, draws: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Return where the slices of n crops begin.

        Parameters
        ----------
        n : int
            Number of crops.
        focus : numpy.ndarray, optional
            The sharpest slice of each crop, around which its slices are, shape (n,).
        draws : numpy.ndarray, optional
            Random numbers in [0, 1) that choose the slices of each crop, shape (n,). By default, they are in the middle
            of the stack.

        Returns
        -------
        numpy.ndarray
            Coordinates of edges along z, shape (n,), dtype float64.
        """
        z = self.z
        if focus is not None:
            return np.asarray(z.start(focus + 0.5), dtype=np.float64)
        if not z.is_exact:
            return max(z.n - z.length, 0.0) * (np.full(n, 0.5) if draws is None else draws)
        if draws is None:
            return np.full(n, float(middle_slices(z.n, z.n_resampled).start))
        return np.floor(draws * (z.n - z.n_resampled + 1))

    def first_slice(self, *, focus: int | None = None) -> float:
        """Return where the slices of a crop begin, around its sharpest slice or in the middle of the stack."""
        return float(self.first_slices(1, focus=None if focus is None else np.array([focus]))[0])

    def slices(self, first_slice: float) -> slice:
        """Return the slices to read of a crop whose slices begin somewhere."""
        first = int(self.z.first(first_slice))
        return slice(first, first + self.z.n_read)

    @property
    def reachable(self) -> slice:
        """The slices that crops may need that are not around the sharpest one."""
        return slice(0, self.z.n) if self.mode == "random" else self.slices(self.first_slice())

    @property
    def is_projected_only(self) -> bool:
        """Whether a crop has the pixels of the image, or the maximum of each over the slices."""
        return self.is_exact or (self.mode == "maximum" and self.y.is_exact)

    def taps(self, starts: NDArray[np.float64], first_slices: NDArray[np.float64]) -> list[tuple[int, Taps]]:
        """Return how the pixels that were read for crops are resampled.

        A pixel is a function of those around it, whatever is resampled before or after.

        Parameters
        ----------
        starts : numpy.ndarray
            Where the crops begin along y and x, from `starts`, shape (n_crops, 2).
        first_slices : numpy.ndarray
            Where their slices begin, shape (n_crops,).

        Returns
        -------
        list of (int, Taps)
            The axes of an array of shape (n_crops, n_channels, n_slices, n_rows, n_columns) that are resampled, in
            order, with their taps. The maximum along z is taken before.
        """
        axes = [(2, self.z, first_slices)] if self.mode != "maximum" else []
        axes += [(3, self.y, starts[:, 0]), (4, self.x, starts[:, 1])]
        return [(index, axis.taps(begin)) for index, axis, begin in axes if not axis.is_exact]

    def finish_frame(self, pixels: NDArray[np.float32], first_slice: float) -> NDArray[np.float32]:
        """Return all pixels of a frame that crops may contain, projected and resampled as crops are.

        Parameters
        ----------
        pixels : numpy.ndarray
            Shape (n_channels, n_slices, height, width), with the slices that were read for crops.
        first_slice : float
            Where the slices of crops begin; if they are random, all slices are returned.
        """
        if self.mode == "maximum":
            pixels = np.max(pixels, axis=1, keepdims=True)
        elif self.mode != "random":
            pixels = self.z.resample(pixels, 1, first_slice)
        else:
            pixels = self.z.resample_all(pixels, 1)
        return self.x.resample_all(self.y.resample_all(pixels, 2), 3)


def crop_window(image: PositionImage, experiment: Experiment, crops: CropSettings) -> CropWindow:
    """Return what crops cover of an image.

    Parameters
    ----------
    image : PositionImage
        Image of a position.
    experiment : Experiment
        Its experiment, whose scale overrides that of the image's metadata.
    crops : CropSettings
        What a crop contains.

    Returns
    -------
    CropWindow
        Pixels and slices of the image.

    Raises
    ------
    UserError
        If pixels are not numbers, if crops do not fit into the image, or if they have a physical size and the scale of
        the image is unknown.
    """
    image.check_type()
    height, width = image.shape[3:]
    side = _side(image, experiment, crops, min(height, width))
    # A physical size is cut between the pixels at every scale, so that cells are in the middle at all of them.
    y, x = (ResampledAxis(n, side, crops.crop, crops.crop_um is None) for n in (height, width))
    return CropWindow(z=_z_axis(image, experiment, crops), y=y, x=x, mode=crops.z)


def _side(image: PositionImage, experiment: Experiment, crops: CropSettings, largest: int) -> float:
    """Return the side of a crop, in pixels of an image."""
    _, _, _, height, width = image.shape
    pixels = f"{height} x {width} pixels in {image.where}"
    if crops.crop_um is None:
        if crops.crop > largest:
            raise UserError(f"data.crop must fit into the image, {pixels}, got {crops.crop}")
        return crops.crop
    scale = _known(micrometers_per_pixel(image, experiment), "crop_um", "micrometers_per_pixel", image, experiment)
    side = crops.crop_um / scale
    if not ResampledAxis(largest, side, crops.crop).fits:
        raise UserError(
            f"data.crop_um must fit into the image, {pixels} of {scale:g} micrometers, got {crops.crop_um:g} "
            f"({side:.4g} pixels)"
        )
    if side < _MIN_SIDE:
        raise UserError(
            f"data.crop_um must be at least {_MIN_SIDE} pixels of the image, which have {scale:g} micrometers in "
            f"{image.where}, got {crops.crop_um:g} ({side:.2g} pixels)"
        )
    return side


def _z_axis(image: PositionImage, experiment: Experiment, crops: CropSettings) -> ResampledAxis:
    n_slices = image.shape[2]
    if crops.depth_um is not None:
        scale = _known(micrometers_per_slice(image, experiment), "depth_um", "micrometers_per_slice", image, experiment)
        depth = crops.depth_um / scale
        if not ResampledAxis(n_slices, depth, crops.z_slices).fits:
            raise UserError(
                f"data.depth_um must fit into the stack, {n_slices} slices of {scale:g} micrometers in {image.where}, "
                f"got {crops.depth_um:g} ({depth:.3g} slices)"
            )
        if crops.z != "maximum":
            return ResampledAxis(n_slices, depth, crops.z_slices)
        n_projected = max(1, round(depth))
        return ResampledAxis(n_slices, n_projected, n_projected)
    if crops.z_slices > n_slices:
        raise UserError(
            f"data.z_slices must fit into the stack, {n_slices} slices in {image.where}, got {crops.z_slices}"
        )
    n_selected = n_slices if crops.z == "maximum" else crops.z_slices
    return ResampledAxis(n_slices, n_selected, n_selected)


def _known(scale: float | None, option: str, key: str, image: PositionImage, experiment: Experiment) -> float:
    if scale is None:
        raise UserError(
            f"data.{option} needs the scale of every image, which the metadata of {image.where} do not give; set {key} "
            f"of experiment {experiment.name!r}"
        )
    return scale
