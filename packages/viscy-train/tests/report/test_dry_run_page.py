import pytest

from viscy_train.config.schema import LossConfig
from viscy_train.console import make_console
from viscy_train.report.data_section import DataSection
from viscy_train.report.dry_run_page import write_dry_run_page
from viscy_train.report.dry_run_summary import print_dry_run
from viscy_train.report.html import code

AWKWARD = {
    ("$a$ & <b>", "mo[red]ck"): 300,
    ("$a$ & <b>", '_"virus"'): 300,
    ("[/] 'b' <img src=x>", "mo[red]ck"): 100,
}
NAMES = {name for stratum in AWKWARD for name in stratum}


@pytest.fixture(scope="module")
def page(tmp_path_factory, anchors_of, dry_run_of, read_page):
    path = tmp_path_factory.mktemp("pages") / "new" / "inspect.html"
    write_dry_run_page(path, dry_run_of(anchors_of(AWKWARD), temporal_enrichment=True, leaky=0.1))
    return read_page(path)


def test_a_dry_run_page_is_one_self_contained_file(page, assert_self_contained):
    assert len(page.sources) == 3
    assert_self_contained(page)


def test_a_dry_run_page_has_a_title_and_headings(page):
    assert page.elements["title"] == ["viscy-train: dry run"]
    assert page.elements["h1"] == ["Dry run: what the batches will contain"]
    assert page.elements["h2"] == [
        "Composition of each batch",
        "The step",
        "Composition of an epoch",
        "Draws of each anchor",
    ]
    assert page.elements["h3"] == ["Diagnostics", "What this composition may do to the embeddings"]


def test_a_dry_run_page_lists_what_is_wrong_with_the_data_first(tmp_path, dry_run_of, read_page):
    path = tmp_path / "inspect.html"
    write_dry_run_page(path, dry_run_of(), data=DataSection(warnings=("day1: set `tracks_unit` to pixel",)))
    page = read_page(path)
    assert page.elements["h2"][0] == "The data"
    assert "Warnings of the data" in page.elements["h3"]
    assert "tracks_unit" in page.elements["code"]


def test_names_with_markup_are_escaped_on_a_dry_run_page(page):
    assert set(page.elements["td"]) >= NAMES
    assert "has only condition 'mo[red]ck': its batches contain no '_\"virus\"' except through the leak" in page.text
    assert {"b", "i"}.isdisjoint(page.elements), "names have become elements"
    assert "&amp;" not in page.text, "a name was escaped twice"


def test_names_in_backquotes_are_code_on_a_page():
    assert code("rerun `fit <x>` & wait") == "rerun <code>fit &lt;x&gt;</code> &amp; wait"
    assert code("a ` alone") == "a ` alone"


def test_a_dry_run_page_shows_targets_and_observed_shares(page):
    assert "the batch's own experiment" in page.elements["td"]
    assert page.elements["td"].count("yes") == 4
    assert "except for 10% that leak in from other experiments" in page.text
    assert "2 hours before and after its focal time" in page.text


@pytest.mark.parametrize(
    ("named", "title"), [({}, "Hours post infection"), ({"time": "days of culture"}, "Days of culture")]
)
def test_hours_are_called_what_the_user_calls_them(tmp_path, dry_run_of, read_page, named, title):
    write_dry_run_page(tmp_path / "page.html", dry_run_of(), **named)
    page = read_page(tmp_path / "page.html")
    assert title in page.texts_of_drawings
    assert "infection" not in page.text


def rows_of(page, label, n_columns=3):
    """Return the other cells of the row of a table that starts with a label."""
    first = page.elements["td"].index(label)
    return page.elements["td"][first + 1 : first + n_columns]


