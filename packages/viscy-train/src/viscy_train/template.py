"""Template: the HTML around the report's pictures and tables."""

from __future__ import annotations

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>viscy-train: report of a run</title>
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
.yes {{ color: #1d7a46; font-weight: 600; }}
.no {{ color: #b3261e; font-weight: 600; }}
code {{ font: 14px "DejaVu Sans Mono", Menlo, Consolas, monospace; }}
code {{ background: #f0f3f7; padding: 1px 4px; border-radius: 3px; }}
</style>
</head>
<body>
<main>
<h1>Contrastive training: what the batches held and what was learned</h1>
<p class="lead">An encoder was trained to recognise a tracked cell at another time among the others of its batch.</p>
{body}
</main>
</body>
</html>
"""


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
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(tag: str, content: str, is_text: bool) -> str:
    return f"<{tag} class='text'>{content}</{tag}>" if is_text else f"<{tag}>{content}</{tag}>"
