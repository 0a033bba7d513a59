"""Benchmarks of how viscy-train reads crops, beside plainer ways: ``make bench-reading``."""
