"""One call that checks a batch sampler against every law it claims, and the report of the result.

This sub-package imports `assertions` and `simulate`; `mutants` and `pytest_class` may import it.
"""
