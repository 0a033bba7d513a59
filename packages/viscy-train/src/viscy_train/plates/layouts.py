"""Plate layouts: which positions a key of `conditions` stands for, and where the image of a position is.

A layout opens what a key names, and nothing else, so all other wells and images may be damaged or missing.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, override

from viscy_train.errors import UserError, because
from viscy_train.plates.ngff import is_image, list_images, list_series, list_wells
from viscy_train.plates.ome_store import OmeStore, has_metadata, report_damage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SUFFIXES = (".zarr", ".ome.zarr", ".ngff", "")
_MAX_NAMES_SHOWN = 12
_CORRECT = "; correct the name in `conditions`"


class ImageLocation(NamedTuple):
    """Where the image of a position is: a store, and the path of the image in it."""

    store: OmeStore
    path: str

    def below(self, name: str) -> str:
        """Return the path of an array of the image in the store."""
        return f"{self.path}/{name}".strip("/")


class Layout(ABC):
    """How the images of a plate are arranged."""

    @abstractmethod
    def list_keys(self) -> list[str]:
        """Return keys that `conditions` may have: the wells, or the images of a plate without wells."""

    @abstractmethod
    def list_positions(self, key: str) -> list[str]:
        """Return the names of the positions that a key of `conditions` stands for.

        Raises
        ------
        UserError
            If there are none.
        """

    @abstractmethod
    def locate(self, position: str) -> ImageLocation:
        """Return where the image of a position is.

        Raises
        ------
        UserError
            If there is no such position. Some layouts notice it only when the image is opened.
        """


class WellLayout(Layout):
    """An HCS plate: keys are wells, such as ``A/1``, and fields of view, such as ``A/1/0``."""

    def __init__(self, store: OmeStore) -> None:
        self._store = store

    @override
    def list_keys(self) -> list[str]:
        with report_damage(self._store.path, "its metadata"):
            return list_wells(self._store.ome())

    @override
    def list_positions(self, key: str) -> list[str]:
        wells = self.list_keys()
        if key in wells:
            return self._positions_in(key)
        well, _, image = key.rpartition("/")
        if well not in wells:
            meant = similar_name(key if key.count("/") < 2 else well, wells)
            raise UserError(
                f"plate {self._store.path} has no well {key!r}; it has {enumerate_names(wells)}"
                + (f"; did you mean {meant}?" if meant else "")
            )
        positions = self._positions_in(well)
        if key not in positions:
            names = enumerate_names([position.removeprefix(f"{well}/") for position in positions])
            raise UserError(f"well {well} of plate {self._store.path} has no field of view {image!r}; it has {names}")
        return [key]

    def _positions_in(self, well: str) -> list[str]:
        with report_damage(self._store.path, f"well {well}"):
            images = list_images(self._store.ome(well))
        if not images:
            raise because(
                "no fields of view",
                f"well {well} of plate {self._store.path} has no fields of view; remove it from `conditions`",
            )
        return [f"{well}/{image}" for image in images]

    @override
    def locate(self, position: str) -> ImageLocation:
        return ImageLocation(self._store, position)


class ImageLayout(Layout):
    """A single image, or a bioformats2raw collection of images: keys are the names of the images."""

    def __init__(self, store: OmeStore, ome: Mapping[str, Any]) -> None:
        self._path = store.path
        series = [] if is_image(ome) else series_of(store)
        if not series and not is_image(ome):
            raise UserError(f"collection {store.path} must have images, got none; convert the files again")
        paths = {name: name for name in series} or {stem(store.path): ""}
        self._locations = {name: ImageLocation(store, path) for name, path in paths.items()}

    @override
    def list_keys(self) -> list[str]:
        return list(self._locations)

    @override
    def list_positions(self, key: str) -> list[str]:
        if key not in self._locations:
            raise UserError(
                f"plate {self._path} has no image {key!r}; it has {enumerate_names(list(self._locations))}{_CORRECT}"
            )
        return [key]

    @override
    def locate(self, position: str) -> ImageLocation:
        self.list_positions(position)
        return self._locations[position]


def similar_name(name: str, wells: list[str]) -> str | None:
    """Return the well that is meant by a name such as ``A1``, ``a/1`` or ``A/01``, or None."""
    spelled = {_plain(well): well for well in wells}
    return spelled.get(_plain(name))


def _plain(name: str) -> tuple[str, ...]:
    """Return the letters and numbers of a name, without case and leading zeros."""
    return tuple(
        part.lstrip("0") or "0" if part.isdecimal() else part for part in re.findall(r"[a-z]+|\d+", name.lower())
    )


def stem(path: Path) -> str:
    """Return the name of a store without its suffix, such as ``image`` for ``image.ome.zarr``."""
    suffix = next(suffix for suffix in (".ome.zarr", *SUFFIXES) if path.name.endswith(suffix))
    return path.name.removesuffix(suffix)


def enumerate_names(names: list[str]) -> str:
    """Return names for a message, the first of many."""
    shown = ", ".join(names[:_MAX_NAMES_SHOWN])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > _MAX_NAMES_SHOWN else shown


def series_of(store: OmeStore) -> list[str]:
    """Return the paths of the images of a collection: those that it lists, or those that have numbers as names."""
    if has_metadata(store.path / "OME") and (series := list_series(store.ome("OME"))):
        return series
    numbers = (child.name for child in directories_in(store.path) if child.name.isdecimal())
    return sorted(numbers, key=int)


def directories_in(path: Path) -> list[Path]:
    """Return the directories in a directory, by name."""
    return sorted(child for child in path.iterdir() if child.is_dir())