def test_a_dry_run_page_shows_the_step(tmp_path, anchors_of, dry_run_of, read_page):
    anchors = anchors_of({(experiment, f"{condition}"): 100 for experiment in "ab" for condition in range(10)})
    loss = LossConfig(negatives="step", positives="condition")
    write_dry_run_page(tmp_path / "page.html", dry_run_of(anchors, loss=loss, world_size=2, batch_size=5, epochs=2))
    page = read_page(tmp_path / "page.html")
    assert "The loss compares an anchor with the 10 anchors of the step. An anchor's negatives: 2" in page.text
    planned, observed = (float(cell[:-1]) for cell in rows_of(page, "negatives from other experiments"))
    assert planned == pytest.approx(observed, abs=4)
    assert rows_of(page, "the same with each anchor's own batch only") == ["0.0%", "0.0%"]
    assert rows_of(page, "conditions in a batch") == ["", "5.0"]
    assert rows_of(page, "conditions with two anchors or more") == ["", "0.0"]
    assert rows_of(page, "2", n_columns=2) == ["100.0%"], "coverage after the second epoch"
    assert "set data.sampler.anchors_per_condition to 2 or more" in page.text


def test_the_step_is_printed(anchors_of, dry_run_of):
    text = print_to_text(dry_run_of(anchors_of(AWKWARD), split_batches=True, world_size=4, epochs=2), width=80)
    assert "The loss compares an anchor with the 20 anchors of a batch that 4 processes share." in text
    assert "negatives from other experiments" in text
    assert "Anchors drawn at least once: 100.0% after epoch 1, 100.0% after epoch 2." in text
    assert max(map(len, text.partition("Anchors drawn")[0].splitlines())) <= 82


def test_an_epoch_that_is_counted_in_part_is_named_as_such(tmp_path, dry_run_of, read_page):
    dry_run = dry_run_of(max_batches=1)
    write_dry_run_page(tmp_path / "page.html", dry_run)
    assert "1 (20 of 30 batches)" in read_page(tmp_path / "page.html").elements["td"]
    assert "% after epoch 1 (20 of 30 batches)." in print_to_text(dry_run)


def test_a_dry_run_page_says_that_there_are_no_problems(tmp_path, anchors_of, dry_run_of, read_page):
    anchors = anchors_of({("a", "mock"): 40}, n_times=2)
    write_dry_run_page(tmp_path / "page.html", dry_run_of(anchors, batch_size=4, condition_balanced=False))
    page = read_page(tmp_path / "page.html")
    assert "No problems found." in page.text
    assert "40 anchors in 1 experiment " in page.text


def test_a_dry_run_page_that_measures_reading_does_not_say_that_no_image_was_read(tmp_path, dry_run_of, read_page):
    write_dry_run_page(tmp_path / "page.html", dry_run_of(), ["A batch needs 21 chunks."])
    text = read_page(tmp_path / "page.html").text
    assert "A batch needs 21 chunks." in text
    assert "without reading images" not in text
    assert "Nothing was trained." in text


def print_to_text(dry_run, width=200):
    console = make_console(width=width, force_terminal=False)
    with console.capture() as capture:
        print_dry_run(dry_run, console)
    return capture.get()


def test_a_dry_run_is_printed_as_plain_text_with_literal_names(anchors_of, dry_run_of):
    text = print_to_text(dry_run_of(anchors_of(AWKWARD)))
    for name in NAMES:
        assert name in text
    assert "Diagnostics:" in text
    assert "\x1b" not in text


def test_the_tables_of_a_dry_run_fit_into_80_columns(anchors_of, dry_run_of):
    strata = {("wednesday", "uninfected"): 9000, ("wednesday", "infected"): 1500, ("friday", "uninfected"): 1000}
    text = print_to_text(dry_run_of(anchors_of(strata), batch_size=32, temporal_enrichment=True), width=80)
    tables, _, _ = text.partition("A batch of")
    assert max(map(len, tables.splitlines())) <= 80
    for heading in ("anchors", "observed", "all matched", "own slots in temporal window"):
        assert heading in tables, "a heading was wrapped"
