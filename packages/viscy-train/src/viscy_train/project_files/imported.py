"""Imported experiments: the entries of a collection as experiments, with comments on what has no counterpart.

Each entry becomes an experiment of the same name, so batches are composed as in VisCy. Several entries may have the
same wells in different channels. If some channels of an entry are only valid in some of its wells, these channels
become an experiment of their own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from viscy_train.errors import UserError
from viscy_train.experiments.columns import RESERVED
from viscy_train.experiments.interval import IMAGES, contrary_intervals
from viscy_train.plates.plate import open_plate
from viscy_train.project_files.draft import Draft, unique_names
from viscy_train.project_files.experiments_file import flow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from viscy_train.plates.plate import Plate
    from viscy_train.plates.position_image import PositionImage
    from viscy_train.project_files.collection import Collection, Entry

# What a record of a field of view says about its images, which the plates say themselves, or its entry.
_OF_PLATE = ("dataset", "well_id", "fov", "data_path", "tracks_path", "channel_names", "channel_markers", "record_id")
_OF_ENTRY = ("time_interval_min", "hours_post_perturbation", "perturbation", "marker", "organelle")

# Scales that differ by less than this are equal.
_TOLERANCE = 0.03
_SCALES = {"pixel_size_xy_um": "micrometers_per_pixel", "pixel_size_z_um": "micrometers_per_slice"}


def draft_experiments(collection: Collection) -> tuple[list[Draft], list[str], list[tuple[int, ...]]]:
    """Return the experiments of a collection.

    Parameters
    ----------
    collection : Collection
        The collection.

    Returns
    -------
    drafts : list of Draft
        Its experiments.
    warnings : list of str
        What does not match the plates, as far as they are on this machine, and what must be decided.
    shapes : list of tuple of int
        Shapes of the first images of the wells, as far as they are on this machine.
    """
    warnings = list(collection.warnings)
    plates = _Plates(warnings)
    drafts = []
    used: set[int] = set()
    images: list[PositionImage] = []
    for entry in collection.entries:
        plate = plates.open(entry.name, entry.plate)
        for channels, wells in _parts(entry, warnings):
            draft = _draft(entry, channels, wells)
            used |= _describe_wells(draft, collection.records)
            if plate is not None:
                warnings += [f"{draft.name}: {problem}" for problem in _mismatches(draft, plate, images)]
            _exclude(draft, entry.excluded, plate, warnings)
            drafts.append(draft)
        if unknown := _unknown_fields(entry, plate):
            warnings.append(
                f"{entry.name}: exclude_fovs has {', '.join(unknown)}, which no field of view of its wells is named"
            )
        if entry.tracks is None:
            warnings.append(f"{entry.name}: the collection has no tracks_path; fill in `tracks`")
    for draft, name in zip(drafts, unique_names(draft.name for draft in drafts), strict=True):
        if name != draft.name:
            wells = ", ".join(draft.conditions)
            warnings.append(
                f"{draft.name}: its channels are not valid in the same wells; those of {wells} are the experiment "
                f"{name}"
            )
        draft.name = name
    warnings += _conflicts(drafts)
    n_records = len(collection.records)
    if unused := n_records - len(used):
        warnings.append(
            f"{unused} of {n_records} fov_records are not about a well of the experiments, and are left out"
        )
    return drafts, warnings, [image.shape for image in images]


def _parts(entry: Entry, warnings: list[str]) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Yield the channels that are valid in the same wells, with their markers, and the conditions of these wells."""
    by_wells: dict[tuple[str, ...], dict[str, str]] = {}
    for channel, (marker, wells) in entry.channels.items():
        valid = tuple(well for well in entry.wells if not wells or well in wells)
        if not valid:
            warnings.append(f"{entry.name}: channel {channel} is not valid in any of its wells, and is left out")
            continue
        by_wells.setdefault(valid, {})[channel] = marker
    warnings += [
        f"{entry.name}: channel {channel} is listed for {', '.join(sorted(unknown))}, not among its perturbation_wells"
        for channel, (_, wells) in entry.channels.items()
        if (unknown := wells - entry.wells.keys())
    ]
    for wells, channels in by_wells.items():
        yield channels, {well: entry.wells[well] for well in wells}


def _draft(entry: Entry, channels: dict[str, str], wells: dict[str, str]) -> Draft:
    return Draft(
        name=entry.name,
        plate=entry.plate,
        tracks=entry.tracks,
        channels=channels,
        conditions=dict(wells),
        minutes_per_frame=entry.minutes_per_frame,
        hour_of_infection=0.0 - entry.start_hpi,
        micrometers_per_pixel=entry.micrometers_per_pixel,
        micrometers_per_slice=entry.micrometers_per_slice,
        metadata=dict(entry.metadata),
        notes=[f"Not used: {flow(entry.lost)}."] if entry.lost else [],
    )


def _conflicts(drafts: list[Draft]) -> Iterator[str]:
    """Yield a warning for each pair of experiments with a channel of a well in common."""
    for number, one in enumerate(drafts):
        for other in drafts[:number]:
            wells = [well for well in one.conditions if well in other.conditions]
            channels = [name for name in one.channels if name in other.channels]
            if one.plate == other.plate and wells and channels:
                names = ", ".join(wells)
                yield f"{other.name} and {one.name} both have channel {channels[0]} of {names}; remove one of them"


