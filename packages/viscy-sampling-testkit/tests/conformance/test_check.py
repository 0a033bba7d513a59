"""One call checks a sampler against its claims, and reports each law with the smallest example that breaks it."""

import threading

import pandas as pd
import pytest

from viscy_sampling_testkit import Promises, Setting, check_batch_sampler
from viscy_sampling_testkit.conformance.check import LAWS
from viscy_sampling_testkit.mutants.catalog import MUTANTS, REFERENCE_SAMPLERS

TABLE = pd.DataFrame({"well": ["a"] * 20 + ["b"] * 20, "hours": [0.5 * (i % 20) for i in range(40)]})
BATCHES = [list(range(4 * k, 4 * k + 4)) for k in range(10)]


def make_promises(**claims):
    return Promises(**{"table": TABLE, "batch_size": 4, **claims})


def interleaved(rank, num_replicas):
    return BATCHES[rank::num_replicas]


def test_laws_that_are_not_claimed_are_not_checked():
    def never(*_):
        raise NotImplementedError

    report = check_batch_sampler(never, make_promises())
    assert report.of("not claimed") == [law.name for law in LAWS]
    assert report.passed == report.failed == []
    report.raise_if_failed()


def test_each_law_passes_fails_or_is_not_claimed():
    report = check_batch_sampler(
        interleaved, make_promises(distinct=True, group_by="well", leaky=0.0, equal_steps=True)
    )
    assert (report.passed, report.failed) == (["distinct", "one group"], ["equal steps"])
    lines = str(report).splitlines()
    assert lines[0].startswith(f"2 passed, 1 failed, {len(LAWS) - 3} not claimed (fast, ")
    assert lines[0].endswith(" s)")
    assert "  distinct                     passed  no anchor is repeated within a batch" in lines
    assert "  equal steps                  failed  all ranks have the same number of batches" in lines
    assert "equal steps: failed (ranks 3)" in lines
    assert "      observed: [4, 3, 3] batches on ranks 0 to 2" in lines


def test_report_converts_to_a_table():
    frame = check_batch_sampler(interleaved, make_promises(distinct=True, equal_steps=True)).to_frame()
    assert list(frame.index) == [law.name for law in LAWS]
    assert list(frame) == ["statement", "outcome", "tried", "seconds", "example", "message", "note"]
    assert frame.loc["distinct", ["outcome", "message"]].tolist() == ["passed", ""]
    assert frame.loc["distinct", "tried"] == 1 + 2 + 3
    assert frame.loc["equal steps", "example"] == {"ranks": 3}
    assert "same number of batches" in frame.loc["equal steps", "message"]


def test_failure_is_raised_with_the_full_report():
    report = check_batch_sampler(interleaved, make_promises(equal_steps=True))
    with pytest.raises(AssertionError, match=r"(?s)1 failed.*equal steps: failed \(ranks 3\)"):
        report.raise_if_failed()
    with pytest.raises(KeyError):
        report["no such law"]


def test_former_names_of_a_report_still_work():
    report = check_batch_sampler(interleaved, make_promises(distinct=True, equal_steps=True))
    assert (report.kept, report.broken) == (report.passed, report.failed)
    with pytest.raises(AssertionError, match="1 failed"):
        report.raise_if_broken()


def test_example_has_the_fewest_batches_ranks_and_options():
    def repeats(rank, num_replicas, after=10, on=1):
        batches = [[0, 0, 1, 2] if k >= after and num_replicas >= on else batch for k, batch in enumerate(BATCHES)]
        return batches[rank::num_replicas]

    def example(**options):
        report = check_batch_sampler(repeats, make_promises(distinct=True, equal_steps=True), options=[options, {}])
        return report["distinct"].example

    assert example() == {}
    for after in range(10):
        assert example(after=after) == {"after": after, "ranks": 1, "batches": after + 1}
    assert example(after=9, on=2) == {"after": 9, "on": 2, "ranks": 2, "rank": 1, "batches": 5}


def test_claims_must_be_satisfied_with_all_options():
    def sized(rank, num_replicas, size=4):
        return [list(range(size))]

    report = check_batch_sampler(sized, make_promises(last_batch="full"), options=[{"size": 3}, {}])
    assert report["batch sizes"].example == {"size": 3, "ranks": 1}
    assert report["batch sizes"].tried == 2
    with pytest.raises(ValueError, match="options must hold at least one mapping, got none"):
        check_batch_sampler(sized, make_promises(), options=[])


