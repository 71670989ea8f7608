"""Which columns of a table mean what: chosen at the first ingest, the same for every night."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from catalogs.cutouts import layout
from catalogs.errors import InputError
from catalogs.schema import LABEL_COLUMN, ClassMap

RA_NAMES = ("ra", "RA", "Ra", "raj2000", "RAJ2000", "ra_deg", "right_ascension")
DEC_NAMES = ("dec", "DEC", "Dec", "decj2000", "DECJ2000", "DEJ2000", "dec_deg", "declination")


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """How a table becomes a survey, or a further night of one.

    Attributes
    ----------
    id_column : str, optional
        Column of unique identifiers, integers or text; by default that of the first ingest, or
        ``id``.
    ra, dec : str, optional
        Position columns, degrees or sexagesimal; by default those of the first ingest, or found
        by their usual names.
    classes : ClassMap, optional
        Makes the column ``label`` from the values of ``class_column``; a night's are the survey's.
    class_column : str, optional
        The column that ``classes`` speaks of; found by its values when not given.
    max_bad : float
        Largest fraction of rows that may be quarantined.
    crop : int, optional
        Pixels around the centre that a classifier should see, when not the bundle's own number.
    append : bool
        Add the rows to a survey that exists.
    night : str, optional
        What these rows are called, such as the night's date; their number by default.
    """

    id_column: str | None = None
    ra: str | None = None
    dec: str | None = None
    classes: ClassMap | None = None
    class_column: str | None = None
    max_bad: float = 0.05
    crop: int | None = None
    append: bool = False
    night: str | None = None


def as_before(settings: IngestSettings, survey: layout.StoreAttributes) -> IngestSettings:
    """Return a night's settings, with those of the first ingest where nothing is said.

    Raises
    ------
    InputError
        Labels or the crop would mean something else than before.
    """
    first = survey.provenance  # a simulated survey has none
    classes = None if first.get("classes") is None else ClassMap.parse(first["classes"])
    for flag, given, there in (
        ("--classes", settings.classes, classes),
        ("--crop", settings.crop, survey.crop),
    ):
        if given is not None and given != there:
            raise InputError(
                f"{flag} {given} is not what the survey {survey.name} was begun with "
                f"({'none' if there is None else there}); leave it out"
            )
    return replace(
        settings,
        id_column=settings.id_column or first.get("id"),
        ra=settings.ra or first.get("ra"),
        dec=settings.dec or first.get("dec"),
        classes=classes,
        class_column=settings.class_column or first.get("class_column"),
    )


@dataclass(frozen=True, slots=True)
class Recipe:
    """The columns of one table, all of which exist; see `IngestSettings`."""

    id_column: str
    ra: str
    dec: str
    classes: ClassMap | None
    class_column: str | None

    def to_provenance(self) -> dict[str, Any]:
        """Return what `as_before` reads."""
        return {
            "id": self.id_column,
            "ra": self.ra,
            "dec": self.dec,
            "classes": None if self.classes is None else str(self.classes),
            "class_column": self.class_column,
        }


def resolve(settings: IngestSettings, names: Sequence[str], table: Path) -> Recipe:
    """Return the columns of a table that are meant.

    Raises
    ------
    InputError
        One does not exist, or the table has a ``label`` already.
    """
    id_column = settings.id_column or "id"
    listed = ", ".join(names[:20])
    for name in (id_column, settings.ra, settings.dec):
        if name is not None and name not in names:
            raise InputError(f"{table} has no column {name!r}; it has {listed}")
    if settings.class_column is not None and settings.class_column not in names:
        raise InputError(f"no column {settings.class_column!r} for --classes; it has {listed}")
    if settings.classes is not None and LABEL_COLUMN in names:
        raise InputError(
            f"the table has a column {LABEL_COLUMN!r} already; rename it, or leave out --classes"
        )
    return Recipe(
        id_column=id_column,
        ra=settings.ra or _usual(names, RA_NAMES, "right ascension", "--ra"),
        dec=settings.dec or _usual(names, DEC_NAMES, "declination", "--dec"),
        classes=settings.classes,
        class_column=settings.class_column,
    )


def _usual(columns: Sequence[str], names: Sequence[str], what: str, flag: str) -> str:
    for name in names:
        if name in columns:
            return name
    raise InputError(
        f"no column is named like {what}; name it with {flag} (columns: {', '.join(columns[:20])})"
    )
