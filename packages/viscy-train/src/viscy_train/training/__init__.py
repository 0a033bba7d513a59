"""A run from its configuration to its last checkpoint: Lightning's command line, callbacks, resume and stop.

Imports everything below it but `sample_projects`; only `cli` imports it.
"""
