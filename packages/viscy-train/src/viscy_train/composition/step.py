"""Step composition: what the loss of one training step compares an anchor with, and what is wrong with that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from viscy_train.wording import count

if TYPE_CHECKING:
    from viscy_data import PlannedComposition
    from viscy_train.config.schema import LossConfig

# A smaller share does not change what is learned.
NEGLIGIBLE = 0.005


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """What determines which anchors a step compares.

    Parameters
    ----------
    world_size : int
        Number of processes.
    split_batches : bool
        Whether they share one batch in each step.
    negatives, positives : str
        As in `viscy_train.config.schema.LossConfig`.
    """

    world_size: int
    split_batches: bool
    negatives: str
    positives: str

    @classmethod
    def from_config(cls, loss: LossConfig, *, split_batches: bool, world_size: int) -> StepSettings:
        """Return the settings of a loss."""
        return cls(
            world_size=world_size, split_batches=split_batches, negatives=loss.negatives, positives=loss.positives
        )

    @property
    def n_batches(self) -> int:
        """Number of batches in a step, over all processes."""
        return 1 if self.split_batches else self.world_size

    @property
    def n_compared(self) -> int:
        """Number of batches that the loss compares an anchor with, its own included."""
        return self.n_batches if self.negatives == "step" else 1


@dataclass(frozen=True, kw_only=True)
class StepComposition:
    """What an anchor is compared with. All shares are means over the anchors, leaked ones included.

    Parameters
    ----------
    settings : StepSettings
        The processes and the loss.
    batch_size : int
        Slots of a batch.
    from_others : float
        Share of the negatives that come from other experiments than the anchor.
    from_others_in_batch : float
        The same if the loss compared each anchor with its own batch only.
    without_positive : float
        Share of the anchors that have no other anchor of their condition to attract; 0 unless the positives are those
        of the same condition. When counted, another anchor is one of another lineage.
    without_negative : float
        Share of the anchors that have no other anchor to repel, because all they are compared with attract them.
    group : str
        What a batch is restricted to, see `viscy_train.composition.targets.group_word`.
    """

    settings: StepSettings
    batch_size: int
    from_others: float
    from_others_in_batch: float
    without_positive: float
    without_negative: float = 0.0
    group: str = "experiment"

    @property
    def mixes_experiments(self) -> bool:
        """Whether the loss sees more negatives from other experiments than a batch has."""
        return self.from_others > self.from_others_in_batch + NEGLIGIBLE


def describe_step(planned: StepComposition) -> list[str]:
    """Return sentences on what the loss compares an anchor with, without a final period."""
    settings, size = planned.settings, planned.batch_size
    if settings.n_compared > 1:
        compared = f"the {count(size * settings.n_compared, 'anchor')} of the step"
    elif settings.world_size == 1:
        compared = f"the {count(size, 'anchor')} of its batch"
    elif settings.split_batches:
        compared = f"the {count(size, 'anchor')} of a batch that {settings.world_size} processes share"
    else:
        compared = f"the {count(size, 'anchor')} of its own batch, one of {settings.world_size} batches in a step"
    sentences = [f"The loss compares an anchor with {compared}"]
    if planned.mixes_experiments:
        sentences.append(
            f"An anchor's negatives: {planned.from_others:.0%} from other {planned.group}s (negatives=step, "
            f"{settings.world_size} processes); {planned.from_others_in_batch:.0%} with data.sampler.split_batches"
        )
    return sentences


def warn_of_missing_positives(step: StepComposition, planned: PlannedComposition) -> list[str]:
    """Return a sentence if anchors have no other anchor of their condition to attract, and how to change that."""
    if step.without_positive < NEGLIGIBLE:
        return []
    is_balanced = planned.options["condition_balanced"]
    also = "" if is_balanced else "data.sampler.condition_balanced to true, "
    also += "" if step.batch_size >= 4 else "data.sampler.batch_size to 4 or more, "
    return [
        f"{step.without_positive:.1%} of the anchors have no other anchor of their condition to attract "
        f"(model.loss.positives=condition): set {also}data.sampler.anchors_per_condition to 2 or more, at most half of "
        "the batch size"
    ]


def warn_of_missing_negatives(step: StepComposition, planned: PlannedComposition) -> list[str]:
    """Return a sentence if anchors have no other anchor to repel, and how to change that."""
    if step.without_negative < NEGLIGIBLE:
        return []
    positives = step.settings.positives
    return [
        f"{step.without_negative:.1%} of the anchors have no other anchor to repel, so that nothing is learned from "
        f"them: all that they are compared with attract them (model.loss.positives={positives}); set "
        f"{_remedy_for_negatives(step, planned.options['anchors_per_condition'])}"
    ]


def _remedy_for_negatives(step: StepComposition, least: int | None) -> str:
    positives = step.settings.positives
    if step.batch_size * step.settings.n_compared == 1:
        return f"data.sampler.batch_size to {4 if positives == 'condition' else 2} or more"
    if least is not None and 2 * least > step.batch_size:
        return "data.sampler.anchors_per_condition to at most half of the batch size"
    if positives == "condition":
        return "model.loss.positives to lineage, or to pair if there is data.positive.match"
    return "data.sampler.distinct_by to lineage_id"


def share_of_others(n_negatives: float, n_same: float) -> float:
    """Return the share of the negatives that come from other experiments, given those from the same one."""
    return 1 - float(n_same) / float(n_negatives) if n_negatives > 0 else 0.0
