"""Template: the HTML around the pictures and tables of a page."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING

from viscy_train.report.style import png_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 130
_ROWS_WITHOUT_SCROLLING = 24

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>viscy-train: {title}</title>
<style>
body {{ font: 16px/1.5 "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; }}
body {{ color: #1f2933; background: #f5f6f8; margin: 0; }}
main {{ max-width: 1040px; margin: 0 auto; padding: 32px 40px 48px; background: white; }}
h1 {{ font-size: 28px; margin: 0 0 4px; }}
h2 {{ font-size: 20px; margin: 40px 0 8px; padding-top: 12px; border-top: 1px solid #dde2e8; }}
.lead {{ color: #52606d; margin: 0 0 20px; }}
.facts {{ display: flex; gap: 12px; }}
.fact {{ flex: 1; background: #f0f3f7; border-radius: 6px; padding: 10px 14px; font-size: 14px; color: #52606d; }}
.fact b {{ display: block; font-size: 24px; color: #1b3a57; }}
figure {{ margin: 12px 0; }}
figure img {{ width: 100%; height: auto; display: block; }}
figcaption, .note {{ color: #52606d; font-size: 15px; margin-top: 6px; }}
table {{ border-collapse: collapse; margin: 14px 0; font-size: 15px; }}
th {{ text-align: right; font-weight: 600; border-bottom: 2px solid #c3ccd6; padding: 5px 14px; }}
td {{ text-align: right; border-bottom: 1px solid #e4e8ed; padding: 5px 14px; font-variant-numeric: tabular-nums; }}
.text {{ text-align: left; }}
.scroll {{ max-height: 560px; overflow: auto; }}
.scroll thead th {{ position: sticky; top: 0; background: white; }}
.short {{ background: #f0f3f7; border-radius: 6px; padding: 2px 20px; }}
.look {{ background: #fdf5e6; border-left: 4px solid #e69f00; border-radius: 3px; padding: 2px 20px; }}
.look ul, .short ul {{ margin: 10px 0; padding-left: 20px; }}
.look p, .short p {{ margin: 10px 0; }}
li {{ margin: 4px 0; overflow-wrap: anywhere; }}
.yes {{ color: #1d7a46; font-weight: 600; }}
.no {{ color: #b3261e; font-weight: 600; }}
code {{ font: 14px "DejaVu Sans Mono", Menlo, Consolas, monospace; }}
code {{ background: #f0f3f7; padding: 1px 4px; border-radius: 3px; }}
</style>
</head>
<body>
<main>
<h1>{heading}</h1>
<p class="lead">{lead}</p>
{body}
</main>
</body>
</html>
"""


def page_html(title: str, heading: str, lead: str, sections: list[str]) -> str:
    """Return a whole page, which fetches nothing.

    Parameters
    ----------
    title, heading, lead : str
        Text.
    sections : list of str
        HTML.

    Returns
    -------
    str
        HTML.
    """
    texts = {"title": title, "heading": heading, "lead": lead}
    escaped = {name: html.escape(text, quote=False) for name, text in texts.items()}
    return _PAGE.format(body="\n".join(sections), **escaped)


def picture_html(figure: Figure, caption: str) -> str:
    """Return a picture with its caption, a sentence of plain text."""
    return figure_html(base64.b64encode(png_of(figure, _DOTS_PER_INCH)).decode("ascii"), html.escape(caption))


def facts_html(facts: list[tuple[str, str]]) -> str:
    """Return numbers in large letters, each with what it is a number of; HTML."""
    cards = "".join(f"<div class='fact'><b>{number}</b>{text}</div>" for number, text in facts)
    return f"<div class='facts'>{cards}</div>"


def list_html(sentences: list[str], kind: str, heading: str = "") -> str:
    """Return sentences of plain text as a list on a ground of its own; `kind` is ``short`` or ``look``."""
    items = "".join(f"<li>{html.escape(sentence, quote=False)}</li>" for sentence in sentences)
    first = f"<p><b>{html.escape(heading)}</b></p>" if heading else ""
    return f"<div class='{kind}'>{first}<ul>{items}</ul></div>"


def figure_html(png: str, caption: str) -> str:
    """Return a picture with its caption.

    Parameters
    ----------
    png : str
        A PNG file in base64.
    caption : str
        A sentence.

    Returns
    -------
    str
        HTML.
    """
    source = f"data:image/png;base64,{png}"
    return f'<figure><img alt="{caption}" src="{source}"><figcaption>{caption}</figcaption></figure>'


def table_html(headings: list[str], rows: list[list[str]], text_columns: int = 1) -> str:
    """Return a table.

    Parameters
    ----------
    headings : list of str
        HTML, one for each column.
    rows : list of list of str
        HTML.
    text_columns : int, default 1
        How many of the first columns are text and begin at the left; the others are numbers.

    Returns
    -------
    str
        HTML.
    """
    head = "".join(_cell("th", heading, column < text_columns) for column, heading in enumerate(headings))
    body = "".join(
        "<tr>" + "".join(_cell("td", value, column < text_columns) for column, value in enumerate(row)) + "</tr>"
        for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div class='scroll'>{table}</div>" if len(rows) > _ROWS_WITHOUT_SCROLLING else table


def _cell(tag: str, content: str, is_text: bool) -> str:
    return f"<{tag} class='text'>{content}</{tag}>" if is_text else f"<{tag}>{content}</{tag}>"
