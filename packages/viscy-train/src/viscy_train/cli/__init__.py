"""The command line: which command runs, with which options, to which exit code.

Imports everything else; nothing imports it but the entry points.
"""

from viscy_train.cli.entry_point import main

__all__ = ["main"]
