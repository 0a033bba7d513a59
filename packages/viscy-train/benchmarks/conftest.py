"""Keeps pytest, which collects doctests of all modules, away from modules that are run, not tested."""

collect_ignore_glob = ["*.py"]
