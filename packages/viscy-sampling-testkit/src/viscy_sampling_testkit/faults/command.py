"""A training command: how to start it, how far it is, and what it trained on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from viscy_sampling_testkit.faults.plan import FAULTS


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A process to start.

    Parameters
    ----------
    argv : sequence of str
        The program and its arguments.
    env : mapping of str to str, optional
        Variables that are added to the environment.
    cwd : Path, optional
        Working directory, by default that of the caller.
    """

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None


@dataclass(frozen=True, kw_only=True)
class TrainedBatch:
    """A batch on which a rank has trained.

    Parameters
    ----------
    step : int
        Number of steps that the run had completed before, over all its attempts.
    epoch, batch : int
        Epoch, and index of the batch in the sequence of all ranks.
    rank : int
        The rank.
    rows : tuple of int
        What the batch held: rows of a table, or any other numbers that identify its samples.
    loss : float, optional
        Loss of the step or of the batch. None if it was not recorded, for instance on all ranks but one.
    attempt : int, default 0
        Number of the attempt. If a later attempt repeats a step, because the state after it was lost, its batches
        replace those of earlier attempts from that step on. All 0 if the command removes such batches itself.
    """

    step: int
    epoch: int
    batch: int
    rank: int
    rows: tuple[int, ...]
    loss: float | None = None
    attempt: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainingCommand:
    """A training command that can be stopped and resumed.

    Parameters
    ----------
    start : callable
        Called as ``start(directory, num_replicas, resume)``; returns a `Launch` for each process to start: one for each
        rank, or a single launcher that starts the ranks. `directory` exists, and is empty unless `resume` is True. A
        run that was stopped before it saved anything is resumed, too, and must then start from the beginning.
    progress : callable
        Called as ``progress(directory)``; returns how many steps the run has completed, read from the files it writes.
        It is called many times a second, and also before these files exist.
    read : callable
        Called as ``read(directory)``; returns a `TrainedBatch` for each batch of each rank.
    checkpoints : callable, optional
        Called as ``checkpoints(directory)``; returns the existing checkpoint files. The one modified last is cut.
    data : callable, optional
        Called as ``data(directory)``; returns the folder whose files the run reads. Files are made unreadable only if
        that folder is within `directory`, so that it is the run's own copy; `start` can make it.
    has_workers : bool, default False
        Whether ranks read data in child processes.
    loss_tolerance : float, default 0.0
        Largest relative difference of a loss from that of the undisturbed run on the same number of ranks.
    elastic_tolerance : float, optional
        The same for steps after the number of ranks has changed, compared with the undisturbed run on the new number.
        By default these losses are not compared: a step of another number of ranks trains on other batches.
    ignored_output : str, optional
        Regular expression. Text of the standard error that it matches, a line or several, is not counted as a message.
    long_messages : collection of str, optional
        Faults after which a process may print more than one line to standard error before it ends.
    preload : sequence of str, optional
        Modules to import once. Processes with arguments ``[python, "-m", module, ...]`` are then forked from a process
        that has imported them, which saves that time in each attempt. Importing them must not start threads.
    """

    start: Callable[[Path, int, bool], Sequence[Launch]]
    progress: Callable[[Path], int]
    read: Callable[[Path], Iterable[TrainedBatch]]
    checkpoints: Callable[[Path], Iterable[Path]] | None = None
    data: Callable[[Path], Path] | None = None
    has_workers: bool = False
    loss_tolerance: float = 0.0
    elastic_tolerance: float | None = None
    ignored_output: str = ""
    long_messages: Collection[str] = ()
    preload: Sequence[str] = ()

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.long_messages) - set(FAULTS)):
            raise ValueError(f"long_messages must name faults, got {unknown}; choose from {', '.join(FAULTS)}")
        for name in ("loss_tolerance", "elastic_tolerance"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must be at least 0, got {value}")

    @property
    def faults(self) -> tuple[str, ...]:
        """The faults that this command can be exposed to: those of its workers, data and checkpoints if it has them."""
        missing = {
            "worker": not self.has_workers,
            "checkpoint": self.checkpoints is None,
            "read": self.data is None,
            "data": self.data is None,
        }
        return tuple(fault for fault in FAULTS if not any(missing.get(word, False) for word in fault.split()))
