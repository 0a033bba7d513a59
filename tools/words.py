"""Retired words: wording that must not come back, and where it occurs.

Prose and names in this repository are plain American technical English with one name per concept (see CONTRIBUTING.md).
`python tools/words.py` prints how often each retired idiom or term occurs; `--list` prints each occurrence, and
`--root DIR` reads another checkout.
"""

import argparse
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FILES = ("*.py", "*.md", "*.sh", "*.toml", "*.j2", "Makefile", ".ci/run")
# These two files quote the words.
QUOTING = ("tools/words.py", "tools/tests/test_words.py")

# Words are separated by spaces, by underscores in a name, or by the line break of a comment.
_GAP = r"(?:_|\s+(?:#+:?\s*)?)"


def _phrases(*phrases: str) -> re.Pattern[str]:
    """Return a pattern of whole words, alone or within a name, with a small or a capital first letter."""
    alternatives = [f"[{phrase[0]}{phrase[0].upper()}]{phrase[1:].replace(' ', _GAP)}" for phrase in phrases]
    return re.compile(rf"(?<![A-Za-z])(?:{'|'.join(alternatives)})(?![a-z])")


RULES = {
    "told": _phrases("told"),
    "go on": _phrases("go on", "goes on", "going on", "went on", "gone on"),
    "is no, are no": _phrases("is no", "are no"),
    "asked for, as asked": _phrases("asked for", "as asked"),
    "found again": _phrases("found again", "find again"),
    "spoilt": _phrases("spoilt"),
    "comes to an end": _phrases("comes to an end"),
    "beside it, behind it": _phrases("beside it", "behind it"),
    "those of which, of which there": _phrases("those of which", "of which there"),
    "what is drawn, is there for": _phrases("what is drawn", "is there for"),
    "ticket, seat, lap": _phrases("tickets?", "seats?", "laps?"),
    "deck, card": _phrases("decks?", "cards?"),
    "hand": re.compile(r"(?<![A-Za-z])(?<!by )(?<!by_)(?<!-)[Hh]ands?(?![-a-z])(?! (?:out|over)\b)"),
    "deal": _phrases("deal", "deals", "dealt", "dealing"),
    "life": _phrases("life", "lives"),
    "whole_file": re.compile(r"(?<![A-Za-z_])(?:whole_(?:file|folder|checkpoint|record|write)\w*|Whole[A-Z]\w+)"),
    "crew": _phrases("crews?"),
    "findings": _phrases("findings"),
    "learning rate as a metric": re.compile(r"""["'`]learning rate["'`]"""),
    "metric with a space": re.compile(r"""["'`](?:train|val|time|batch)/[^"'`\n]* [^"'`\n]*["'`]"""),
    "British spelling": re.compile(
        r"(?i)(?<![a-z])(?:colour|grey|favour|neighbour|behaviour|centres?(?![a-z])|normalis|initialis|organis|recognis)"
    ),
}


class Occurrence(NamedTuple):
    """A retired word in a file."""

    file: Path
    line: int
    rule: str
    text: str  # the line of the word, or the lines of a phrase that is broken between lines


def find(files: Iterable[Path]) -> list[Occurrence]:
    """Return every occurrence of a retired word in `files`, in the order of files and lines."""
    found = []
    for file in files:
        text = file.read_text(encoding="utf-8")
        lines = text.splitlines()
        for rule, pattern in RULES.items():
            for match in pattern.finditer(text):
                first, last = text.count("\n", 0, match.start()), text.count("\n", 0, match.end())
                found.append(Occurrence(file, first + 1, rule, " ".join(map(str.strip, lines[first : last + 1]))))
    return sorted(found)


def files_of(root: Path, paths: Collection[str] = ()) -> list[Path]:
    """Return the files below `root` whose wording is checked.

    Parameters
    ----------
    root : Path
        A checkout. If it is not a git repository, all its files are listed.
    paths : collection of str, optional
        Patterns of which one must match the start of a file's path; all files by default.
    """
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=root, capture_output=True, text=True
    )
    if listing.returncode == 0:
        names = listing.stdout.splitlines()
    else:
        names = [str(path.relative_to(root)) for path in root.rglob("*")]
    kept = [
        name
        for name in sorted(set(names) - set(QUOTING))
        if any(fnmatch(name, pattern) or fnmatch(Path(name).name, pattern) for pattern in FILES)
        and (not paths or any(fnmatch(name, f"{path}*") for path in paths))
    ]
    return [root / name for name in kept if (root / name).is_file()]


def main() -> int:
    """Print how often each retired word occurs."""
    parser = argparse.ArgumentParser(description="Count retired words.")
    parser.add_argument("paths", nargs="*", help="starts of paths, such as 'packages/*/src' (default: all files)")
    parser.add_argument("--root", type=Path, default=ROOT, help="read another checkout")
    parser.add_argument("--list", action="store_true", help="print each occurrence")
    options = parser.parse_args()
    found = find(files_of(options.root, options.paths))
    if options.list:
        print(*(f"{o.file.relative_to(options.root)}:{o.line}: {o.rule}: {o.text}" for o in found), sep="\n")
    counts = Counter(occurrence.rule for occurrence in found)
    print(*(f"{counts[rule]:6d}  {rule}" for rule in RULES), f"{len(found):6d}  in total", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
