"""Lineage: tracks from links between cells, as trackers that write graphs have them.

A track is a chain of cells without a division. It ends before a division, and each daughter begins a track of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_MERGED = "cells that merge from several begin a track without a mother"


def tracks_of_links(
    nodes: ArrayLike, frames: ArrayLike, links: ArrayLike, where: str, numbers: ArrayLike | None = None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the tracks of a graph of cells.

    Parameters
    ----------
    nodes : array_like of int, shape (n,)
        Name of each cell.
    frames : array_like of float, shape (n,)
        Frame of each cell.
    links : array_like of int, shape (m, 2)
        Names of two cells that are the same cell in two frames, or mother and daughter, in any order.
    where : str
        The file, for messages.
    numbers : array_like of int, shape (n,), optional
        Number of each cell's track in the file. A track keeps the number of its first cell; if several have the same,
        as mother and daughters in TrackMate, one without a mother keeps it. By default, tracks are numbered from 0 in
        the order in which their first cells are given.

    Returns
    -------
    pandas.DataFrame
        The columns ``track_id`` and ``parent_track_id``, -1 without a mother, in the order of the nodes.
    tuple of str
        A note, if cells were merged: such a cell begins a track without a mother.

    Raises
    ------
    UserError
        If a name occurs twice, or a link names an unknown cell or joins cells of one frame.
    """
    names, frame = pd.Index(np.asarray(nodes)), np.asarray(frames, dtype=float)
    _refuse_repeated(names, where)
    source, target = _oriented(names, frame, np.asarray(links).reshape(-1, 2), where)
    n_in, n_out = (np.bincount(ends, minlength=len(names)) for ends in (target, source))
    before = np.full(len(names), -1)
    before[target] = source
    before[n_in > 1] = -1
    mother = np.where((before >= 0) & (n_out[before] > 1), before, -1)
    first = _first_of_chain(np.where(mother >= 0, -1, before))
    starts, track = np.unique(first, return_inverse=True)
    parent = np.where(mother[starts] >= 0, track[mother[starts]], -1)
    notes = (_MERGED,) if (n_in > 1).any() else ()
    name = np.arange(len(starts)) if numbers is None else _keep_numbers(np.asarray(numbers)[starts], parent)
    parent = np.where(parent >= 0, name[parent], -1)
    return pd.DataFrame({"track_id": name[track], "parent_track_id": parent[track]}), notes


def _keep_numbers(numbers: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Return a different number for each track, of which as many as possible are the given ones."""
    order = np.argsort(parent >= 0, kind="stable")
    _, first = np.unique(numbers[order], return_index=True)
    is_new = np.ones(len(numbers), dtype=bool)
    is_new[order[first]] = False
    kept = numbers.astype(np.int64)
    kept[is_new] = numbers.max(initial=-1) + 1 + np.arange(is_new.sum())
    return kept


def _refuse_repeated(names: pd.Index, where: str) -> None:
    if names.has_duplicates:
        name = names[names.duplicated()][0]
        raise UserError(f"a cell must occur once, {where} has cell {name} several times; export the tracks again")


def _oriented(names: pd.Index, frame: np.ndarray, links: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the earlier and the later cell of each link, without repeated links."""
    if not len(links):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    ends = np.column_stack([names.get_indexer(pd.Index(links[:, side])) for side in (0, 1)])
    unknown = np.argwhere(ends < 0)
    if len(unknown):
        link, side = unknown[0]
        raise UserError(
            f"a link must join cells of the file, {where} has a link to the unknown cell {links[link, side]}; "
            "export the tracks again"
        )
    same = np.flatnonzero(frame[ends[:, 0]] == frame[ends[:, 1]])
    if len(same):
        one, other = links[same[0]]
        raise UserError(
            f"a link must join cells of different frames, {where} links {one} and {other} in frame "
            f"{frame[ends[same[0], 0]]:g}; correct the tracks"
        )
    swapped = frame[ends[:, 0]] > frame[ends[:, 1]]
    ends[swapped] = ends[swapped][:, ::-1]
    source, target = np.unique(ends, axis=0).T
    return source, target


def _first_of_chain(before: np.ndarray) -> np.ndarray:
    """Return the first cell of each cell's chain, given the cell before it, or -1."""
    first = np.where(before >= 0, before, np.arange(len(before)))
    while True:
        # Each round doubles the distance.
        following = first[first]
        if (following == first).all():
            return first
        first = following
