"""From a table and its images to a survey store: every row stored, or quarantined with a reason."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalogs.cutouts import layout
from catalogs.cutouts.columns import WIDEST_TEXT
from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import ImageSource, SurveyInfo, SurveyTable, write_survey
from catalogs.errors import InputError, IntegrityError, SkytallyError, TooManyBadError
from catalogs.parallel import bounded_map
from catalogs.progress import Reporter, Silent
from catalogs.schema import LABEL_COLUMN, ClassMap
from catalogs.sky import BoolArray, IntArray
from catalogs.survey.columns import (
    further_columns,
    identifiers,
    labels,
    plain,
    quarantine_names,
    stored_names,
)
from catalogs.survey.images import find_images
from catalogs.survey.tables import column_names, positions, read_table

RA_NAMES = ("ra", "RA", "Ra", "raj2000", "RAJ2000", "ra_deg", "right_ascension")
DEC_NAMES = ("dec", "DEC", "Dec", "decj2000", "DECJ2000", "DEJ2000", "dec_deg", "declination")


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """How a table becomes a survey.

    Attributes
    ----------
    id_column : str
        Column of unique identifiers, integers or text.
    ra, dec : str, optional
        Position columns, degrees or sexagesimal; found by their usual names when not given.
    classes : ClassMap, optional
        Makes the column ``label`` from the values of ``class_column``.
    class_column : str, optional
        The column that ``classes`` speaks of; found by its values when not given.
    max_bad : float
        Largest fraction of rows that may be quarantined.
    crop : int, optional
        Pixels around the centre that a classifier should see, when not the bundle's own number.
    """

    id_column: str
    ra: str | None = None
    dec: str | None = None
    classes: ClassMap | None = None
    class_column: str | None = None
    max_bad: float = 0.05
    crop: int | None = None


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What became of the rows; ``stored + quarantined`` is the number of rows of the table."""

    stored: int
    quarantined: int
    reasons: dict[str, int]
    unused_images: int


def ingest(
    table: Path, images: str, to: Path, settings: IngestSettings, reporter: Reporter | None = None
) -> IngestResult:
    """Write a survey store from a table and the images that it names.

    The store appears under its name only when whole; see `write_survey` for what a killed
    process leaves.

    Parameters
    ----------
    table : Path
        CSV, Parquet, FITS, VOTable or HATS.
    images : str
        A folder with one image per object, named by its identifier (``ID.jpeg``, ``.jpg``,
        ``.png``); or a column of the table with paths, absolute or from the table's folder.
    to : Path
        The store to make, ``NAME.zarr``.

    Raises
    ------
    InputError
        A file, folder or column is missing or cannot be used, or ``to`` exists.
    TooManyBadError
        More rows than ``max_bad`` have no place on the sky, no image, or are duplicates.
    SkytallyError
        An image vanished meanwhile, or the disk is full or failing.
    """
    if os.path.lexists(to):
        raise InputError(f"{to} exists already; name another store, or remove it first")
    reporter = reporter or Silent()
    names = column_names(table)
    _require(names, settings.id_column, table)
    ra_name = settings.ra or _usual(names, RA_NAMES, "right ascension", "--ra")
    dec_name = settings.dec or _usual(names, DEC_NAMES, "declination", "--dec")
    stored = stored_names(names, {settings.id_column, ra_name, dec_name})
    _check_classes(settings, names)
    as_written = {settings.id_column, settings.class_column, images}
    rows = plain(read_table(table, text_columns=[name for name in names if name in as_written]))
    ra, dec = positions(rows, ra_name, dec_name)
    ids = identifiers(rows.column(settings.id_column), settings.id_column)
    found = find_images(rows, ids, images, table)
    reasons = _reasons(ids, ra, dec, found.reasons)
    good: BoolArray = np.asarray([reason is None for reason in reasons.tolist()], dtype=np.bool_)
    counts = _count(reasons[~good])
    _check_bad(len(good), counts, settings.max_bad)
    columns = further_columns(rows, stored, good, reporter)
    if settings.classes is not None:
        columns[LABEL_COLUMN] = labels(
            settings.classes, rows, list(stored), settings.class_column, good
        )
    kept = np.flatnonzero(good).astype(np.int64)
    survey_table = SurveyTable(
        ids=_id_values(ids.filter(pa.array(good))),
        ra=np.mod(ra[kept], 360.0),
        dec=dec[kept],
        columns=columns,
        input_row=kept,
        quarantine=_quarantine(rows, ids, settings.id_column, reasons, good),
    )
    info = SurveyInfo(
        name=to.stem,
        crop=settings.crop,
        provenance={
            "table": table.name,
            "images": images,
            "id": settings.id_column,
            "ra": ra_name,
            "dec": dec_name,
            "classes": None if settings.classes is None else str(settings.classes),
        },
    )
    write_survey(to, survey_table, _files(found.paths[kept]), info, reporter)
    result = IngestResult(int(good.sum()), int((~good).sum()), counts, found.unused)
    _check_complete(to, rows.num_rows, result)
    return result


