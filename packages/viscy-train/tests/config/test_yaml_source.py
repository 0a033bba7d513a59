import os

import pytest
from jsonargparse import ArgumentParser

from viscy_train.config.yaml_bounds import MAX_BYTES, MAX_DEPTH
from viscy_train.config.yaml_source import (
    Spelled,
    line_of,
    read_as_text,
    read_spelled,
    read_yaml,
    refuse_clock_time,
    with_line,
)
from viscy_train.errors import UserError


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a YAML file and returns its path."""

    def write_text(text):
        path = tmp_path / "config.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("off", False),
        ("010", 8),
        ("3:30", 210),
        ("1e-3", 0.001),
        ("1_000", 1000),
        ("2024-05-06", "2024-05-06"),
        ("~", None),
        ("'010'", "010"),
        ("[1, {x: no}]", [1, {"x": False}]),
    ],
)
def test_a_value_is_read_as_the_parser_reads_it(write, text, value):
    path = write(f"output: {text}\nother: 1\n")
    assert read_yaml(path) == {"output": value, "other": 1}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--output")
    parser.add_argument("--other", type=int)
    assert parser.parse_args(["--config", str(path)]).output == value


@pytest.mark.parametrize(("text", "content"), [("data:\n", {"data": None}), ("{a: , b: }", {"a": None, "b": None})])
def test_a_mapping_of_nulls_is_a_mapping(write, text, content):
    assert read_yaml(write(text)) == content


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "config.yaml is empty"),
        ("# a comment\n", "config.yaml is empty"),
        (b"output: \xff\xfe", "config.yaml must be a YAML file in UTF-8"),
        ("output: [16\n", "config.yaml, line 1: invalid YAML: the bracket of this line is not closed"),
        ("output: a\ndata:\n\tcrop: 16\n", "config.yaml, line 3: invalid YAML: .* must be spaces, got a tab"),
        ("a: !!bool maybe\n", "config.yaml is not valid YAML: "),
        ("a: 1\n---\nb: 2\n", "config.yaml, line 2: invalid YAML: "),
        ("output: *other\n", "config.yaml, line 1: invalid YAML: [*]other refers to no anchor &other"),
        ("output: !path a\n", "config.yaml, line 1: invalid YAML: !path is a tag that is not supported"),
        ("data:\noutput: a\x07", "config.yaml, line 2: invalid YAML: it has the control character U[+]0007; delete it"),
        ("a: b: c\n", "config.yaml, line 1: invalid YAML: a colon is where none can be"),
        ("a: 1\n b: 2\n", "config.yaml, line 2: invalid YAML: a colon is where none can be; check the indentation"),
        ("a:\n  b: 1\n c: 2\n", "config.yaml, line 3: invalid YAML: a line must be indented like the others of its"),
        ("a: 1\nb:2\nc: 3\n", "config.yaml, line 2: invalid YAML: a key must be followed by a colon and a space"),
        ("a: 'one\nb: 2\n", "config.yaml, line 1: invalid YAML: the quote that begins in this line is not closed"),
        ("a: {b: 1\nc: 2\n", "config.yaml, line 1: invalid YAML: the bracket of this line is not closed"),
        ("a: @monday\n", "config.yaml, line 1: invalid YAML: text that begins with @ must be in quotes"),
        ("a: 1\na: 2\n", "config.yaml, line 2: key 'a' is already defined in line 1; remove one of them"),
        ("data:\n  crop: 16\n  crop: 32\n", "config.yaml, line 3: key 'crop' is already defined in line 2"),
        ("[{x: 1,\n x: 2}]", "config.yaml, line 2: key 'x' is already defined in line 1"),
    ],
)
def test_an_invalid_file_is_refused_with_its_line(write, text, message):
    with pytest.raises(UserError, match=message) as error:
        read_yaml(write(text))
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"file not found: .*config\.yaml"):
        read_yaml(tmp_path / "config.yaml")
    with pytest.raises(UserError, match=r"must be a regular file, got a directory"):
        read_yaml(tmp_path)


def test_an_alias_and_a_merged_mapping_are_not_repeated_keys(write):
    content = read_yaml(write("one: &a {x: 1}\ntwo: *a\nthree:\n  <<: *a\n  x: 2\n"))
    assert content["two"] == {"x": 1}
    assert content["three"] == {"x": 2}


CONFIG = """\
trainer:
  max_epochs: 2
  callbacks:
  - class_path: EarlyStopping
    init_args:
      monitor: val/loss
