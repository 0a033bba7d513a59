"""Laws of long runs: how each claim about padding, many ranks, states and random access is checked."""

from __future__ import annotations

import math
from typing import Any

from viscy_sampling_testkit.assertions._bounds import hoeffding_p_value
from viscy_sampling_testkit.assertions._failure import judge
from viscy_sampling_testkit.assertions._home import Homes
from viscy_sampling_testkit.assertions.beyond import (
    assert_fresh_padding,
    assert_replays_beyond,
    assert_replays_epochs,
)
from viscy_sampling_testkit.assertions.reload import (
    assert_direct_access,
    assert_plain_state,
    assert_refuses_state,
    assert_reloads,
    assert_resumes_repeatedly,
)
from viscy_sampling_testkit.assertions.sequences import assert_equal_steps, assert_length, assert_ranks_interleave
from viscy_sampling_testkit.conformance._run_laws import smallest_pool
from viscy_sampling_testkit.conformance.trial import MOST_RANKS, Sequences, Trial

# Numbers of ranks that are tried in addition to those of the setting.
_MANY_RANKS = (5, 7, 8)
# Epochs, besides the third, in which runs are stopped; the later ones only if epochs can be chosen.
_LATE_EPOCHS = (11, 1000)


def many_ranks(trial: Trial) -> None:
    """Check that five to eight ranks, and more ranks than batches, interleave the sequence of a single process."""
    seed, claims = trial.seeds[0], trial.promises
    single = trial.epoch(seed=seed)
    for num_replicas in (*_MANY_RANKS, *([len(single) + 2] if len(single) + 2 <= MOST_RANKS else [])):
        with trial.example(ranks=num_replicas, seed=seed):
            ranks = trial.ranks(num_replicas, seed)
            assert_ranks_interleave(ranks, single)
            if claims.equal_steps:
                assert_equal_steps(ranks)
            if claims.length:
                for rank in (0, num_replicas - 1):
                    assert_length(trial.make(rank, num_replicas, seed))


def fresh_padding(trial: Trial) -> None:
    """Check that ranks complete their last step with fresh batches, the same for all numbers of ranks."""
    in_all: list[Sequences] = []
    for seed in trial.seeds:
        for epoch in range(min(2, trial.n_epochs)):
            single = trial.epoch(epoch, seed=seed)
            n_others = max(trial.n_epochs + 1, trial.promises.epochs_of_round)
            others = [batch for e in range(n_others) if e != epoch for batch in trial.epoch(e, seed=seed)]
            others = others if trial.promises.epochs else []
            most, padding = trial.padding(seed, epoch)
            in_all.append(padding)
            for num_replicas in sorted({most, *trial.replicas[1:], *_MANY_RANKS}):
                with trial.example(ranks=num_replicas, seed=seed, epoch=epoch or None):
                    ranks = trial.ranks(num_replicas, seed, epoch)
                    ordered = _may_coincide(trial, single, others)
                    assert_fresh_padding(ranks, single, others, expected=padding, ordered=ordered)
    _check_groups_of_padding(trial, in_all)


def beyond_the_end(trial: Trial) -> None:
    """Check that batches beyond the end of the epoch can be requested, and are those of the global sequence."""
    for seed in trial.seeds:
        single = trial.epoch(seed=seed)
        padding = trial.padding(seed)[1] if trial.promises.fresh_padding else []
        with trial.example(ranks=1, seed=seed):
            assert_replays_beyond(lambda s=seed: trial.make(seed=s), padding, len(single))


def replay_of_epochs(trial: Trial) -> None:
    """Check that batches of other epochs can be requested, also while the sampler is iterated."""
    for seed in trial.seeds:
        with trial.example(ranks=1, seed=seed):
            assert_replays_epochs(lambda s=seed: trial.make(seed=s))


def reload(trial: Trial) -> None:
    """Check that states can be saved at any time and loaded by used samplers in later epochs."""
    can_choose = trial.promises.epochs == "set_epoch"
    for num_replicas in trial.replicas[:2]:
        seed = trial.seeds[0]
        if trial.promises.epochs is None:
            return
        n_steps = len(trial.epoch(rank=num_replicas - 1, num_replicas=num_replicas, seed=seed))
        for stop in sorted({1, n_steps // 2} & set(range(1, n_steps))):
            with trial.example(ranks=num_replicas, seed=seed, stop=stop):
                make = lambda n=num_replicas, s=seed: trial.make(n - 1, n, s)  # noqa: E731
                assert_reloads(make, stop, _LATE_EPOCHS if can_choose else _LATE_EPOCHS[:1], can_choose=can_choose)


def repeated_resume(trial: Trial) -> None:
    """Check that a run that is stopped after each step, on changing numbers of ranks, draws each batch once."""
    seed = trial.seeds[0]
    for replicas in ((1, 2, 1), (2, 1, 3, 2), (3, 3, 1)):
        if sum(replicas[:-1]) < len(trial.epoch(seed=seed)):
            with trial.example(ranks=replicas, seed=seed):
                assert_resumes_repeatedly(lambda rank, n: trial.make(rank, n, seed), replicas)


def plain_state(trial: Trial) -> None:
    """Check that a state is a small dict of plain values."""
    with trial.example(ranks=1, seed=trial.seeds[0]):
        assert_plain_state(lambda: trial.make(seed=trial.seeds[0]))


def refuses_state(trial: Trial) -> None:
    """Check that a sampler refuses the states of other samplers."""
    claims: Any = trial.promises
    seed = trial.seeds[0]
    others: list[dict[str, Any]] = [dict(options) for options in claims.refuses_state]
    given = {} if seed is None else {"seed": seed}
    if seed is not None:
        others.insert(0, {"seed": seed + 1})
    for options in others:
        with trial.example(ranks=1, state_of=options):
            made = {**trial.options, **given, **options}
            assert_refuses_state(
                lambda: trial.make_unguarded(0, 1, seed), [lambda o=made: trial.make_sampler(0, 1, **o)]
            )


def direct_access(trial: Trial) -> None:
    """Check that late batches cost no more than early ones."""
    seed, claims = trial.seeds[0], trial.promises
    n_batches = len(trial.epoch(seed=seed))
    with trial.example(ranks=1, seed=seed):
        make = lambda: trial.make_unguarded(0, 1, seed)  # noqa: E731
        assert_direct_access(make, n_batches, by_index=claims.random_access, by_state=claims.resume)


def _may_coincide(trial: Trial, single: Sequences, others: Sequences) -> bool:
    """Return whether a batch of the padding may have the rows of another batch by chance."""
    n_compared = MOST_RANKS * len(trial.seeds) * 2 * len(trial.replicas) * (len(single) + len(others))
    return n_compared / math.comb(smallest_pool(trial, single), trial.promises.batch_size) > trial.false_alarm


def _check_groups_of_padding(trial: Trial, padding: list[Sequences]) -> None:
    """Check that the groups have their shares of the padding."""
    claims: Any = trial.promises
    batches = [batch for of_epoch in padding for batch in of_epoch]
    if claims.group_shares is None or not batches:
        return
    homes = Homes(batches, claims.labels("group_by"))
    for name, share in claims.group_shares.items():
        code = homes.names.index(name) if name in homes.names else -1
        count = int((homes.of_batch == code).sum())
        with trial.example(group=name):
            judge(
                "batches that complete the last step must be of all groups, in their shares",
                hoeffding_p_value(count, share * len(batches), len(batches)),
                trial.false_alarm / len(claims.group_shares),
                observed=f"{count} of {len(batches)} batches",
                expected=f"{share * len(batches):.4g}",
            )
