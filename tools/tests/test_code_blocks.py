"""Code blocks: what is run of a page, and how a mistake is shown."""

import sys
import traceback

import pytest

from code_blocks import read_blocks, read_indented, run_page

PAGE = """\
# Title

```python
value = 1
```

```bash
echo 2 > number
```

```yaml
key: value
```

<!-- not run: needs a cluster -->

```bash
exit 1
```

```python
from pathlib import Path

Path("sum").write_text(str(value + int(Path("number").read_text())))
```
"""


@pytest.fixture
def write(tmp_path):
    def write_page(text):
        page = tmp_path / "page.md"
        page.write_text(text)
        (tmp_path / "run").mkdir(exist_ok=True)
        return page, tmp_path / "run"

    return write_page


def test_blocks_of_a_page_run_in_order_in_one_directory_and_share_names(write):
    page, directory = write(PAGE)
    assert len(run_page(page, directory)) == 3
    assert (directory / "sum").read_text() == "3"


def test_a_block_that_cannot_run_says_why(write):
    page, _ = write(PAGE)
    assert [block.reason for block in read_blocks(page) if block.reason] == ["needs a cluster"]


def test_a_command_that_another_page_has_run_is_not_run_again(write):
    codes = ["uv run echo 1 >> lines", "echo 1 >> lines", "echo 0 > other"]
    page, directory = write("\n".join(f"```bash\n{code}\n```" for code in codes))
    commands = {"echo 0 > other"}
    assert [block.line for block in run_page(page, directory, commands)] == [2]
    assert (directory / "lines").read_text() == "1\n"
    assert commands == {"echo 0 > other", "echo 1 >> lines"}


def test_a_block_is_run_again_if_one_of_its_commands_is_new(write):
    page, directory = write("```bash\necho 1 >> lines\n```\n\n```bash\necho 1 >> lines\necho 2 >> lines\n```\n")
    assert len(run_page(page, directory)) == 2
    assert (directory / "lines").read_text() == "1\n1\n2\n"


def test_uv_run_uses_the_environment_of_this_python(write):
    page, directory = write("```bash\nuv run --extra hela python -c 'import sys; print(sys.prefix)' > prefix\n```\n")
    run_page(page, directory)
    assert (directory / "prefix").read_text().strip() == sys.prefix


def test_indented_code_is_found(write):
    page, _ = write("text\n\n    viscy-train demo\n\n- item\n\n      text\n\n```bash\necho\n```\n")
    assert read_indented(page)[0] == 3


@pytest.mark.parametrize("code", ["false\ntrue", "false | cat", "echo $UNDEFINED_NAME"])
def test_a_shell_block_ends_at_the_first_command_that_fails(write, code):
    page, directory = write(f"text\n\n```bash\necho shown\n{code}\n```\n")
    with pytest.raises(AssertionError, match=r"page.md, line 4: exit code 1\nshown"):
        run_page(page, directory)


def test_an_error_in_python_has_the_line_of_the_page(write):
    page, directory = write("text\n\n```python\nx = 1\nraise ValueError(x)\n```\n")
    with pytest.raises(ValueError, match="1") as error:
        run_page(page, directory)
    assert traceback.extract_tb(error.tb)[-1].lineno == 5
