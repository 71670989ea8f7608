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
from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import ImageSource, SurveyInfo, SurveyTable, write_survey
from catalogs.errors import InputError, IntegrityError, SkytallyError, TooManyBadError
from catalogs.parallel import bounded_map
from catalogs.progress import Reporter, Silent
from catalogs.schema import LABEL_COLUMN, ClassMap
from catalogs.sky import BoolArray, IntArray
from catalogs.survey.tables import positions, read_table

IMAGE_ENDINGS = (".jpeg", ".jpg", ".png")
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
    """
    if to.exists():
        raise InputError(f"{to} exists already; name another store, or remove it first")
    reporter = reporter or Silent()
    rows = read_table(table)
    ra_name = settings.ra or _usual(rows, RA_NAMES, "right ascension", "--ra")
    dec_name = settings.dec or _usual(rows, DEC_NAMES, "declination", "--dec")
    _require(rows, settings.id_column, table)
    ra, dec = positions(rows, ra_name, dec_name)
    ids = rows.column(settings.id_column)
    paths, unused = _image_paths(rows, ids, images, table)
    reasons = _reasons(ids, ra, dec, paths)
    good: BoolArray = np.asarray([reason is None for reason in reasons.tolist()], dtype=np.bool_)
    counts = _count(reasons[~good])
    _check_bad(len(good), counts, settings.max_bad)
    kept = np.flatnonzero(good)
    columns = _columns(rows, {settings.id_column, ra_name, dec_name}, kept, reporter)
    if settings.classes is not None:
        columns[LABEL_COLUMN] = _labels(settings.classes, columns, settings.class_column)
    survey_table = SurveyTable(
        ids=_id_values(ids, kept),
        ra=np.mod(ra[kept], 360.0),
        dec=dec[kept],
        columns=columns,
        input_row=kept.astype(np.int64),
        quarantine=_quarantine(rows, reasons, good),
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
    write_survey(to, survey_table, _files(paths[kept]), info, reporter)
    result = IngestResult(int(good.sum()), int((~good).sum()), counts, unused)
    _check_complete(to, rows.num_rows, result)
    return result


def _usual(rows: pa.Table, names: Sequence[str], what: str, flag: str) -> str:
    for name in names:
        if name in rows.column_names:
            return name
    raise InputError(
        f"no column is named like {what}; name it with {flag} (columns: "
        f"{', '.join(rows.column_names[:20])})"
    )


def _require(rows: pa.Table, name: str, table: Path) -> None:
    if name not in rows.column_names:
        raise InputError(
            f"{table} has no column {name!r}; it has {', '.join(rows.column_names[:20])}"
        )


def _image_paths(
    rows: pa.Table, ids: pa.ChunkedArray, images: str, table: Path
) -> tuple[NDArray[Any], int]:
    """Return each row's image file (None where there is none) and how many files no row names."""
    folder = Path(images)
    if images in rows.column_names:
        names = rows.column(images).cast(pa.string()).to_pylist()
        base = table.parent
        found = [None if not name else _existing(base / name) for name in names]
        return np.asarray(found, dtype=object), 0
    if not folder.is_dir():
        raise InputError(
            f"--images {images!r} is neither a folder nor a column of {table}; "
            f"columns: {', '.join(rows.column_names[:20])}"
        )
    try:
        with os.scandir(folder) as entries:
            by_stem = {
                Path(entry.name).stem: Path(entry.path)
                for entry in entries
                if entry.name.lower().endswith(IMAGE_ENDINGS)
            }
    except OSError as error:
        raise InputError(f"image folder {folder} cannot be read: {error.strerror}") from None
    if not by_stem:
        raise InputError(
            f"image folder {folder} holds no {', '.join(IMAGE_ENDINGS)} file; name another folder"
        )
    keys = [None if key is None else str(key) for key in ids.to_pylist()]
    paths = np.asarray([by_stem.get(key) if key else None for key in keys], dtype=object)
    return paths, len(by_stem.keys() - set(keys))


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _reasons(
    ids: pa.ChunkedArray, ra: NDArray[Any], dec: NDArray[Any], paths: NDArray[Any]
) -> NDArray[Any]:
    """Return why each row cannot be stored (object array of str; None: it can)."""
    reasons = np.full(len(ra), None, dtype=object)
    possible = (dec >= -90) & (dec <= 90) & (ra >= -360) & (ra <= 360)
    reasons[~possible] = "impossible_position"
    reasons[~(np.isfinite(ra) & np.isfinite(dec))] = "no_position"
    seen: set[Any] = set()
    for i, (key, path) in enumerate(zip(ids.to_pylist(), paths.tolist(), strict=True)):
        if key is None or key == "":
            reasons[i] = "no_id"
        elif key in seen:
            reasons[i] = "duplicate_id"
        elif reasons[i] is None and path is None:
            reasons[i] = "no_image"
        elif reasons[i] is None and path.stat().st_size > layout.MOST_IMAGE_BYTES:
            reasons[i] = "image_too_large"
        seen.add(key)
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


def _id_values(ids: pa.ChunkedArray, kept: IntArray) -> NDArray[Any]:
    values = ids.take(pa.array(kept))
    if pa.types.is_integer(values.type):
        return np.asarray(values.cast(pa.int64()).to_numpy())
    return np.asarray([str(value) for value in values.to_pylist()], dtype=object)


def _columns(
    rows: pa.Table, taken: set[str], kept: IntArray, reporter: Reporter
) -> dict[str, NDArray[Any]]:
    """Return the further columns as arrays that a store can hold."""
    columns = {}
    for name in rows.column_names:
        if name in taken:
            continue
        if not name or "/" in name or name.startswith((".", "__")):
            raise InputError(f"column {name!r} cannot be stored under this name; rename it")
        values = rows.column(name).take(pa.array(kept))
        array = _array(values)
        if array is None:
            reporter.event("column left out", column=name, type=str(values.type))
        else:
            columns[name] = array
    return columns


def _array(values: pa.ChunkedArray) -> NDArray[Any] | None:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = values.type
    if pa.types.is_null(kind):
        return np.full(len(values), np.nan)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        if values.null_count or kind in (pa.uint64(), pa.float16()):
            return np.asarray(values.cast(pa.float64(), safe=False).to_numpy())
        return np.asarray(values.to_numpy())
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return None
    return np.asarray(values.cast(pa.string()).to_pylist(), dtype=object)


def _labels(classes: ClassMap, columns: dict[str, NDArray[Any]], name: str | None) -> NDArray[Any]:
    if LABEL_COLUMN in columns:
        raise InputError(
            f"the table has a column {LABEL_COLUMN!r} already; rename it, or leave out --classes"
        )
    if name is not None and name not in columns:
        raise InputError(f"no column {name!r} for --classes; it has {', '.join(columns)}")
    if name is None:
        text = [key for key, values in columns.items() if values.dtype == object]
        having = [key for key in text if classes.values & set(columns[key].tolist())]
        if len(having) != 1:
            raise InputError(
                f"--classes {classes}: {'no column has' if not having else 'several columns have'} "
                f"these values{': ' + ', '.join(having) if having else ''}; "
                "name the column with --class-column"
            )
        name = having[0]
    labels = classes.apply(columns[name])
    for class_name, members in classes.classes:
        if class_name not in labels:
            raise InputError(
                f"--classes: no row of column {name!r} is {' or '.join(members)} ({class_name})"
            )
    return labels


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


def _quarantine(rows: pa.Table, reasons: NDArray[Any], good: BoolArray) -> pa.Table:
    bad = np.flatnonzero(~good)
    return (
        rows.take(pa.array(bad))
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
