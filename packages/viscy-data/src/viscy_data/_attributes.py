"""An attribute: an option of a sampler that can be read and not set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from operator import attrgetter
from reprlib import Repr
from typing import TYPE_CHECKING, Any, NoReturn, Self, overload

from viscy_data._sharding import ShardedBy

# A table may have a thousand labels with weights.
_SHORT = Repr(maxdict=4, maxstring=60, maxother=60)


class Attribute[T](property):
    """A property of type T that returns an option as the sampler uses it.

    Parameters
    ----------
    path
        Where the sampler keeps the option: names of attributes, separated by dots, of which the last one is the name of
        the option unless an underscore precedes it.
    doc
        What the value is, if the parameter's description does not say it.
    """

    def __init__(self, path: str, doc: str = "") -> None:
        self._name = path.rpartition(".")[2].removeprefix("_")
        self._value_of = attrgetter(path)
        super().__init__(self._value_of, doc=doc or f"The option `{self._name}`; read-only.")

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type, /) -> Self: ...
        @overload
        def __get__(self, instance: Any, owner: type | None = None, /) -> T: ...

    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        """Return the option; a mapping as a copy, so that changing it does not change the sampler."""
        value = super().__get__(instance, owner)
        return dict(value) if isinstance(value, Mapping) else value

    def __set__(self, instance: Any, value: Any, /) -> NoReturn:
        """Raise AttributeError."""
        raise AttributeError(
            f"{self._name} must not change after construction, got {value!r}; construct another sampler with "
            f"{self._name}={value!r}"
        )


class SamplerAttributes:
    """The options of a sampler, as read-only attributes with the names of the parameters."""

    batch_size = Attribute[int]("_options.batch_size", "Slots of a full batch, of the whole step with `split_batches`.")
    experiment_aware = Attribute[bool]("_options.experiment_aware")
    leaky = Attribute[float]("_options.leaky")
    experiment_weights = Attribute[Mapping[Any, float] | str | None](
        "_options.experiment_weights", 'The option `experiment_weights`; None for "proportional"; read-only.'
    )
    condition_balanced = Attribute[bool]("_options.condition_balanced")
    condition_ratio = Attribute[Mapping[Any, float] | None]("_options.condition_ratio")
    temporal_enrichment = Attribute[bool]("_options.temporal_enrichment")
    temporal_window_hours = Attribute[float]("_options.temporal_window_hours")
    temporal_global_fraction = Attribute[float]("_options.temporal_global_fraction")
    num_replicas = Attribute[int]("_sharding.num_replicas", "The number of ranks, as given or looked up now.")
    rank = Attribute[int]("_sharding.rank", "The rank of this process, as given or looked up now.")
    seed = Attribute[int]("_options.seed")
    drop_last = Attribute[bool]("_options.drop_last")
    experiment_by = Attribute[str | tuple[str, ...]]("_options.experiment_by")
    condition_by = Attribute[str | tuple[str, ...]]("_options.condition_by")
    time_by = Attribute[str]("_options.time_by")
    even_batches = Attribute[bool]("_even_batches")
    as_arrays = Attribute[bool]("_as_arrays")
    split_batches = Attribute[bool]("_sharding.split_batches")
    anchors_per_condition = Attribute[int | None]("_options.anchors_per_condition")
    epoch_batches = Attribute[int | None]("_options.epoch_batches")
    distinct_by = Attribute[str | tuple[str, ...] | None]("_options.distinct_by")
    locality = Attribute[int]("_options.locality")
    place_by = Attribute[str | tuple[str, ...] | None]("_options.place_by")
    sharded_by = Attribute[ShardedBy | None]("_sharding.sharded_by")


def describe_options(sampler: SamplerAttributes, constructor: Callable[..., Any]) -> str:
    """Return the batch size, and the other options that differ from their defaults, as arguments of a constructor.

    The ranks are those of now, left out if there is one. Of long mappings, some keys are shown.
    """
    defaults = {name: one.default for name, one in signature(constructor).parameters.items()}
    if sampler.num_replicas == 1:
        defaults |= {"num_replicas": 1, "rank": 0}
    values = {name: getattr(sampler, name) for name in defaults if hasattr(sampler, name)}
    changed = {name: value for name, value in values.items() if name == "batch_size" or value != defaults[name]}
    return ", ".join(f"{name}={_SHORT.repr(value)}" for name, value in changed.items())
