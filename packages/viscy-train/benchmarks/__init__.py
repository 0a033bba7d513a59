"""Benchmarks of reading crops (``make bench-reading``) and of the loss (``make bench-loss``)."""
