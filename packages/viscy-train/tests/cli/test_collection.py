"""Garbage is collected rarely while a command without a model runs, and not when it exits."""

import gc
import sys

from viscy_train.cli.collection import rare_collections
from viscy_train.cli.entry_point import main

EXIT = """
{before}
class Kept:
    def __del__(self):
        print("collected")
kept = Kept()
kept.itself = kept
del kept
"""
RARE = """
from viscy_train.cli.collection import rare_collections
with rare_collections():
    pass
with rare_collections():
    pass
"""


def test_a_command_without_a_model_collects_garbage_rarely_and_restores_the_threshold(project, monkeypatch):
    before, during = gc.get_threshold(), []
    for command in ("index", "fit"):
        monkeypatch.setattr(f"viscy_train.cli.commands.{command}", lambda *_: during.append(gc.get_threshold()[0]) or 0)
        assert main([command, "--config", str(project)]) == 0
    assert during[0] > 100 * during[1]
    assert gc.get_threshold() == before


def test_the_threshold_is_restored_after_an_error():
    before = gc.get_threshold()
    try:
        with rare_collections():
            raise KeyError
    except KeyError:
        assert gc.get_threshold() == before


def test_objects_in_cycles_are_not_searched_at_exit(run_command):
    assert run_command([sys.executable, "-c", EXIT.format(before="")]).stdout == "collected\n"
    assert run_command([sys.executable, "-c", EXIT.format(before=RARE)]).stdout == ""
