"""HTML: pages rendered from Jinja2 templates, with figures embedded as data URIs."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import markupsafe

from viscy_train.atomic import atomic_write
from viscy_train.output import OutputKind, require_replaceable
from viscy_train.report.formatting import duration, percent, thousands
from viscy_train.wording import plural

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.figure import Figure

    from viscy_train.report.drawing import Drawing

_DOTS_PER_INCH = 130
_HEAD_BYTES = 1024


def _has_title(title: str) -> Callable[[Path], bool]:
    """Return a function that returns whether a file is a page of viscy-train with a title."""

    def is_page(path: Path) -> bool:
        with path.open("rb") as file:
            return f"<title>viscy-train: {title}</title>".encode() in file.read(_HEAD_BYTES)

    return is_page


REPORT = OutputKind("a report of viscy-train", _has_title("report of a run"))
DRY_RUN = OutputKind("a page of `viscy-train inspect`", _has_title("dry run"))
STUDY = OutputKind("a page of a study of viscy-train", _has_title("study"))


def write_page(path: Path, text: str, kind: OutputKind) -> None:
    """Write a rendered page to a file in one atomic step.

    Parameters
    ----------
    path : pathlib.Path
        File to write. Its directory is created if necessary.
    text : str
        The HTML, see `render`.
    kind : OutputKind
        `REPORT`, `DRY_RUN` or `STUDY`.

    Raises
    ------
    UserError
        If the file cannot be written, or if it exists and is not a page of the same kind.
    """
    require_replaceable(path, kind)
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
    environment.filters["code"] = code
    return environment.get_template(template).render(context)


def code(text: str) -> markupsafe.Markup:
    """Return a sentence for a page, with what stands in backquotes as code."""
    return markupsafe.Markup(re.sub("`([^`]+)`", r"<code>\1</code>", markupsafe.escape(text)))


def data_uri(figure: Figure) -> str:
    """Return a figure of matplotlib as a PNG data URI, the source of an image element."""
    from viscy_train.report.style import png_of  # imports matplotlib

    return f"data:image/png;base64,{base64.b64encode(png_of(figure, _DOTS_PER_INCH)).decode('ascii')}"


def svg_uri(drawing: Drawing) -> str:
    """Return a drawing as an SVG data URI, the source of an image element."""
    return f"data:image/svg+xml;base64,{base64.b64encode(drawing.svg.encode()).decode('ascii')}"