data:
  experiments: experiments.yaml
  sampler: {batch_size: 8,
    bach_size: 8}
  crop: large
  split: &split
    experiments: [monday, tuesday]
again: *split
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("trainer", 1),
        ("trainer.max_epochs", 2),
        ("trainer.callbacks.0", 4),
        ("trainer.callbacks.0.init_args.monitor", 6),
        ("data.sampler.bach_size", 10),
        ("data.split.experiments.1", 13),
        ("again.experiments", 13),
        ("trainer.callbacks.1", None),
        ("data.crop.size", None),
        ("crop", None),
    ],
)
def test_a_key_has_a_line(write, key, line):
    assert line_of(write(CONFIG), key) == line


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("Group 'data' does not accept option 'sampler.bach_size'", 10),
        ("Option 'trainer.max_epochs' is not accepted", 2),
        ("Parser key \"data.crop\": Expected a <class 'int'>. Got value: large", 11),
        ('Parser key "trainer.callbacks": Problem with given class_path \'X\': Parser key "monitor": not a str', 6),
        ("the following arguments are required: data.crop", 11),
        ("data.sampler.batch_size must be at least 1, got 0", 9),
        ("the anchor table was built with data.crop 16, got large", 11),
        ("trainer: the accelerator is not available", 1),
        ("data.split.experiments must name experiments, got 'sunday'", 13),
        ("trainer.callbacks.0.init_args.monitor is unknown", 6),
        ("Group 'data' does not accept option 'crpo'", None),
        ("the following arguments are required: output", None),
        ("data.sampler.leaky must be in [0, 1), got 2", None),
        ("something else failed", None),
        ("", None),
    ],
)
def test_a_message_gets_the_line_of_the_key_that_it_names(write, message, line):
    path = write(CONFIG)
    assert with_line(path, message) == (f"{path}, line {line}: {message}" if line else message)


def test_a_key_that_two_items_of_a_list_have_gets_no_line(write):
    path = write("callbacks:\n- init_args: {monitor: a}\n- init_args: {monitor: b}\n")
    message = 'Parser key "callbacks": Problem with given class_path \'X\': Parser key "monitor": not a str'
    assert with_line(path, message) == message


@pytest.mark.parametrize(
    ("message", "line"), [("name must be text", 2), ("channels must differ", 3), ("the plate is missing", 2)]
)
def test_a_message_about_an_item_gets_the_line_of_its_key_or_of_the_item(write, message, line):
    path = write("experiments:\n- name: 3\n  channels: []\n")
    assert with_line(path, message, within="experiments.0") == f"{path}, line {line}: {message}"


@pytest.mark.parametrize("text", ["output: [", "- 3", "3", "a: !tag 3", "a: &a {init_args: *a}", "a: &a [*a]", ""])
def test_a_file_of_another_kind_has_no_lines(write, text):
    path = write(text)
    assert with_line(path, "a.b.c must be at least 8") == "a.b.c must be at least 8"


def test_a_missing_file_has_no_lines(tmp_path):
    assert with_line(tmp_path / "config.yaml", "data.crop must be at least 8") == "data.crop must be at least 8"


@pytest.mark.parametrize("value", ["3:30", "0:30", "-3:30", "3:30.5", "'3:30'"])
def test_a_clock_time_is_not_a_number(write, value):
    with pytest.raises(UserError, match=rf"line 2: hour must be a number, got {value.strip(chr(39))}$"):
        refuse_clock_time(write(f"items:\n- hour: {value}\n"), "items.0.hour")


