"""Keep pytest, which collects doctests in all modules, from importing those that need the benchmark environment."""

collect_ignore_glob = ["*.py"]
