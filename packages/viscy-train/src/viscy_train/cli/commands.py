"""Commands: the functions behind the commands that take a configuration, from options to exit code."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.cli.options import keywords_of
from viscy_train.console import is_quiet, note, say, say_result, say_sentences, warn
from viscy_train.errors import UserError
from viscy_train.exit_codes import EXIT_STOPPED, explain_exit
from viscy_train.output import claimed, in_use
from viscy_train.remote.path import local_path

_logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from lightning.pytorch import Trainer
    from pandas import Categorical

    from viscy_train.composition.pixel_mixing import PixelMixing
    from viscy_train.composition.result import DryRun
    from viscy_train.loading.data_module import PairDataModule
    from viscy_train.loading.run_data import RunData
    from viscy_train.run.checkpoint import Checkpoint
    from viscy_train.training.data_cli import DataCLI
    from viscy_train.training.lightning_cli import TrainingCLI


def index(options: list[str], description: str) -> int:
    """Build the anchor table."""
    from viscy_train.cli.parsing import parse_for_data
    from viscy_train.experiments.located_problems import located_problems
    from viscy_train.remote.path import as_path

    cli = parse_for_data("index", options, description, keywords_of("index"))
    with located_problems(as_path(cli.config.data.experiments)):
        return _index(cli)


def _index(cli: DataCLI | TrainingCLI) -> int:
    from viscy_train.anchors.build import build_anchor_table
    from viscy_train.anchors.examiner import examine_part
    from viscy_train.anchors.positions import IndexSettings
    from viscy_train.anchors.shared_table import store_of
    from viscy_train.anchors.summary import print_summary
    from viscy_train.anchors.table import ANCHOR_TABLE
    from viscy_train.crops.description import describe_pixels
    from viscy_train.crops.scale import describe_crops
    from viscy_train.parts import parse_part

    data, processes = cli.make_data(), cli.config.processes
    path = local_path(data.path, "data.anchors")
    saved = store_of(path).directory
    if cli.config.part is not None:
        settings = IndexSettings(crops=data.crops, pixels=cli.config.pixels, channels_mode=data.channels_mode)
        part = parse_part(cli.config.part)
        say_result(examine_part(data.experiments, settings, part, saved, processes=processes).describe())
        return 0
    _logger.info("reading the plates and tracks of %s; processes: %d", cli.config.data.experiments, processes)
    with claimed(path, ANCHOR_TABLE, "index"):
        table = build_anchor_table(
            data.experiments,
            data.positive,
            data.crops,
            pixels=cli.config.pixels,
            channels_mode=data.channels_mode,
            processes=processes,
            saved=saved,
        )
        _logger.info("writing %d observations to %s", len(table.observations), data.path)
        table.write(data.path)
        if not is_quiet():
            print_summary(table)
        sizes = describe_crops(table.crops, table.experiments, table.scales)
        say_sentences([*data.describe_positives(), describe_pixels(table.crops), *sizes])
        for sentence in data.batch_size_warnings(len(table.anchors)):
            warn(sentence)
        say_result(f"Done. Wrote {data.path}")
        if cli.config.sheet == "write":
            from viscy_train.cli.contact_sheet import say_sheet  # imports Pillow

            say_sheet(table, path, again=True)
    return 0


def pack(options: list[str], description: str) -> int:
    """Write a crop store."""
    from viscy_train.anchors.shared_table import store_of
    from viscy_train.anchors.staleness import check_plates
    from viscy_train.cli.parsing import parse_for_data
    from viscy_train.packing.pack import describe_missing
    from viscy_train.packing.pack import pack as pack_crops
    from viscy_train.parts import parse_part

    cli = parse_for_data("pack", options, description, keywords_of("pack"))
    data, part = cli.make_data(), parse_part(cli.config.part or "1/1")
    path = local_path(cli.config.out or data.store or data.path.with_name("crops.zarr"), "a crop store")
    _logger.info("checking whether the plates are those of the table in %s", data.path)
    check_plates(data.table)
    n_missing = pack_crops(
        data.table,
        path,
        cache_mb=data.cache_mb,
        processes=cli.config.processes,
        part=part,
        shared=store_of(data.path),
    )
    say_result(describe_missing(n_missing) if n_missing else f"Done. Wrote {path}; set data.store to it to train on it")
    return 0


def compare(options: list[str], description: str) -> int:
    """Train with several compositions and compare what is learned."""
    from viscy_train.cli import studies

    return studies.compare(options, description)


def fit(options: list[str], description: str) -> int:
    """Train, then write the report."""
    from viscy_train.report.html import REPORT
    from viscy_train.report.write import evaluate_and_write_page
    from viscy_train.training.fit import fit as train
    from viscy_train.training.headroom import measure_headroom
    from viscy_train.training.lightning_cli import TrainingCLI
    from viscy_train.training.stopping import StoppedError

    cli = TrainingCLI("fit", options, description, keywords_of("fit"))
    if cli.config.headroom is not None:
        measure_headroom(cli, cli.config.headroom)
        return 0
    _logger.info("making the trainer, the model and the data")
    trainer, model, data = cli.make_all()
    with _on_rank_0(trainer, in_use(cli.run_directory.path, "fit")):
        try:
            _logger.info("training on %s; processes: %d", trainer.strategy.root_device, trainer.world_size)
            encoders = train(cli, trainer, model, data)
        except StoppedError as error:
            # Only rank 0 reports the stop, because a launcher takes a non-zero exit code of another rank for a failure.
            return explain_exit(str(error), EXIT_STOPPED) if trainer.is_global_zero else 0
        if encoders is not None:
            with claimed(cli.run_directory.report, REPORT, "fit", on_wait=say):
                device = trainer.strategy.root_device
                loss, evaluation = cli.make_loss_config(), cli.config.evaluation
                named = evaluation.probe, evaluation.time, evaluation.projection
                evaluate_and_write_page(cli.run_directory, *encoders, data, loss, device, *named)
    return 0


def inspect(options: list[str], description: str) -> int:
    """Draw batches without training and show their composition."""
    from viscy_train.cli.contact_sheet import find_sheet
    from viscy_train.cli.parsing import parse_for_data
    from viscy_train.loading.axes import time_name
    from viscy_train.loading.reading_estimate import describe_reading_of
    from viscy_train.report.dry_run_page import write_dry_run_page
    from viscy_train.report.dry_run_summary import print_dry_run
    from viscy_train.report.html import DRY_RUN

    cli = parse_for_data("inspect", options, description, keywords_of("inspect"))
    data, page = cli.make_data(), local_path(cli.config.out or cli.run_directory.path.parent / "inspect.html", "out")
    with claimed(page, DRY_RUN, "inspect"):
        _check_data(cli, data)
        _say_what_is_trained_on(cli, data)
        result = _compose(cli, data)
        pixels = _mixing_of_pixels(cli, data)
        print_dry_run(result, pixels=pixels)
        for sentence in (reading := describe_reading_of(data)):
            say(sentence)
        time = time_name(data.options.time_by, cli.config.evaluation.time)
        sheet = find_sheet(data, page)
        _logger.info("writing %s", page)
        write_dry_run_page(page, result, reading, pixels, time, sheet)
    say_result(f"Done. Open {page}")
    return 0


def _check_data(cli: DataCLI | TrainingCLI, data: RunData) -> None:
    """Refuse what `fit` would refuse."""
    from viscy_train.anchors.staleness import check_sources
    from viscy_train.crop_store.crop_store import CropStore
    from viscy_train.evaluation.probes import columns_to_probe

    _logger.info("reading %s, and checking whether plates and tracks are those that it was built from", data.path)
    check_sources(data.table)
    if data.store is not None:
        CropStore(data.store, data.table.fingerprint)
    columns_to_probe(data.table.observations, data.table.extra_columns, cli.config.evaluation.probe)


def _say_what_is_trained_on(cli: DataCLI | TrainingCLI, data: RunData) -> None:
    """Say which positives, pixels and crops there are, and what is odd about the split."""
    from viscy_train.crops.description import describe_pixels
    from viscy_train.crops.scale import describe_crops

    table = data.table
    sizes = describe_crops(table.crops, table.experiments, table.scales)
    positives = data.describe_positives(cli.make_loss_config())
    say_sentences([*positives, describe_pixels(table.crops), *sizes])
    for sentence in data.split_warnings(cli.config.processes):
        note(sentence)


def _compose(cli: DataCLI | TrainingCLI, data: RunData) -> DryRun:
    """Return the batches that training would see, and what they hold."""
    from viscy_train.composition.dry_run import dry_run
    from viscy_train.composition.frames import count_frames

    observations, rows, choice = data.table.observations, data.train_rows, data.positive_choice
    _logger.info("composing batches; epochs: %d, processes: %d", cli.config.epochs, cli.config.processes)
    return dry_run(
        data.train_anchors(),
        data.options,
        seed=data.seed,
        loss=cli.make_loss_config(),
        world_size=cli.config.processes,
        epochs=cli.config.epochs,
        labeled=data.train_anchors(labeled=True),
        count_frames=lambda batches: count_frames(batches.assign(row=rows[batches["row"]]), observations, choice),
    )


def _mixing_of_pixels(cli: DataCLI | TrainingCLI, data: RunData) -> PixelMixing | None:
    if cli.config.crops is None:
        return None
    from viscy_train.study.pixels import mixing_of_pixels  # imports torch

    return mixing_of_pixels(data, cli.config.crops, cli.config.model.encoder.features)


def validate(options: list[str], description: str) -> int:
    """Evaluate a checkpoint on the validation anchors."""
    from viscy_train.anchors.staleness import check_plates
    from viscy_train.run.checkpoint import checkpoint_to_evaluate
    from viscy_train.training.lightning_cli import TrainingCLI
    from viscy_train.training.lightning_warnings import quiet_lightning
    from viscy_train.training.refusals import explained_refusals

    cli = TrainingCLI("validate", options, description, keywords_of("validate"))
    _logger.info("making the model and the data, without loggers and callbacks of training")
    trainer, model, data = cli.make_all(training=False)
    if not len(data.validation_rows):
        remedy = "set data.split.by to position" if cli.config.data.split.by == "none" else "raise data.split.fraction"
        raise UserError(f"data.split must keep anchors for validation, got none; {remedy}")
    checkpoint = checkpoint_to_evaluate(cli.run_directory, cli.config.ckpt_path, model)
    if trainer.is_global_zero:
        say(checkpoint.describe())
    check_plates(data.table)
    if not _note_another_table(data, checkpoint, trainer):
        cli.require_split_of_run(checkpoint.path)
    model.load_state_dict(checkpoint.weights)
    _logger.info("embedding the anchors for validation on %s", trainer.strategy.root_device)
    with quiet_lightning(), explained_refusals():
        results = trainer.validate(model, datamodule=data, verbose=False)
    if trainer.is_global_zero:
        for name, value in results[0].items():
            say_result(f"{name}  {value:.4f}")
    return 0


def predict(options: list[str], description: str) -> int:
    """Write the embedding of every cell."""
    from viscy_train.anchors.staleness import check_plates
    from viscy_train.evaluation.predict import gather_predictions, kind_of_output, write_embeddings
    from viscy_train.run.checkpoint import checkpoint_to_evaluate
    from viscy_train.run.provenance import describe_origin
    from viscy_train.training.lightning_cli import TrainingCLI
    from viscy_train.training.lightning_warnings import quiet_lightning
    from viscy_train.training.refusals import explained_refusals

    cli = TrainingCLI("predict", options, description, keywords_of("predict"))
    _logger.info("making the model and the data, without loggers and callbacks of training")
    trainer, model, data = cli.make_all(training=False)
    path = local_path(cli.config.out or cli.run_directory.embeddings, "out")
    checkpoint = checkpoint_to_evaluate(cli.run_directory, cli.config.ckpt_path, model)
    if trainer.is_global_zero:
        say(checkpoint.describe())
    with _on_rank_0(trainer, claimed(path, kind_of_output(path), "predict")):
        check_plates(data.table)
        is_another = _note_another_table(data, checkpoint, trainer)
        if not is_another and not cli.require_split_of_run(checkpoint.path) and trainer.is_global_zero:
            note(f"obs.split is by data.split of this configuration, because no run is around {checkpoint.path}")
        split = _split_of(data, is_another=is_another)
        model.load_state_dict(checkpoint.weights)
        _logger.info("embedding %d observations on %s", len(data.table.observations), trainer.strategy.root_device)
        with quiet_lightning(), explained_refusals():
            outputs: Any = trainer.predict(model, datamodule=data)
            predictions = gather_predictions(outputs or [], trainer, path)
        if predictions is not None:
            metadata = describe_origin("predict", options, checkpoint) | {"config": cli.dump()}
            _logger.info("writing %s", path)
            write_embeddings(path, predictions, data.table, metadata, split)
            say_result(f"Done. Wrote {path}")
    return 0


def export(options: list[str], description: str) -> int:
    """Write the encoder of a checkpoint for other people and other software."""
    import yaml

    from viscy_train.report.export import export_encoder
    from viscy_train.run.checkpoint import checkpoint_to_evaluate
    from viscy_train.run.provenance import describe_origin
    from viscy_train.training.lightning_cli import TrainingCLI

    cli = TrainingCLI("export", options, description, keywords_of("export"))
    cli.require_config_of_run()
    _logger.info("making the model and the data, without loggers and callbacks of training")
    trainer, model, data = cli.make_all(training=False)
    if not trainer.is_global_zero:
        return 0
    checkpoint = checkpoint_to_evaluate(cli.run_directory, cli.config.ckpt_path, model)
    say(checkpoint.describe())
    model.load_state_dict(checkpoint.weights)
    files = export_encoder(
        local_path(cli.config.out or cli.run_directory.path / "export", "out"),
        model.encoder,
        checkpoint,
        data,
        cli.run_directory,
        config=yaml.safe_load(cli.dump()),
        origin=describe_origin("export", options, checkpoint),
        with_onnx=cli.config.onnx,
    )
    say_result(f"Done. Wrote {', '.join(map(str, files))}")
    return 0


def replay(options: list[str], description: str) -> int:
    """Plot the crops of one step of a run."""
    from viscy_train.anchors.fingerprint import FINGERPRINT, check_fingerprint
    from viscy_train.anchors.staleness import check_plates
    from viscy_train.loading.batches import Batch
    from viscy_train.report.replay_plot import PICTURE, plot_replay, write_picture
    from viscy_train.run.batch_record import check_rows
    from viscy_train.run.checkpoint import Checkpoint
    from viscy_train.run.recorded_batch import batch_of_step
    from viscy_train.training.lightning_cli import TrainingCLI

    cli = TrainingCLI("replay", options, description, keywords_of("replay"))
    cli.require_config_of_run()
    data = cli.make_data()
    path = local_path(cli.config.out or cli.run_directory.path / f"step-{cli.config.step}.png", "out")
    with claimed(path, PICTURE, "replay"):
        recorded = batch_of_step(cli.run_directory, cli.config.step, cli.config.rank)
        if (fingerprint := cli.run_directory.read_table_fingerprint()) is not None:
            where = f"the run in {cli.run_directory.path}"
            check_fingerprint({FINGERPRINT: fingerprint}, data.table.fingerprint, where)
        check_plates(data.table)
        data.setup("fit")
        if cli.run_directory.last_checkpoint.exists():
            data.load_state_dict(Checkpoint.read(cli.run_directory.last_checkpoint).data)  # refuses another table
        check_rows(recorded.rows, data.train_rows, cli.run_directory.batches)
        size, key = data.options.batch_size, (recorded.epoch, recorded.number)
        pairs = data.load_pairs(Batch.of_rank(recorded.rows, *key, rank=recorded.rank, batch_size=size))
        where = f"batch {recorded.number} of epoch {recorded.epoch + 1}"
        title = f"Step {recorded.step} of process {recorded.rank}: {where}"
        figure = plot_replay(
            pairs, data.augment(pairs), data.table.observations, data.channels, title, contrast=cli.config.contrast
        )
        write_picture(path, figure)
    say_result(f"Done. Open {path}")
    return 0


def report(options: list[str], description: str) -> int:
    """Write the report of a run again, from its last checkpoint."""
    from viscy_train.anchors.staleness import check_plates
    from viscy_train.evaluation.projection import check_projection
    from viscy_train.report.html import REPORT
    from viscy_train.report.write import evaluate_and_write_page
    from viscy_train.run.checkpoint import checkpoint_to_evaluate
    from viscy_train.training.fit import untrained_encoder
    from viscy_train.training.lightning_cli import TrainingCLI

    cli = TrainingCLI("report", options, description)
    cli.require_config_of_run()
    _logger.info("making the model and the data, without loggers and callbacks of training")
    trainer, model, data = cli.make_all(training=False)
    if not trainer.is_global_zero:
        return 0
    check_projection(cli.config.evaluation.projection)
    untrained = untrained_encoder(model)
    checkpoint = checkpoint_to_evaluate(cli.run_directory, "last", model)
    with claimed(cli.run_directory.report, REPORT, "report"):
        check_plates(data.table)
        data.setup("fit")
        data.load_state_dict(checkpoint.data)  # refuses another anchor table
        model.load_state_dict(checkpoint.weights)
        loss, device = cli.make_loss_config(), trainer.strategy.root_device
        evaluation = cli.config.evaluation
        named = evaluation.probe, evaluation.time, evaluation.projection
        evaluate_and_write_page(cli.run_directory, untrained, model.encoder, data, loss, device, *named)
    return 0


def _on_rank_0(trainer: Trainer, context: AbstractContextManager[None]) -> AbstractContextManager[None]:
    """Return a context on rank 0, and one that does nothing on the others, which write what rank 0 has claimed."""
    return context if trainer.is_global_zero else nullcontext()


def _note_another_table(data: PairDataModule, checkpoint: Checkpoint, trainer: Trainer) -> bool:
    """Say that the table is not the one that a checkpoint was trained on, as when a model is applied to a new plate.

    Returns
    -------
    bool
        Whether it is another one.
    """
    from viscy_train.anchors.fingerprint import difference_from_state

    difference = difference_from_state(checkpoint.data, data.table.fingerprint)
    if difference and trainer.is_global_zero:
        note(f"the anchor table is not the one that the checkpoint was trained on ({difference})")
    return bool(difference)


def _split_of(data: PairDataModule, *, is_another: bool) -> Categorical:
    """Return the split of each row of the table; none of them was trained on if the table is another one."""
    from viscy_train.evaluation.predict import split_of_rows

    none = np.empty(0, dtype=np.int64)
    parts = (none, none) if is_another else (data.train_rows, data.validation_rows)
    return split_of_rows(len(data.table.observations), *parts)