@pytest.mark.parametrize("value", ["3.5", "-3", "1e-3", "fast", "null", "[3]"])
def test_other_values_are_left_to_the_parser(write, value):
    refuse_clock_time(write(f"items:\n- hour: {value}\n"), "items.0.hour")
    refuse_clock_time(write("items: []\n"), "items.0.hour")


def nested(n):
    """Return a list in lists, n levels deep."""
    return "a: " + "[" * (n - 1) + "1" + "]" * (n - 1)


ALIASES = "".join(f"b{n}: &b{n} {{x: *b{n - 1}, y: *b{n - 1}}}\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b0: &b0 {x: 1}\n" + ALIASES, r"line \d+: a file must have at most 100,000 values"),
        ("b0: &b0 {x: 1}\n" + ALIASES.replace("x:", "<<:"), "must have at most 100,000 values"),
        ("- 1\n" * 100_001, "must have at most 100,000 values"),
        (nested(MAX_DEPTH), r"line 1: values must be nested at most 50 levels deep"),
        ("[" * 100_000, "values must be nested at most 50 levels deep"),
        ("? " * 100, "values must be nested at most 50 levels deep"),
        ("a: 1\nb: &b [*b]\n", r"line 2: alias \*b must not be inside the value that it stands for"),
        ("a: &a {b: {c: *a}}\n", r"alias \*a must not be inside"),
        ("#" * (MAX_BYTES + 1), "must be a YAML file of at most 4,000,000 bytes, got 4,000,001"),
    ],
)
def test_a_file_that_means_too_much_is_refused(write, text, message):
    path = write(text)
    with pytest.raises(UserError, match=message) as error:
        read_yaml(path)
    assert "\n" not in str(error.value)
    assert line_of(path, "a") is None


def test_a_large_file_with_aliases_is_read(write):
    items = "".join(f"- {{name: {n}, wells: *wells}}\n" for n in range(1000))
    content = read_yaml(write(f"- &wells {{A/1: mock, B/1: virus}}\n{items}"))
    assert len(content) == 1001
    assert content[1000] == {"name": 999, "wells": {"A/1": "mock", "B/1": "virus"}}


def test_nesting_up_to_the_limit_is_read(write):
    assert read_yaml(write(nested(MAX_DEPTH - 1)))


def test_a_byte_order_mark_is_ignored(write):
    assert read_yaml(write("\ufeffoutput: a\n")) == {"output": "a"}


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(UserError, match="a YAML file must be a regular file, got a named pipe"):
        read_yaml(tmp_path / "pipe.yaml")


def test_a_merged_key_has_the_line_where_it_is_written(write):
    path = write("one: &a {x: 1}\ntwo: &b\n  y: 0:30\n  x: 3\nthree:\n  <<: [*a, *b]\n  z: 2\nfour: {<<: *b, y: 5}\n")
    assert [line_of(path, f"three.{key}") for key in "xyz"] == [1, 3, 7]
    assert [line_of(path, f"four.{key}") for key in "xy"] == [4, 8]
    with pytest.raises(UserError, match=r"line 3: y must be a number, got 0:30"):
        refuse_clock_time(path, "three.y")
    refuse_clock_time(path, "four.y")


def test_values_are_read_with_their_text_and_merged_mappings_replaced(write):
    path = write("one: &a {012: 012, b: 'off', c: [on, ~, ---]}\ntwo: {<<: *a, b: !!str 1e3, d: !!int '7', e: }\n")
    assert read_spelled(path)["two"] == {
        "012": Spelled(10, "012"),
        "b": Spelled("1e3", "1e3"),
        "c": [Spelled(True, "on"), Spelled(None, "~"), Spelled("---", "---")],
        "d": Spelled(7, "7"),
        "e": Spelled(None, ""),
    }
    assert read_as_text(path)["one"] == {"012": "012", "b": "off", "c": ["on", "~", "---"]}
