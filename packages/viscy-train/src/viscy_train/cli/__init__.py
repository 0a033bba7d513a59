"""The command line: parses the arguments, runs a command and returns an exit code.

Imports every other sub-package. Only the script ``viscy-train`` and ``python -m viscy_train`` import it.
"""

from viscy_train.cli.entry_point import main

__all__ = ["main"]
