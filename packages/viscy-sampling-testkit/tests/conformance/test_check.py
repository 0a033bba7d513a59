"""One call holds a sampler to what it claims, and reports each law with the smallest example that breaks it."""

import dataclasses

import pandas as pd
import pytest

from viscy_sampling_testkit import Promises, Setting, check_batch_sampler
from viscy_sampling_testkit.conformance.check import LAWS
from viscy_sampling_testkit.mutants.catalog import BROKEN_SAMPLERS, REFERENCE_SAMPLERS

TABLE = pd.DataFrame({"well": ["a"] * 20 + ["b"] * 20, "hours": [0.5 * (i % 20) for i in range(40)]})
BATCHES = [list(range(4 * k, 4 * k + 4)) for k in range(10)]


def promise(**claims):
    return Promises(**{"table": TABLE, "batch_size": 4, **claims})


def in_turns(rank, num_replicas):
    return BATCHES[rank::num_replicas]


def test_what_is_not_claimed_is_not_checked():
    def never(*_):
        raise NotImplementedError

    report = check_batch_sampler(never, promise())
    assert report.of("not claimed") == [law.name for law in LAWS]
    assert report.kept == report.broken == []
    report.raise_if_broken()


def test_each_law_is_kept_broken_or_not_claimed():
    report = check_batch_sampler(in_turns, promise(distinct=True, group_by="well", leaky=0.0, equal_steps=True))
    assert (report.kept, report.broken) == (["distinct", "one group"], ["equal steps"])
    lines = str(report).splitlines()
    assert lines[0].startswith(f"2 kept, 1 broken, {len(LAWS) - 3} not claimed (fast, ")
    assert lines[0].endswith(" s)")
    assert "  distinct                     kept      no anchor comes twice in a batch" in lines
    assert "  equal steps                  broken    all ranks have equally many batches" in lines
    assert "equal steps: broken (ranks 3)" in lines
    assert "      observed: [4, 3, 3] batches on ranks 0 to 2" in lines


def test_the_report_is_a_table_too():
    frame = check_batch_sampler(in_turns, promise(distinct=True, equal_steps=True)).to_frame()
    assert list(frame.index) == [law.name for law in LAWS]
    assert list(frame) == ["statement", "outcome", "tried", "seconds", "example", "message", "note"]
    assert frame.loc["distinct", ["outcome", "message"]].tolist() == ["kept", ""]
    assert frame.loc["distinct", "tried"] == 1 + 2 + 3
    assert frame.loc["equal steps", "example"] == {"ranks": 3}
    assert "equally many" in frame.loc["equal steps", "message"]


def test_what_is_broken_is_raised_with_the_whole_report():
    report = check_batch_sampler(in_turns, promise(equal_steps=True))
    with pytest.raises(AssertionError, match=r"(?s)1 broken.*equal steps: broken \(ranks 3\)"):
        report.raise_if_broken()
    with pytest.raises(KeyError):
        report["no such law"]


def test_the_example_has_the_fewest_batches_ranks_and_options():
    def repeats(rank, num_replicas, after=10, on=1):
        batches = [[0, 0, 1, 2] if k >= after and num_replicas >= on else batch for k, batch in enumerate(BATCHES)]
        return batches[rank::num_replicas]

    def example(**options):
        report = check_batch_sampler(repeats, promise(distinct=True, equal_steps=True), options=[options, {}])
        return report["distinct"].example

    assert example() == {}
    for after in range(10):
        assert example(after=after) == {"after": after, "ranks": 1, "batches": after + 1}
    assert example(after=9, on=2) == {"after": 9, "on": 2, "ranks": 2, "rank": 1, "batches": 5}


def test_all_options_must_keep_a_promise():
    def sized(rank, num_replicas, size=4):
        return [list(range(size))]

    report = check_batch_sampler(sized, promise(last_batch="full"), options=[{"size": 3}, {}])
    assert report["batch sizes"].example == {"size": 3, "ranks": 1}
    assert report["batch sizes"].tried == 2
    with pytest.raises(ValueError, match="options must hold at least one mapping, got none"):
        check_batch_sampler(sized, promise(), options=[])


