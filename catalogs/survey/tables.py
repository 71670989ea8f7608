"""Anybody's table of positions as Arrow record batches, whatever file it came in.

==========================================  =======================================
CSV        ``.csv .tsv``, also ``.gz``      streamed twice: types first, then values
Parquet    ``.parquet .pq``, or a folder    streamed
HATS       a folder with ``dataset/``       streamed, pixel by pixel; skytally's own: files of
                                            its receipts only, compared with them first
FITS       ``.fits .fit .fts``, ``.gz``     first table extension, memory-mapped
VOTable    ``.vot .votable .xml``           first table, in memory
==========================================  =======================================

Parquet and HATS are also read from buckets, ``s3://bucket/…``.

Numbers keep their type: a 64-bit identifier never passes through a float. What a format
calls missing (empty CSV field, ``TNULL``, VOTable mask) becomes an Arrow null.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from os import PathLike

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalogs.errors import InputError
from catalogs.survey.table_formats import open_table
from catalogs.survey.table_source import Source, require_column


class EmptyTableError(InputError):
    """A table has columns and no rows."""


__all__ = [
    "BATCH_ROWS",
    "column_names",
    "iter_batches",
    "positions",
    "read_table",
    "require_column",
    "row_count",
    "skipped_columns",
]

BATCH_ROWS = 131_072

FloatArray = NDArray[np.float64]


def column_names(path: str | PathLike[str]) -> list[str]:
    """Return the names of a table's columns, in its own order.

    Raises
    ------
    InputError
        The file is missing, of an unknown kind, or unreadable, or two columns share a name.
    """
    return _unique_names(open_table(path))


def skipped_columns(path: str | PathLike[str]) -> list[str]:
    """Return the columns that `column_names` leaves out because they hold what is not read.

    These are, in FITS and VOTables, columns of complex numbers, of arrays of varying length, of
    arrays of text and of arrays of more than one dimension.
    """
    return open_table(path).skipped()


def _unique_names(source: Source) -> list[str]:
    names = source.names()
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{source.where}: column {twice!r} occurs twice; rename or remove one")
    return names


def row_count(path: str | PathLike[str]) -> int | None:
    """Return a table's number of rows, or None where only reading it would tell (CSV)."""
    return open_table(path).row_count()


def iter_batches(
    path: str | PathLike[str],
    columns: Sequence[str] | None = None,
    batch_rows: int = BATCH_ROWS,
    text_columns: Sequence[str] = (),
) -> Iterator[pa.RecordBatch]:
    """Yield a table's rows in order, in batches of one schema.

    Parameters
    ----------
    path : path-like
        A file or folder of one of the kinds in the module's docstring.
    columns : sequence of str, optional
        The columns wanted, in this order; all by default.
    batch_rows : int
        Largest number of rows of a batch. Memory use is bounded by a batch of the wanted
        columns, except for VOTables, which are parsed whole.
    text_columns : sequence of str, optional
        Columns that a CSV file shall give as text exactly as written, such as identifiers
        (``1e5`` and ``1.10`` read as numbers otherwise). Other formats say themselves what
        is text.

    Yields
    ------
    pyarrow.RecordBatch

    Raises
    ------
    InputError
        The file is missing, unreadable, of an unknown kind or without rows, a wanted
        column does not exist, or two columns share a name.
    IntegrityError
        A HATS catalog holds another number of rows than its properties say.
    """
    source = open_table(path, text_columns)
    existing = _unique_names(source)
    wanted = list(dict.fromkeys(existing if columns is None else columns))
    for name in (*wanted, *text_columns):
        require_column(name, existing, str(path))
    rows = 0
    for batch in source.batches(wanted, batch_rows):
        rows += batch.num_rows
        if batch.num_rows:
            yield batch
    if rows == 0:
        raise EmptyTableError(f"{path}: the table has no rows")