class Fails:
    """A sampler that raises in one named method."""

    def __init__(self, step):
        self.step = step
        self.fail_at("init")

    def fail_at(self, step):
        if step == self.step:
            raise RuntimeError(f"lost\nat {step}")

    def __iter__(self):
        self.fail_at("iter")
        for batch in BATCHES:
            yield batch
            self.fail_at("next")

    def __len__(self):
        self.fail_at("len")
        return len(BATCHES)

    def set_epoch(self, epoch):
        self.fail_at("set_epoch")

    def state_dict(self):
        self.fail_at("state_dict")
        return {}

    def load_state_dict(self, state):
        self.fail_at("load_state_dict")

    def batch(self, k):
        self.fail_at("batch")
        return BATCHES[k]


@pytest.mark.parametrize(
    ("step", "law", "claims", "call"),
    [
        ("init", "distinct", {}, "make_sampler()"),
        ("iter", "distinct", {}, "next() for batch 0"),
        ("next", "distinct", {}, "next() for batch 1"),
        ("len", "length", {"length": True}, "len()"),
        ("set_epoch", "epoch choice", {"epochs": "set_epoch"}, "set_epoch(0)"),
        ("state_dict", "resume", {"resume": True}, "state_dict()"),
        ("load_state_dict", "resume", {"resume": True}, "load_state_dict()"),
        ("batch", "replay", {"random_access": True}, "batch(9)"),
    ],
)
def test_exception_of_the_sampler_fails_the_law_but_not_the_suite(step, law, claims, call):
    verdict = check_batch_sampler(lambda *_: Fails(step), make_promises(distinct=True, **claims))[law]
    assert verdict.outcome == "failed"
    assert verdict.message.startswith(f"{call} must not raise\n")
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
def test_batches_without_valid_positions_fail_every_law(batches, observed):
    promises = make_promises(
        coverage=True,
        exchangeable=True,
        row_inclusion=True,
        epochs="iter",
        ranks="disjoint",
        condition_by="well",
        condition_shares={"a": 0.5, "b": 0.5},
        group_by="well",
        leaky=0.1,
    )
    report = check_batch_sampler(lambda *_: batches, promises)
    assert not report.passed
    assert {f"observed: {observed}" in report[law].message for law in report.failed} == {True}


def test_factory_that_cannot_be_pickled_is_not_testable_in_other_processes():
    lock = threading.Lock()
    report = check_batch_sampler(lambda *_: BATCHES[: 10 + lock.locked()], make_promises(deterministic=True))
    assert report["other processes"].outcome == "not testable"
    assert "it must be possible to pickle the factory, got TypeError" in report["other processes"].message
    assert report["determinism"].outcome == "passed"


def test_sampler_needs_no_length():
    report = check_batch_sampler(lambda *_: iter(BATCHES), make_promises(distinct=True, length=True))
    assert (report.passed, report.failed) == (["distinct"], ["length"])
    assert "TypeError: object of type 'list_iterator' has no len()" in report["length"].message


def test_endless_epoch_fails():
    class Endless:
        def __iter__(self):
            while True:
                yield [0, 1]

        def __len__(self):
            return 5

    report = check_batch_sampler(lambda *_: Endless(), make_promises(distinct=True, length=True))
    assert report.failed == ["distinct", "length"]
    assert "observed: 150 batches without an end" in report["distinct"].message


def test_law_that_cannot_be_checked_is_not_testable():
    report = check_batch_sampler(lambda *_: BATCHES[:1], make_promises(exchangeable=True, rank_cost=True))
    assert report.of("not testable") == ["exchangeable slots", "slot classes", "rank cost"]
    assert "0 passed, 0 failed, 3 not testable, " in str(report)
    assert "at least 2 batches for each of 8 ranks, got 1" in report["rank cost"].message
    report.raise_if_failed()


def test_epoch_is_set_on_the_inner_sampler_if_only_that_can_be_set():
    class Inner:
        def __init__(self):
            self.epoch = 0

        def set_epoch(self, epoch):
            self.epoch = epoch

    class Outer:
        def __init__(self):
            self.sampler = Inner()

        def __iter__(self):
            return iter(BATCHES[self.sampler.epoch :])

    assert (
        check_batch_sampler(lambda *_: Outer(), make_promises(epochs="set_epoch"))["epoch choice"].outcome == "passed"
    )


