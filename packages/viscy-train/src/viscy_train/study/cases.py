"""Case: the data that arms are compared on, which are a made-up world or a fold of a project."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.errors import UserError
from viscy_train.wording import count

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable

# So many folds of positions are enough to tell, and each costs as much as another seed.
_MAX_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Case:
    """What arms are compared on. All arms of a case and seed start from the same weights.

    Parameters
    ----------
    world : str
        Name of the made-up world, or of the project.
    fold : str
        What is held out, in words.
    config : pathlib.Path
        Configuration file, whose trainer has plain options only.
    held_out : tuple of (str, str or None), optional
        Experiments that are held out, or positions of them. By default, what ``data.split`` of the configuration keeps
        for validation.
    crops : pathlib.Path, optional
        File with the crops of all observations, see `viscy_train.loading.array_source.ArraySource`. By default, they
        are read as the configuration says.
    make : callable, optional
        Writes the files of the case if there is no configuration file yet. It runs in another process.
    """

    world: str
    fold: str
    config: Path
    held_out: tuple[tuple[str, str | None], ...] | None = None
    crops: Path | None = None
    make: Callable[[], object] | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """World and fold, for messages."""
        return f"{self.world}, {self.fold}"


def make_files(case: Case) -> None:
    """Write the files of a case if it has no configuration file yet."""
    if case.make is not None and not case.config.exists():
        case.make()


def experiment_folds(table: AnchorTable, world: str, config: Path, crops: Path | None = None) -> list[Case]:
    """Return a case for each experiment of a project, which it holds out.

    Parameters
    ----------
    table : AnchorTable
        The anchor table of the project.
    world : str
        Name of the project.
    config, crops
        As for `Case`.

    Raises
    ------
    UserError
        If there are fewer than two experiments with anchors.
    """
    names = [str(name) for name in table.observations["experiment"].iloc[table.anchors].unique()]
    if len(names) < 2:
        raise UserError(
            f"holding out an experiment needs at least 2 with anchors, got {count(len(names), 'experiment')}; hold out "
            "positions with --hold-out position"
        )
    return [Case(world=world, fold=name, config=config, held_out=((name, None),), crops=crops) for name in names]


def position_folds(
    table: AnchorTable, world: str, config: Path, crops: Path | None = None, n_folds: int | None = None
) -> list[Case]:
    """Return cases that each hold out a part of the positions of each condition of each experiment.

    Each position is held out once.

    Parameters
    ----------
    table, world, config, crops
        As for `experiment_folds`.
    n_folds : int, optional
        Number of cases; by default as many as the smallest number of positions of a condition of an experiment, at most
        5.

    Raises
    ------
    UserError
        If a condition of an experiment has only one position.
    """
    anchors = table.observations.iloc[table.anchors][["experiment", "condition", "position"]].astype(str)
    conditions = anchors.groupby(["experiment", "position"], sort=False)["condition"].agg(
        lambda values: " | ".join(sorted(set(values)))
    )
    positions = conditions.reset_index()
    of_strata = positions.groupby(["experiment", "condition"], sort=False)
    sizes: Any = of_strata.size()
    if sizes.min() < 2:
        experiment, condition = sizes.idxmin()
        raise UserError(
            f"holding out positions needs at least 2 of each condition of each experiment, got 1 of {condition!r} in "
            f"{experiment!r}; hold out experiments with --hold-out experiment"
        )
    n_folds = n_folds or min(_MAX_FOLDS, int(sizes.min()))
    generator = np.random.default_rng(0)
    positions["fold"] = of_strata["position"].transform(
        lambda names: np.argsort(generator.permutation(len(names))) % n_folds
    )
    members: Any = positions.groupby("fold")[["experiment", "position"]]
    return [
        Case(
            world=world,
            fold=f"positions {number + 1} of {n_folds}",
            config=config,
            held_out=tuple(part.itertuples(index=False, name=None)),
            crops=crops,
        )
        for number, part in members
    ]


def held_out_rows(table: AnchorTable, held_out: tuple[tuple[str, str | None], ...]) -> NDArray[np.bool_]:
    """Return which observations are held out, shape (n_observations,).

    Experiments may have the same fields of view of a plate: all of them hold out such a field, or none.
    """
    plates = {one.name: str(one.plate.resolve()) for one in table.experiments}
    observations = table.observations
    experiment, position = observations["experiment"].astype(str), observations["position"].astype(str)
    complete = {name for name, at in held_out if at is None}
    pairs = pd.MultiIndex.from_arrays([experiment, position])
    is_named = experiment.isin(complete).to_numpy() | pairs.isin([pair for pair in held_out if pair[1] is not None])
    fields = pd.MultiIndex.from_arrays([experiment.map(plates), position])
    return fields.isin(fields[is_named].unique())
