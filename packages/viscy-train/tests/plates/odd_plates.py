"""Plates as other software writes them, which iohub does not write: tiny, and made with zarr-python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from viscy_train.experiments.experiments_file import Experiment
from viscy_train.plates.zarr_codecs import zarr_codecs

CHANNELS = ["Phase3D", "Virus"]
SHAPE = (3, 2, 1, 40, 48)
CHUNKS = (1, 1, 1, 24, 32)
WELLS = {"A/1": "mock", "B/1": "infected"}
POSITIONS = ("A/1/0", "B/1/0")
CELLS = ((1, 8.0, 9.0), (2, 39.0, 47.0))


def noise(seed: int, dtype: Any = np.uint16, shape: tuple[int, ...] = SHAPE) -> NDArray:
    """Return an image of noise without zeros, in any data type."""
    values = np.random.default_rng(seed).integers(1, 100, shape)
    return (values > 50).astype(dtype) if np.dtype(dtype).kind == "b" else values.astype(dtype)


class OddPlate:
    """A plate to write group by group; every option can be changed.

    Parameters
    ----------
    path : pathlib.Path
        Directory to create.
    zarr_format : {2, 3}
        Format of groups and arrays.
    """

    def __init__(self, path: Path, *, zarr_format: Any = 3) -> None:
        self.path, self._format = path, zarr_format
        self._version = {2: "0.4", 3: "0.5"}[zarr_format]
        self.root = zarr.open_group(path, mode="w-", zarr_format=zarr_format)

    def write_wells(self, wells: Mapping[str, list[str]], **plate: Any) -> None:
        """Write the metadata of the plate, and that of wells with their images; a well without images has no group."""
        rows, columns = (sorted({well.split("/")[axis] for well in wells}) for axis in (0, 1))
        entries = [
            {"path": well, "rowIndex": rows.index(well.split("/")[0]), "columnIndex": columns.index(well.split("/")[1])}
            for well in wells
        ]
        metadata = {"rows": [{"name": row} for row in rows], "columns": [{"name": column} for column in columns]}
        self._write(self.root, {"plate": metadata | {"wells": entries} | plate})
        for well, images in wells.items():
            if images:
                self._write(self.root.require_group(well), {"well": {"images": [{"path": image} for image in images]}})

    def write_image(
        self,
        position: str,
        image: NDArray,
        *,
        channels: list[str] | None = None,
        axes: Any = "tczyx",
        dataset: str = "0",
        **options: Any,
    ) -> zarr.Array:
        """Write the image of a position, or of the store itself (""); options are those of `zarr.create_array`."""
        kinds = {"t": "time", "c": "channel"}
        multiscale: dict[str, Any] = {"datasets": [{"path": dataset}]}
        if axes is not None:
            multiscale["axes"] = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
        ome: dict[str, Any] = {"multiscales": [multiscale]}
        if channels is not None:
            ome["omero"] = {"channels": [{"label": channel} for channel in channels]}
        group = self.root.require_group(position) if position else self.root
        self._write(group, ome)
        defaults = {"chunks": CHUNKS, "dtype": image.dtype, "fill_value": 0}
        with zarr_codecs():
            array = group.create_array(dataset, shape=image.shape, **(defaults | options))
            array[...] = image
        return array

    def write_attributes(self, group: str, attributes: dict[str, Any]) -> None:
        """Write OME metadata of a group that are not those of a plate, well or image."""
        node = self.root.require_group(group) if group else self.root
        if self._format == 3:
            node.attrs["ome"] = {"version": self._version, **attributes}
        else:
            node.attrs.update(attributes)

    def _write(self, group: zarr.Group, ome: dict[str, Any]) -> None:
        if self._format == 3:
            group.attrs["ome"] = {"version": self._version, **ome}
        else:
            entries = [entry for value in ome.values() for entry in (value if isinstance(value, list) else [value])]
            for entry in entries:
                entry["version"] = self._version
            group.attrs.update(ome)


def write_tracks(folder: Path, n_frames: int, positions: Iterable[str] = POSITIONS) -> Path:
    """Write tracks of two cells, in a corner and near another, and return their directory."""
    rows = [(track, -1, t, y, x) for track, y, x in CELLS for t in range(n_frames)]
    tracks = pd.DataFrame(rows, columns=["track_id", "parent_track_id", "t", "y", "x"])
    for position in positions:
        path = folder / "tracks" / f"{position}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        tracks.to_csv(path, index=False)
    return folder / "tracks"


def experiment_of(
    plate: Path, *, n_frames: int = SHAPE[0], positions: Iterable[str] = POSITIONS, **changes: Any
) -> Experiment:
    """Write tracks of positions next to a plate, and return its experiment."""
    defaults = {"name": "monday", "channels": CHANNELS, "conditions": WELLS, "minutes_per_frame": 30}
    tracks = write_tracks(plate.parent, n_frames, positions)
    return Experiment(**({"plate": plate, "tracks": tracks} | defaults | changes))


def write_odd_plate(
    folder: Path, *, dtype: Any = np.uint16, zarr_format: Any = 3, name: str = "odd.zarr", **options: Any
) -> tuple[Experiment, dict[str, NDArray]]:
    """Write a plate of noise; return its experiment and its images.

    Parameters
    ----------
    folder : pathlib.Path
        Directory of the plate and its tracks.
    dtype : dtype
        Type of the pixels.
    zarr_format : {2, 3}
        Format of groups and arrays.
    name : str
        Name of the plate.
    **options
        Options of `OddPlate.write_image`.
    """
    plate = OddPlate(folder / name, zarr_format=zarr_format)
    plate.write_wells({well: ["0"] for well in WELLS})
    images = {position: noise(seed, dtype) for seed, position in enumerate(POSITIONS)}
    for position, image in images.items():
        plate.write_image(position, image, **({"channels": CHANNELS} | options))
    return experiment_of(plate.path), images


def write_image(path: Path, image: NDArray, *, zarr_format: Any = 3, **options: Any) -> Path:
    """Write an image as a store of its own; options are those of `OddPlate.write_image`. Return its path."""
    OddPlate(path, zarr_format=zarr_format).write_image("", image, **({"channels": CHANNELS} | options))
    return path


def write_collection(path: Path, images: Mapping[str, NDArray], *, lists_series: bool = True, **options: Any) -> Path:
    """Write images as bioformats2raw does, with a group OME that lists them or not. Return the path."""
    plate = OddPlate(path, **options)
    plate.write_attributes("", {"bioformats2raw.layout": 3})
    for name, image in images.items():
        plate.write_image(name, image, channels=CHANNELS)
    plate.write_attributes("OME", {"series": list(images)} if lists_series else {})
    return path
