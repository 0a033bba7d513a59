import pandas as pd
import pytest

import study_page
from study_page import BEGIN, END, PAGE, SUMMARY, judged, replace_tables, tables


def row(world, arm, measure, mean, difference=float("nan"), verdict=""):
    rest = {"n": 8, "missing": 0, "low": 0.0, "high": 0.0, "p": 0.01, "p_holm": 0.02, "units_needed": 3}
    return {
        "world": world,
        "arm": arm,
        "measure": measure,
        "mean": mean,
        "difference": difference,
        "verdict": verdict,
    } | rest


@pytest.fixture
def summary():
    return pd.DataFrame(
        [
            row("base", "pixels (PCA)", "condition", 0.9),
            row("base", "plain", "condition", 0.691),
            row("base", "time", "condition", 0.6, -0.001, "no difference"),
            row("base", "all", "condition", 0.8, 0.12345, "helps"),
            row("other", "plain", "condition", 0.5),
            row("other", "time", "condition", 0.4, -0.1, "hurts"),
            row("base", "plain", "mixing", 0.2),
            row("base", "plain", "recall_at_1", 0.2),
        ]
    )


def test_the_tables_of_the_page_are_those_of_the_study():
    page = PAGE.read_text(encoding="utf-8")
    assert page == replace_tables(page, tables(pd.read_csv(SUMMARY)))


def test_differences_are_those_of_arms_and_bold_if_they_have_a_verdict(summary):
    text = tables(judged(summary))
    assert text.startswith("Number of seeds: base 8, other 8.\n")
    lines = text.splitlines()
    start = lines.index("| | base | other |")
    assert lines[start + 2 : start + 6] == [
        "| plain | 0.69 | 0.50 |",
        "| time | 0.00 | **-0.10** |",
        "| all | **+0.12** |  |",
        "| pixels (PCA) | 0.90 |  |",
    ]
    assert "recall" not in text


def test_a_study_replaces_the_tables_and_the_picture(summary, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}after\n")
    study = tmp_path / "study"
    study.mkdir()
    summary.to_csv(study / "summary.csv", index=False)
    (study / "study.png").write_bytes(b"picture")
    for name, path in (("PAGE", page), ("SUMMARY", tmp_path / "page.csv"), ("PICTURE", tmp_path / "page.png")):
        monkeypatch.setattr(study_page, name, path)
    monkeypatch.setattr("sys.argv", ["study_page.py", str(study)])
    study_page.main()
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| all | **+0.12** |  |" in text
    assert (tmp_path / "page.png").read_bytes() == b"picture"


def test_a_page_without_markers_is_refused(summary):
    with pytest.raises(ValueError, match="the page must have the lines"):
        replace_tables("text", tables(judged(summary)))