def _unknown_fields(entry: Entry, plate: Plate | None) -> list[str]:
    """Return the excluded fields of view that its wells do not have, as far as the plate can be read."""
    by_well: dict[str, list[str] | None] = {}
    for well in entry.wells:
        try:
            by_well[well] = None if plate is None else plate.list_positions(well)
        except UserError:
            by_well[well] = None
    unknown = []
    for name in sorted(entry.excluded):
        known = by_well.get(name.rpartition("/")[0], [])
        if known is not None and name not in known:
            unknown.append(name)
    return unknown


def _describe_wells(draft: Draft, records: list[dict[str, Any]]) -> set[int]:
    """Give the wells of a draft what the records of a database say about them and the experiment does not.

    Returns
    -------
    set of int
        Which records are about the draft.
    """
    used = set()
    for number, record in enumerate(records):
        name = _record_name(record, draft)
        if name is None:
            continue
        used.add(number)
        for key, value in _values_of(record):
            known = draft.wells.get(name.rpartition("/")[0], {}).get(key, draft.metadata.get(key))
            if value != known:
                draft.wells.setdefault(name, {})[key] = value
    return used


def _record_name(record: dict[str, Any], draft: Draft) -> str | None:
    """Return the well, or the field of view, that a record is about; None if it is not of this experiment."""
    well, fov, plate = str(record.get("well_id", "")).strip("/"), record.get("fov"), draft.plate
    is_same = plate is not None and (record.get("data_path") == str(plate) or record.get("dataset") == plate.stem)
    if not is_same or well not in draft.conditions:
        return None
    return f"{well}/{fov}" if fov not in (None, "") else well


def _values_of(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        value = " + ".join(map(str, value)) if isinstance(value, list) else value
        unused = key in (*_OF_PLATE, *_OF_ENTRY, *RESERVED) or key.endswith(("_shape", "_um"))
        if not unused and isinstance(value, (str, bool, int, float)) and value != "":
            yield key, value


class _Plates:
    """The plates that are on this machine, each opened once; missing ones are reported once."""

    def __init__(self, warnings: list[str]) -> None:
        self._plates: dict[Path, Plate | None] = {}
        self._warnings = warnings

    def open(self, name: str, path: Path | None) -> Plate | None:
        """Return a plate, or None if it cannot be opened."""
        if path is None:
            return None
        if path not in self._plates:
            try:
                self._plates[path] = open_plate(path)
            except UserError as error:
                self._plates[path] = None
                self._warnings.append(f"{name}: {error}")
        return self._plates[path]


def _mismatches(draft: Draft, plate: Plate, seen: list[PositionImage]) -> Iterator[str]:
    """Yield what a plate lacks, and where its scale or interval is another; append the first image of each well."""
    images: list[PositionImage] = []
    for well in draft.conditions:
        try:
            positions = plate.list_positions(well)
            images += [plate.image(position) for position in positions[:1]]
            images[-1].channel_indices(list(draft.channels)) if positions else None
        except UserError as error:
            yield str(error)
    seen += images
    for key, name in _SCALES.items():
        stated = getattr(draft, name)
        others = {scale for image in images if (scale := _scale(image, name)) and stated and _differ(scale, stated)}
        if others:
            values = " and ".join(f"{scale:g}" for scale in sorted(others))
            yield f"{key} is {stated:g}, but the images have {values} in their metadata; {stated:g} is used"
    intervals = {image.where: image.minutes_per_frame for image in images if image.minutes_per_frame is not None}
    minutes = draft.minutes_per_frame
    if minutes is not None and (contrary := contrary_intervals(IMAGES, intervals, minutes)):
        yield contrary[0]


def _scale(image: PositionImage, name: str) -> float | None:
    try:
        return getattr(image, name)
    except UserError:  # pixels that are not square
        return None


def _differ(one: float, other: float) -> bool:
    return not math.isclose(one, other, rel_tol=_TOLERANCE)


def _exclude(draft: Draft, excluded: frozenset[str], plate: Plate | None, warnings: list[str]) -> None:
    """Replace each well that has excluded positions by its other positions."""
    conditions: dict[str, str | None] = {}
    for well, condition in draft.conditions.items():
        inside = [name for name in excluded if name.rpartition("/")[0] == well]
        try:
            positions = plate.list_positions(well) if plate is not None and inside else None
        except UserError:
            positions = None
        if inside and positions is None:
            names = ", ".join(sorted(inside))
            warnings.append(
                f"{draft.name}: cannot exclude {names}, because the plate cannot be read; list the other fields"
            )
            draft.notes.append(f"To be excluded: {names}. Replace {well} in `conditions` by its other fields of view.")
        kept = [well] if positions is None else [name for name in positions if name not in inside]
        conditions |= dict.fromkeys(kept, condition)
    draft.conditions = conditions


def lost_lines(collection: Collection) -> list[str]:
    """Return comments on the keys of a collection that have no counterpart."""
    return [f"Not used: {flow(collection.lost)}"] if collection.lost else []
