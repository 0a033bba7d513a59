"""Examiner: examines positions, in this process or in others, or finds what a part of the project has saved."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from viscy_train.anchors.examination import Examination, examine_position, make_reader
from viscy_train.anchors.positions import check_positions, open_experiment
from viscy_train.anchors.saved_examinations import SavedExaminations, open_examination, save_examination
from viscy_train.console import track
from viscy_train.errors import Problems, UserError
from viscy_train.parts import is_in_part
from viscy_train.process_pool import process_pool
from viscy_train.wording import count

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Executor
    from pathlib import Path

    from viscy_train.anchors.examination import PositionTask
    from viscy_train.anchors.positions import CheckedPosition, IndexSettings
    from viscy_train.experiments.experiments_file import Experiment
    from viscy_train.parts import Part
    from viscy_train.plates.pixels import PixelReader


class Examiner:
    """Examines positions.

    Parameters
    ----------
    pool : concurrent.futures.Executor, optional
        Processes that examine them, by default this one.
    saved : SavedExaminations, optional
        Examinations that are not repeated.
    saves : bool, default False
        Whether to save those that are made.

    Attributes
    ----------
    n_examined, n_reused : int
        Number of positions that were examined, and of those that were saved.
    """

    def __init__(self, pool: Executor | None, saved: SavedExaminations | None, *, saves: bool = False) -> None:
        self._pool, self._saved, self._saves = pool, saved, saves
        self._reader = make_reader()
        self.n_examined = self.n_reused = 0

    def examine(self, positions: Iterable[CheckedPosition]) -> Iterator[tuple[CheckedPosition, Examination | None]]:
        """Yield positions, in order, each with what was read of its pixels; with None if something else is wrong.

        Raises
        ------
        UserError
            If an examination cannot be saved.
        """
        begun = ((checked, None if checked.task is None else self._begin(checked.task)) for checked in positions)
        # Processes examine while others are checked here; alone, each is checked when the one before is done.
        for checked, finish in begun if self._pool is None else list(begun):
            yield checked, None if finish is None else finish()

    def describe(self) -> str:
        """Return what was done of a part, and what is left to do."""
        before = f" ({self.n_reused:,} were examined before)" if self.n_reused else ""
        return (
            f"Done with this part: examined {count(self.n_examined, 'position')}{before}. When all parts are done, run "
            "`viscy-train index` without --part to build the table"
        )

    def _begin(self, task: PositionTask) -> Callable[[], Examination]:
        """Begin an examination, and return a function that waits for it."""
        path = None if self._saved is None else self._saved.path_of(task)
        if path is not None and (saved := open_examination(path)) is not None:
            return partial(self._reuse, saved)
        if path is None and self._saves:
            reason = "parts of an index need plates whose files can be listed, and a web server does not list them"
            error = UserError(f"{reason}, got {task.image.where}; run `viscy-train index` without --part")
            return partial(Examination, groups=(), error=error)
        if self._pool is None:
            return partial(self._finish, partial(examine_position, task, self._reader), path)
        # Opened here too, because only this process warns that it is read in a slower way.
        self._reader.open(task.image.array, fill_missing=True)
        return partial(self._finish, self._pool.submit(_examine_in_process, task).result, path)

    def _reuse(self, examination: Examination) -> Examination:
        self.n_reused += 1
        return examination

    def _finish(self, examine: Callable[[], Examination], path: Path | None) -> Examination:
        examination = examine()
        self.n_examined += 1
        if self._saves and path is not None and examination.error is None:
            save_examination(path, examination)
        return examination


@contextmanager
def examiner_on(processes: int, directory: Path | None, *, saves: bool = False) -> Generator[Examiner]:
    """Yield an examiner on some processes of this machine.

    Parameters
    ----------
    processes : int
        Number of processes that read pixels.
    directory : pathlib.Path, optional
        Where examinations are saved, by this call or by others.
    saves : bool, default False
        Whether this call saves them.

    Raises
    ------
    UserError
        If a process ends unexpectedly.
    """
    saved = None if directory is None else SavedExaminations(directory)
    if not saves and not saved:
        saved = None
    if processes == 1:
        yield Examiner(None, saved, saves=saves)
        return
    again = ", which examines what is missing" if saves else ""
    with process_pool(processes, "index", start=_start_process, again=again) as pool:
        yield Examiner(pool, saved, saves=saves)


def examine_part(
    experiments: list[Experiment], settings: IndexSettings, part: Part, directory: Path, *, processes: int = 1
) -> Examiner:
    """Examine a part of the positions of a project, and save the examinations.

    Parameters
    ----------
    experiments : list of Experiment
        All experiments of the project.
    settings : IndexSettings
        How positions are examined.
    part : tuple of int
        Number of this part, from 1, and number of parts: it has every n-th position of the project.
    directory : pathlib.Path
        Where to save them. Those that are there already are not repeated.
    processes : int, default 1
        Number of processes that read pixels.

    Returns
    -------
    Examiner
        Its counts of positions.

    Raises
    ------
    ProjectError
        If plates, tracks and settings do not match in this part; one line per problem.
    UserError
        If an examination cannot be saved, or a process ends unexpectedly.
    """
    problems = Problems()
    n_before = 0
    with examiner_on(processes, directory, saves=True) as examiner:
        for experiment in experiments:
            opened = open_experiment(experiment, problems)
            if opened is None:
                continue
            numbers = [number for number in range(len(opened.wells)) if is_in_part(n_before + number, part)]
            n_before += len(opened.wells)
            subject = f"experiment {experiment.name!r}"
            examined = examiner.examine(check_positions(opened, settings, numbers))
            for checked, examination in track(examined, experiment.name, total=len(numbers)):
                for error in (*checked.errors, *([examination.error] if examination and examination.error else [])):
                    problems.add_error(subject, error, checked.name)
    problems.raise_any()
    return examiner


# What a process of the pool reads with; its only task is to read.
_reader: PixelReader


def _start_process() -> None:
    global _reader
    _reader = make_reader()


def _examine_in_process(task: PositionTask) -> Examination:
    return examine_position(task, _reader)
