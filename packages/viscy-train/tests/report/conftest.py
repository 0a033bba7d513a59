"""Rendered pages, read back as text, elements and sources."""

from base64 import b64decode
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from viscy_train.report.drawing import Drawing


TEXT = "{http://www.w3.org/2000/svg}text"
# A PNG file, and a document that begins with "<svg".
IMAGES = ("data:image/png;base64,iVBOR", "data:image/svg+xml;base64,PHN2Z")


class Page(HTMLParser):
    """A page: its text with single spaces, the text of each element by tag, and everything that it would load."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.elements: dict[str, list[str]] = {}
        self._open: list[str] = []
        self._text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(self._text.split())

    @property
    def texts_of_drawings(self) -> list[str]:
        """All texts of the pictures that are SVG."""
        pictures = [b64decode(one.partition(",")[2]).decode() for one in self.sources if one.startswith(IMAGES[1])]
        return [text.text or "" for one in pictures for text in ElementTree.fromstring(one).iter(TEXT)]

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href", "data", "poster", "srcset")]
        self.elements.setdefault(tag, []).append("")
        self._open.append(tag)

    def handle_endtag(self, tag):
        self._text += " "
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        self._text += data
        for tag in set(self._open):
            self.elements[tag][-1] += data


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures of pages that are written from now on, which are not turned into pixels."""
    drawn: list[Figure] = []

    def png_of(figure: Figure, dots_per_inch: int) -> bytes:
        drawn.append(figure)
        return b"\x89PNG\r\n\x1a\n"

    monkeypatch.setattr("viscy_train.report.style.png_of", png_of)
    return drawn


@pytest.fixture(scope="session")
def read_page() -> Callable[[Path], Page]:
    """Read a page."""
    return Page


@pytest.fixture(scope="session")
def assert_self_contained() -> Callable[[Page], None]:
    """Assert that a page loads nothing: its images are data URIs, and it has no script, link or import."""

    def check(page: Page) -> None:
        assert page.sources
        assert all(source.startswith(IMAGES) for source in page.sources)
        assert {"script", "link", "iframe", "object"}.isdisjoint(page.elements)
        (style,) = page.elements["style"]
        assert "url(" not in style
        assert "@import" not in style

    return check


@pytest.fixture(scope="session")
def shapes_of() -> Callable[["Drawing"], Callable[[str], list[ElementTree.Element]]]:
    """Read a drawing as a program does; return a function that lists its elements of a kind."""

    def read(drawing):
        root = ElementTree.fromstring(drawing.svg)
        return lambda kind: list(root.iter(f"{{http://www.w3.org/2000/svg}}{kind}"))

    return read
