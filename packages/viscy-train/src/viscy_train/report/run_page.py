"""Report: one HTML file that shows what a run did, with its pictures inside."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from viscy_train.atomic import atomic_write
from viscy_train.composition.check import observed_composition
from viscy_train.composition.targets import target_composition
from viscy_train.composition.temporal import check_all_targets
from viscy_train.report import run_plots
from viscy_train.report.batch_sections import (
    DEFINITIONS,
    batches_picture,
    composition_picture,
    composition_table,
    promise_table,
)
from viscy_train.report.html import facts_html, list_html, page_html, picture_html, table_html
from viscy_train.report.summary import look_at, said_in_short
from viscy_train.run.attempts import read_attempts
from viscy_train.run.batch_record import count_batches
from viscy_train.run.metrics_csv import METRIC, read_log

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.config.schema import SamplerConfig
    from viscy_train.evaluation.embeddings import Probe
    from viscy_train.evaluation.retrieval import Retrieval
    from viscy_train.run.directory import RunDirectory

# More are not read, held against what was asked, or drawn.
_BATCHES_AT_MOST = 20_000
_DOTS_AT_MOST = 20_000
_STRIPS_AT_MOST = 12
_TIMES_SHOWN = 5
# Least part of a track's hours that all tracks must share to be shown at the same ones.
_COMMON = 0.5


@dataclass(frozen=True, kw_only=True)
class Strips:
    """Some tracked cells over the hours.

    Parameters
    ----------
    rows : numpy.ndarray
        Rows of the table, shape (n_cells, n_times).
    labels : list of (str, str)
        Experiment and condition of each cell.
    """

    rows: NDArray[np.int64]
    labels: list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a report tells of, beside what the run folder holds.

    Parameters
    ----------
    observations : pandas.DataFrame
        The table whose row numbers the batch record has.
    trained_on : numpy.ndarray
        Rows of the cells that batches were drawn from, ascending.
    options : SamplerConfig
        Composition.
    processes, seed : int
        Processes of the last start, seed of the run.
    seconds : float
        How long training took.
    channels : list of str
        What the encoder sees.
    strips : Strips
        As from `choose_strips`.
    crops : numpy.ndarray
        Of the strips, shape (n_cells, n_times, n_channels, side, side).
    embedded : numpy.ndarray
        Rows of the cells that were embedded, shape (n_embedded,).
    embeddings : numpy.ndarray
        Of them, shape (n_embedded, n_features).
    found : list of Retrieval
        How often cells were found again by them: those that were not trained on, if there are any, else all.
    probes : list of Probe
        How well the condition can be told from them.
    """

    observations: pd.DataFrame
    trained_on: NDArray[np.int64]
    options: SamplerConfig
    processes: int
    seed: int
    seconds: float
    channels: list[str]
    strips: Strips
    crops: NDArray[np.float32]
    embedded: NDArray[np.int64]
    embeddings: NDArray[np.float32]
    found: list[Retrieval]
    probes: list[Probe]

    @property
    def sought_is_new(self) -> bool:
        """Whether cells that were found again were not trained on."""
        return not np.isin(self.embedded, self.trained_on).all()


