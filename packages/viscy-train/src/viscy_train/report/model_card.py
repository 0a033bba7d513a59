"""Model card: what an exported encoder is, what it takes and how it came about, as the README of a model repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from viscy_train.atomic import atomic_write
from viscy_train.composition.check import observed_composition
from viscy_train.composition.targets import target_composition
from viscy_train.loading.axes import axis_names, label_plan
from viscy_train.loading.sampler import collect_sampler_warnings
from viscy_train.output import OutputKind, require_replaceable
from viscy_train.report.batch_sections import composition_rows
from viscy_train.report.formatting import thousands
from viscy_train.report.task import describe_task
from viscy_train.run.batch_record import check_rows, count_batches
from viscy_train.run.metrics_csv import VALIDATION, read_log
from viscy_train.wording import count, plural

if TYPE_CHECKING:
    from pathlib import Path

    from viscy_train.loading.data_module import PairDataModule
    from viscy_train.run.directory import RunDirectory

_LIBRARY, _MAX_BATCHES = "viscy-train", 20_000
# What decides the encoder; paths of the machine that it was trained on are nobody else's business.
_SECTIONS = ("seed_everything", "model", "data", "checkpoint")
_PATHS = ("experiments", "anchors", "init_from")


def _is_model_card(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).startswith(f"---\nlibrary_name: {_LIBRARY}\n".encode())


MODEL_CARD = OutputKind("a model card of viscy-train", _is_model_card)


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """The encoder that a model card describes.

    Parameters
    ----------
    n_parameters, n_features : int
        Number of its parameters, and length of an embedding.
    shape : tuple of int
        Shape of a crop, (n_channels, z_slices, side, side).
    config : dict
        The configuration of the run.
    origin : dict
        From `viscy_train.run.provenance.describe_origin`.
    onnx_difference : float, optional
        From `viscy_train.model.onnx_file.write_onnx`, if there is such a file.
    """

    n_parameters: int
    n_features: int
    shape: tuple[int, ...]
    config: dict[str, Any]
    origin: dict[str, Any]
    onnx_difference: float | None


def write_model_card(path: Path, subject: ExportedModel, data: PairDataModule, run_directory: RunDirectory) -> None:
    """Write a model card.

    Parameters
    ----------
    path : pathlib.Path
        File to write, ``README.md``.
    subject : ExportedModel
        The encoder.
    data : PairDataModule
        The data of the run.
    run_directory : RunDirectory
        The directory of the run, with its batch record and metrics, if it has them.

    Raises
    ------
    UserError
        If the file cannot be written, or is not a model card.
    """
    require_replaceable(path, MODEL_CARD)
    model = subject.config["model"]
    encoder = model["encoder"]
    context = (
        {
            "library": _LIBRARY,
            "tags": _tags(encoder["name"], data),
            "title": f"Encoder of cells: {encoder['name']}, {_channels(data)}",
            "recognized": describe_task(
                data.positive, model["loss"]["positives"], vars(data.options), data.table.experiments
            ).recognized,
            "n_features": subject.n_features,
            "shape": subject.shape,
            "onnx": None if subject.onnx_difference is None else f"{subject.onnx_difference:.1g}",
            "facts": _facts(subject, encoder),
            "configuration": yaml.safe_dump(_configuration(subject.config), sort_keys=False, allow_unicode=True),
            "metrics": _metrics(run_directory),
            "origin": yaml.safe_dump(subject.origin, sort_keys=False, allow_unicode=True),
        }
        | _input_context(data)
        | {"experiment_rows": _experiment_rows(data)}
        | _composition_context(data, run_directory)
    )
    with atomic_write(path) as unfinished:
        unfinished.write_text(_render(context), encoding="utf-8")


def _render(context: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("viscy_train.report"),
        autoescape=False,  # it is Markdown, in which `_cell` escapes names
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("model_card.md.j2").render(context | {"table": _table})


def _table(headings: list[str], rows: list[list[Any]]) -> str:
    """Return a table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def _cell(value: Any) -> str:
    """Return a name or number as text that Markdown shows as it is."""
    text = " ".join(str(value).split()).replace("\\", "\\\\").replace("|", "\\|")
    return text.replace("<", "&lt;").replace("`", "\\`").replace("*", "\\*").replace("_", "\\_").replace("[", "\\[")


def _tags(encoder: str, data: PairDataModule) -> list[str]:
    return ["microscopy", "time-lapse", "contrastive-learning", "cell-embedding", encoder, *_markers(data)]


def _markers(data: PairDataModule) -> list[str]:
    """Return the markers, or the channels, that the encoder has seen."""
    observations = data.table.observations
    if "marker" in observations:
        return sorted(str(name) for name in observations["marker"].dropna().unique())
    return list(data.channels)


