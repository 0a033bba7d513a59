"""HTML: pages rendered from Jinja2 templates, with figures embedded as data URIs."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from viscy_train.atomic import atomic_write
from viscy_train.output import OutputKind, require_replaceable
from viscy_train.report.formatting import duration, percent, plural, thousands
from viscy_train.report.style import png_of

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

_DOTS_PER_INCH = 130
# In the head of each page; pages of earlier versions only have the title.
_SIGNS = (b'<meta name="generator" content="viscy-train">', b"<title>viscy-train: ")
_HEAD_BYTES = 1024


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return any(sign in head for sign in _SIGNS)


PAGE = OutputKind("a page of viscy-train", _is_page)


def write_page(path: Path, text: str) -> None:
    """Write a rendered page to a file in one atomic step.

    Parameters
    ----------
    path : pathlib.Path
        File to write. Its directory is created if necessary.
    text : str
        The HTML, see `render`.

    Raises
    ------
    UserError
        If the file cannot be written, or if it exists and is not a page of viscy-train.
    """
    require_replaceable(path, PAGE)
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def render(template: str, **context: Any) -> str:
    """Render a page, which is a single file that loads nothing.

    Parameters
    ----------
    template : str
        Name of a file in ``templates``, such as ``run.html.j2``.
    **context
        Variables of the template. Strings are escaped.

    Returns
    -------
    str
        The HTML of the page.
    """
    environment = Environment(
        loader=PackageLoader("viscy_train.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"percent": percent, "thousands": thousands, "duration": duration, "plural": plural}
    return environment.get_template(template).render(context)


def data_uri(figure: Figure) -> str:
    """Return a figure as a PNG data URI, the source of an image element."""
    return f"data:image/png;base64,{base64.b64encode(png_of(figure, _DOTS_PER_INCH)).decode('ascii')}"
