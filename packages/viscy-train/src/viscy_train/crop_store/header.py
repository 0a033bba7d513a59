"""Header: what the arrays of a crop store hold, stored as JSON beside them; packing crops does not change it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.crops.resampling import ResampledAxis
from viscy_train.crops.window import CropWindow
from viscy_train.errors import UserError
from viscy_train.remote.path import can_list

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1
"""Increases when a reader of another version would read other crops."""
HEADER, SLOTS = "store.json", "slots.npy"
"""Names of the file of the header, and of the file of the slot of each row of the anchor table."""
REPACK = "delete it, and pack again with `viscy-train pack --config FILE`"
_CORRECT = "correct data.store, or remove it to read from the plates"
_KIND = "viscy-train crop store"


@dataclass(frozen=True, kw_only=True)
class CropArray:
    """An array of crops of one type and size, in a directory of the store.

    Parameters
    ----------
    name : str
        Name of the directory.
    data_type : str
        Type of the pixels, such as ``uint16``.
    shape : tuple of int
        (n_crops, n_channels, n_slices, n_rows, n_columns), where a crop is what is read for it from a plate.
    crops_per_shard : int
        Number of crops in a file, except the last one.
    first_slot : int
        Slot of the first crop: the arrays of a store divide its slots among them.
    """

    name: str
    data_type: str
    shape: tuple[int, ...]
    crops_per_shard: int
    first_slot: int

    @property
    def n_shards(self) -> int:
        """Number of files."""
        return math.ceil(self.shape[0] / self.crops_per_shard)

    @property
    def crop_bytes(self) -> int:
        """Size of a crop in memory, in bytes."""
        return math.prod(self.shape[1:]) * np.dtype(self.data_type).itemsize

    def shard_name(self, number: int) -> str:
        """Return the name of the file of a shard."""
        return f"c.{number}.0.0.0.0"


@dataclass(frozen=True, kw_only=True)
class Run:
    """Crops in consecutive slots that are of one array, and that one window describes.

    Parameters
    ----------
    first_slot : int
        The first of them.
    array, window : int
        Indices of the array and of the window.
    """

    first_slot: int
    array: int
    window: int


@dataclass(frozen=True, kw_only=True)
class StoreHeader:
    """What the arrays of a crop store hold.

    Parameters
    ----------
    address : dict of str to str
        What decides rows and pixels, see `viscy_train.crop_store.address`.
    arrays : list of CropArray
        The arrays, in the order of their slots.
    windows : list of CropWindow
        What crops cover of their images.
    runs : list of Run
        Array and window of each slot.
    slots_checksum : int
        CRC-32 of the slots of the rows.
    """

    address: dict[str, str]
    arrays: list[CropArray]
    windows: list[CropWindow]
    runs: list[Run]
    slots_checksum: int

    @property
    def n_crops(self) -> int:
        """Number of crops."""
        return sum(array.shape[0] for array in self.arrays)

    def format(self) -> str:
        """Return the header as JSON, which `read` accepts."""
        return json.dumps({"kind": _KIND, "version": VERSION} | asdict(self), indent=1)

    @classmethod
    def read(cls, store: Path) -> StoreHeader:
        """Read the header of a store.

        Parameters
        ----------
        store : pathlib.Path
            Directory of the store.

        Raises
        ------
        UserError
            If there is no store or something else, if it is of another version, or if its header is damaged.
        """
        path = store / HEADER
        if not path.is_file():
            if can_list(store) and store.exists():
                raise UserError(f"{store} is not a crop store; {_CORRECT}")
            raise UserError(
                f"crop store not found: {store}; pack it with `viscy-train pack --config FILE`, or remove data.store"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            version = content["version"] if content["kind"] == _KIND else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"the header of crop store {store} is damaged; {REPACK}") from error
        if version != VERSION:
            raise UserError(f"crop store {store} must be of version {VERSION}, got {version}; {REPACK}")
        try:
            return cls(
                address={str(name): str(value) for name, value in content["address"].items()},
                arrays=[CropArray(**one | {"shape": tuple(one["shape"])}) for one in content["arrays"]],
                windows=[_window_of(one) for one in content["windows"]],
                runs=[Run(**one) for one in content["runs"]],
                slots_checksum=int(content["slots_checksum"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"the header of crop store {store} is damaged; {REPACK}") from error


def is_store(path: Path) -> bool:
    """Return whether a directory has the header of a crop store, of any version."""
    try:
        return json.loads((path / HEADER).read_text(encoding="utf-8"))["kind"] == _KIND
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _window_of(values: dict[str, Any]) -> CropWindow:
    axes = {name: ResampledAxis(**values[name]) for name in "zyx"}
    return CropWindow(**axes, mode=values["mode"])