def choose_strips(observations: pd.DataFrame, rows: NDArray[np.int64]) -> Strips:
    """Choose cells to be shown: the longest track of each experiment and condition.

    Parameters
    ----------
    observations : pandas.DataFrame
        Experiment, condition, position, track_id and hours_post_infection.
    rows : numpy.ndarray
        Rows to choose from.

    Returns
    -------
    Strips
        At most twelve cells at five times; of more experiments and conditions, every nth.
    """
    columns = ["experiment", "condition", "position", "track_id"]
    tracks = observations.iloc[rows][columns].groupby(columns, sort=False, observed=True)
    longest = tracks.size().groupby(level=["experiment", "condition"], sort=False, observed=True).idxmax()
    every = -(-len(longest) // _STRIPS_AT_MOST)
    chosen = [rows[tracks.indices[key]] for key in longest.iloc[::every]]
    hours = observations["hours_post_infection"].to_numpy(dtype=float)
    starts = np.array([hours[track].min() for track in chosen])
    ends = np.array([hours[track].max() for track in chosen])
    if ends.min() - starts.max() >= _COMMON * np.median(ends - starts):
        # At the same hours, so that rows can be compared.
        starts, ends = np.full_like(starts, starts.max()), np.full_like(ends, ends.min())
    times = np.linspace(starts, ends, _TIMES_SHOWN, axis=1)
    nearest = [
        track[np.abs(hours[track][:, None] - wanted).argmin(axis=0)]
        for track, wanted in zip(chosen, times, strict=True)
    ]
    labels = [(str(experiment), str(condition)) for experiment, condition in longest.index[::every]]
    return Strips(rows=np.array(nearest), labels=labels)


def write_page(folder: RunDirectory, facts: RunFacts) -> None:
    """Write the report of a run.

    Parameters
    ----------
    folder : RunDirectory
        With log, batches and, where they were noted, lives; receives the report.
    facts : RunFacts
        What else there is to tell.
    """
    anchors = facts.observations.iloc[facts.trained_on].reset_index(drop=True)
    n_batches = count_batches(folder.batches)
    batches = folder.read_batches(_BATCHES_AT_MOST)
    batches["row"] = np.searchsorted(facts.trained_on, batches["row"])
    log, lives = read_log(folder.metrics), read_attempts(folder)
    made = check_all_targets(batches, anchors, facts.options)
    planned, drawn = target_composition(anchors, facts.options), observed_composition(batches, anchors)
    epochs = n_batches / (len(anchors) // facts.options.batch_size)
    draws = drawn * n_batches * facts.options.batch_size / epochs / planned["anchors"]
    sections = [
        _facts(anchors, n_batches, epochs, facts),
        list_html(said_in_short(made, log, facts.found, facts.probes, facts.sought_is_new), "short", "In short"),
    ]
    if notes := look_at(made, log, lives, facts.found, draws):
        sections.append(list_html(notes, "look", "To look at"))
    read = f"as recorded while training; {_read(batches, n_batches)}" if n_batches > _BATCHES_AT_MOST else ""
    sections += [
        _cells_section(facts),
        "<h2>What each batch held</h2>",
        DEFINITIONS,
        batches_picture(batches, anchors, facts.options, read or "as recorded while training"),
        promise_table(made),
        "<h2>What the run held</h2>",
        composition_picture(planned, drawn, anchors, "the run"),
        composition_table(planned, drawn, {"draws of an anchor an epoch": [f"{count:.1f}" for count in draws]}),
        *_loss_sections(log, lives),
        _embeddings_section(facts),
        _retrieval_section(facts),
        _probe_section(facts.probes),
        _files_section(folder),
    ]
    page = page_html(
        "report of a run",
        "Contrastive training: what the batches held and what was learned",
        "An encoder was trained to recognise a tracked cell at another time among the others of its batch.",
        sections,
    )
    with atomic_write(folder.report) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def _read(batches: pd.DataFrame, n_batches: int) -> str:
    return f"{len(batches.drop_duplicates(['epoch', 'batch'])):,} of {n_batches:,}, evenly spread, were read"


def _facts(anchors: pd.DataFrame, n_batches: int, epochs: float, facts: RunFacts) -> str:
    tracks = anchors.groupby(["experiment", "position", "track_id"], observed=True).ngroups
    hours = anchors["hours_post_infection"]
    names = [str(name) for name in anchors["condition"].unique()]
    conditions = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    took = f"{facts.seconds:.0f} s" if facts.seconds < 600 else f"{facts.seconds / 3600:.1f} h"
    processes = "process" if facts.processes == 1 else "processes"
    n_experiments = anchors["experiment"].nunique()
    experiments = "experiment" if n_experiments == 1 else "experiments"
    return facts_html(
        [
            (
                f"{len(anchors):,}",
                f"anchors: {tracks:,} tracked cells, {hours.min():g} to {hours.max():g} hours post infection",
            ),
            (f"{n_experiments}", f"{experiments}, with conditions {html.escape(conditions)}"),
            (f"{n_batches:,}", f"batches of {facts.options.batch_size}, epochs: {f'{epochs:,.1f}'.removesuffix('.0')}"),
            (f"{facts.processes}", f"training {processes}, {took} of training, seed {facts.seed}"),
        ]
    )


def _cells_section(facts: RunFacts) -> str:
    hours = facts.observations["hours_post_infection"].to_numpy(dtype=float)[facts.strips.rows]
    figure = run_plots.draw_cells(facts.crops, facts.strips.labels, hours, facts.channels)
    cells = facts.observations[["experiment", "condition"]].iloc[facts.trained_on].drop_duplicates()
    shown = "each experiment and condition"
    if len(facts.strips.labels) < len(cells):
        shown = f"{len(facts.strips.labels)} of the {len(cells)} combinations of experiment and condition"
    text = (
        f"One cell of {shown} over the hours, as the encoder sees it: experiments differ in contrast and sharpness, "
        "conditions in how cells change."
    )
    return "<h2>The cells</h2>" + picture_html(figure, text)


def _loss_sections(log: pd.DataFrame, lives: pd.DataFrame) -> list[str]:
    loss, went_on = log[np.isfinite(log["loss"])], lives["step"].iloc[1:].tolist()
    has_validation = "val/loss" in log
    validation = log.dropna(subset="val/loss") if has_validation else log.iloc[:0]
    text = (
        "The lower the loss, the better the encoder tells a cell, seen at another time, from the others of its batch."
    )
    if has_validation:
        text += " Validation is the loss of cells that are not trained on."
    if not len(loss):
        return ["<h2>The loss</h2>", "<p>No loss was logged.</p>"]
    sections = ["<h2>The loss</h2>", picture_html(run_plots.draw_loss(loss, validation, went_on), text)]
    if METRIC in log:
        waiting = log.dropna(subset=METRIC)
        text = (
            f"The share of each step that process 0 waited for its batch, {waiting[METRIC].mean():.1%} on average, of "
            "the time from asking for the batch to the end of the step."
        )
        sections.append(picture_html(run_plots.draw_waiting(waiting, METRIC), text))
    if len(lives) > 1:
        rows = [
            [
                html.escape(str(life["started"]).replace("T", " ").replace("+00:00", " UTC")),
                f"{life['step']:,}",
                f"{life['epoch'] + 1}",
                f"{life['processes']}",
                "" if np.isnan(life["reached"]) else f"{max(life['reached'] - life['step'], 0):,.0f}",
            ]
            for life in lives.to_dict("records")
        ]
        headings = ["started", "at step", "in epoch", "processes", "steps trained again"]
        sections += ["<p>The run was started more than once, and went on each time:</p>", table_html(headings, rows)]
    return sections


def _embeddings_section(facts: RunFacts) -> str:
    chosen = np.arange(len(facts.embedded))
    if len(chosen) > _DOTS_AT_MOST:
        chosen = np.linspace(0, len(chosen) - 1, _DOTS_AT_MOST).round().astype(np.int64)
    pca = PCA(n_components=2, svd_solver="full")
    points = pca.fit_transform(facts.embeddings[chosen])
    order = np.random.default_rng(facts.seed).permutation(len(points))
    anchors = facts.observations.iloc[facts.embedded[chosen]].reset_index(drop=True)
    figure = run_plots.draw_embeddings(points, pca.explained_variance_ratio_.tolist(), anchors, order)
    text = "Each dot is an anchor, placed by the first two principal components of its embedding."
    if len(chosen) < len(facts.embedded):
        text += f" {len(chosen):,} of {len(facts.embedded):,} are shown, evenly spread."
    return "<h2>What the encoder learned</h2>" + picture_html(figure, text)


def _retrieval_section(facts: RunFacts) -> str:
    if not facts.found:
        return "<p>No cell is there at two times: whether cells are found again is not measured.</p>"
    rows = [
        [f"{one.hours:.1f} hours", f"{one.chance:.1%}", f"{one.untrained:.0%}", f"{one.trained:.0%}"]
        for one in facts.found
    ]
    among = f"among the cells of its experiment some time later, of the {len(facts.embedded):,} that were embedded"
    new = ", here on cells that it was not trained on" * facts.sought_is_new
    text = (
        f"<p>How often the cell that is nearest to a cell, {among}, is that cell itself. This is what the encoder is "
        f"trained for{new}.</p>"
    )
    return text + table_html(["later by", "guessing", "before training", "after training"], rows)


def _probe_section(probes: list[Probe]) -> str:
    if not probes:
        return "<p>Too few tracks, or one condition only: whether the condition can be told is not measured.</p>"
    rows = [
        [
            f"{probe.from_hours:.1f} to {probe.to_hours:.1f}",
            f"{probe.unseen}s",
            f"{probe.chance:.0%}",
            f"{probe.untrained:.0%}",
            f"{probe.trained:.0%}",
        ]
        for probe in probes
    ]
    text = (
        "<p>How often a linear classifier names a cell's condition from its embedding (balanced accuracy), where it "
        "was fitted to others.</p>"
    )
    headings = ["hours post infection", "fitted to cells of other", "guessing", "before training", "after training"]
    return text + table_html(headings, rows)


def _files_section(folder: RunDirectory) -> str:
    files = [
        (
            folder.config,
            "what was run; <code>viscy-train fit --config</code> repeats it with another <code>--output</code>",
        ),
        (folder.batches, "what the batches of each process held, as rows of the anchor table"),
        (folder.lives, "when the run began and went on, and at which step"),
        (folder.checkpoints, "the last state of the run, and the best models by validation loss"),
        (folder.metrics, "the loss of each step, and what else was logged"),
        (folder.embeddings, "the embeddings"),
    ]
    rows = [
        [f"<code>{html.escape(str(path.relative_to(folder.path)))}</code>", text]
        for path, text in files
        if path.exists()
    ]
    return "<h2>Files beside this report</h2>" + table_html(["file", "holds"], rows, text_columns=2)
