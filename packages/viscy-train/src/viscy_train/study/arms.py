"""Arm: a composition of the batches, as changes of a configuration, that a study compares with others."""

from __future__ import annotations

import difflib
from argparse import ArgumentError
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viscy_train.config.checks import require, require_integer, require_name
from viscy_train.config.parser_messages import reword
from viscy_train.config.schema import LossConfig, PositiveConfig, SamplerConfig
from viscy_train.config.yaml_source import read_yaml
from viscy_train.errors import UserError, one_line
from viscy_train.training.data_cli import refuse_nulls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jsonargparse import ArgumentParser, Namespace

_POSITIVE = "data.positive."
_ACCUMULATE, _DEVICES = "trainer.accumulate_grad_batches", "trainer.devices"
_SECTIONS: dict[str, Any] = {"data.sampler": SamplerConfig, "data.positive": PositiveConfig, "model.loss": LossConfig}
_KEYS = [f"{section}.{one.name}" for section, kind in _SECTIONS.items() for one in fields(kind)] + [
    _ACCUMULATE,
    _DEVICES,
]
_LEAK = 0.2
# Options that would have no effect on a plain shuffle.
_PLAIN: dict[str, Any] = {
    "experiment_aware": False,
    "leaky": 0.0,
    "experiment_weights": None,
    "condition_balanced": False,
    "condition_ratio": None,
    "anchors_per_condition": None,
    "temporal_enrichment": False,
}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A composition of the batches that is compared with others.

    Parameters
    ----------
    name : str
        Name in tables and pictures.
    overrides : dict of str to object
        Options of a configuration that differ, by name with dots, such as ``data.sampler.leaky``: any of
        ``data.sampler``, ``data.positive`` and ``model.loss``, ``trainer.accumulate_grad_batches``, and
        ``trainer.devices``: as so many processes train that have a batch each, though one does it here. Positives are
        one rule: if there is any option of ``data.positive``, the others have their defaults.
    about : str
        What batches have, in a few words.
    """

    name: str
    overrides: dict[str, Any] = field(default_factory=dict)
    about: str = ""

    @property
    def n_options(self) -> int:
        """Number of options that differ from a plain shuffle: the fewer, the simpler is the arm."""
        plain = {f"data.sampler.{name}": value for name, value in _PLAIN.items()}
        return sum(name not in plain or plain[name] != value for name, value in self.overrides.items())

    @property
    def n_processes(self) -> int:
        """Number of processes whose batches a step has."""
        return self.overrides.get(_DEVICES, 1)

    def apply(self, config: Namespace, parser: ArgumentParser) -> Namespace:
        """Return a configuration with the options of this arm.

        Parameters
        ----------
        config : jsonargparse.Namespace
            The configuration, which stays as it is.
        parser : jsonargparse.ArgumentParser
            The parser that has read it.

        Raises
        ------
        UserError
            If a value is invalid; the message names the arm.
        """
        try:
            changed = parser.parse_object(_nested(self._options()), config.clone())
            refuse_nulls(changed, parser.get_defaults(skip_validation=True))
            for section, kind in _SECTIONS.items():
                kind(**changed[section].as_dict())
        except (ArgumentError, UserError) as error:
            raise UserError(f"arm {self.name!r}: {reword(one_line(error))}") from error
        return changed

    def _options(self) -> dict[str, Any]:
        """Return the options with those that have their defaults again."""
        if not any(name.startswith(_POSITIVE) for name in self.overrides):
            return self.overrides
        return {f"{_POSITIVE}{name}": value for name, value in asdict(PositiveConfig()).items()} | self.overrides


def _arm(name: str, about: str, **sampler: Any) -> Arm:
    return Arm(
        name=name,
        overrides={f"data.sampler.{key}": value for key, value in {**_PLAIN, **sampler}.items()},
        about=about,
    )


ARMS = (
    _arm("plain", "anchors of all experiments, shuffled"),
    _arm("experiment", "one experiment in each batch", experiment_aware=True),
    _arm("condition", "as many anchors of each condition", condition_balanced=True),
    _arm("time", "hours close to each other", temporal_enrichment=True),
    _arm("experiment + leak", f"one experiment, and {_LEAK:.0%} of others", experiment_aware=True, leaky=_LEAK),
    _arm(
        "experiment + condition", "one experiment, conditions balanced", experiment_aware=True, condition_balanced=True
    ),
    _arm(
        "all",
        "one experiment and a leak, conditions balanced, hours close to each other",
        experiment_aware=True,
        leaky=_LEAK,
        condition_balanced=True,
        temporal_enrichment=True,
    ),
)
"""The arms of every study, the simplest first; the first is the baseline."""
BASELINE = ARMS[0].name
PIXELS, UNTRAINED = "pixels (PCA)", "untrained encoder"
REFERENCES = (PIXELS, UNTRAINED)
"""What arms are compared with beside the baseline: embeddings without any training."""
SHIPPED = Path(__file__).with_name("arms.yaml")
"""File of the further arms that come with the package, for `read_arms`."""


def read_arms(path: Path) -> tuple[Arm, ...]:
    """Read further arms from a file.

    Parameters
    ----------
    path : pathlib.Path
        YAML file: a mapping of names of arms to what differs from the configuration, in the sections ``data.sampler``,
        ``data.positive`` and ``model.loss``, ``trainer.accumulate_grad_batches`` and ``trainer.devices``; and
        ``about``, a few words.

    Returns
    -------
    tuple of Arm
        `ARMS`, followed by those of the file.

    Raises
    ------
    UserError
        If the file is not such a mapping, or an arm has an unknown key or the name of another.
    """
    content = read_yaml(path)
    require(isinstance(content, dict), f"{path} must be a mapping of names of arms to options", content)
    arms = list(ARMS)
    for name, options in content.items():
        require_name(f"the name of an arm in {path}", name)
        taken = [*(arm.name for arm in arms), *REFERENCES]
        rule = f"{path}: the name of an arm must differ from those of the others ({', '.join(taken)})"
        require(name not in taken, rule, name)
        rule = f"{path}: arm {name!r} must be a mapping of options"
        require(isinstance(options, dict) and bool(options), rule, options)
        about = options.get("about", "")
        require(isinstance(about, str), f"{path}: about of arm {name!r} must be text", about)
        changes = {key: value for key, value in options.items() if key != "about"}
        arms.append(Arm(name=name, overrides=dict(_flat(path, name, changes)), about=about))
    return tuple(arms)


def check_arms(arms: Sequence[Arm], config: Namespace, parser: ArgumentParser) -> None:
    """Refuse arms that are invalid on top of a configuration, or that are the same there.

    Raises
    ------
    UserError
        If there is such an arm; the message names it.
    """
    seen: dict[str, str] = {}
    for arm in arms:
        changed = arm.apply(config, parser)
        # Options of an axis that is off have no effect.
        key = repr([arm.n_processes, *(changed[name] for name in [*_SECTIONS, _ACCUMULATE])])
        if key in seen:
            raise UserError(f"arms must differ, but {arm.name!r} is the same as {seen[key]!r}; remove one of them")
        seen[key] = arm.name
        for name, value in ((_ACCUMULATE, changed[_ACCUMULATE]), (_DEVICES, arm.n_processes)):
            require_integer(f"arm {arm.name!r}: {name}", value, 1)


def _flat(path: Path, name: str, options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the options of an arm by their names with dots."""
    for key, value in options.items():
        full = f"{prefix}{key}"
        if full in _KEYS:
            yield full, value
        elif isinstance(value, dict) and any(one.startswith(f"{full}.") for one in _KEYS):
            yield from _flat(path, name, value, f"{full}.")
        else:
            near = difflib.get_close_matches(full, _KEYS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(
                f"{path}: arm {name!r} must have options of {', '.join(_SECTIONS)}, {_ACCUMULATE} or {_DEVICES}, got "
                f"{full}{hint}"
            )


def _nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by their names with dots as nested mappings."""
    nested: dict[str, Any] = {}
    for name, value in options.items():
        *sections, key = name.split(".")
        mapping = nested
        for section in sections:
            mapping = mapping.setdefault(section, {})
        mapping[key] = value
    return nested