class Fails:
    """A sampler that raises at the step that is named."""

    def __init__(self, step):
        self.step = step
        self.fail_at("made")

    def fail_at(self, step):
        if step == self.step:
            raise RuntimeError(f"lost\nat {step}")

    def __iter__(self):
        self.fail_at("iter")
        for batch in BATCHES:
            yield batch
            self.fail_at("batch")

    def __len__(self):
        self.fail_at("len")
        return len(BATCHES)

    def set_epoch(self, epoch):
        self.fail_at("epoch")

    def state_dict(self):
        self.fail_at("state")
        return {}

    def load_state_dict(self, state):
        self.fail_at("load")

    def batch(self, k):
        self.fail_at("replay")
        return BATCHES[k]


@pytest.mark.parametrize(
    ("step", "law", "claims", "what"),
    [
        ("made", "distinct", {}, "made"),
        ("iter", "distinct", {}, "asked for batch 0"),
        ("batch", "distinct", {}, "asked for batch 1"),
        ("len", "length", {"length": True}, "asked for its length"),
        ("epoch", "epoch choice", {"epochs": "set_epoch"}, "told its epoch"),
        ("state", "resume", {"resume": True}, "asked for its state"),
        ("load", "resume", {"resume": True}, "given a state"),
        ("replay", "replay", {"random_access": True}, "asked for batch 9 by its number"),
    ],
)
def test_an_exception_of_the_sampler_breaks_the_law_and_not_the_suite(step, law, claims, what):
    verdict = check_batch_sampler(lambda *_: Fails(step), promise(distinct=True, **claims))[law]
    assert verdict.outcome == "broken"
    assert f"a sampler must not raise when it is {what}" in verdict.message
    assert f"observed: RuntimeError: lost at {step}" in verdict.message
    assert "raised in: fail_at, line " in verdict.message


@pytest.mark.parametrize(
    ("batches", "observed"),
    [
        ([[0, 40]], r"[40]"),
        ([[0, -1]], r"[-1]"),
        ([["a"]], "TypeError: 'str' object cannot be interpreted as an integer"),
        ([3], "TypeError: 'int' object is not iterable"),
    ],
)
def test_batches_that_hold_no_positions_break_every_law(batches, observed):
    of_batches = promise(coverage=True, exchangeable=True, row_inclusion=True, epochs="iter", ranks="disjoint")
    of_labels = {"condition_by": "well", "condition_shares": {"a": 0.5, "b": 0.5}, "group_by": "well", "leaky": 0.1}
    report = check_batch_sampler(lambda *_: batches, dataclasses.replace(of_batches, **of_labels))
    assert not report.kept
    assert {f"observed: {observed}" in report[law].message for law in report.broken} == {True}


def test_a_sampler_needs_no_length():
    report = check_batch_sampler(lambda *_: iter(BATCHES), promise(distinct=True, length=True))
    assert (report.kept, report.broken) == (["distinct"], ["length"])
    assert "TypeError: object of type 'list_iterator' has no len()" in report["length"].message


def test_an_epoch_without_an_end_is_broken():
    class Endless:
        def __iter__(self):
            while True:
                yield [0, 1]

        def __len__(self):
            return 5

    report = check_batch_sampler(lambda *_: Endless(), promise(distinct=True, length=True))
    assert report.broken == ["distinct", "length"]
    assert "observed: 150 batches and no end" in report["distinct"].message


def test_a_law_that_cannot_be_put_to_a_test_is_untested():
    report = check_batch_sampler(lambda *_: BATCHES[:1], promise(exchangeable=True, rank_cost=True))
    assert report.of("untested") == ["exchangeable slots", "rank cost"]
    assert "0 kept, 0 broken, 2 untested, " in str(report)
    assert "2 batches or more for each of 8 ranks, got 1 in all" in report["rank cost"].message
    report.raise_if_broken()


