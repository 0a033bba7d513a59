"""One call that checks a batch sampler against everything it claims, and the report of the result.

Imports `assertions` and `simulate`; `mutants` and `pytest_class` may import it.
"""
