"""Dialects: the names that programs give to the columns of a table of tracks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from viscy_train.experiments.track_options import AUTO, POSITION_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_SAME = {name: name for name in ("track_id", "t", "y", "x")}
# Names of coordinates in examples of laptrack and in tables of scikit-image, in which a third axis comes first.
_COORDINATES = (
    ("y", "x"),
    ("position_y", "position_x"),
    ("centroid_y", "centroid_x"),
    ("centroid-1", "centroid-2"),
    ("centroid-0", "centroid-1"),
)
_NUMBER = "ID"
_MOTHERS = ("parent_track_id", "parent")
# The slice of a cell, which is compared with those that crops have.
_Z = "z"


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The columns of a program's tables.

    Parameters
    ----------
    format : str
        A key of `viscy_train.experiments.track_options.FORMATS`.
    columns : dict of str to str
        What each column is in a table of tracks: ``track_id``, ``t``, ``y`` or ``x``. All are required.
    marks : tuple of str
        Other columns by which the program is recognized.
    extra : tuple of str
        Other columns that are read if they are there.
    spelling : dict of str to str
        The name in `extra`, or of `POSITION_COLUMNS`, of each column that a table writes with other capital letters.
    """

    format: str
    columns: dict[str, str]
    marks: tuple[str, ...] = ()
    extra: tuple[str, ...] = field(default=(*_MOTHERS, _Z))
    spelling: dict[str, str] = field(default_factory=dict)

    @property
    def used(self) -> list[str]:
        """All columns that are read, if they are there."""
        return [*self.columns, *self.extra, *POSITION_COLUMNS, *self.spelling]

    def fits(self, names: Collection[str]) -> bool:
        """Whether a table has the required columns."""
        return all(name in names for name in self.columns)

    def spelled(self, names: Collection[str], others: Collection[str]) -> Dialect:
        """Return the dialect with the names of a table that differ in capital letters only.

        Parameters
        ----------
        names : collection of str
            Names of the columns of the table.
        others : collection of str
            Names of columns besides those required, which the table may write in another way.
        """
        written = {name.casefold(): name for name in names}
        different = [name for name in others if name not in names and name.casefold() in written]
        return replace(
            self,
            columns={
                name if name in names else written[name.casefold()]: meaning for name, meaning in self.columns.items()
            },
            spelling={written[name.casefold()]: name for name in different},
        )


# Of several that fit, the first is taken.
DIALECTS = (
    Dialect(
        format="trackmate_csv",
        columns={"TRACK_ID": "track_id", "FRAME": "t", "POSITION_Y": "y", "POSITION_X": "x"},
        extra=("ID", "POSITION_Z"),
    ),
    Dialect(format="ultrack", columns=_SAME, marks=("id", "parent_id", "parent_track_id")),
    Dialect(format="table", columns=_SAME),
    Dialect(format="btrack", columns={"ID": "track_id", "t": "t", "y": "y", "x": "x"}, extra=(*_MOTHERS, _Z, "dummy")),
    Dialect(format="napari", columns={"ID": "track_id", "T": "t", "Y": "y", "X": "x"}),
    *(
        Dialect(
            format=format,
            columns={"track_id": "track_id", "frame": "t", y: "y", x: "x"},
            marks=marks,
            extra=(*_MOTHERS, _Z, *marks),
        )
        for format, marks in (("laptrack", ("tree_id",)), ("table", ()))
        for y, x in _COORDINATES
    ),
    Dialect(format="trackpy", columns={"particle": "track_id", "frame": "t", "y": "y", "x": "x"}),
)
TABLE = DIALECTS[2]
"""Names that most programs use, and those of this project."""
DETECTIONS = tuple(
    Dialect(format="detections", columns={t: "t", y: "y", x: "x"}, extra=())
    for t, y, x in (("t", "y", "x"), ("T", "Y", "X"), ("frame", "y", "x"), ("FRAME", "POSITION_Y", "POSITION_X"))
)
"""Tables in which a row is a cell in a frame, whether or not it is part of a track."""
KNOWN_COLUMNS = frozenset(name for dialect in DIALECTS for name in (*dialect.used, *dialect.marks))
TRACKMATE_LINKS = ("SPOT_SOURCE_ID", "SPOT_TARGET_ID")
LAPTRACK_DIVISIONS = ("parent_track_id", "child_track_id")
BIOTRACKS_OBJECTS = ("cmso_object_id", "cmso_frame_id", "cmso_y_coord", "cmso_x_coord")
BIOTRACKS_LINKS = ("cmso_object_id", "cmso_link_id")
TRACKASTRA_LINKS = ("source_frame", "source_label", "target_frame", "target_label")
COMPANIONS = {
    "trackmate_links": TRACKMATE_LINKS,
    "laptrack_divisions": LAPTRACK_DIVISIONS,
    "trackastra": TRACKASTRA_LINKS,
    "biotracks": BIOTRACKS_OBJECTS,
    "biotracks_links": BIOTRACKS_LINKS,
}
"""Tables that are read together with another file, and their columns."""
MAIN_TABLES = ("trackastra", "biotracks")
"""Those of `COMPANIONS` that are read first."""


def dialect_of(names: Collection[str], stated: str = AUTO) -> Dialect | None:
    """Return the dialect of a table.

    Parameters
    ----------
    names : collection of str
        Names of its columns.
    stated : str, default "auto"
        Format that the configuration states.

    Returns
    -------
    Dialect or None
        None if the table has the columns of none, or not those of the stated one. A table that another program wrote
        with the columns of the stated format is accepted. Capital letters matter only if several dialects differ in
        them.
    """
    candidates = DETECTIONS if stated == "detections" else DIALECTS
    if dialect := _first_that_fits(candidates, names, stated):
        return dialect.spelled(names, [name for name in dialect.extra if name != _NUMBER])
    # Not tables with the column `id`, which may number rows, instead of tracks.
    usual = [dialect for dialect in candidates if _NUMBER not in dialect.columns]
    folded = [name.casefold() for name in names]
    folds = [replace(one, columns={name.casefold(): value for name, value in one.columns.items()}) for one in usual]
    dialect = _first_that_fits(folds, folded, stated)
    if dialect is None or any(folded.count(name) > 1 for name in dialect.columns):
        return None
    return dialect.spelled(names, [*dialect.extra, *POSITION_COLUMNS])


def _first_that_fits(candidates: Iterable[Dialect], names: Collection[str], stated: str) -> Dialect | None:
    for dialect in candidates:
        has_marks = stated != AUTO or all(name in names for name in dialect.marks)
        if stated in (AUTO, dialect.format) and dialect.fits(names) and has_marks:
            return dialect
    return None


def companion_of(names: Collection[str]) -> str | None:
    """Return the key of `COMPANIONS` that a table belongs to."""
    return next((key for key, columns in COMPANIONS.items() if all(name in names for name in columns)), None)