def test_the_epoch_is_set_where_the_sampler_has_it():
    class Inner:
        def __init__(self):
            self.told = []

        def set_epoch(self, epoch):
            self.told.append(epoch)

    class Outer:
        def __init__(self):
            self.sampler = Inner()

        def __iter__(self):
            return iter(BATCHES[self.sampler.told[-1] :])

    assert check_batch_sampler(lambda *_: Outer(), promise(epochs="set_epoch"))["epoch choice"].outcome == "kept"


def test_a_statistical_law_that_is_kept_says_what_it_would_have_found():
    factory, promises = REFERENCE_SAMPLERS["mixed"]
    report = check_batch_sampler(factory, promises)
    assert report["row inclusion"].note == ("finds a row that comes 0.13 or 2.5 times as often as it is due, 60 times")
    assert report["leak on average"].note == "finds a mean of 1.11 or less, or 1.31 or more, in place of 1.2"
    assert report["leak on average"].note in str(report)
    assert report["distinct"].note == ""


@pytest.mark.slow
def test_the_full_setting_tries_every_position_and_says_so():
    factory, promises = REFERENCE_SAMPLERS["short"]
    fast, full = (check_batch_sampler(factory, promises, setting=name) for name in ("fast", "full"))
    full.raise_if_broken()
    assert "(full, " in str(full)
    # Two numbers of ranks, five seeds, and every stop in epochs of 9 and of 5 batches.
    assert full["resume"].tried == 5 * (10 + 6)
    assert fast["resume"].tried == 2 * (4 + 4)


def test_a_setting_is_known_or_given():
    own = Setting(
        name="own", seeds=(7,), replicas=(1, 4), n_epochs=1, row_times=5, most_batches=50, every_position=False
    )
    report = check_batch_sampler(in_turns, promise(equal_steps=True), setting=own)
    assert report.setting == "own"
    assert report["equal steps"].example == {"ranks": 4}
    with pytest.raises(ValueError, match="setting must be one of fast, full, or a Setting, got 'slow'"):
        check_batch_sampler(in_turns, promise(), setting="slow")


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"group_by": "well", "leaky": 1.0}, r"leaky must be in \[0, 1\), got 1.0"),
        ({"leaky": 0.1}, "leaky needs group_by: without it there is nothing to check it against"),
        ({"condition_shares": {"a": 1}}, "condition_shares needs condition_by"),
        ({"window_hours": 0.0}, "window_hours needs time_by"),
        ({"epochs": "each"}, "epochs must be one of set_epoch, iter, or None, got 'each'"),
        ({"group_by": ["well", "plate"]}, r"columns \['plate'\] must be in the table, which has \['well', 'hours'\]"),
        ({"coverage": True, "time_by": "hours", "window_hours": 1.0}, "coverage cannot be checked with window_hours"),
    ],
)
def test_promises_that_make_no_sense_are_refused(claims, message):
    with pytest.raises(ValueError, match=message):
        promise(**claims)


def test_groups_and_conditions_may_be_of_several_columns():
    table = TABLE.assign(day=[1, 2] * 20)
    shares = {("a", 1): 0.5, ("a", 2): 0.5}
    claims = {"condition_by": ["well", "day"], "condition_shares": shares, "group_by": "well", "leaky": 0.0}
    report = check_batch_sampler(lambda *_: BATCHES[:5], Promises(table=table, batch_size=4, **claims))
    assert report.kept == ["one group", "condition shares", "condition shares on average"]


def test_a_slack_lets_a_condition_be_a_slot_away():
    claims = {"condition_by": "well", "condition_shares": {"a": 0.5, "b": 0.5}}
    batches = [[0, 1, 2, 20], [0, 20, 21, 22]] * 5
    assert check_batch_sampler(lambda *_: batches, promise(**claims)).broken == [
        "condition shares",
        "condition shares on average",
    ]
    assert not check_batch_sampler(lambda *_: batches, promise(**claims, condition_slack=1)).broken


def test_a_report_names_the_broken_law_first_in_its_failures():
    factory, law, promises = BROKEN_SAMPLERS["leak rounded down"]
    text = str(check_batch_sampler(factory, promises))
    assert f"\n{law}: broken (ranks 1, seed 0, batches " in text
    assert "expected: mean 1.2" in text
