"""From a table's Arrow columns to what a survey store holds, with no value changed on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalogs.cutouts.columns import is_too_wide
from catalogs.errors import InputError
from catalogs.progress import Reporter
from catalogs.schema import ClassMap
from catalogs.sky import BoolArray

QUARANTINE_COLUMNS = ("input_row", "quarantine_reason")
STORE_COLUMNS = ("id", "ra", "dec", "healpix_29", *QUARANTINE_COLUMNS)
LONGEST_NAME = 200  # bytes: a column is a folder, and file systems stop at 255
EXACT_FLOAT = 2**53  # integers up to here survive float64


def plain(rows: pa.Table) -> pa.Table:
    """Return a table whose text is of Arrow's one plain type, whatever it was encoded as."""
    for i, field in enumerate(rows.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            kind = pa.string()
        elif pa.types.is_binary_view(kind):
            kind = pa.binary()
        if kind != field.type:
            rows = rows.set_column(i, field.name, rows.column(i).cast(kind))
    return rows


def identifiers(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Return identifiers as int64 where that loses nothing, else as text; empty text is null.

    ``000123``, ``1.10`` and 2**63 stay text.

    Raises
    ------
    InputError
        The column holds neither numbers nor text.
    """
    kind = column.type
    if pa.types.is_nested(kind) or pa.types.is_boolean(kind):
        raise InputError(
            f"--id {name!r} is a column of {kind}; expected integers or text: name another column"
        )
    try:
        if pa.types.is_floating(kind):
            column = pc.if_else(pc.is_nan(column), None, column)
            largest = pc.max(pc.abs(column)).as_py()
            if largest is not None and largest > EXACT_FLOAT:
                return column.cast(pa.string())
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            return _or_text(column)
        text = column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InputError(
            f"--id {name!r} is a column of {kind} that is no text; name another column"
        ) from None
    text = pc.if_else(pc.equal(text, ""), None, text)
    canonical = pc.match_substring_regex(text, r"^(0|-?[1-9][0-9]{0,18})\z")
    return _or_text(text) if pc.all(canonical, min_count=0).as_py() else text


def _or_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:  # beyond int64, or a fraction
        return column.cast(pa.string())


def id_values(ids: pa.ChunkedArray) -> NDArray[Any]:
    """Return identifiers without nulls as int64, or as an object array of ``str``."""
    if pa.types.is_integer(ids.type):
        return np.asarray(ids.to_numpy())
    return np.asarray(ids.to_pylist(), dtype=object)


def stored_names(names: Sequence[str], taken: set[str]) -> dict[str, str]:
    """Return the name under which a store holds each further column of a table.

    A name that the store needs itself gets the prefix ``table_``.

    Parameters
    ----------
    names : sequence of str
        All columns of the table.
    taken : set of str
        Those that become identifier and position.

    Raises
    ------
    InputError
        A name cannot be that of a folder, or two would be the same.
    """
    found = {}
    for name in names:
        if name in taken:
            continue
        if (
            not name
            or "/" in name
            or "\0" in name
            or name.startswith((".", "__"))
            or name == "zarr.json"
            or len(name.encode()) > LONGEST_NAME
        ):
            raise InputError(
                f"column {name[:40]!r} cannot be stored under this name (no '/', no '.' or '__' at "
                f"its start, not 'zarr.json', at most {LONGEST_NAME} bytes); rename it"
            )
        found[name] = _prefixed(name, names, STORE_COLUMNS)
    return found


def quarantine_names(names: Sequence[str]) -> list[str]:
    """Return the names of a table's columns in its quarantine, which adds two of its own."""
    return [_prefixed(name, names, QUARANTINE_COLUMNS) for name in names]


def _prefixed(name: str, names: Sequence[str], reserved: Sequence[str]) -> str:
    if name not in reserved:
        return name
    if f"table_{name}" in names:
        raise InputError(
            f"the table has columns {name!r} and {f'table_{name}'!r}; a store needs the first name "
            "for itself: rename one of them"
        )
    return f"table_{name}"


def further_columns(
    rows: pa.Table, names: dict[str, str], good: BoolArray, reporter: Reporter
) -> dict[str, NDArray[Any]]:
    """Return the good rows of the further columns as arrays that a store can hold.

    What it cannot hold (nested types, bytes, long texts in many rows) is left out with an event.
    """
    columns = {}
    mask = pa.array(good)
    for name, stored in names.items():
        values = rows.column(name).filter(mask)
        array = _array(values)
        if array is None:
            reason = "a store holds numbers and text only"
        elif array.dtype == object and is_too_wide(array):
            reason = "its longest text is too long to store that much for every row"
        else:
            columns[stored] = array
            continue
        reporter.event("column left out", column=name, type=str(values.type), reason=reason)
    return columns


def _array(values: pa.ChunkedArray) -> NDArray[Any] | None:
    kind = values.type
    if pa.types.is_null(kind):
        return np.full(len(values), np.nan)
    if pa.types.is_uint64(kind):
        values = _or_text(values)
    if pa.types.is_integer(values.type):
        if not values.null_count:
            return np.asarray(values.to_numpy())
        ends = pc.min_max(values).as_py()
        if max(-(ends["min"] or 0), ends["max"] or 0) <= EXACT_FLOAT:
            return np.asarray(values.cast(pa.float64()).to_numpy())
    elif pa.types.is_boolean(kind) or pa.types.is_floating(kind):
        if values.null_count or pa.types.is_float16(kind):
            return np.asarray(values.cast(pa.float64()).to_numpy())
        return np.asarray(values.to_numpy())
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return None
    try:
        return np.asarray(values.cast(pa.string()).to_pylist(), dtype=object)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def class_column(classes: ClassMap, rows: pa.Table, candidates: Sequence[str]) -> str:
    """Return the one column that holds values of the classes.

    Parameters
    ----------
    classes : ClassMap
        Which values mean which class.
    rows : pyarrow.Table
        The whole table.
    candidates : sequence of str
        Columns to look for the values in.

    Raises
    ------
    InputError
        None does, or several do.
    """
    having = [
        key
        for key in candidates
        if _is_discrete(rows.column(key).type)
        and classes.values & set(rows.column(key).unique().cast(pa.string()).to_pylist())
    ]
    if len(having) != 1:
        raise InputError(
            f"--classes {classes}: {'no column has' if not having else 'several columns have'} "
            f"these values{': ' + ', '.join(having) if having else ''}; "
            "name the column with --class-column"
        )
    return having[0]


def labels(classes: ClassMap, column: pa.ChunkedArray, name: str) -> NDArray[Any]:
    """Return the class of each value, from the table's own values as text; None where none is.

    Raises
    ------
    InputError
        The column cannot be read as text.
    """
    try:
        text = column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InputError(
            f"--class-column {name!r} holds {column.type}; expected text or numbers"
        ) from None
    distinct = text.combine_chunks().dictionary_encode()
    found: NDArray[Any] = np.full(len(distinct.dictionary) + 1, None, dtype=object)
    found[:-1] = classes.apply(distinct.dictionary.to_pylist())
    return np.asarray(found[distinct.indices.fill_null(-1).to_numpy(zero_copy_only=False)])


def require_classes(classes: ClassMap, found: NDArray[Any], name: str) -> None:
    """Refuse labels of which one class has no row.

    Raises
    ------
    InputError
        The message names the class.
    """
    present = set(found.tolist())
    for class_name, members in classes.classes:
        if class_name not in present:
            raise InputError(
                f"--classes: no row of column {name!r} is {' or '.join(members)} ({class_name})"
            )


def _is_discrete(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind))
