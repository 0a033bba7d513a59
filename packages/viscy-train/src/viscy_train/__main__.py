"""Run the command line with ``python -m viscy_train``, for example under torchrun."""

import sys

from viscy_train.cli import main

if __name__ == "__main__":
    sys.exit(main())
