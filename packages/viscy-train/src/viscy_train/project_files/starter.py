"""Starter: the files of a project from plates, with comments where the user must decide."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from viscy_train.errors import UserError
from viscy_train.plates.layouts import enumerate_names, stem
from viscy_train.project_files.config_file import ConfigDraft, config_text
from viscy_train.project_files.draft import Draft, unique_names
from viscy_train.project_files.experiments_file import experiments_text
from viscy_train.project_files.importer import differ_in_channels
from viscy_train.project_files.new_files import check_new, write_files
from viscy_train.project_files.survey import Survey, survey_plate
from viscy_train.project_files.track_count import count_anchors
from viscy_train.project_files.tracks_beside import find_tracks
from viscy_train.wording import shorten

if TYPE_CHECKING:
    from pathlib import Path

_HEADER = (
    "Written by `viscy-train init`. Fill in what is empty, and check the rest.",
    "Relative paths start at the directory of this file.",
)
_ENOUGH_POSITIONS = 5


def start_project(plates: list[Path], out: Path) -> list[str]:
    """Write `experiments.yaml` and `config.yaml` for plates that nobody has described yet.

    Parameters
    ----------
    plates : list of pathlib.Path
        The plates; each becomes an experiment.
    out : pathlib.Path
        Directory to write to.

    Returns
    -------
    list of str
        What was found, and what to fill in.

    Raises
    ------
    UserError
        If a path is not a plate, two are the same, or one of the files exists.
    """
    check_new(out)
    resolved = [plate.resolve() for plate in plates]
    if len(set(resolved)) < len(resolved):
        raise UserError(f"plates must differ, got {', '.join(map(str, plates))}")
    surveys = [survey_plate(plate) for plate in plates]
    drafts = [_draft(survey) for survey in surveys]
    for draft, name in zip(drafts, unique_names(draft.name for draft in drafts), strict=True):
        draft.name = name
    config = _config(surveys, one_channel=differ_in_channels(drafts), n_anchors=count_anchors(drafts))
    write_files(out, experiments_text(drafts, _HEADER, out), config_text(config))
    return [
        line
        for draft, survey in zip(drafts, surveys, strict=True)
        for line in (_summary(draft, survey), *(f"  {line}" for line in _left_out(survey)), *_open(draft))
    ]


def _draft(survey: Survey) -> Draft:
    positions = [name for names in survey.positions.values() for name in names]
    draft = Draft(
        name=re.sub(r"\s+", " ", stem(survey.path)).strip() or "experiment",
        plate=survey.path,
        tracks=find_tracks(survey.path, positions[:_ENOUGH_POSITIONS]),
        channels=survey.channels,
        conditions=_conditions(survey),
        minutes_per_frame=_minutes_per_frame(survey),
    )
    draft.notes = [_facts(survey), *(f"{line[:1].upper()}{line[1:]}." for line in _left_out(survey))]
    draft.comments = {
        "tracks": "A file, or a directory with a file for each position; what track formats there are is in the README."
        if draft.tracks is None
        else "Found by its name.",
        "channels": _about_channels(survey),
        "conditions": _about_conditions(survey),
        "minutes_per_frame": _about_minutes(survey),
        "hour_of_infection": "Hours from the first frame to the infection or treatment, negative if it was before.",
    }
    return draft


def _conditions(survey: Survey) -> dict[str, str | None]:
    """Return each well or image without a condition; a folder of images has its name as condition."""
    is_folder = {key: not survey.has_wells and survey.positions[key] != [key] for key in survey.positions}
    return {key: key if is_folder[key] else None for key in survey.positions}


def _minutes_per_frame(survey: Survey) -> float | None:
    return 60.0 if _is_still(survey) else survey.minutes_per_frame


def _is_still(survey: Survey) -> bool:
    return all(shape[0] == 1 for shape in survey.shapes)


def _facts(survey: Survey) -> str:
    """Return a sentence on the images of a plate."""
    frames, _, slices, height, width = (_range(lengths) for lengths in zip(*survey.shapes, strict=True))
    sides = survey.micrometers_per_pixel
    scale = f"{' and '.join(f'{side:g}' for side in sides)} micrometers per pixel" if sides else "scale unknown"
    n = sum(map(len, survey.positions.values()))
    wells = f"{_count(len(survey.positions), 'well')} with {_count(n, 'field')} of view"
    images = wells if survey.has_wells else _count(n, "image")
    size = f"{_count(frames, 'frame')}, {_count(slices, 'slice')}, {height} x {width} pixels"
    return f"{images}, {size}, {scale}."


def _left_out(survey: Survey) -> list[str]:
    """Return which wells, images and channels are not in the files, and why, a line for each reason."""
    lines = [f"left out: {enumerate_names(keys)} ({reason})" for reason, keys in survey.left_out.items()]
    others = [f"{name} (only in {enumerate_names(keys)})" for name, keys in survey.other_channels.items()]
    lines += [f"left out: channel {channel}" for channel in others]
    return shorten(lines, "left out for other reasons: {} more")


def _range(lengths: tuple[int, ...]) -> str:
    return f"{min(lengths)}" if len(set(lengths)) == 1 else f"{min(lengths)} to {max(lengths)}"


def _count(n: int | str, thing: str) -> str:
    return f"{n} {thing}" if str(n) == "1" else f"{n} {thing}s"


def _about_channels(survey: Survey) -> str:
    return (
        "Channels that the encoder sees; remove the others. A mapping gives the marker of each: "
        f"{{{survey.channels[0] if survey.channels else 'GFP'}: SEC61B}}."
    )


def _about_conditions(survey: Survey) -> str:
    if None not in _conditions(survey).values():
        return "The condition of the images in each folder: by default, the name of the folder."
    what = "each well (or field of view, such as A/1/0)" if survey.has_wells else "each image"
    return f"The condition of {what}, such as mock or infected. Remove what is not to be used."


def _about_minutes(survey: Survey) -> str:
    if _is_still(survey):
        return "There is a single frame, so any number will do."
    return "Time between two frames" + (
        "." if survey.minutes_per_frame is None else ", from the metadata of the images."
    )


def _config(surveys: list[Survey], *, one_channel: bool, n_anchors: int | None) -> ConfigDraft:
    sides = [survey.micrometers_per_pixel for survey in surveys]
    shapes = [shape for survey in surveys for shape in survey.shapes]
    n_positions = min(sum(map(len, survey.positions.values())) for survey in surveys)
    return ConfigDraft(
        scales=tuple(side for several in sides for side in several),
        all_known=all(sides),
        side=min(min(shape[3:]) for shape in shapes),
        n_slices=max(shape[2] for shape in shapes),
        n_frames=max(shape[0] for shape in shapes),
        one_channel=one_channel,
        keeps_positions=n_positions >= _ENOUGH_POSITIONS,
        n_anchors=n_anchors,
    )


def _summary(draft: Draft, survey: Survey) -> str:
    names = ", ".join(survey.channels)
    found = f"tracks in {draft.tracks}" if draft.tracks is not None else "no tracks found beside the plate"
    return f"{draft.name}: {_facts(survey).rstrip('.')}; channels {names}; {found}"


def _open(draft: Draft) -> list[str]:
    """Return what must be filled in, as a line for the user."""
    keys = [name for name in ("tracks", "minutes_per_frame") if getattr(draft, name) is None]
    keys += ["conditions"] * (None in draft.conditions.values())
    return [f"  fill in: {', '.join(keys)}"] if keys else []
