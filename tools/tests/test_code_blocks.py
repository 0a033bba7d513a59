"""Code blocks: what is run of a page, and how a mistake is shown."""

import traceback

import pytest

from code_blocks import read_blocks, run_page

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

```bash
# Not tested: needs a cluster
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
