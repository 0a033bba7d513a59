"""Stored array: an array of a store as its metadata describe it, without the pixels.

The metadata that almost all arrays have are read as JSON, which is much faster than importing zarr-python. Whatever is
unusual or damaged is left to zarr-python, which knows all that there is, and says what is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from viscy_train.plates.access import zarr_store
from viscy_train.plates.zarr_codecs import zarr_codecs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import zarr

_SHARDING = "sharding_indexed"
_CODECS_OF_3 = {"bytes", "transpose", "blosc", "gzip", "zstd", "crc32c", _SHARDING}
_CODECS_OF_2 = {"blosc", "zlib", "gzip", "zstd", "bz2", "lz4"}
_INTEGERS = {f"{sign}int{n_bits}" for sign in ("", "u") for n_bits in (8, 16, 32, 64)}
_TYPES = {"bool", "float16", "float32", "float64", *_INTEGERS}
_SEPARATORS = (".", "/")


@dataclass(frozen=True, kw_only=True)
class StoredArray:
    """An array of zarr 2 or 3, on a local file system or at a URL.

    Parameters
    ----------
    root : pathlib.Path
        Directory of its store.
    path : str
        Where it is in the store.
    version : {2, 3}
        Version of the format.
    shape, chunks : tuple of int
        Its shape, and that of a chunk; of those in a shard, if it has shards.
    shards : tuple of int, optional
        Shape of a shard.
    dtype : numpy.dtype
        Type of its values.
    codecs : tuple of dict
        Codecs of zarr 3, as in its metadata; for zarr 2, the filters and the compressor.
    order : {"C", "F"}
        Order of the values in a chunk of zarr 2.
    has_transformers : bool
        Whether its chunks are stored in another way than the format says.
    chunk_keys : tuple of str, optional
        What the name of a chunk begins with, and what separates its numbers; by default, zarr-python names the chunks.
    """

    root: Path
    path: str
    version: Literal[2, 3]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None = None
    dtype: np.dtype[Any]
    codecs: tuple[dict[str, Any], ...]
    order: str = "C"
    has_transformers: bool = False
    chunk_keys: tuple[str, str] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, array: zarr.Array) -> StoredArray:
        """Return what an array of zarr-python is."""
        store: Any = array.store
        metadata: dict[str, Any] = dict(array.metadata.to_dict())
        is_3 = array.metadata.zarr_format == 3
        of_2 = [*(metadata.get("filters") or ()), *filter(None, [metadata.get("compressor")])]
        found = cls(
            root=store.root,
            path=array.path,
            version=array.metadata.zarr_format,
            shape=array.shape,
            chunks=array.chunks,
            shards=array.shards,
            dtype=array.dtype,
            codecs=tuple(metadata["codecs"] if is_3 else of_2),
            order="C" if is_3 else metadata["order"],
            has_transformers=bool(metadata.get("storage_transformers")),
        )
        vars(found)["opened"] = array  # it is open already
        return found

    @classmethod
    def parse(cls, root: Path, path: str, metadata: Mapping[str, Any]) -> StoredArray | None:
        """Return the array that metadata describe, or None if they have anything but what is usual."""
        try:
            found = (_parse_3 if metadata["zarr_format"] == 3 else _parse_2)(metadata)
        except (AttributeError, KeyError, TypeError, ValueError):
            return None
        if found is None or not _are_sizes(found["shape"], 0, len(found["shape"])):
            return None
        if not all(_are_sizes(sizes, 1, len(found["shape"])) for sizes in (found["chunks"], found.get("shards"))):
            return None
        return cls(root=root, path=path, version=metadata["zarr_format"], **found)

    @property
    def directory(self) -> Path:
        """Directory of the array."""
        return self.root / self.path

    @property
    def is_encoded(self) -> bool:
        """Whether codecs change the values of a chunk, apart from their byte order."""
        plain = [] if self.version == 2 else ["bytes"]
        names = [codec.get("name", codec.get("id")) for codec in self.codecs]
        return names != plain or self.order != "C" or self.has_transformers

    @property
    def chunk_bytes(self) -> int:
        """How many bytes the values of a chunk take in memory."""
        return int(np.prod(self.chunks)) * self.dtype.itemsize

    @cached_property
    def opened(self) -> zarr.Array:
        """The array, opened with zarr-python."""
        import zarr

        with zarr_codecs():
            return zarr.open_array(zarr_store(self.root), path=self.path, mode="r", zarr_format=self.version)

    def chunk_key(self, chunk: tuple[int, ...]) -> str:
        """Return the name of the file of a chunk, or shard, given its index along each axis."""
        if self.chunk_keys is None:
            return self.opened.metadata.encode_chunk_key(chunk)
        begin, separator = self.chunk_keys
        return begin + separator.join(map(str, chunk))


def _parse_3(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    match metadata:
        case {
            "shape": list(shape),
            "data_type": str(data_type),
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
            "chunk_key_encoding": {"name": "default" | "v2" as naming, **encoding},
            "fill_value": _,
            "codecs": list(codecs),
            **others,
        } if data_type in _TYPES and _are_usual(codecs):
            known = {"zarr_format", "node_type", "attributes", "dimension_names", "storage_transformers"}
            separator = (encoding.get("configuration") or {}).get("separator", "/" if naming == "default" else ".")
            if others.keys() - known or others.get("storage_transformers") or separator not in _SEPARATORS:
                return None
            is_sharded = [codec["name"] for codec in codecs] == [_SHARDING]
            inner = codecs[0]["configuration"]["chunk_shape"] if is_sharded else chunks
            return {
                "shape": tuple(shape),
                "chunks": tuple(inner),
                "shards": tuple(chunks) if is_sharded else None,
                "dtype": np.dtype(data_type),
                "codecs": tuple(codecs),
                "chunk_keys": (f"c{separator}" if naming == "default" else "", separator),
            }
    return None


def _are_usual(codecs: list[dict[str, Any]]) -> bool:
    """Return whether all codecs, those of shards included, are of the specification, with little-endian values."""
    for codec in codecs:
        options = codec.get("configuration") or {}
        if codec["name"] not in _CODECS_OF_3 or options.get("endian", "little") != "little":
            return False
        if codec["name"] == _SHARDING and not all(_are_usual(options[name]) for name in ("codecs", "index_codecs")):
            return False
    return bool(codecs)


def _parse_2(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    dtype, compressor = np.dtype(metadata["dtype"]), metadata["compressor"]
    separator = metadata.get("dimension_separator", ".")
    is_usual = dtype.name in _TYPES and dtype.isnative and metadata["order"] == "C" and "fill_value" in metadata
    is_usual &= not metadata["filters"] and separator in _SEPARATORS
    if not is_usual or (compressor is not None and compressor["id"] not in _CODECS_OF_2):
        return None
    return {
        "shape": tuple(metadata["shape"]),
        "chunks": tuple(metadata["chunks"]),
        "dtype": dtype,
        "codecs": () if compressor is None else (compressor,),
        "chunk_keys": ("", separator),
    }


def _are_sizes(sizes: tuple[Any, ...] | None, least: int, length: int) -> bool:
    """Return whether sizes are whole numbers for each of some axes, one or more."""
    return sizes is None or (0 < length == len(sizes) and all(type(size) is int and size >= least for size in sizes))
