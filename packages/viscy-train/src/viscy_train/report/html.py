"""HTML: pages rendered from Jinja2 templates, with figures embedded as data URIs."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from viscy_train.report.formatting import duration, percent, plural, thousands
from viscy_train.report.style import png_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 130


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
