"""Study page: writes the tables of `docs/which-composition.md` from a finished study, so that they cannot drift apart.

Usage: python tools/study_page.py STUDY, with what ``viscy-train study --size laptop --out STUDY`` has written.

The picture and the judged rows of the summary are copied next to the page, and what is between its two markers is
replaced. A test compares the page with the copy.
"""

import argparse
import shutil
from pathlib import Path

import pandas as pd

PAGE = Path(__file__).parents[1] / "docs" / "which-composition.md"
SUMMARY, PICTURE = PAGE.with_suffix(".csv"), PAGE.with_suffix(".png")
BEGIN, END = "<!-- tables: written by tools/study_page.py -->\n", "<!-- end of tables -->\n"
_BASELINE = "plain"
_REFERENCES = ("untrained encoder", "pixels (PCA)")
_HEADINGS = {
    "condition": "Condition AUROC on experiments that were held out, at matched hours:",
    "mixing": "Mixing of the experiments that were trained on (1 is chance):",
    "hours_r2": "Hours, R² on experiments that were held out:",
}
_COLUMNS = ["world", "arm", "measure", "n", "mean", "difference", "low", "high", "p_holm", "verdict"]
_DECIMALS = 6


def judged(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the rows and columns of a study's summary that the page shows, rounded."""
    rows = summary[summary["measure"].isin(list(_HEADINGS))]
    return rows[_COLUMNS].round(_DECIMALS).reset_index(drop=True)


def tables(summary: pd.DataFrame) -> str:
    """Return the tables of the page in Markdown: one for each measure, with a column for each world."""
    seeds = summary[summary["arm"] == _BASELINE].groupby("world", sort=False)["n"].max()
    counted = ", ".join(f"{world} {n}" for world, n in seeds.items())
    parts = [f"Number of seeds: {counted}.\n"]
    for measure, heading in _HEADINGS.items():
        rows = summary[summary["measure"] == measure]
        shown = list(dict.fromkeys(rows["arm"]))
        # What needs no training is of interest where it may be better.
        references = _REFERENCES if measure == "condition" else ()
        arms = [*(arm for arm in shown if arm not in _REFERENCES), *(arm for arm in references if arm in shown)]
        parts.append(f"{heading}\n\n{_table(rows, arms)}")
    return "\n".join(parts)


def replace_tables(page: str, text: str) -> str:
    """Return a page with other tables between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the page must have the lines {BEGIN.strip()} and {END.strip()}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def _table(rows: pd.DataFrame, arms: list[str]) -> str:
    worlds = list(dict.fromkeys(rows["world"]))
    cells = {(row["world"], row["arm"]): _cell(row) for row in rows.to_dict("records")}
    lines = ["| | " + " | ".join(worlds) + " |", "|---" * (len(worlds) + 1) + "|"]
    lines += ["| " + " | ".join([arm, *(cells.get((world, arm), "") for world in worlds)]) + " |" for arm in arms]
    return "\n".join(lines) + "\n"


def _cell(row: dict) -> str:
    """Return the mean of the baseline or of a reference, and the difference of an arm, in bold if it has a verdict."""
    if row["arm"] in (_BASELINE, *_REFERENCES):
        return "" if pd.isna(row["mean"]) else f"{row['mean']:.2f}"
    if pd.isna(row["difference"]):
        return ""
    text = f"{row['difference']:+.2f}"
    text = text[1:] if float(text) == 0 else text
    return f"**{text}**" if row["verdict"] in ("helps", "hurts") else text


def main() -> None:
    """Write the tables, the copy of the summary and the picture of a study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="directory that viscy-train study has written")
    study = parser.parse_args().study
    judged(pd.read_csv(study / "summary.csv")).to_csv(SUMMARY, index=False)
    page = replace_tables(PAGE.read_text(encoding="utf-8"), tables(pd.read_csv(SUMMARY)))
    PAGE.write_text(page, encoding="utf-8")
    shutil.copyfile(study / "study.png", PICTURE)
    print(f"wrote {PAGE}, {SUMMARY.name} and {PICTURE.name}")


if __name__ == "__main__":
    main()
