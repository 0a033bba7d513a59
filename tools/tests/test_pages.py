"""Pages: the code of the site's pages runs, and the API pages have every public name."""

import importlib
import re

import pytest

from code_blocks import read_blocks, run_page
from site_links import ROOT

DOCS = ROOT / "docs"
# Pages whose code needs the files of another page follow it, in the same directory.
SERIES = [
    ["getting-started.md", "apply-a-model.md", "resume-and-slurm.md"],
    ["mental-model.md"],
    ["coming-from-viscy.md"],
    ["performance.md"],
    ["test-your-sampler.md"],
]
# Pages whose code others run.
ELSEWHERE = {
    "bring-your-data.md": "the tests of viscy-train make a project for each section",
    "which-composition.md": "needs a project of the reader's own; the tests of viscy-train run compare and study",
}


def test_every_page_with_code_is_run():
    pages = {page.name for page in DOCS.glob("*.md") if read_blocks(page)}
    assert pages == {name for series in SERIES for name in series} | set(ELSEWHERE)


def test_every_notebook_is_on_the_site_and_has_code():
    pages = sorted(DOCS.glob("notebooks/*.md"))
    index = (DOCS / "index.md").read_text()
    assert len(pages) == 3
    for page in pages:
        assert f"notebooks/{page.stem}\n" in index
        assert "```{code-cell} ipython3\n" in page.read_text()


def test_few_blocks_are_not_run():
    blocks = [block for series in SERIES for name in series for block in read_blocks(DOCS / name)]
    reasons = [block.reason for block in blocks if block.reason]
    assert len(reasons) <= 4
    assert len(blocks) > 20


@pytest.mark.parametrize("package", ["viscy_data", "viscy_sampling_testkit", "viscy_train"])
def test_the_api_pages_have_every_public_name(package):
    text = (DOCS / "api" / f"{package.removeprefix('viscy_sampling_').replace('_', '-')}.md").read_text()
    if f".. automodule:: {package}\n   :members:\n" not in text:
        names = re.findall(r"^\.\. auto(?:class|function|data):: (\w+)$", text, re.MULTILINE)
        assert f".. currentmodule:: {package}\n" in text
        assert sorted(names) == sorted(importlib.import_module(package).__all__)


@pytest.mark.slow
@pytest.mark.weekly
@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated")
@pytest.mark.parametrize("series", SERIES, ids=lambda series: series[0].removesuffix(".md"))
def test_the_code_of_a_page_runs(series, tmp_path):
    for name in series:
        assert run_page(DOCS / name, tmp_path)
