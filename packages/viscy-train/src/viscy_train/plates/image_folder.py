"""Image folders: directories of images that are plates, each image in a store of its own.

What a key of `conditions` does not name is not opened, so it may be damaged, or something else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, override

from viscy_train.errors import UserError, because
from viscy_train.plates.layouts import (
    SUFFIXES,
    ImageLocation,
    Layout,
    directories_in,
    enumerate_names,
    series_of,
    stem,
)
from viscy_train.plates.ngff import describe, is_collection, is_image
from viscy_train.plates.ome_store import OmeStore, has_metadata, report_damage
from viscy_train.plates.other_formats import advice_for

if TYPE_CHECKING:
    from pathlib import Path


class FolderLayout(Layout):
    """A folder of images, each in a store of its own: keys are names of images, and of folders with images in them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @override
    def list_keys(self) -> list[str]:
        directories = directories_in(self._path)
        images = [stem(child) for child in directories if _may_be_image(child)]
        return sorted([*images, *(child.name for child in directories if _is_folder_of_images(child))])

    @override
    def list_positions(self, key: str) -> list[str]:
        return list(self._images_of(key))

    @override
    def locate(self, position: str) -> ImageLocation:
        return self._images_of(position)[position]

    def _images_of(self, key: str) -> dict[str, ImageLocation]:
        """Return where the images of a key are, by the name of their position."""
        directory = self._find(key)
        if directory is None:
            return self._series_of_collection(key)
        images = _images_in(directory, key) if has_metadata(directory) else {}
        if images:
            return images
        for child in filter(_may_be_image, directories_in(directory)):
            name = f"{key}/{stem(child)}"
            self._find(name)  # refuses two images with one name
            found = _images_in(child, name)
            if not found:
                raise refusal(child, "its metadata has no `multiscales`")
            images |= found
        if not images:
            raise because("no images", f"folder {directory} has no OME-Zarr images; remove it from `conditions`")
        return images

    def _series_of_collection(self, key: str) -> dict[str, ImageLocation]:
        """Return where the image of a key is that names a collection and its number in it."""
        collection = key.rpartition("/")[0]
        images = self._images_of(collection) if collection and self._find(collection) else {}
        if key not in images:
            why = self._advice(key) or f"it has {enumerate_names(list(images) or self.list_keys())}"
            raise UserError(f"plate {self._path} has no image or folder {key!r}; {why}")
        return {key: images[key]}

    def _find(self, key: str) -> Path | None:
        """Return the only directory that a key names, with or without the suffix of a store."""
        if any(part in ("", ".", "..") for part in key.split("/")):
            return None
        found = [path for suffix in SUFFIXES if (path := self._path / f"{key}{suffix}").is_dir()]
        if len(found) > 1:
            names = " and ".join(path.name for path in found)
            raise UserError(f"images must have different names, got {names} in {found[0].parent}; rename one of them")
        return found[0] if found else None

    def _advice(self, key: str) -> str | None:
        """Return what to do about a file of another format that has the name of an image."""
        folder, _, name = key.rpartition("/")
        files = sorted(path for path in (self._path / folder).glob("*") if path.name.startswith(f"{name}."))
        return next((advice for path in files if path.is_file() and (advice := advice_for(path))), None)


def folder_layout(path: Path, why_not_one_store: str) -> FolderLayout:
    """Return the layout of a folder of images.

    Parameters
    ----------
    path : pathlib.Path
        The folder.
    why_not_one_store : str
        Why it is not a plate or image itself, for the error message.

    Raises
    ------
    UserError
        If there are no images in it.
    """
    if any(_may_be_image(child) or _is_folder_of_images(child) for child in directories_in(path)):
        return FolderLayout(path)
    files = sorted(child for child in path.iterdir() if child.is_file())
    advice = next((f"; {advice}" for file in files if (advice := advice_for(file))), "")
    raise refusal(path, f"{why_not_one_store}, and there is no OME-Zarr image in it{advice}")


def refusal(path: Path, why: str) -> UserError:
    """Return the error for a directory that is not a plate."""
    return UserError(f"{path} is not an OME-Zarr plate, image or folder of images: {why}")


def _images_in(path: Path, name: str) -> dict[str, ImageLocation]:
    """Return where the images of a store are: the only one by the name of the store, others with their number in it."""
    with report_damage(path, "its metadata"):
        store = OmeStore(path)
        ome = store.ome()
        if is_image(ome):
            return {name: ImageLocation(store, "")}
        if (why := describe(ome)) is not None:
            raise refusal(path, why)
        series = series_of(store) if is_collection(ome) else []
    if len(series) == 1:
        return {name: ImageLocation(store, series[0])}
    return {f"{name}/{one}": ImageLocation(store, one) for one in series}


def _may_be_image(path: Path) -> bool:
    """Return whether a directory is named like a store, or is an image or a collection."""
    return path.name.endswith(SUFFIXES[:-1]) or _is_image(path)


def _is_image(path: Path) -> bool:
    if not has_metadata(path):
        return False
    try:
        ome = OmeStore(path).ome()
    except Exception:  # many types, for a directory that may have nothing to do with images
        return False
    return is_image(ome) or is_collection(ome)


def _is_folder_of_images(path: Path) -> bool:
    return any(child.name.endswith(SUFFIXES[:-1]) for child in directories_in(path))
