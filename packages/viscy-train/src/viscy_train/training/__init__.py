"""Training, from a configuration to the last checkpoint: Lightning's command line, callbacks, resuming and stopping.

Imports all lower levels except `sample_projects`; only `cli` may import it.
"""
