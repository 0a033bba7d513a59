"""Crop array: a Zarr 3 array of crops, one chunk each, in shards that are written in one step.

Other software reads it, too. All chunks of a shard are compressed by Blosc and have a checksum, so damage is found when
a crop is read.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorstore

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.crop_store.header import CropArray

METADATA = "zarr.json"
GROUP = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}})
"""Metadata of the group that the arrays are in."""
# Chosen by `make bench-store`: of what is small, it is decoded with the least CPU time.
_COMPRESSOR, _LEVEL = "lz4", 5
_BYTES_PER_SHARD = 64 * 2**20
# The index of a shard takes 16 bytes a crop, and is read again for a crop of another batch.
_MAX_CROPS_PER_SHARD = 4096
# Begin and length of each crop, with this number for what the last shard of an array has not, and a checksum of them.
INDEX_BYTES_PER_CROP, CHECKSUM_BYTES = 16, 4
NO_CROP = 2**64 - 1


def crops_per_shard(crop_bytes: int) -> int:
    """Return how many crops of a size a shard has: 64 MiB of them, unless they are very small or large."""
    return max(1, min(_BYTES_PER_SHARD // crop_bytes, _MAX_CROPS_PER_SHARD))


def metadata_of(array: CropArray) -> dict[str, Any]:
    """Return the metadata of an array, as in its ``zarr.json``.

    Parameters
    ----------
    array : CropArray
        Its type, shape and shards.
    """
    dtype = np.dtype(array.data_type)
    compressor = {
        "cname": _COMPRESSOR,
        "clevel": _LEVEL,
        "shuffle": "bitshuffle",
        "typesize": dtype.itemsize,
        "blocksize": 0,
    }
    to_bytes = {"name": "bytes", **({"configuration": {"endian": "little"}} if dtype.itemsize > 1 else {})}
    checksum = {"name": "crc32c"}
    sharding = {
        "chunk_shape": [1, *array.shape[1:]],
        "codecs": [to_bytes, {"name": "blosc", "configuration": compressor}, checksum],
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, checksum],
        "index_location": "end",
    }
    grid = {"chunk_shape": [array.crops_per_shard, *array.shape[1:]]}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(array.shape),
        "data_type": array.data_type,
        "chunk_grid": {"name": "regular", "configuration": grid},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": False if dtype.kind == "b" else 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {},
        "dimension_names": ["crop", "c", "z", "y", "x"],
    }


def encode_shard(array: CropArray, pixels: NDArray[Any]) -> bytes:
    """Return the content of the file of a shard.

    Parameters
    ----------
    array : CropArray
        The array.
    pixels : numpy.ndarray
        The crops of the shard, shape (n, n_channels, n_slices, n_rows, n_columns), where only the last shard of an
        array has fewer than `crops_per_shard`.
    """
    metadata = metadata_of(array) | {"shape": list(pixels.shape)}
    metadata.pop("attributes")
    context = tensorstore.Context()  # each has a memory of its own
    stored = tensorstore.open(
        {"driver": "zarr3", "kvstore": "memory://", "metadata": metadata, "store_data_equal_to_fill_value": True},
        create=True,
        context=context,
    ).result()
    with tensorstore.Transaction() as transaction:
        stored.with_transaction(transaction)[...] = pixels
    return tensorstore.KvStore.open("memory://", context=context).result()[array.shard_name(0)]


def is_whole_shard(array: CropArray, file: Path) -> bool:
    """Return whether the file of a shard ends where its index says, so nothing of it was cut off.

    Parameters
    ----------
    array : CropArray
        The array.
    file : pathlib.Path
        The file, which exists.
    """
    n_index = INDEX_BYTES_PER_CROP * array.crops_per_shard
    with file.open("rb") as content:
        size = content.seek(0, os.SEEK_END)
        if size < n_index + CHECKSUM_BYTES:
            return False
        content.seek(-n_index - CHECKSUM_BYTES, os.SEEK_END)
        index = np.frombuffer(content.read(n_index), dtype="<u8").reshape(-1, 2)
    ends = index[index[:, 0] != NO_CROP].sum(axis=1)
    return int(ends.max(initial=0)) + n_index + CHECKSUM_BYTES == size
