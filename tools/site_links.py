"""Site links: links between files of the repository, as links between the pages of the site."""

import os
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).parents[1]
SITE = PurePosixPath("docs")

# Pages of the site that include a file of the repository.
PAGES = {
    "BENCHMARKS.md": "reference/benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "getting-started.md",
    "packages/viscy-data/README.md": "reference/viscy-data.md",
    "packages/viscy-data/SCALING.md": "reference/scaling.md",
    "packages/viscy-sampling-testkit/CONFORMANCE.md": "reference/conformance.md",
    "packages/viscy-sampling-testkit/README.md": "reference/testkit.md",
    "packages/viscy-train/BENCHMARKS.md": "reference/benchmarks-reading.md",
    "packages/viscy-train/HELA.md": "reference/hela.md",
    "packages/viscy-train/README.md": "reference/viscy-train.md",
}

# Images that these files show.
IMAGES = ("packages/viscy-data/benchmarks/time_per_batch.png", "packages/viscy-train/benchmarks/crops_per_second.svg")

_LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)")
_FENCE = re.compile(r"^(```+|~~~+).*?^\1\s*$", re.MULTILINE | re.DOTALL)


def rewrite(text: str, file: PurePosixPath, page: PurePosixPath) -> str:
    """Return Markdown whose links work on a page of the site.

    A link to a file that a page includes, or to a page, becomes a link to that page. A link to another file becomes its
    text, because the site does not contain the file. Code blocks and links to other hosts stay as they are.

    Parameters
    ----------
    text : str
        Markdown.
    file : PurePosixPath
        The file that the text is from, relative to the repository.
    page : PurePosixPath
        The page that shows it, relative to the repository.
    """

    def replace(match: re.Match[str]) -> str:
        image, label, target = match["image"], match["text"], match["target"]
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        name, _, anchor = target.partition("#")
        path = os.path.normpath(file.parent / name)
        if image:
            shown = str(SITE / "_pictures" / Path(path).name) if path in IMAGES else path
            return f"![{label}]({_relative(shown, page)})"
        shown = str(SITE / PAGES[path]) if path in PAGES else path
        if not (path in PAGES or (shown.startswith(f"{SITE}/") and shown.endswith(".md"))):
            return label
        return f"[{label}]({_relative(shown, page)}{'#' + anchor if anchor else ''})"

    parts = []
    end = 0
    for fence in _FENCE.finditer(text):
        parts += [_LINK.sub(replace, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(replace, text[end:])])


def copy_images(directory: Path) -> None:
    """Copy the images that included files show to a directory, which is created if necessary."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in IMAGES:
        shutil.copy(ROOT / name, directory)


def rewrite_page(app: Any, docname: str, content: list[str]) -> None:
    """Rewrite the links of a page when Sphinx has read it."""
    page = SITE / f"{docname}.md"
    if (ROOT / page).is_file():
        content[0] = rewrite(content[0], page, page)


def rewrite_included(app: Any, relative_path: Path, parent_docname: str, content: list[str]) -> None:
    """Rewrite the links of a file when Sphinx has read it to include it in a page."""
    file = PurePosixPath(os.path.normpath(SITE / PurePosixPath(relative_path)))
    content[0] = rewrite(content[0], file, SITE / f"{app.env.docname}.md")


def _relative(path: str, page: PurePosixPath) -> str:
    return Path(os.path.relpath(path, page.parent)).as_posix()
