"""Run the command line: ``python -m viscy_train``, as torchrun needs it."""

import sys

from viscy_train.cli import main

if __name__ == "__main__":
    sys.exit(main())
