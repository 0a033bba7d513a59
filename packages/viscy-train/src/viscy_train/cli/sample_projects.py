"""Sample projects: the commands that write one, `demo`, which also trains on it, and `hela`."""

from __future__ import annotations

from viscy_train.cli.options import make_parser
from viscy_train.config.suggestions import parse
from viscy_train.output import in_use


def run_demo(options: list[str], description: str) -> int:
    """Write the demo project and train on it, and return the exit code."""
    out = parse(make_parser("demo", description), options).out
    with in_use(out, "demo"):
        from viscy_train.cli import demo

        return demo.run_demo(out)


def run_hela(options: list[str], description: str) -> int:
    """Write the project of HeLa, and return the exit code."""
    out = parse(make_parser("hela", description), options).out
    with in_use(out, "hela"):
        from viscy_train.sample_projects.hela import write_hela

        write_hela(out)
        return 0
