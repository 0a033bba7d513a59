"""Preparation: the files of a crop store that are written before its shards, and the files that are deleted after."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.atomic import atomic_write
from viscy_train.console import say
from viscy_train.crop_store.address import difference
from viscy_train.crop_store.crop_array import GROUP, METADATA, is_whole_shard, metadata_of
from viscy_train.crop_store.header import HEADER, REPACK, SLOTS, StoreHeader, is_store
from viscy_train.errors import UserError, require_regular_file
from viscy_train.output import LOCK, OutputKind, claimed, follow_links, require_replaceable

if TYPE_CHECKING:
    from pathlib import Path

    from viscy_train.packing.plan import PackingPlan


def _is_own(path: Path) -> bool:
    """Return whether a directory has a crop store, or only what a process leaves that is about to write its header."""
    return is_store(path) or all(entry.name.startswith(f".{HEADER}.") for entry in path.iterdir())


CROP_STORE = OutputKind("a crop store of viscy-train", _is_own, is_directory=True)
_HEADER = OutputKind("the header of a crop store", lambda path: is_store(path.parent))
_OTHER = f"{REPACK}, or give another --out"


def prepare(path: Path, plan: PackingPlan) -> None:
    """Write everything but the shards, or check that it is there.

    Several processes may prepare the same store; the first one writes, and the others wait.

    Parameters
    ----------
    path : pathlib.Path
        Directory of the store, new, empty, or of the same plan.
    plan : PackingPlan
        Which crop is where.

    Raises
    ------
    UserError
        If the directory has other files, or other crops.
    """
    require_replaceable(path, CROP_STORE)
    path = follow_links(path)
    with claimed(path / HEADER, _HEADER, "pack", on_wait=say):
        header = plan.header.format()
        if (path / HEADER).exists():
            _check(path, plan)
        # First, because a directory with a header is a crop store, also if this process is killed here.
        _write(path / HEADER, header.encode())
        slots = io.BytesIO()
        np.save(slots, plan.slots, allow_pickle=False)
        _write(path / SLOTS, slots.getvalue())
        _write(path / METADATA, GROUP.encode())
        for array in plan.header.arrays:
            _write(path / array.name / METADATA, json.dumps(metadata_of(array), indent=1).encode())


def _check(path: Path, plan: PackingPlan) -> None:
    """Refuse a store of another plan."""
    present = StoreHeader.read(path)
    if other := difference(present.address, plan.header.address):
        raise UserError(f"crop store {path} has the crops of another anchor table ({other}); {_OTHER}")
    if present != plan.header:
        raise UserError(f"crop store {path} has crops of images of other types or sizes; {_OTHER}")


def _write(path: Path, content: bytes) -> None:
    """Write a small file unless it has this content."""
    if path.is_file() and path.read_bytes() == content:
        return
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(content)


def delete_cut_shards(path: Path, plan: PackingPlan) -> None:
    """Delete shards of which a part is missing, as a copy leaves them that was interrupted, and say so.

    Raises
    ------
    UserError
        If something else is in the place of a shard.
    """
    for array in plan.header.arrays:
        for name in map(array.shard_name, range(array.n_shards)):
            file = path / array.name / name
            _require_file(file)
            # Another process may delete it at the same time.
            with suppress(FileNotFoundError):
                if not is_whole_shard(array, file):
                    file.unlink()
                    say(f"{file} is not complete, and is packed again")


def _require_file(shard: Path) -> None:
    try:
        require_regular_file(shard, "a shard")
    except UserError as error:
        raise UserError(f"{error}; delete it, and run `viscy-train pack` again") from error


def delete_leftovers(path: Path, plan: PackingPlan) -> None:
    """Delete what killed processes have left in a store that is complete."""
    for array in plan.header.arrays:
        for pattern in (".*.unfinished", f".*{LOCK}"):
            for file in (path / array.name).glob(pattern):
                file.unlink(missing_ok=True)
