"""Report: one HTML file that shows what a run did, with its pictures inside."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from viscy_train import figures
from viscy_train.batch_record import count_batches
from viscy_train.composition import (
    asked_of_batches,
    drawn_composition,
    own_experiments,
    planned_composition,
    promises,
    shares_of_batches,
)
from viscy_train.crops import CropReader
from viscy_train.focus import find_focus, focus_promise
from viscy_train.lives import read_lives
from viscy_train.template import PAGE, figure_html, table_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from viscy_train.anchor_table import AnchorTable
    from viscy_train.composition import Promise
    from viscy_train.config import SamplerConfig
    from viscy_train.embeddings import Learned, Probe
    from viscy_train.folder import RunFolder
    from viscy_train.retrieval import Retrieval

_DOTS_PER_INCH = 130
_TIMES_SHOWN = 5
_KINDS_SHOWN = 12
# More columns than this are not told apart in a picture.
_MOST_BATCHES = 300


def write_report(
    folder: RunFolder,
    table: AnchorTable,
    trained_on: NDArray[np.int64],
    learned: Learned,
    options: SamplerConfig,
    seed: int,
) -> None:
    """Write the report of a run.

    Parameters
    ----------
    folder : RunFolder
        With log and batches; receives the report.
    table : AnchorTable
        The cells, whose rows the batches name.
    trained_on : numpy.ndarray
        Rows of the anchors that were trained on, ascending.
    learned : Learned
        What the encoder makes of the cells.
    options : SamplerConfig
        What batches were to hold.
    seed : int
        Of the run.
    """
    anchors = table.cells.iloc[trained_on].reset_index(drop=True)
    batches = folder.read_batches(_MOST_BATCHES)
    batches["row"] = np.searchsorted(trained_on, batches["row"])
    cells = table.cells.iloc[learned.rows].reset_index(drop=True)
    sections = [
        _summary(anchors, batches, folder, options, seed),
        _cells_section(table, learned.rows),
        _batches_section(batches, anchors, options),
        _run_section(batches, anchors, options),
        _loss_section(folder),
        _embeddings_section(learned.embeddings, cells, seed),
        _retrieval_section(learned.found),
        _probe_section(learned.probes),
        _files_section(folder),
    ]
    folder.report.write_text(PAGE.format(body="\n".join(sections)), encoding="utf-8")


def _summary(anchors: pd.DataFrame, batches: pd.DataFrame, folder: RunFolder, options: SamplerConfig, seed: int) -> str:
    tracks = anchors.groupby(["experiment", "position", "track_id"], observed=True).ngroups
    hours = anchors["hours_post_infection"]
    conditions = ", ".join(map(html.escape, anchors["condition"].unique()))
    lives = read_lives(folder)
    n_batches = count_batches(folder.batches)
    went_on = ", ".join(str(step) for step in lives["step"][1:])
    resumed = f", gone on with at step {went_on}" if went_on else ""
    facts = [
        (
            f"{len(anchors):,}",
            f"anchors: {tracks} tracked cells, {hours.min():g} to {hours.max():g} hours post infection",
        ),
        (f"{anchors['experiment'].nunique()}", f"experiments, with conditions {conditions}"),
        (f"{n_batches:,}", f"batches of {options.batch_size}, {batches['epoch'].max() + 1} epochs"),
        (f"{lives['processes'].iloc[-1]}", f"training processes, seed {seed}{resumed}"),
    ]
    cards = "".join(f"<div class='fact'><b>{number}</b>{text}</div>" for number, text in facts)
    return f"<div class='facts'>{cards}</div>"


def _cells_section(table: AnchorTable, rows: NDArray[np.int64]) -> str:
    anchors = table.cells.iloc[rows]
    kinds = anchors.groupby(["experiment", "condition"], observed=True, sort=False).ngroup()
    anchors = anchors[kinds < _KINDS_SHOWN]
    tracks = anchors.groupby(["experiment", "condition", "position", "track_id"], observed=True, sort=False)
    longest = tracks.size().groupby(level=["experiment", "condition"], observed=True, sort=False).idxmax()
    chosen = [tracks.get_group(key) for key in longest]
    latest_start = max(cells["hours_post_infection"].iloc[0] for cells in chosen)
    first_end = min(cells["hours_post_infection"].iloc[-1] for cells in chosen)
    hours = np.linspace(latest_start, max(first_end, latest_start), _TIMES_SHOWN)
    shown = np.array([[_nearest(cells, hour) for hour in hours] for cells in chosen])
    crops = CropReader(table).read(shown.ravel())
    middle = crops[:, :, crops.shape[2] // 2].reshape(*shown.shape, crops.shape[1], *crops.shape[3:])
    labels = [f"{experiment}, {condition}" for experiment, condition in longest.index]
    figure = figures.draw_cells(middle, labels, hours.tolist(), table.experiments[0].channels)
    text = "One cell of each experiment and condition over the hours, as the encoder sees it before augmentation."
    return "<h2>The cells</h2>" + _figure(figure, text)


def _nearest(cells: pd.DataFrame, hour: float) -> int:
    return int(cells.index[np.abs(cells["hours_post_infection"].to_numpy() - hour).argmin()])


def _batches_section(batches: pd.DataFrame, anchors: pd.DataFrame, options: SamplerConfig) -> str:
    experiments = shares_of_batches(batches, anchors, "experiment")
    conditions = shares_of_batches(batches, anchors, "condition")
    hours = shares_of_batches(batches, anchors, "hours_post_infection").sort_index(axis=1)
    focus = find_focus(batches, anchors, options) if options.temporal_enrichment else None
    asked = asked_of_batches(anchors, options).loc[own_experiments(batches, anchors, options)]
    # Where one colour of a stack ends and the next begins.
    edges = {
        axis: asked.T.groupby(level=axis, sort=False).sum().T[columns].cumsum(axis=1).to_numpy()[:, :-1]
        for axis, columns in (("experiment", experiments.columns), ("condition", conditions.columns))
    }
    figure = figures.draw_batches(
        experiments, conditions, _on_even_hours(hours), edges, focus, options.temporal_window_hours, anchors
    )
    text = "Each column is one batch of one process, as recorded while training; dashes show what was asked for." + (
        " Red marks the focal window, found from the batch." if focus is not None else ""
    )
    made = promises(batches, anchors, options)
    if focus is not None:
        made.append(focus_promise(focus))
    return "<h2>What each batch held</h2>" + _figure(figure, text) + _promise_table(made)


def _on_even_hours(hours: pd.DataFrame) -> pd.DataFrame:
    """Sum up shares on evenly spaced hours, as a picture needs them."""
    times = hours.columns.to_numpy(dtype=float)
    gaps = np.diff(times)
    step = float(np.median(gaps)) if len(gaps) else 1.0
    n_bins = min(round((times[-1] - times[0]) / step) + 1, 200)
    even = np.linspace(times[0], times[-1], n_bins)
    nearest = np.abs(times[:, None] - even).argmin(axis=1)
    return hours.T.groupby(even[nearest]).sum().reindex(even, fill_value=0.0).T


def _promise_table(made: list[Promise]) -> str:
    rows = [
        [
            html.escape(promise.what, quote=False),
            f"{promise.asked:.1%}",
            f"{promise.drawn:.1%}",
            f"{promise.lowest:.1%} to {promise.highest:.1%}",
            "<span class='yes'>yes</span>" if promise.kept else "<span class='no'>no</span>",
        ]
        for promise in made
    ]
    if not rows:
        return "<p>No axis of the composition is on.</p>"
    headings = ["share of a batch", "asked for", "drawn, mean", "least to most", "every batch as asked"]
    note = "<p class='note'>Asked-for shares become whole slots: a batch may have the next lower or higher number.</p>"
    return table_html(headings, rows) + note


def _run_section(batches: pd.DataFrame, anchors: pd.DataFrame, options: SamplerConfig) -> str:
    planned = planned_composition(anchors, options)
    drawn = drawn_composition(batches, anchors)
    figure = figures.draw_composition(planned, drawn, anchors)
    rows = [
        [
            html.escape(experiment),
            html.escape(condition),
            f"{row['anchors']:.0f}",
            f"{row['of_table']:.1%}",
            f"{row['asked']:.1%}",
            f"{drawn[experiment, condition]:.1%}",
        ]
        for (experiment, condition), row in zip(planned.index, planned.to_dict("records"), strict=True)
    ]
    text = (
        "How the run's slots are shared, beside the shares of the table: the rare is as frequent as it was asked to be."
    )
    headings = ["experiment", "condition", "anchors", "of the table", "asked for", "drawn"]
    return "<h2>What the run held</h2>" + _figure(figure, text) + table_html(headings, rows, text_columns=2)


def _loss_section(folder: RunFolder) -> str:
    log = pd.read_csv(folder.metrics)
    loss = log.dropna(subset="loss")
    text = (
        "The lower the loss, the better the encoder tells a cell, seen at another time, from the others of its batch."
    )
    return "<h2>The loss</h2>" + _figure(figures.draw_loss(loss), text)


def _embeddings_section(embeddings: NDArray[np.float32], anchors: pd.DataFrame, seed: int) -> str:
    pca = PCA(n_components=2, svd_solver="full")
    points = pca.fit_transform(embeddings)
    order = np.random.default_rng(seed).permutation(len(points))
    figure = figures.draw_embeddings(points, pca.explained_variance_ratio_.tolist(), anchors, order)
    text = "Each dot is an anchor, placed by the first two principal components of its embedding."
    return "<h2>What the encoder learned</h2>" + _figure(figure, text)


def _retrieval_section(found: list[Retrieval]) -> str:
    if not found:
        return "<p>No cell is there at two times: whether cells are found again is not measured.</p>"
    rows = [
        [f"{one.hours:.1f} hours", f"{one.chance:.0%}", f"{one.untrained:.0%}", f"{one.trained:.0%}"] for one in found
    ]
    text = (
        "<p>How often the cell that is nearest to a cell, among all of its experiment some time later, is that cell "
        "itself. This is what the encoder is trained for.</p>"
    )
    return text + table_html(["later by", "guessing", "before training", "after training"], rows)


def _probe_section(probes: list[Probe]) -> str:
    if not probes:
        return "<p>Too few tracks, or one condition only: whether the condition can be told is not measured.</p>"
    rows = [
        [
            f"{probe.from_hours:.1f} to {probe.to_hours:.1f}",
            f"{probe.chance:.0%}",
            f"{probe.untrained:.0%}",
            f"{probe.trained:.0%}",
        ]
        for probe in probes
    ]
    text = (
        "<p>How often a linear classifier names a cell's condition from its embedding, on cells it has not seen "
        "(balanced accuracy; cells are split by track).</p>"
    )
    return text + table_html(["hours post infection", "guessing", "before training", "after training"], rows)


def _files_section(folder: RunFolder) -> str:
    files = [
        (
            folder.config,
            "what was run; <code>viscy-train fit --config</code> repeats it with another <code>--output</code>",
        ),
        (folder.batches, "what the batches of each process held, as rows of the anchor table"),
        (folder.checkpoints, "<code>last.ckpt</code>, the state to go on from or to predict with"),
        (folder.log, "loss and composition of each step: <code>metrics.csv</code>, and for TensorBoard"),
    ]
    rows = [[f"<code>{html.escape(str(path.relative_to(folder.path)))}</code>", text] for path, text in files]
    return "<h2>Files beside this report</h2>" + table_html(["file", "holds"], rows, text_columns=2)


def _figure(figure: Figure, caption: str) -> str:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return figure_html(base64.b64encode(picture.getvalue()).decode("ascii"), caption)
