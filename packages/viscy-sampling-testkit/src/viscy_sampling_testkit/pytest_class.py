"""A test class: one test for each law of a batch sampler. It needs pytest, which is an extra of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from viscy_sampling_testkit.conformance.check import LAWS, check_law, make_trials
from viscy_sampling_testkit.conformance.promises import Promises
from viscy_sampling_testkit.conformance.trial import Setting, Trial


class BatchSamplerTests:
    """Base of a test class that holds a batch sampler to every law that it claims, in a test for each.

    A subclass gives `promises` and `make_sampler`. A law that is not claimed is skipped, and so is one that is claimed
    and could not be tested, with the reason; a broken one fails with its smallest example.

    Attributes
    ----------
    promises : Promises
        What the sampler claims.
    setting : {"fast", "full"} or Setting
        How hard it is tried.
    options : sequence of mapping
        Options with each of which every promise must hold.

    Examples
    --------
    .. code-block:: python

        class TestMySampler(BatchSamplerTests):
            promises = Promises(table=TABLE, batch_size=32, distinct=True, resume=True)

            def make_sampler(self, rank, num_replicas, **options):
                return MySampler(TABLE, 32, rank=rank, num_replicas=num_replicas, **options)
    """

    promises: Promises
    setting: str | Setting = "fast"
    options: Sequence[Mapping[str, Any]] = ({},)

    def make_sampler(self, rank: int, num_replicas: int, **options: Any) -> Any:
        """Return a new sampler of a rank."""
        raise NotImplementedError(
            f"{type(self).__name__} must define make_sampler(self, rank, num_replicas, **options)"
        )

    @pytest.fixture(scope="class")
    @classmethod
    def trials(cls) -> list[Trial]:
        """Return the trials that all laws are checked with: what is drawn for one serves the next."""
        return make_trials(cls().make_sampler, cls.promises, setting=cls.setting, options=cls.options)

    @pytest.mark.parametrize("law", [law.name for law in LAWS])
    def test_keeps_its_law(self, trials: list[Trial], law: str) -> None:
        """Hold the sampler to one law."""
        verdict = check_law(law, trials)
        if verdict.outcome == "broken":
            pytest.fail(str(verdict), pytrace=False)
        if verdict.outcome != "kept":
            pytest.skip(str(verdict))
