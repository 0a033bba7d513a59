"""Space: how much of a disk the shards of a crop store will take, estimated from a few crops."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.crop_store.crop_array import encode_shard
from viscy_train.errors import UserError
from viscy_train.wording import count, format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from viscy_train.packing.shards import ShardPacker

# Each of them may be in another frame, which takes as long to read as all its crops.
_N_SAMPLED = 16
# Crops of which the sample shows too little.
_MARGIN = 1.05


@dataclass(frozen=True, kw_only=True)
class Space:
    """Size of some shards.

    Parameters
    ----------
    n_crops : int
        Number of crops in them.
    decoded : int
        Their size in memory, in bytes.
    encoded : int
        Their estimated size on the disk, in bytes.
    """

    n_crops: int
    decoded: int
    encoded: int

    def describe(self, n_shards: int) -> str:
        """Return a sentence on the size."""
        share = 100 * self.encoded / max(1, self.decoded)
        return (
            f"Packs {count(self.n_crops, 'crop')} in {count(n_shards, 'shard')}, about {format_bytes(self.encoded)} "
            f"({share:.0f} % of the size of the pixels)"
        )


def estimate(packer: ShardPacker, shards: Sequence[tuple[int, int]]) -> Space:
    """Estimate the size of shards.

    Parameters
    ----------
    packer : ShardPacker
        Reads a few crops.
    shards : sequence of tuple of int
        Index of the array, and number of the shard in it.

    Raises
    ------
    UserError
        If a crop cannot be read.
    """
    decoded = encoded = n_crops = 0
    for number, array in enumerate(packer.plan.header.arrays):
        rows = [packer.plan.rows_of(*shard) for shard in shards if shard[0] == number]
        if not rows:
            continue
        n = sum(map(len, rows))
        n_of_array = min(_N_SAMPLED, n)
        chosen = np.concatenate(rows)[np.arange(n_of_array) * n // n_of_array]
        sample = encode_shard(replace(array, crops_per_shard=n_of_array), packer.read(number, chosen))
        n_crops += n
        decoded += n * array.crop_bytes
        encoded += math.ceil(n * len(sample) / n_of_array)
    return Space(n_crops=n_crops, decoded=decoded, encoded=encoded)


def require_space(path: Path, space: Space) -> None:
    """Refuse to begin if a disk has too little space.

    Parameters
    ----------
    path : pathlib.Path
        An existing directory on the disk.
    space : Space
        What will be written.

    Raises
    ------
    UserError
        If less is free.
    """
    free, needed = shutil.disk_usage(path).free, int(space.encoded * _MARGIN)
    if free < needed:
        raise UserError(
            f"the crop store needs about {format_bytes(needed)}, but {format_bytes(free)} are free at {path}; free "
            "some space, or choose another location with --out"
        )
