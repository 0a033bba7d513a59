"""Saved examinations: those of parts of a project, next to its anchor table, until the table is written.

The file of an examination is named by a checksum of all that it depends on, so that one of other settings, tracks or
pixels is not used. Each file is written in one step, so several processes may write the same one.
"""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.anchors.array_store import checksum
from viscy_train.anchors.examination import Examination, GroupExamination
from viscy_train.atomic import atomic_write
from viscy_train.crops.image_intensity import CountedFrame
from viscy_train.crops.intensity import FrameSample
from viscy_train.plates.stored_files import checksum_of_files
from viscy_train.process_pool import name_of_writer

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.anchors.examination import PositionTask

    type Arrays = dict[str, NDArray[Any]]

# Increases when examinations of earlier versions must not be used.
_VERSION = 1
# A file is a digest, and then arrays in NumPy's format for several.
_DIGEST_BYTES = hashlib.sha256().digest_size


class SavedExaminations:
    """Examinations in the files of a directory.

    Parameters
    ----------
    directory : pathlib.Path
        The directory, created when the first examination is saved.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __bool__(self) -> bool:
        """Return whether there may be any."""
        return any(self._directory.glob("examination-*"))

    def path_of(self, task: PositionTask) -> Path | None:
        """Return where the examination of a position is saved; None if the files of its image cannot be listed."""
        files = checksum_of_files(task.image.array.stored)
        if files is None:
            return None
        settings = (task.position, task.extent, task.channels, task.normalization, task.n_sampled, task.number)
        arrays = [checksum(array) for array in (task.frame, task.centers)]
        content = repr((_VERSION, files, task.image.array.axes, settings, task.read_all, arrays))
        name = hashlib.sha256(content.encode(), usedforsecurity=False).hexdigest()[:32]
        return self._directory / f"examination-{name}"


def save_examination(path: Path, examination: Examination) -> None:
    """Write an examination without an error.

    Raises
    ------
    UserError
        If it cannot be written, for example because the disk is full.
    """
    arrays = {
        f"{number}/{name}": array
        for number, group in enumerate(examination.groups)
        for name, array in _arrays_of(group).items()
    }
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    content = buffer.getvalue()
    with atomic_write(path, by=name_of_writer()) as unfinished:
        unfinished.write_bytes(_digest(content) + content)


def open_examination(path: Path) -> Examination | None:
    """Return a saved examination; None if there is none. A damaged one is deleted."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if digest != _digest(content):
        path.unlink(missing_ok=True)
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays: Arrays = dict(file)
    n_groups = len({name.partition("/")[0] for name in arrays})
    return Examination(groups=tuple(_group_from(arrays, f"{number}/") for number in range(n_groups)))


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content, usedforsecurity=False).digest()


def _arrays_of(group: GroupExamination) -> Arrays:
    counted = group.counted
    arrays: Arrays = {
        "defects": group.defects,
        "frames": np.array([one.frame for one in counted], dtype=np.int64),
        "is_sampled": np.array([one.is_sampled for one in counted], dtype=bool),
        "n_arrays": np.array([len(one.sample.content) for one in counted], dtype=np.int64),
        **{f"{i}/center_and_spread": one.sample.of_frame for i, one in enumerate(counted)},
        **{f"{i}/{j}": array for i, one in enumerate(counted) for j, array in enumerate(one.sample.content)},
    }
    return arrays if group.focus is None else arrays | {"focus": group.focus}


def _group_from(arrays: Arrays, prefix: str) -> GroupExamination:
    def of(name: str) -> NDArray[Any]:
        return arrays[prefix + name]

    def sample(i: int, n_arrays: int) -> FrameSample:
        return FrameSample(of(f"{i}/center_and_spread"), tuple(of(f"{i}/{j}") for j in range(n_arrays)))

    frames = zip(of("frames").tolist(), of("is_sampled").tolist(), of("n_arrays").tolist(), strict=True)
    counted = [
        CountedFrame(frame=frame, is_sampled=is_sampled, sample=sample(i, n_arrays))
        for i, (frame, is_sampled, n_arrays) in enumerate(frames)
    ]
    return GroupExamination(defects=of("defects"), focus=arrays.get(f"{prefix}focus"), counted=tuple(counted))
