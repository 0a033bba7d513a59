"""Collections of VisCy: the YAML file that lists experiments, channels and wells for its cell index, at 4b62365c."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viscy_train.config.checks import require, require_above_0, require_name, require_number
from viscy_train.errors import UserError
from viscy_train.experiments.columns import RESERVED
from viscy_train.experiments.spelling import meant_by
from viscy_train.project_files.as_written import read_as_written

if TYPE_CHECKING:
    from collections.abc import Iterable

_ROOT = "${datasets_root}"
_TOP_KEYS = ("name", "description", "datasets_root", "provenance", "experiments", "fov_records")
# Keys of an entry that become keys of an experiment. Others become metadata.
_ENTRY_KEYS = (
    "name",
    "data_path",
    "tracks_path",
    "channels",
    "channel_names",
    "perturbation_wells",
    "interval_minutes",
    "start_hpi",
    "marker",
    "pixel_size_xy_um",
    "pixel_size_z_um",
    "exclude_fovs",
)
# Keys of an entry with a meaning in VisCy that become metadata.
_DESCRIPTIONS = ("organelle", "date", "moi", "microscope")
_CHANNEL_KEYS = ("name", "marker", "wells")
_DEFAULT_MINUTES = 30.0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An experiment of a collection: some channels of some wells of a plate.

    Parameters
    ----------
    name : str
        Its name.
    plate : pathlib.Path
        HCS plate.
    tracks : pathlib.Path, optional
        Directory of tracks.
    channels : dict of str to tuple
        The marker of each channel, and the wells that have it; all wells if there are none.
    wells : dict of str to str
        Perturbation of each well.
    minutes_per_frame : float
        Minutes between frames.
    start_hpi : float
        Hours post infection of the first frame.
    micrometers_per_pixel, micrometers_per_slice : float, optional
        Physical scale.
    excluded : frozenset of str
        Positions that are not used.
    metadata : dict
        Other keys with a text, number or boolean.
    lost : dict
        Keys that have no counterpart.
    """

    name: str
    plate: Path
    tracks: Path | None
    channels: dict[str, tuple[str, frozenset[str]]]
    wells: dict[str, str]
    minutes_per_frame: float
    start_hpi: float
    micrometers_per_pixel: float | None
    micrometers_per_slice: float | None
    excluded: frozenset[str]
    metadata: dict[str, Any]
    lost: dict[str, Any]

    def channels_of(self, well: str) -> dict[str, str]:
        """Return the channels that a well has, and the marker of each."""
        return {name: marker for name, (marker, wells) in self.channels.items() if not wells or well in wells}


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A collection of VisCy.

    Parameters
    ----------
    name : str
        Its name.
    description : str
        Its description.
    entries : list of Entry
        Its experiments.
    records : list of dict
        What is known about fields of view, from a database.
    lost : dict
        Other keys of the file.
    warnings : list of str
        What was assumed, or could not be used.
    """

    name: str
    description: str
    entries: list[Entry]
    records: list[dict[str, Any]]
    lost: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def read_collection(path: Path) -> Collection:
    """Read a collection.

    Parameters
    ----------
    path : pathlib.Path
        YAML file with the keys ``name`` and ``experiments``.

    Raises
    ------
    UserError
        If the file is not a collection, or an entry lacks what every experiment needs.
    """
    content = read_as_written(path)
    is_collection = isinstance(content, dict) and isinstance(content.get("experiments"), list)
    require(is_collection, f"{path} must be a collection of VisCy, a mapping with a list `experiments`", content)
    warnings: list[str] = []
    root = content.get("datasets_root")
    entries = [
        _entry(path, number, values, str(root) if root else None, warnings)
        for number, values in enumerate(content["experiments"])
    ]
    names = [entry.name for entry in entries]
    require(bool(entries), f"{path}: experiments must not be empty", content["experiments"])
    require(len(set(names)) == len(names), f"{path}: experiments must have different names", names)
    records = content.get("fov_records") or []
    require(isinstance(records, list), f"{path}: fov_records must be a list", records)
    lost = {key: value for key, value in content.items() if key not in _TOP_KEYS}
    warnings += _misspelled(lost, _TOP_KEYS, "is not used")
    provenance = content.get("provenance")
    return Collection(
        name=str(content.get("name", path.stem)),
        description=str(content.get("description") or ""),
        entries=entries,
        records=[record if isinstance(record, dict) else {} for record in records],
        lost=({"provenance": provenance} if provenance else {}) | lost,
        warnings=warnings,
    )


def _entry(path: Path, number: int, values: Any, root: str | None, warnings: list[str]) -> Entry:
    """Return an item of the list of experiments."""
    require(isinstance(values, dict), f"{path}: experiments.{number} must be a mapping", values)
    name = values.get("name")
    require_name(f"{path}: name of experiments.{number}", name)
    where = f"{path}: {{}} of experiment {name!r}"
    plate = _path(path, where.format("data_path"), values.get("data_path"), root)
    if plate is None:
        raise UserError(f"{where.format('data_path')} must be a path, got {values.get('data_path')!r}")
    numbers = {key: _number(where.format(key), values.get(key)) for key in ("interval_minutes", "start_hpi")}
    sizes = {key: _number(where.format(key), values.get(key)) for key in ("pixel_size_xy_um", "pixel_size_z_um")}
    for key, size in sizes.items():
        if size is not None:
            require_above_0(where.format(key), size)
    minutes = _minutes(str(name), where, numbers["interval_minutes"], warnings)
    if numbers["start_hpi"] is None:
        warnings.append(f"{name}: start_hpi is missing; 0 assumed, so the first frame is the time of infection")
    extra = {key: value for key, value in values.items() if key not in _ENTRY_KEYS and value not in (None, "", [], {})}
    scalars = {key: value for key, value in extra.items() if _is_metadata(key, value)}
    # VisCy writes 0 for an unknown multiplicity of infection.
    if scalars.get("moi") == 0:
        del scalars["moi"]
        warnings.append(f"{name}: moi is 0, which VisCy writes for an unknown value, and is left out")
    channels = _channels(where, values, warnings)
    excluded = values.get("exclude_fovs") or []
    require(isinstance(excluded, list), f"{where.format('exclude_fovs')} must be a list", excluded)
    lost = {key: value for key, value in extra.items() if not _is_metadata(key, value)}
    for keys, what in ((scalars, "becomes metadata"), (lost, "is not used")):
        known = (*_ENTRY_KEYS, *_DESCRIPTIONS)
        warnings += [f"{name}: {one}" for one in _misspelled(keys, known, what)]
    marker = values.get("marker")
    if marker and marker not in {one for one, _ in channels.values()}:
        lost["marker"] = marker
    return Entry(
        name=str(name),
        plate=plate,
        tracks=_path(path, where.format("tracks_path"), values.get("tracks_path"), root),
        channels=channels,
        wells=_wells(where, values, warnings),
        minutes_per_frame=minutes,
        start_hpi=numbers["start_hpi"] or 0.0,
        micrometers_per_pixel=sizes["pixel_size_xy_um"],
        micrometers_per_slice=sizes["pixel_size_z_um"],
        excluded=frozenset(str(one).strip("/") for one in excluded),
        metadata=scalars,
        lost=lost,
    )


def _path(collection: Path, what: str, value: Any, root: str | None) -> Path | None:
    """Return a path; a relative one starts at the working directory, as in VisCy, or at that of the collection."""
    if value in (None, ""):
        return None
    require(isinstance(value, str), f"{what} must be a path", value)
    if _ROOT in value:
        require(root is not None, f"{what} needs the key `datasets_root` of the collection", value)
        value = value.replace(_ROOT, str(root).rstrip("/"))
    path = Path(value).expanduser()
    beside = collection.parent / path
    return beside.absolute() if not path.is_absolute() and beside.exists() else path.absolute()


def _number(what: str, value: Any) -> float | None:
    if value is None:
        return None
    require_number(what, value)
    return float(value)


def _minutes(name: str, where: str, minutes: float | None, warnings: list[str]) -> float:
    """Return the minutes between frames, which a collection may lack, or state as 0 for images without time."""
    if minutes:
        require(minutes > 0, f"{where.format('interval_minutes')} must be at least 0", minutes)
        return minutes
    assumed = f"{_DEFAULT_MINUTES:g} assumed"
    if minutes is None:
        warnings.append(f"{name}: interval_minutes is missing; {assumed}, as VisCy does")
    else:
        warnings.append(f"{name}: interval_minutes is 0; {assumed}, which matters unless images have one frame")
    return _DEFAULT_MINUTES


def _misspelled(keys: Iterable[Any], known: tuple[str, ...], what: str) -> list[str]:
    """Return a warning for each key that is probably a misspelling of a known one."""
    meant = {str(key): meant_by(str(key), known) for key in keys if key not in known}
    return [f"the key {key!r} {what}; write {other!r} if it is meant" for key, other in meant.items() if other]


def _is_metadata(key: str, value: Any) -> bool:
    is_value = isinstance(value, (str, bool)) or (isinstance(value, (int, float)) and math.isfinite(value))
    return is_value and key not in RESERVED


def _channels(where: str, values: dict[str, Any], warnings: list[str]) -> dict[str, tuple[str, frozenset[str]]]:
    listed = values.get("channels") or [{"name": name, "marker": name} for name in values.get("channel_names") or []]
    what = where.format("channels")
    require(isinstance(listed, list) and bool(listed), f"{what} must be a non-empty list", listed)
    channels = {}
    for channel in listed:
        require(isinstance(channel, dict) and "name" in channel, f"{what} must have a name each", channel)
        marker, wells = channel.get("marker") or channel["name"], channel.get("wells") or []
        require(channel["name"] not in channels, f"{what} must have different names", channel["name"])
        if not channel.get("marker"):
            warnings.append(f"{values['name']}: channel {channel['name']} has no marker; its name is used")
        unused = channel.keys() - set(_CHANNEL_KEYS)
        for one in _misspelled(unused, _CHANNEL_KEYS, f"of channel {channel['name']} is not used"):
            warnings.append(f"{values['name']}: {one}")
        channels[str(channel["name"])] = (str(marker), frozenset(str(well) for well in wells))
    return channels


def _wells(where: str, values: dict[str, Any], warnings: list[str]) -> dict[str, str]:
    by_condition = values.get("perturbation_wells")
    what = where.format("perturbation_wells")
    if not isinstance(by_condition, dict) or not by_condition:
        raise UserError(f"{what} must be a non-empty mapping of perturbations to wells, got {by_condition!r}")
    wells: dict[str, str] = {}
    for condition, names in by_condition.items():
        require(isinstance(names, list), f"{what} must list the wells of {condition!r}", names)
        for name in map(str, names):
            if wells.setdefault(name, str(condition)) != str(condition):
                kept = wells[name]
                warnings.append(f"{values['name']}: well {name} is {kept} and {condition}; {kept} is kept, correct it")
    return wells
