"""Pages and figures of a run and of a dry run.

Imports `composition`, `evaluation` and `run`; only `cli` imports it.
"""
