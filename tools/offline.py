"""Offline: what the pages of a built site load from other hosts, which must be nothing.

`python tools/offline.py DIRECTORY` prints each such script, style, image, font or frame, and fails if there is one.
Links that a reader may follow do not count.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

_LOADED = dict.fromkeys(("audio", "embed", "iframe", "img", "script", "source", "video"), "src") | {"object": "data"}
_LOADING_RELATIONS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "preconnect", "dns-prefetch"}
_REMOTE = re.compile(r"(?:https?:)?//", re.IGNORECASE)
_STYLE = re.compile(r"(?:url\(\s*|@import\s+)['\"]?((?:https?:)?//[^'\")\s]+)", re.IGNORECASE)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.remote: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        address = values.get(_LOADED.get(tag, ""), "")
        if tag == "link" and _LOADING_RELATIONS & set(values.get("rel", "").lower().split()):
            address = values.get("href", "")
        if _REMOTE.match(address):
            self.remote.append(address)


def remote_sources(directory: Path) -> list[str]:
    """Return ``file: address`` for everything that HTML and CSS below `directory` load from other hosts."""
    found = []
    for file in sorted(directory.rglob("*")):
        if file.suffix == ".html":
            page = _Page()
            page.feed(file.read_text(encoding="utf-8"))
            found += [f"{file.relative_to(directory)}: {address}" for address in page.remote]
        elif file.suffix == ".css":
            addresses = _STYLE.findall(file.read_text(encoding="utf-8"))
            found += [f"{file.relative_to(directory)}: {address}" for address in addresses]
    return found


def main(directory: Path) -> int:
    """Print what is loaded from other hosts and return the exit code."""
    if not any(directory.rglob("*.html")):
        print(f"{directory} must contain HTML pages, got none; run make docs")
        return 1
    found = remote_sources(directory)
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