def _usual(columns: Sequence[str], names: Sequence[str], what: str, flag: str) -> str:
    for name in names:
        if name in columns:
            return name
    raise InputError(
        f"no column is named like {what}; name it with {flag} (columns: {', '.join(columns[:20])})"
    )


def _require(columns: Sequence[str], name: str, table: Path) -> None:
    if name not in columns:
        raise InputError(f"{table} has no column {name!r}; it has {', '.join(columns[:20])}")


def _check_classes(settings: IngestSettings, columns: Sequence[str]) -> None:
    if settings.class_column is not None and settings.class_column not in columns:
        raise InputError(
            f"no column {settings.class_column!r} for --classes; it has {', '.join(columns[:20])}"
        )
    if settings.classes is not None and LABEL_COLUMN in columns:
        raise InputError(
            f"the table has a column {LABEL_COLUMN!r} already; rename it, or leave out --classes"
        )


def _reasons(
    ids: pa.ChunkedArray, ra: NDArray[Any], dec: NDArray[Any], images: NDArray[Any]
) -> NDArray[Any]:
    """Return why each row cannot be stored (object array of str; None: it can)."""
    reasons = images.copy()
    possible = (dec >= -90) & (dec <= 90) & (ra >= -360) & (ra <= 360)
    reasons[~possible] = "impossible_position"
    reasons[~(np.isfinite(ra) & np.isfinite(dec))] = "no_position"
    stored: set[Any] = set()
    for i, key in enumerate(ids.to_pylist()):
        if key is None:
            reasons[i] = "no_id"
        elif isinstance(key, str) and len(key.encode()) > WIDEST_TEXT:
            reasons[i] = "id_too_long"
        elif reasons[i] is None and key in stored:
            reasons[i] = "duplicate_id"
        elif reasons[i] is None:  # only a row that is stored makes a later one its duplicate
            stored.add(key)
    return reasons


def _count(reasons: NDArray[Any]) -> dict[str, int]:
    names, counts = np.unique(reasons.astype(str), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def _check_bad(rows: int, counts: dict[str, int], max_bad: float) -> None:
    bad = sum(counts.values())
    why = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    if bad == rows:
        raise InputError(f"none of the {rows} rows can be stored ({why}); check table and images")
    if bad > max_bad * rows:
        raise TooManyBadError(
            f"{bad} of {rows} rows cannot be stored ({why}), more than --max-bad {max_bad:g}; "
            f"mend the table, or allow it with --max-bad {np.ceil(1000 * bad / rows) / 1000:g}"
        )


def _id_values(ids: pa.ChunkedArray) -> NDArray[Any]:
    if pa.types.is_integer(ids.type):
        return np.asarray(ids.to_numpy())
    return np.asarray(ids.to_pylist(), dtype=object)


def _files(paths: NDArray[Any]) -> ImageSource:
    """Return an image source that reads files on a few threads."""

    def source(chunks: Sequence[IntArray]) -> Iterator[list[bytes]]:
        with ThreadPoolExecutor(4) as executor:
            yield from bounded_map(
                executor, lambda chunk: [_read(path) for path in paths[chunk]], chunks, ahead=8
            )

    return source


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SkytallyError(f"image {path} cannot be read: {error.strerror}") from None


def _quarantine(
    rows: pa.Table, ids: pa.ChunkedArray, id_column: str, reasons: NDArray[Any], good: BoolArray
) -> pa.Table:
    bad = np.flatnonzero(~good)
    rows = rows.set_column(rows.column_names.index(id_column), id_column, ids)
    return (
        rows.filter(pa.array(~good))
        .rename_columns(quarantine_names(rows.column_names))
        .append_column("input_row", pa.array(bad, pa.int64()))
        .append_column("quarantine_reason", pa.array(reasons[bad].tolist(), pa.string()))
    )


def _check_complete(to: Path, rows: int, result: IngestResult) -> None:
    """Read back what is on disk: store and quarantine together are the input, each row once."""
    stored = Survey.open(to).column("input_row")
    quarantined = pq.read_table(to / layout.quarantine_name("00000"), columns=["input_row"])
    found = np.concatenate([stored, quarantined.column("input_row").to_numpy()])
    if not np.array_equal(np.sort(found), np.arange(rows)):
        raise IntegrityError(
            f"{to}: {len(stored)} stored and {quarantined.num_rows} quarantined rows are not the "
            f"{rows} rows of the table; remove the store and ingest again"
        )
    if (len(stored), quarantined.num_rows) != (result.stored, result.quarantined):
        raise IntegrityError(f"{to}: row counts changed while writing; ingest again")
