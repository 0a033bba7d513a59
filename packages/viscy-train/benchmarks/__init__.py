"""Benchmarks of how viscy-train reads crops, compared with simpler methods; run by ``make bench-reading``."""
