"""Run page: the report of a run as one HTML file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.composition.check import observed_composition, shorten_checks
from viscy_train.composition.step import describe_step
from viscy_train.composition.step_count import count_content, count_step, number_compared
from viscy_train.composition.step_plan import plan_step
from viscy_train.composition.targets import STRATUM, group_word, target_composition
from viscy_train.composition.temporal import check_all_targets
from viscy_train.evaluation.chance import N_PERMUTED
from viscy_train.loading.axes import axis_names
from viscy_train.report.batch_sections import composition_rows, make_batches_figure
from viscy_train.report.crop_plots import plot_example_tracks
from viscy_train.report.embeddings_section import embeddings_context
from viscy_train.report.example_tracks import CHANNEL
from viscy_train.report.formatting import percent, thousands
from viscy_train.report.html import REPORT, data_uri, render, svg_uri, write_page
from viscy_train.report.learned_section import (
    PROBE_HEADINGS,
    RECALL_HEADINGS,
    column_probe_rows,
    probe_rows,
    recall_rows,
)
from viscy_train.report.provenance_section import attempt_rows, describe_attempts, provenance_rows
from viscy_train.report.run_plots import plot_data_wait, plot_loss
from viscy_train.report.share_plots import describe_others, plot_composition
from viscy_train.report.step_section import coverage_rows, step_rows
from viscy_train.report.summary import describe_draws, diagnose_run, summarize_run
from viscy_train.run.attempts import read_attempts
from viscy_train.run.batch_record import NEVER, check_rows, count_batches_of_epochs, count_epochs_until_drawn
from viscy_train.run.metrics_csv import DATA_WAIT, EFFECTIVE_RANK, LOSS, RECALL, SMOOTHNESS, read_log
from viscy_train.run.recorded_epochs import RecordedEpochs
from viscy_train.wording import count, plural

if TYPE_CHECKING:
    from viscy_train.report.run_results import RunResults
    from viscy_train.run.directory import RunDirectory

# If there are more batches, an evenly spaced subset is read and compared with the targets.
_MAX_BATCHES = 20_000
_MAX_VALIDATIONS = 12


def write_run_page(run_directory: RunDirectory, results: RunResults) -> None:
    """Write the page of a run.

    Parameters
    ----------
    run_directory : RunDirectory
        The directory of the run, with metrics, batch record and, if they were recorded, attempts. Receives the page.
    results : RunResults
        The other results of the run.
    """
    log, attempts = read_log(run_directory.metrics), read_attempts(run_directory)
    context = (
        _batch_context(run_directory, results, log)
        | _example_context(results)
        | _loss_context(log, attempts)
        | embeddings_context(results)
        | _learned_context(results)
        | {
            "provenance_rows": provenance_rows(run_directory, results.provenance, results.experiments),
            "attempt_rows": attempt_rows(attempts, results.provenance),
            "attempts": describe_attempts(attempts),
        }
        | {"representation_rows": _representation_rows(log)}
        | {"options": results.planned.options, "files": _list_files(run_directory)}
        | {"task": results.task, "compared": "its step" if results.step.n_compared > 1 else "its batch"}
    )
    page = render("run.html.j2", **context)
    write_page(run_directory.report, page, REPORT)


def _batch_context(run_directory: RunDirectory, results: RunResults, log: pd.DataFrame) -> dict[str, Any]:
    """Return facts, summary and diagnostics, and the composition of the batches."""
    anchors, planned = results.labeled.iloc[results.train_rows].reset_index(drop=True), results.planned
    epochs = RecordedEpochs(n_batches=count_batches_of_epochs(run_directory.batches), planned=planned.n_batches)
    n_batches, period = sum(epochs.n_batches), "in an incomplete epoch" if epochs.total is None else "per epoch"
    batches = run_directory.read_batches(_MAX_BATCHES)
    check_rows(batches["row"].to_numpy(), results.train_rows, run_directory.batches)
    batches["row"] = np.searchsorted(results.train_rows, batches["row"])
    checks = check_all_targets(batches, anchors, planned)
    targets, observed = target_composition(anchors, planned), observed_composition(batches, anchors)
    draws = observed * n_batches * planned.options["batch_size"] / (epochs.total or 1) / targets["anchors"]
    recall = results.evaluation.recall if results.task.is_retrieval else []
    axes, origin = axis_names(planned.options), "as recorded during training"
    if n_batches > _MAX_BATCHES:
        n_read = len(batches.drop_duplicates(["epoch", "batch"]))
        origin += f"; {n_read:,} of {n_batches:,} recorded batches, evenly spaced, were read"
    return {
        "facts": _list_facts(anchors, epochs, results),
        "summary": summarize_run(
            checks,
            log,
            results.evaluation,
            has_held_out_queries=results.has_held_out_queries,
            axes=axes,
            hours=results.hours,
        )
        + ([] if results.frames is None else [results.frames.sentence]),
        "diagnostics": diagnose_run(checks, log, recall, draws),
        "draws": describe_draws(draws, period, axes),
        "batches": make_batches_figure(batches, anchors, planned, results.time),
        "batches_origin": origin,
        "checks": shorten_checks(checks),
        "composition_figure": svg_uri(plot_composition(targets, observed, anchors)),
        "composition_others": describe_others(targets["target"], observed),
        "composition_rows": composition_rows(targets, observed, [f"{count:.1f}" for count in draws]),
        "draws_heading": "draws per anchor" if epochs.total is None else "draws per anchor and epoch",
        "group": group_word(planned),
        "axes": axes,
        **_step_context(batches, anchors, results),
        "coverage_rows": _coverage_rows(run_directory, anchors, targets, epochs, results),
    }


def _step_context(batches: pd.DataFrame, anchors: pd.DataFrame, results: RunResults) -> dict[str, Any]:
    """Return what the loss of a step compared an anchor with."""
    planned = plan_step(anchors, results.planned, results.step)
    key, compared = number_compared(batches, results.step)
    slots = batches.assign(batch_key=key)
    observed = count_step(slots, anchors, compared, results.step, planned.batch_size)
    return {
        "step_sentences": describe_step(planned),
        "step_rows": step_rows(planned, observed, count_content(slots, anchors)),
    }


def _coverage_rows(
    run_directory: RunDirectory,
    anchors: pd.DataFrame,
    targets: pd.DataFrame,
    epochs: RecordedEpochs,
    results: RunResults,
) -> list[list[str]]:
    """Return the share of the anchors drawn at least once after each epoch, until all that may be drawn have been."""
    first = count_epochs_until_drawn(run_directory.batches, len(results.observations))[results.train_rows]
    excluded = targets.index[targets["target"] == 0]
    included = first[~pd.MultiIndex.from_frame(anchors[STRATUM]).isin(excluded)]
    counts = np.bincount(included[included < NEVER], minlength=len(epochs.n_batches)).cumsum()
    n_shown = 1 + int((counts < len(included)).sum())
    return coverage_rows((counts[:n_shown] / max(len(included), 1)).tolist(), epochs.n_batches, epochs.planned)


def _list_facts(anchors: pd.DataFrame, epochs: RecordedEpochs, results: RunResults) -> list[tuple[str, str]]:
    """Return the most important numbers of a run, each with what it counts."""
    trained = results.observations.iloc[results.train_rows]
    n_tracks = trained.groupby(["experiment", "position", "track_id"], observed=True).ngroups
    hours = anchors["hours_post_infection"]
    names = [str(name) for name in anchors["condition"].unique()]
    conditions = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    seconds, n_groups, word = results.seconds, anchors["experiment"].nunique(), group_word(results.planned)
    took = f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:.1f} h"
    size, n_batches = results.planned.options["batch_size"], sum(epochs.n_batches)
    span = f"{hours.min():g} to {hours.max():g} {results.time}"
    return [
        (thousands(len(anchors)), f"anchors: {count(n_tracks, 'track')}, {span}"),
        (
            f"{n_groups}",
            f"{plural(n_groups, word)} with {_name_conditions(results, len(names))} {conditions}",
        ),
        (
            thousands(n_batches),
            f"{plural(n_batches, 'batch')} of {size}{_describe_epochs(epochs)}",
        ),
        (
            f"{results.n_processes}",
            f"training {plural(results.n_processes, 'process')}; {took} of training; seed {results.seed}",
        ),
    ]


def _name_conditions(results: RunResults, number: int) -> str:
    """Return ``conditions``, or what batches are balanced by in their place."""
    name = axis_names(results.planned.options)[1]
    return plural(number, name) if name == "condition" else f"{name}:"


def _describe_epochs(epochs: RecordedEpochs) -> str:
    if epochs.total is None or epochs.length is None:
        return f"; an epoch has {thousands(epochs.planned)}"
    number = f"{epochs.total:,.1f}".removesuffix(".0")
    is_shortened = epochs.length < epochs.planned
    shortened = f", shortened to {thousands(epochs.length)} of {thousands(epochs.planned)} batches" * is_shortened
    return f" in {number} {plural(round(epochs.total, 1), 'epoch')}{shortened}"


def _example_context(results: RunResults) -> dict[str, Any]:
    hours = results.observations["hours_post_infection"].to_numpy(dtype=float)[results.examples.rows]
    figure = plot_example_tracks(results.crops, results.examples.labels, hours, results.channels)
    kinds = "experiment, channel" if CHANNEL in results.observations else "experiment"
    return {
        "example_figure": svg_uri(figure),
        "n_examples": len(results.examples.labels),
        "n_kinds": results.examples.n_kinds,
        "kinds": f"{kinds} and condition",
    }


def _loss_context(log: pd.DataFrame, attempts: pd.DataFrame) -> dict[str, Any]:
    """Return the figures of loss and data wait, and the attempts of a run."""
    loss, has_validation = log[np.isfinite(log[LOSS])], "val/loss" in log
    validation = log.dropna(subset="val/loss") if has_validation else log.iloc[:0]
    has_data_wait = len(loss) > 0 and DATA_WAIT in log
    data_wait = log.dropna(subset=DATA_WAIT) if has_data_wait else None
    resumed_at = attempts["step"].iloc[1:].tolist()
    return {
        "loss_figure": data_uri(plot_loss(loss, validation, resumed_at)) if len(loss) else None,
        "has_validation": has_validation,
        "data_wait_figure": None if data_wait is None else data_uri(plot_data_wait(data_wait)),
        "mean_data_wait": None if data_wait is None else data_wait[DATA_WAIT].mean(),
    }


def _learned_context(results: RunResults) -> dict[str, Any]:
    """Return the tables of recall@1 and of the linear probes."""
    evaluation = results.evaluation
    return {
        "hours": results.hours,
        "recall_rows": recall_rows(evaluation.recall),
        "recall_headings": RECALL_HEADINGS,
        "probe_rows": probe_rows(evaluation.probes),
        "probe_headings": PROBE_HEADINGS,
        "n_permuted": N_PERMUTED,
        "few_units": [f"{probe.held_out}s" for probe in evaluation.probes if not probe.is_conclusive],
        "column_probe_rows": column_probe_rows(evaluation.column_probes),
    }


def _representation_rows(log: pd.DataFrame) -> list[list[str]]:
    """Return a row for each validation, or for some evenly spaced ones, with what its embeddings say."""
    names = [EFFECTIVE_RANK, RECALL, SMOOTHNESS]
    if EFFECTIVE_RANK not in log:
        return []
    rows = log.dropna(subset=EFFECTIVE_RANK).reindex(columns=["step", *names])
    shown = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MAX_VALIDATIONS)).round().astype(int))
    return [
        [
            thousands(step + 1),
            f"{rank:.1f}",
            "" if np.isnan(recall) else percent(recall),
            "" if np.isnan(smooth) else f"{smooth:.2f}",
        ]
        for step, rank, recall, smooth in rows.iloc[shown].itertuples(index=False)
    ]


def _list_files(run_directory: RunDirectory) -> list[tuple[str, str]]:
    """Return the existing files of a run, each with a description of its content."""
    files = [
        (
            run_directory.config,
            "the configuration of the run; repeat it with viscy-train fit --config and another --out",
        ),
        (run_directory.batches, "the batches of each process, as rows of the anchor table"),
        (run_directory.attempts, "the attempts of the run: when each started, and at which step"),
        (run_directory.checkpoints, "the last state of the run, and the best models by validation loss"),
        (run_directory.metrics, "the loss of each step and the other metrics"),
        (run_directory.embeddings, "the embeddings of all observations"),
    ]
    return [(str(path.relative_to(run_directory.path)), content) for path, content in files if path.exists()]