@pytest.mark.slow
def test_statistical_law_that_passes_says_what_it_would_have_detected():
    factory, promises = REFERENCE_SAMPLERS["mixed"]
    report = check_batch_sampler(factory, promises)
    assert report["row inclusion"].note == "detects a row drawn 0.13 or 2.5 times as often as expected (60 times)"
    assert report["leak on average"].note == "detects a mean of at most 1.11 or at least 1.31 instead of 1.2"
    assert report["leak on average"].note in str(report)
    assert report["distinct"].note == ""


@pytest.mark.slow
def test_full_setting_stops_after_every_batch_and_says_so():
    factory, promises = REFERENCE_SAMPLERS["short"]
    fast, full = (check_batch_sampler(factory, promises, setting=name) for name in ("fast", "full"))
    full.raise_if_failed()
    assert "(full, " in str(full)
    # Two numbers of ranks, five seeds, and every stop in epochs of 9 and 5 batches.
    assert full["resume"].tried == 5 * (10 + 6)
    assert fast["resume"].tried == 2 * (4 + 4)


def test_setting_is_a_known_name_or_an_object():
    own = Setting(
        name="own", seeds=(7,), replicas=(1, 4), n_epochs=1, row_times=5, most_batches=50, every_position=False
    )
    report = check_batch_sampler(interleaved, make_promises(equal_steps=True), setting=own)
    assert report.setting == "own"
    assert report["equal steps"].example == {"ranks": 4}
    with pytest.raises(ValueError, match="setting must be one of fast, full, or a Setting, got 'slow'"):
        check_batch_sampler(interleaved, make_promises(), setting="slow")


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"group_by": "well", "leaky": 1.0}, r"leaky must be in \[0, 1\), got 1.0"),
        ({"leaky": 0.1}, "leaky needs group_by, got None; give group_by or leave out leaky"),
        ({"condition_shares": {"a": 1}}, "condition_shares needs condition_by"),
        ({"window_hours": 0.0}, "window_hours needs time_by"),
        ({"epochs": "each"}, "epochs must be one of set_epoch, iter, or None, got 'each'"),
        ({"group_by": ["well", "plate"]}, r"columns \['plate'\] must be in the table, which has \['well', 'hours'\]"),
        ({"coverage": True, "time_by": "hours", "window_hours": 1.0}, "coverage cannot be checked with window_hours"),
        ({"rounds": True, "time_by": "hours", "window_hours": 1.0}, "rounds cannot be checked with window_hours"),
        ({"focal_turns": True}, "focal_turns needs global_fraction, got None"),
        ({"uniform_leak": True}, "uniform_leak needs leaky, got None"),
        ({"independent_rows": True}, "independent_rows needs row_inclusion, got False"),
        ({"fresh_padding": True}, "fresh_padding needs equal_steps, got False"),
        ({"epochs_advance": True, "epochs": "iter"}, "epochs_advance needs epochs='set_epoch', got 'iter'"),
        (
            {"time_by": "hours", "window_hours": 1.0, "global_fraction": 2},
            r"global_fraction must be in \[0, 1\], got 2",
        ),
    ],
)
def test_invalid_promises_raise(claims, message):
    with pytest.raises(ValueError, match=message):
        make_promises(**claims)


def test_groups_and_conditions_can_span_several_columns():
    table = TABLE.assign(day=[1, 2] * 20)
    shares = {("a", 1): 0.5, ("a", 2): 0.5}
    claims = {"condition_by": ["well", "day"], "condition_shares": shares, "group_by": "well", "leaky": 0.0}
    report = check_batch_sampler(lambda *_: BATCHES[:5], Promises(table=table, batch_size=4, **claims))
    assert report.passed == ["one group", "condition shares", "condition shares on average"]


def test_slack_allows_a_condition_to_be_one_slot_off():
    claims = {"condition_by": "well", "condition_shares": {"a": 0.5, "b": 0.5}}
    batches = [[0, 1, 2, 20], [0, 20, 21, 22]] * 5
    assert check_batch_sampler(lambda *_: batches, make_promises(**claims)).failed == [
        "condition shares",
        "condition shares on average",
    ]
    assert not check_batch_sampler(lambda *_: batches, make_promises(**claims, condition_slack=1)).failed


@pytest.mark.slow
def test_failure_in_a_report_starts_with_the_name_of_the_law():
    factory, law, promises = MUTANTS["leak rounded down"]
    text = str(check_batch_sampler(factory, promises))
    assert f"\n{law}: failed (ranks 1, seed 0, batches " in text
    assert "expected: mean 1.2" in text