def read_table(
    path: str | PathLike[str],
    columns: Sequence[str] | None = None,
    text_columns: Sequence[str] = (),
) -> pa.Table:
    """Return a whole table in memory; see `iter_batches` for parameters and errors."""
    return pa.Table.from_batches(list(iter_batches(path, columns, text_columns=text_columns)))


# ---------------------------------------------------------------------------- positions

_SEXAGESIMAL = (
    r"^\s*(?P<sign>[+\-]?)(?P<whole>\d{1,3}(?:\.\d*)?)(?P<unit>\s*[:hd°]\s*|\s+)"
    r"(?:(?P<minutes>\d{1,2}(?:\.\d*)?)\s*[:m'′]?\s*"
    r"(?:(?P<seconds>\d{1,2}(?:\.\d*)?)\s*[s\"″]?\s*)?)?$"
)


def positions(table: pa.Table | pa.RecordBatch, ra: str, dec: str) -> tuple[FloatArray, FloatArray]:
    """Return right ascension and declination in degrees, from numbers or sexagesimal text.

    Parameters
    ----------
    table : pyarrow.Table or pyarrow.RecordBatch
        Holds both columns.
    ra, dec : str
        Names of the columns. Numbers, and text of plain numbers, are degrees. Sexagesimal
        right ascension is hours ("12:34:56.7", "12h34m56.7s", "12 34 56.7") unless written
        with "d" or "°"; declination is degrees.

    Returns
    -------
    ra, dec : ndarray of float64, shape (n,)
        Degrees; NaN where the value is null or cannot be read. Ranges are not checked.

    Raises
    ------
    InputError
        A column is missing or holds neither numbers nor text.
    """
    for name in (ra, dec):
        require_column(name, table.schema.names, "position columns")
    return _degrees(table, ra, hours=True), _degrees(table, dec, hours=False)


def _degrees(table: pa.Table | pa.RecordBatch, name: str, *, hours: bool) -> FloatArray:
    column = table.column(name)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return _to_float(column)
    if pa.types.is_decimal(column.type):
        return _to_float(column)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise InputError(
            f"position column {name!r} holds {column.type}; expected degrees or sexagesimal text"
        )
    return _degrees_of_text(column, hours=hours)


def _to_float(column: pa.Array) -> FloatArray:
    values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float64)


def _degrees_of_text(text: pa.Array, *, hours: bool) -> FloatArray:
    """Parse angles in Arrow's compiled kernels: astropy's parser stops at the first bad one."""
    plain = pc.match_substring_regex(text, r"^\s*[+\-]?(\d+\.?\d*|\.\d+)([eE][+\-]?\d+)?\s*$")
    numbers = pc.if_else(plain, pc.utf8_trim_whitespace(text), None)
    degrees = _to_float(numbers.cast(pa.float64()))
    parts = pc.extract_regex(text.cast(pa.string()), _SEXAGESIMAL)
    matched = np.asarray(parts.is_valid()) & np.isnan(degrees)
    if not matched.any():
        return degrees

    def part(name: str) -> FloatArray:
        found = pc.struct_field(parts, name)
        return np.nan_to_num(_to_float(pc.if_else(pc.equal(found, ""), None, found).cast("f8")))

    minutes, seconds = part("minutes"), part("seconds")
    angle = part("whole") + minutes / 60 + seconds / 3600
    sign = np.asarray(pc.fill_null(pc.equal(pc.struct_field(parts, "sign"), "-"), False))
    unit = pc.utf8_trim_whitespace(pc.struct_field(parts, "unit"))
    said_degrees = np.asarray(pc.fill_null(pc.is_in(unit, pa.array(["d", "°"])), False))
    said_hours = np.asarray(pc.fill_null(pc.equal(unit, "h"), False))
    factor = np.where(said_degrees, 1.0, 15.0) if hours else np.where(said_hours, np.nan, 1.0)
    angle = np.where(sign, -angle, angle) * factor
    good = matched & (minutes < 60) & (seconds < 60)
    return np.where(good, angle, degrees)
