"""A test class: one test for each law of a batch sampler.

This module needs ``viscy-sampling-testkit[pytest]``; the rest of the package does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from viscy_sampling_testkit.conformance.check import LAWS, check_law, make_trials
from viscy_sampling_testkit.conformance.promises import Promises
from viscy_sampling_testkit.conformance.trial import Setting, Trial


class BatchSamplerTests:
    """Base class of tests that check a batch sampler against every law that it claims, one test per law.

    A subclass defines `promises` and `make_sampler`. A failed law fails its test with the smallest example. A law that
    is not claimed or not testable is skipped with the reason.

    Attributes
    ----------
    promises : Promises
        What the sampler claims.
    setting : {"fast", "full"} or Setting
        How thoroughly it is checked.
    options : sequence of mapping
        Options to pass to the factory; the sampler must satisfy its claims with each of them.

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
        """Return a new sampler for a rank."""
        raise NotImplementedError(
            f"{type(self).__name__} must define make_sampler(self, rank, num_replicas, **options)"
        )

    @pytest.fixture(scope="class")
    @classmethod
    def trials(cls) -> list[Trial]:
        """Return the trials with which all laws are checked, so that the laws share the batches drawn."""
        return make_trials(cls().make_sampler, cls.promises, setting=cls.setting, options=cls.options)

    @pytest.mark.parametrize("law", [law.name for law in LAWS])
    def test_satisfies_law(self, trials: list[Trial], law: str) -> None:
        """Check the sampler against one law."""
        verdict = check_law(law, trials)
        if verdict.outcome == "failed":
            pytest.fail(str(verdict), pytrace=False)
        if verdict.outcome != "passed":
            pytest.skip(str(verdict))
