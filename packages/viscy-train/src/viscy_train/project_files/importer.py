"""Importer: the files of a project from a collection of VisCy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viscy_train.project_files.collection import read_collection
from viscy_train.project_files.config_file import ConfigDraft, config_text
from viscy_train.project_files.experiments_file import experiments_text
from viscy_train.project_files.imported import draft_experiments, lost_lines
from viscy_train.project_files.new_files import check_new, write_files
from viscy_train.project_files.track_count import count_anchors
from viscy_train.wording import count

if TYPE_CHECKING:
    from pathlib import Path

    from viscy_train.project_files.draft import Draft


def import_collection(path: Path, out: Path) -> list[str]:
    """Write `experiments.yaml` and `config.yaml` from a collection of VisCy.

    Parameters
    ----------
    path : pathlib.Path
        The collection.
    out : pathlib.Path
        Directory to write to.

    Returns
    -------
    list of str
        What to tell the user: what was read, what does not match, and what to do next.

    Raises
    ------
    UserError
        If the collection is invalid, or one of the files exists.
    """
    check_new(out)
    collection = read_collection(path)
    drafts, warnings, shapes = draft_experiments(collection)
    header = [
        f"Written by `viscy-train import` from the collection {collection.name}, {path.name}.",
        *([collection.description] if collection.description else []),
        *lost_lines(collection),
        "Relative paths start at the directory of this file. hour_of_infection is counted from the first frame.",
    ]
    scales = tuple(draft.micrometers_per_pixel for draft in drafts if draft.micrometers_per_pixel is not None)
    config = ConfigDraft(
        scales=scales,
        all_known=len(scales) == len(drafts),
        one_channel=differ_in_channels(drafts),
        side=min((min(shape[3:]) for shape in shapes), default=None),
        n_slices=max((shape[2] for shape in shapes), default=1),
        n_frames=max((shape[0] for shape in shapes), default=2),
        n_anchors=count_anchors(drafts),
    )
    write_files(out, experiments_text(drafts, header, out), config_text(config))
    n_entries, markers = len(collection.entries), {marker for draft in drafts for marker in _markers(draft)}
    return [
        f"{count(n_entries, 'experiment')} of the collection became {len(drafts)}, with "
        f"{count(len(markers), 'marker')}",
        *(f"Warning: {warning}" for warning in warnings),
        *(f"{draft.name}: {note}" for draft in drafts for note in draft.notes),
        *lost_lines(collection),
    ]


def differ_in_channels(drafts: list[Draft]) -> bool:
    """Return whether experiments have other markers, or other numbers of them, so that an encoder must see one."""
    return len({tuple(_markers(draft)) for draft in drafts}) > 1


def _markers(draft: Draft) -> list[str]:
    return list(draft.channels.values()) if isinstance(draft.channels, dict) else draft.channels