def _channels(data: PairDataModule) -> str:
    if "marker" in data.table.observations:
        return f"{data.channels[0]} of {', '.join(_markers(data))}"
    return ", ".join(data.channels)


def _facts(subject: ExportedModel, encoder: dict[str, Any]) -> list[tuple[str, str]]:
    origin = subject.origin
    epochs, steps = origin["epoch"], origin["step"]
    return [
        ("network", _cell(f"{encoder['name']}, {subject.n_parameters:,} parameters")),
        ("input", _cell(f"float32, shape (n, {', '.join(map(str, subject.shape))})")),
        ("embedding", f"{subject.n_features} numbers"),
        ("trained for", f"{epochs:,} complete {plural(epochs, 'epoch')}, {steps:,} {plural(steps, 'step')}"),
        ("exported", f"{origin['created']}, viscy-train {origin['versions']['viscy-train']}"),
    ]


def _configuration(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration without paths."""
    sections = {name: config[name] for name in _SECTIONS if name in config}
    return {
        name: {key: value for key, value in part.items() if key not in _PATHS} if isinstance(part, dict) else part
        for name, part in sections.items()
    }


def _input_context(data: PairDataModule) -> dict[str, Any]:
    crops = data.table.crops
    size = f"{crops.crop} x {crops.crop} pixels"
    size += f", resampled from {crops.crop_um:g} micrometers" if crops.crop_um else ", of the image's own pixels"
    depth = f"{crops.z_slices} of the stack ({crops.z})"
    depth += f", resampled from {crops.depth_um:g} micrometers" if crops.depth_um else ""
    sentences = [
        f"{'Channel' if data.n_channels == 1 else 'Channels, in this order'}: {_channels(data)}.",
        f"Crop around the center of a cell: {size}.",
        f"Slices: {depth}.",
        f"Intensities: (intensity - center) / spread, {crops.normalization}"
        + (", of each experiment:" if crops.normalization.by == "experiment" else ", of the image that is embedded."),
    ]
    by_experiment = crops.normalization.by == "experiment"
    return {
        "input_sentences": [_cell(sentence) for sentence in sentences],
        "intensity_rows": _intensity_rows(data) if by_experiment else [],
    }


def _intensity_rows(data: PairDataModule) -> list[list[str]]:
    return [
        [one.name, channel, f"{center:.4g}", f"{spread:.4g}"]
        for one in data.table.experiments
        for channel, (center, spread) in zip(one.channel_names, data.table.intensity[one.name], strict=True)
    ]


def _experiment_rows(data: PairDataModule) -> list[list[str]]:
    table = data.table
    anchors = table.observations.iloc[table.anchors]
    names = anchors["experiment"].astype(str)
    rows = []
    for one in table.experiments:
        own = anchors[names == one.name]
        conditions = sorted(map(str, own["condition"].unique()))
        counts = len(own["position"].unique()), len(own.drop_duplicates(["position", "track_id"])), len(own)
        shown = ", ".join(conditions[:10]) + (f", ... ({len(conditions)})" if len(conditions) > 10 else "")
        channels = ", ".join(name if name == of else f"{name} ({of})" for name, of in one.markers.items())
        rows.append([one.name, channels, shown, *map(thousands, counts), f"{one.minutes_per_frame:g}"])
    return rows


def _composition_context(data: PairDataModule, run_directory: RunDirectory) -> dict[str, Any]:
    """Return the target composition of the run, and the observed one if the run recorded its batches."""
    anchors = data.labeled.iloc[data.train_rows].reset_index(drop=True)
    with collect_sampler_warnings():  # training has shown them
        planned = label_plan(data.make_sampler().planned())
    targets = target_composition(anchors, planned)
    n_batches = count_batches(run_directory.batches)
    observed, origin = pd.Series(np.nan, index=targets.index), "The run has no record of its batches."
    if n_batches:
        batches = run_directory.read_batches(_MAX_BATCHES)
        check_rows(batches["row"].to_numpy(), data.train_rows, run_directory.batches)
        batches["row"] = np.searchsorted(data.train_rows, batches["row"])
        observed = observed_composition(batches, anchors)
        origin = f"As planned, and as observed in the {count(n_batches, 'batch')} of the run."
    return {
        "composition_origin": origin,
        "composition_headings": [*axis_names(planned.options), "anchors", "share of table", "target", "observed"],
        "composition_rows": composition_rows(targets, observed),
    }


def _metrics(run_directory: RunDirectory) -> list[list[str]]:
    """Return the metrics of the last validation."""
    log = read_log(run_directory.metrics)
    names = [name for name in log if str(name).startswith(VALIDATION)]
    validations = log.dropna(subset=names, how="all") if names else log.iloc[:0]
    if not len(validations):
        return []
    last = validations.iloc[-1]
    return [[name, f"{last[name]:.4g}"] for name in names if not np.isnan(last[name])]
