"""Crop source: where the pixels of crops are read, and how much is read."""

from __future__ import annotations

import threading
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from viscy_train.crops.native_crops import NativeCrops

READS = "reads"
"""Name of the id of the process that read a batch, and of its `ReadCounts` so far, int64, shape (7,)."""


@dataclass(frozen=True, kw_only=True)
class ReadCounts:
    """How much a source has read.

    Parameters
    ----------
    n_crops : int
        Number of crops.
    n_chunks : int
        Number of chunks that reads needed; a chunk counts once a read.
    n_hits : int
        Number of these chunks that were decoded already.
    n_decoded : int
        Number of chunks that were decoded.
    decoded_bytes : int
        Bytes of the decoded chunks.
    used_bytes : int
        Bytes of the pixels of crops, as they are stored.
    """

    n_crops: int = 0
    n_chunks: int = 0
    n_hits: int = 0
    n_decoded: int = 0
    decoded_bytes: int = 0
    used_bytes: int = 0

    @classmethod
    def of(cls, numbers: Iterable[int]) -> ReadCounts:
        """Return counts from their numbers, in the order of the fields, as `dataclasses.astuple` returns them."""
        return cls(**_by_name(numbers))

    def __add__(self, other: ReadCounts) -> ReadCounts:
        return ReadCounts(**_by_name(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: ReadCounts) -> ReadCounts:
        return ReadCounts(**_by_name(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


def _by_name(values: Any) -> dict[str, int]:
    return dict(zip(ReadCounts.__dataclass_fields__, values, strict=True))


class ReadCounter:
    """Counts what the threads of a process read; a copy in another process begins at zero."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = ReadCounts()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()

    @property
    def counts(self) -> ReadCounts:
        """What has been read so far."""
        return self._counts

    def add(self, **counts: int) -> None:
        """Add to some of the counts, by name."""
        with self._lock:
            self._counts += ReadCounts(**counts)


class CropSource(Protocol):
    """Where the pixels of crops are read."""

    @property
    def counts(self) -> ReadCounts:
        """How much has been read so far, by all threads of this process."""
        ...

    def read(self, rows: NDArray[np.int64], draws: NDArray[np.float64] | None = None) -> list[NativeCrops]:
        """Read crops.

        Parameters
        ----------
        rows : numpy.ndarray
            Rows of the anchor table, shape (n,); may contain duplicates.
        draws : numpy.ndarray, optional
            Random numbers in [0, 1) that choose the slices of each crop, if they are random, shape (n,).

        Returns
        -------
        list of NativeCrops
            Each of the n crops is in one of them. There are several if the crops differ in type or scale.

        Raises
        ------
        UserError
            If a crop cannot be read.
        """
        ...
