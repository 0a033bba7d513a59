"""Study folder: the finished trials of a study and the settings that they belong to, so that it can be continued."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd

from viscy_train.atomic import atomic_write
from viscy_train.errors import UserError, one_line
from viscy_train.output import LOCK
from viscy_train.study.trial import Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from viscy_train.study.trial import Trial

_SETTINGS, _FINISHED = "settings.json", "finished.jsonl"


class StudyFolder:
    """The directory of a study.

    Parameters
    ----------
    path : pathlib.Path
        The directory; it is created, or continued if its settings are the same.
    settings : mapping
        What the results depend on, except for seeds: nested mappings, lists, texts and numbers.
    about : mapping, optional
        What else is recorded, such as the command.

    Raises
    ------
    UserError
        If the directory has results of other settings, or something else.

    Notes
    -----
    A finished trial is a line of ``finished.jsonl``, which is on disk when `add` returns. A killed process may leave an
    incomplete last line, which is ignored and overwritten.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> None:
        self.path = path
        settings = json.loads(json.dumps(settings))
        if (path / _SETTINGS).exists():
            self._require_same(settings)
        elif path.exists() and any(entry.name != LOCK for entry in path.iterdir()):
            raise UserError(f"--out must be a new or empty directory, or that of a study, got {path}; choose another")
        self._results = {_key(result.row): result for result in self._read()}
        with atomic_write(path / _SETTINGS) as file:
            file.write_text(json.dumps({"settings": settings, "about": dict(about or {})}, indent=1) + "\n")

    def __contains__(self, trial: Trial) -> bool:
        return trial.key in self._results

    def add(self, result: Result) -> None:
        """Write a finished trial to disk."""
        line = json.dumps(asdict(result)) + "\n"
        try:
            with self._finished.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"cannot write {self._finished}: {error.strerror}; rerun the command to continue"
            ) from error
        self._results[_key(result.row)] = result

    def runs(self, trials: Iterable[Trial]) -> pd.DataFrame:
        """Return a row for each of some trials, in their order: their keys, `steps` and measures."""
        return pd.DataFrame([self._results[trial.key].row for trial in trials])

    def composition(self, trials: Iterable[Trial]) -> pd.DataFrame:
        """Return a row for each check of the batches of each arm: the key of the trial and the values of the check."""
        return pd.DataFrame(
            [
                dict(zip(("world", "fold", "seed", "arm"), trial.key, strict=True)) | check
                for trial in trials
                for check in self._results[trial.key].composition
            ]
        )

    def reasons(self, trials: Iterable[Trial]) -> dict[str, str]:
        """Return why measures are not numbers, by name; of several reasons the first one."""
        reasons: dict[str, str] = {}
        for trial in trials:
            reasons = self._results[trial.key].reasons | reasons
        return reasons

    @property
    def _finished(self) -> Path:
        return self.path / _FINISHED

    def _read(self) -> Iterator[Result]:
        """Yield the finished trials, and cut an incomplete last line off."""
        if not self._finished.exists():
            return
        content = self._finished.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]
        if len(complete) < len(content):
            with self._finished.open("rb+") as file:
                file.truncate(len(complete))
        for number, line in enumerate(complete.splitlines(), start=1):
            try:
                yield Result(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise UserError(
                    f"{self._finished} is damaged in line {number} ({one_line(error)}); delete the line to run it again"
                ) from error

    def _require_same(self, settings: dict[str, Any]) -> None:
        path = self.path / _SETTINGS
        try:
            recorded = json.loads(path.read_text())["settings"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({one_line(error)}); choose another --out") from error
        before, now = dict(_flat(recorded)), dict(_flat(settings))
        for name in [*now, *before]:
            if before.get(name) != now.get(name):
                values = [json.dumps(one[name]) if name in one else "not set" for one in (before, now)]
                raise UserError(
                    f"{self.path} has a study with other settings: {name} was {values[0]}, is now {values[1]}; choose "
                    "another --out, or delete it"
                )


def _key(row: Mapping[str, Any]) -> tuple[str, str, int, str]:
    return row["world"], row["fold"], row["seed"], row["arm"]


def _flat(settings: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings, by their names with dots."""
    if isinstance(settings, dict) and settings:
        for key, value in settings.items():
            yield from _flat(value, f"{name}.{key}" if name else key)
    else:
        yield name, settings
