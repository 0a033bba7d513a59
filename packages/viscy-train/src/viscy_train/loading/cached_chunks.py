"""Cached chunks: decoded chunks that the threads of a process share, as many as fit into a number of bytes.

A chunk enters when it is needed for the second time while as many bytes as the cache holds have been needed since: a
larger one would have had it. Until then, only the pixels that crops need are copied from it. Copying whole chunks of
2048 x 2048 pixels costs half as much as decoding them, in vain if crops are spread over more frames than the cache
holds, as they usually are.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from viscy_train.plates.pixels import Pending


class Found(NamedTuple):
    """A block of chunks that crops need.

    `pending` are its pixels, or None if they are to be read without the cache; `is_hit` is whether they were decoded
    for an earlier read, or are being decoded for it.
    """

    pending: Pending | None
    is_hit: bool


class CachedChunks:
    """The blocks of decoded chunks that were needed last.

    Parameters
    ----------
    limit : int
        Number of bytes that they take together.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, tuple[Pending, int]] = OrderedDict()
        self._seen: OrderedDict[int, int] = OrderedDict()
        self._n_bytes = self._n_seen = 0

    @property
    def n_bytes(self) -> int:
        """Number of bytes that the blocks take."""
        return self._n_bytes

    def find(
        self,
        blocks: Sequence[int],
        sizes: Sequence[int],
        at_once: Sequence[bool],
        request: Callable[[int], Pending],
    ) -> list[Found]:
        """Return blocks that are in the cache or enter it now.

        Parameters
        ----------
        blocks : sequence of int
            Numbers of the blocks, each once.
        sizes : sequence of int
            Number of bytes of each.
        at_once : sequence of bool
            Whether each is to be read completely in any case, also if it is larger than the cache.
        request : callable
            Requests a block, given its index among the blocks. Other threads may wait for it from now on.
        """
        with self._lock:
            return [
                self._find(block, size, now, request, index)
                for index, (block, size, now) in enumerate(zip(blocks, sizes, at_once, strict=True))
            ]

    def discard(self, blocks: Sequence[tuple[int, Pending]]) -> None:
        """Forget blocks that could not be read, unless they have been requested again."""
        with self._lock:
            for block, pending in blocks:
                if block in self._blocks and self._blocks[block][0] is pending:
                    self._n_bytes -= self._blocks.pop(block)[1]

    def _find(self, block: int, size: int, now: bool, request: Callable[[int], Pending], index: int) -> Found:
        if block in self._blocks:
            self._blocks.move_to_end(block)
            return Found(self._blocks[block][0], True)
        if size > self._limit:
            return Found(request(index) if now else None, False)
        if not now and block not in self._seen:
            self._see(block, size)
            return Found(None, False)
        self._n_seen -= self._seen.pop(block, 0)
        pending = request(index)
        self._blocks[block] = pending, size
        self._n_bytes += size
        while self._n_bytes > self._limit:
            self._n_bytes -= self._blocks.popitem(last=False)[1][1]
        return Found(pending, False)

    def _see(self, block: int, size: int) -> None:
        self._seen[block] = size
        self._n_seen += size
        while self._n_seen > self._limit:
            self._n_seen -= self._seen.popitem(last=False)[1]
