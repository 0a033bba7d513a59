"""Commands that compare compositions: `study` on made-up worlds, `compare` on a project."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viscy_train.cli.options import DEFAULT_STEPS, FURTHER, keywords_of, make_parser
from viscy_train.config.suggestions import parse
from viscy_train.console import say, say_result
from viscy_train.errors import UserError
from viscy_train.output import in_use
from viscy_train.remote.path import local_path
from viscy_train.study.sizes import SIZES
from viscy_train.wording import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viscy_train.loading.run_data import RunData
    from viscy_train.study.arms import Arm
    from viscy_train.study.cases import Case
    from viscy_train.study.conclude import Comparison
    from viscy_train.study.outcome import Outcome
    from viscy_train.study.study_folder import StudyFolder

_MADE_UP = "The worlds are made up. They show what a composition can do, not what it does to your cells: run compare."
_SAME_NUCLEI = (
    "All seeds of HeLa have the same nuclei: a seed draws their looks, what is held out, the initial weights and the "
    "batches. Its intervals do not say what other nuclei would show, and are too narrow for that."
)
_ONE_PROCESS = (
    "Arms of several processes were trained on one, which adds up their gradients, or has their batches in one if all "
    "are compared; up to rounding, that is the same."
)
_FEW_STEPS = "Runs are short. Differences may shrink or grow with longer training: repeat with more --steps."


def run_study_command(options: list[str], description: str) -> int:
    """Compare compositions on made-up worlds, and return the exit code."""
    values = parse(make_parser("study", description), options)
    from viscy_train.study.conclude import Comparison, data_of_config
    from viscy_train.study.made_up import HELA, made_up_trials
    from viscy_train.study.summary import Units

    size, of_all = SIZES[values.size], _arms(values.arms)
    further = _arms(FURTHER)[len(of_all) :] if values.arms is None and size.with_further_arms else []
    arms = [*of_all, *further]
    with in_use(values.out, "study"):
        command = shlex.join(["viscy-train", "study", *options])
        folder = _open(values.out, {"size": values.size, "arms": _settings_of(arms)}, command)
        trials = made_up_trials(values.out / "worlds", size, of_all, values.seeds, further)
        worlds = list(dict.fromkeys(trial.case.world for trial in trials))
        say(f"{len(trials):,} runs: {len(worlds)} worlds, {len(arms)} compositions")
        _run(trials, folder, values.processes, "study")
        configs = {trial.case.world: trial.case.config for trial in trials}
        data_of = {world: data_of_config(config) for world, config in configs.items()}
        comparison = Comparison(trials=trials, units=Units.of_study())
        title = "Does a composition pay? Made-up worlds"
        caveats = [_MADE_UP, *([_SAME_NUCLEI] if HELA in worlds else []), *_on_processes(arms)]
        _finish(folder, [comparison], arms, title=title, command=command, data_of=data_of, caveats=caveats)
    return 0


def compare(options: list[str], description: str) -> int:
    """Compare compositions on a project, and return the exit code."""
    from viscy_train.cli.parsing import parse_for_data
    from viscy_train.composition.pixel_mixing import SUGGESTED_CROPS, describe_pixels
    from viscy_train.study.arms import REFERENCES
    from viscy_train.study.conclude import Comparison, find_pitfalls_of
    from viscy_train.study.pixels import mixing_of_pixels
    from viscy_train.study.summary import Units
    from viscy_train.study.trial import make_trials

    cli = parse_for_data("compare", options, description, keywords_of("compare"))
    config, data = cli.config, cli.make_data()
    hold_out, arms = config.hold_out, _arms(config.arms)
    n_steps = config.steps or (config.trainer.max_steps if config.trainer.max_steps > 0 else DEFAULT_STEPS)
    out = local_path(config.out or cli.run_directory.path.parent / "compare", "out")
    command = shlex.join(["viscy-train", "compare", *options])
    with in_use(out, "compare"):
        folder, cases = _open_project(out, cli, data, arms, hold_out, n_steps, command)
        pixels = mixing_of_pixels(data, SUGGESTED_CROPS, config.model.encoder.features, cases[0].crops)
        if pixels is not None:
            say(describe_pixels(pixels, len(data.experiments)))
        for sentence in find_pitfalls_of(data, None if pixels is None else pixels.value):
            say(f"  - {sentence}")
        if len(data.experiments) == 1:
            say("  - there is one experiment: arms by experiment compose batches as those without")
        if data.train_anchors(labeled=True)["condition"].nunique() == 1:
            say("  - there is one condition: arms by condition compose batches as those without, and none is predicted")
        seeds = [data.seed + number for number in range(config.seeds)]
        trials = make_trials(cases, arms, seeds, n_steps)
        folds = count(len(cases), "experiment") if hold_out == "experiment" else f"{len(cases)} groups of positions"
        say(
            f"{len(trials):,} runs: {folds} held out in turn, {count(len(seeds), 'seed')}, {len(arms)} compositions "
            f"with {count(n_steps, 'step')} each, {len(REFERENCES)} references without training"
        )
        _run(trials, folder, config.processes, "compare")
        comparison = Comparison(trials=trials, units=Units.of_folds(hold_out, len(cases)))
        title = f"Does a composition pay? {cases[0].world}"
        data_of, caveats = {cases[0].world: data}, [_FEW_STEPS, *_on_processes(arms)]
        _finish(folder, [comparison], arms, title=title, command=command, data_of=data_of, caveats=caveats)
    return 0


def _arms(path: str | None) -> Sequence[Arm]:
    from viscy_train.study.arms import ARMS, SHIPPED, read_arms

    return ARMS if path is None else read_arms(SHIPPED if path == FURTHER else Path(path))


def _on_processes(arms: Sequence[Arm]) -> list[str]:
    return [_ONE_PROCESS] if any(arm.n_processes > 1 for arm in arms) else []


def _open(out: Path, settings: dict[str, Any], command: str) -> StudyFolder:
    from viscy_train.run.provenance import collect_versions
    from viscy_train.study.study_folder import StudyFolder

    return StudyFolder(out, settings, {"command": command, "versions": collect_versions()})


def _settings_of(arms: Sequence[Arm]) -> dict[str, Any]:
    return {arm.name: arm.overrides for arm in arms}


def _open_project(
    out: Path, cli: Any, data: RunData, arms: Sequence[Arm], hold_out: str, n_steps: int, command: str
) -> tuple[StudyFolder, list[Case]]:
    """Open the folder of a comparison, and write what its runs read: the configuration and the crops."""
    from viscy_train.anchors.staleness import check_sources
    from viscy_train.study.arms import check_arms
    from viscy_train.study.cases import experiment_folds, position_folds
    from viscy_train.study.crop_cache import cache_crops
    from viscy_train.study.plain_config import plain_config, write_plain_config
    from viscy_train.training.data_cli import make_data_parser

    check_sources(data.table)
    make_folds = experiment_folds if hold_out == "experiment" else position_folds
    world = cli.run_directory.path.parent.resolve().name or "project"
    make_folds(data.table, world, out / "config.yaml")  # refuses what cannot be held out
    plain = plain_config(cli.config)
    settings = {"config": plain, "anchors": data.table.fingerprint, "hold_out": hold_out, "steps": n_steps}
    parser = make_data_parser("viscy-train compare", "", {})
    # Before anything is written, so that the command can be repeated with other arms.
    check_arms(arms, parser.parse_object(plain), parser)
    _check_samplers(arms, parser.parse_object(plain), parser, data)
    folder = _open(out, settings | {"arms": _settings_of(arms)}, command)
    write_plain_config(cli.config, out / "config.yaml")
    crops = cache_crops(data, out / "crops.npy")
    return folder, make_folds(data.table, world, out / "config.yaml", crops)


def _check_samplers(arms: Sequence[Arm], config: Any, parser: Any, data: RunData) -> None:
    """Refuse arms whose batches cannot be composed, before any of them trains."""
    from viscy_train.loading.run_data import RunData
    from viscy_train.loading.sampler import collect_sampler_warnings
    from viscy_train.training.data_cli import make_data

    for arm in arms:
        of_arm = make_data(arm.apply(config, parser), RunData)
        of_arm.table = data.table
        try:
            with collect_sampler_warnings():
                of_arm.make_sampler()
        except UserError as error:
            raise UserError(f"arm {arm.name!r}: {error}") from error


def _run(trials: Sequence[Any], folder: StudyFolder, processes: int | None, command: str) -> None:
    import torch

    from viscy_train.study.schedule import count_processors, run_study

    try:
        if torch.cuda.is_available():
            run_study(trials, folder, processes=1, accelerator="gpu")
        else:
            run_study(trials, folder, processes=processes or count_processors(), command=command)
    except KeyboardInterrupt:
        n = sum(trial in folder for trial in trials)
        say(f"{n:,} of {count(len(trials), 'run')} finished and kept; repeat the command to continue")
        raise


def _finish(folder: StudyFolder, comparisons: list[Comparison], arms: Sequence[Arm], **options: Any) -> None:
    from viscy_train.study.conclude import PAGE, conclude, write_outcome
    from viscy_train.study.terminal import print_outcome

    outcome: Outcome = conclude(folder, comparisons, arms, **options)
    write_outcome(folder.path, outcome)
    print_outcome(outcome)
    say_result(f"Done. Open {folder.path / PAGE}")
