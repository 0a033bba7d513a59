"""The sections and names that are checked before the parser reads a file are those that a configuration has."""

from jsonargparse import Namespace

from viscy_train.cli import config_files
from viscy_train.training.data_cli import make_data_parser

PARSER = make_data_parser("viscy-train", "", {})


def test_all_sections_are_checked():
    defaults = PARSER.get_defaults(skip_validation=True).items(branches=True)
    sections = {key for key, value in defaults if isinstance(value, Namespace)}
    assert sections == set(config_files._SECTIONS)


def test_all_names_are_checked():
    types = {one.dest: str(getattr(one, "_typehint", None) or one.type) for one in PARSER._actions}
    takes_text = {name for name, of_name in types.items() if "str" in of_name or "Path" in of_name}
    checked = {name for name in takes_text if not name.startswith("trainer.")}  # which are Lightning's, not names
    assert checked <= set(config_files._NAMES)
    assert set(config_files._NAMES) <= types.keys()
    assert len(checked) > 5
