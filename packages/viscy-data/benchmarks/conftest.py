"""Keeps pytest, which collects doctests of all modules, away from modules that need the benchmark's environment."""

collect_ignore_glob = ["*.py"]
