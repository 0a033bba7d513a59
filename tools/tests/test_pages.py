"""Pages: the code of READMEs and of the site's pages runs, and the API pages have every public name."""

import importlib
import re
from pathlib import Path

import pytest

from code_blocks import read_blocks, read_indented, run_page
from site_links import ROOT
from viscy_train.cli.registry import COMMANDS
from viscy_train.training.data_cli import make_data_parser

DOCS = ROOT / "docs"
# Pages whose code needs the files of another page follow it, in the same directory.
SERIES = [
    [
        "README.md",
        "packages/viscy-train/README.md",
        "docs/getting-started.md",
        "docs/apply-a-model.md",
        "docs/resume-and-slurm.md",
    ],
    ["docs/mental-model.md"],
    ["docs/coming-from-viscy.md"],
    ["docs/performance.md"],
    ["docs/test-your-sampler.md"],
]
# Pages whose code other tests run.
TESTKIT_TESTS = "packages/viscy-sampling-testkit/tests"
ELSEWHERE = {
    "packages/viscy-data/README.md": "packages/viscy-data/tests/test_readme.py",
    "packages/viscy-sampling-testkit/CONFORMANCE.md": f"{TESTKIT_TESTS}/conformance/test_conformance_page.py",
    "packages/viscy-sampling-testkit/README.md": f"{TESTKIT_TESTS}/test_readme.py",
}
# Keys of the trainer that are not plain options.
OTHER_KEYS = {"trainer.callbacks", "trainer.overfit_batches", "trainer.profiler"}
# Why blocks of pages are not run, in the order of the page.
NOT_RUN = {
    "CONTRIBUTING.md": [
        "installs packages; every stage of CI needs it",
        "changes the environment; the jobs of packages in CI do it",
    ],
    "README.md": [
        "the notebook of HeLa runs these commands",
        "installs packages; the stage test-dist installs the wheels",
    ],
    "docs/bring-your-data.md": ["tests run these commands in the project of each section"],
    "docs/getting-started.md": [
        "installs packages; the stage test-dist installs the wheels",
        "needs a display; tests build the viewer without one",
    ],
    "docs/resume-and-slurm.md": [
        "needs a SLURM cluster",
        "needs a SLURM cluster",
        "needs two machines with GPUs",
    ],
    "docs/which-composition.md": ["takes too long; a test runs it with fewer runs"],
    "packages/viscy-train/HELA.md": ["the notebook of HeLa runs these commands"] * 2,
    "packages/viscy-train/README.md": [
        "needs images of a microscope, and tools of others",
        "the page of applying a model exports an encoder, and a test writes ONNX",
        "takes too long; tests run both commands with fewer runs",
        "needs a display; tests build the viewer without one",
        "an excerpt; tests run the complete loops",
        "needs a SLURM cluster; a test runs the script with substitutes",
        "needs two machines with GPUs; a test uses network namespaces",
    ],
}


def pages():
    """Return the pages that users read, relative to the repository; notebooks are run when the site is built."""
    folders = ("*.md", "docs/*.md", "packages/*/*.md")
    return sorted(path.relative_to(ROOT).as_posix() for folder in folders for path in ROOT.glob(folder))


def commands_of(text):
    """Return the commands of viscy-train in a text, without comments."""
    found = re.findall(r"viscy-train (\w+(?: --?\S+ ?[\w./]*)*)", text)
    return [re.sub(r" --trainer.max_epochs 3| --out hela", "", command).strip() for command in found]


def test_every_page_with_code_is_run():
    with_code = {page for page in pages() if any(not block.reason for block in read_blocks(ROOT / page))}
    assert with_code == {page for series in SERIES for page in series} | set(ELSEWHERE)
    assert [path for path in ELSEWHERE.values() if not (ROOT / path).is_file()] == []


def test_blocks_that_are_not_run_are_those_listed():
    reasons = {page: [block.reason for block in read_blocks(ROOT / page) if block.reason] for page in pages()}
    assert {page: listed for page, listed in reasons.items() if listed} == NOT_RUN


def test_all_code_names_its_language():
    assert {page: lines for page in pages() if (lines := read_indented(ROOT / page))} == {}


@pytest.fixture(scope="module")
def keys():
    """All keys of a configuration, sections included."""
    parser = make_data_parser("viscy-train", "", {})
    return {action.dest for action in parser._actions}


@pytest.mark.parametrize("page", pages())
def test_keys_of_the_configuration_that_a_page_names_exist(page, keys):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|--)((?:data|model|trainer|checkpoint|evaluation)\.[a-z_.]+[a-z])\b(?![/(])", text))
    assert named - keys - OTHER_KEYS == set()


@pytest.mark.parametrize("page", pages())
def test_commands_that_a_page_names_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"\bviscy-train ([a-z]+)\b(?=[` ]--|`)", text)) <= set(COMMANDS)


@pytest.mark.parametrize("page", ["README.md", "packages/viscy-train/HELA.md"])
def test_the_notebook_of_hela_runs_the_commands_of_a_page(page):
    blocks = [block.code for block in read_blocks(ROOT / page) if block.reason.startswith("the notebook of HeLa")]
    commands = commands_of("\n".join(blocks))
    assert len(commands) == 5
    assert commands == commands_of((DOCS / "notebooks" / "hela.md").read_text())


def test_every_notebook_is_on_the_site_and_has_code():
    pages = sorted(DOCS.glob("notebooks/*.md"))
    index = (DOCS / "index.md").read_text()
    assert len(pages) == 3
    for page in pages:
        assert f"notebooks/{page.stem}\n" in index
        assert "```{code-cell} ipython3\n" in page.read_text()


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
@pytest.mark.parametrize("series", SERIES, ids=lambda series: Path(series[0]).stem)
def test_the_code_of_a_page_runs(series, tmp_path):
    commands = set()
    for page in series:
        assert run_page(ROOT / page, tmp_path, commands)
