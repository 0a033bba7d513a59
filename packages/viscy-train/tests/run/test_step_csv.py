import os

import pytest

from viscy_train.errors import UserError
from viscy_train.run.step_csv import StepCsv, format_line


@pytest.fixture
def file(tmp_path):
    """A file of the steps 0 to 3 in a new directory."""
    file = StepCsv(tmp_path / "new" / "file.csv", ["step", "name"])
    for step in range(4):
        file.append({"step": step, "name": f"a, {step}"})
    file.close()
    return file


def test_rows_are_read_as_they_were_written(file):
    rows = file.read()
    assert rows.columns.tolist() == ["step", "name"]
    assert rows["step"].tolist() == [0, 1, 2, 3]
    assert rows["name"].tolist() == ["a, 0", "a, 1", "a, 2", "a, 3"]


def test_a_row_is_on_disk_when_append_returns(file):
    file.append({"step": 4, "name": "b"})
    assert StepCsv(file.path).last_step() == 4
    file.close()


def test_a_missing_file_has_no_rows(tmp_path):
    file = StepCsv(tmp_path / "file.csv", ["step", "name"])
    assert file.columns() is file.last_step() is None
    assert file.read().columns.tolist() == ["step", "name"]
    assert file.read().empty
    file.cut(3)
    assert not file.path.exists()


def test_new_columns_are_added_after_the_others(file):
    file.append({"step": 4, "new, with comma": 7})
    file.append({"step": 5, "name": "b"})
    file.close()
    assert file.columns() == ["step", "name", "new, with comma"]
    assert file.path.read_text().splitlines()[-3:] == ['3,"a, 3",', "4,,7", "5,b,"]


def test_a_cut_removes_the_rows_from_a_step_on(file):
    file.cut(2)
    assert file.read()["step"].tolist() == [0, 1]
    file.append({"step": 2, "name": "again"})
    file.close()
    assert file.read()["name"].tolist() == ["a, 0", "a, 1", "again"]


@pytest.mark.parametrize("torn", ["4,a", "4", "\0\0\0\n"])
def test_an_incomplete_line_is_skipped_and_then_removed(file, torn):
    with file.path.open("a") as text:
        text.write(torn)
    assert file.last_step() == 3
    assert file.read()["step"].tolist() == [0, 1, 2, 3]
    file.append({"step": 4, "name": "b"})
    file.close()
    assert file.read()["step"].tolist() == [0, 1, 2, 3, 4]


def test_a_file_with_an_incomplete_header_is_started_again(tmp_path):
    file = StepCsv(tmp_path / "file.csv", ["step", "name"])
    file.path.write_text("step,na")
    file.append({"step": 0, "name": "a"})
    file.close()
    assert file.path.read_text() == "step,name\n0,a\n"


def test_a_cut_that_fails_leaves_the_file_as_it_was(file, monkeypatch):
    before = file.path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(UserError, match=r"file\.csv: no"):
        file.cut(2)
    assert file.path.read_bytes() == before
    assert [path.name for path in file.path.parent.iterdir()] == ["file.csv"]


def test_columns_of_an_earlier_version_get_their_present_names(file):
    renamed = StepCsv(file.path, rename=lambda names: [name.replace("name", "label") for name in names])
    assert renamed.columns() == renamed.read().columns.tolist() == ["step", "label"]
    assert file.columns() == ["step", "name"], "reading changes nothing on disk"
    renamed.append({"step": 4, "label": "b"})
    renamed.close()
    assert file.columns() == ["step", "label"]
    assert file.read()["label"].tolist() == ["a, 0", "a, 1", "a, 2", "a, 3", "b"]


def test_the_last_step_is_found_however_long_its_line_is(tmp_path):
    file = StepCsv(tmp_path / "file.csv", ["step", "rows"])
    rows = " ".join(map(str, range(10**7, 10**7 + 40_000)))
    file.rewrite(format_line([step, rows]) for step in range(3))
    assert file.last_step() == 2


def test_a_line_has_no_line_break_within():
    assert format_line([1, "a\nb", "c,d"]) == '1,a b,"c,d"\n'


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00step\n", b"\x89PNG\r\n\x1a\n\x00", b"a,step\n1,2\n", b"step,a,a\n", b"\n", b"\0" * 2**19, b"{}\n"],
)
def test_a_file_without_a_header_is_damaged(tmp_path, content):
    path = tmp_path / "damaged.csv"
    path.write_bytes(content)
    for use in (lambda file: file.read(), lambda file: file.cut(1), lambda file: file.append({"step": 1})):
        with pytest.raises(UserError, match=r"damaged\.csv is damaged: its first line .*; restore it, or") as error:
            use(StepCsv(path))
        assert "\n" not in str(error.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b"1,2,3\n", "a line must have 2 values, got '1,2,3"),
        (b"1,\xff\n", "line 2 must be text in UTF-8"),
        (b'1,"2\n2,3\n', "a line must have 2 values, got '1,\"2"),
        (b"1,fast\n", "column 'a' must be numbers"),
        (b"1,\0\n", "column 'a' must be numbers"),
    ],
)
def test_a_line_that_is_not_of_the_file_is_damaged(tmp_path, lines, message):
    path = tmp_path / "damaged.csv"
    path.write_bytes(b"step,a\n" + lines)
    with pytest.raises(UserError, match=rf"damaged\.csv is damaged: {message}") as error:
        StepCsv(path).read_numbers()
    assert "\n" not in str(error.value)


def test_a_step_with_too_many_digits_is_not_a_line(tmp_path):
    path = tmp_path / "damaged.csv"
    path.write_bytes(b"step,a\n" + b"9" * 5000 + b",1\n7,1\n")
    assert StepCsv(path).last_step() == 7
    assert StepCsv(path).read()["step"].tolist() == [7]
