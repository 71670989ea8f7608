"""Columns of numbers and text: from a user's arrays to what a store holds, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalogs.cutouts import layout
from catalogs.errors import InputError

TEXT = "text"
MOST_CATEGORIES = 4096
MOST_CATEGORY_CHARACTERS = 1 << 20
WIDEST_TEXT = 1024  # bytes; wider text columns must stay below MOST_TEXT_BYTES in all
MOST_TEXT_BYTES = 64 << 20
NULL_TEXT = b"\xff"  # never valid UTF-8


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A column as it lies in a store.

    ``attributes["kind"]`` is ``number``, ``text`` (UTF-8 bytes, uint8 of shape (n, width), null
    as `NULL_TEXT`) or ``category`` (codes of ``attributes["categories"]``, null as -1).
    """

    values: NDArray[Any]
    attributes: dict[str, Any]


def kind_of(values: NDArray[Any]) -> str:
    """Return what a column holds: the data type of its numbers, or ``text``."""
    return TEXT if values.dtype.kind in "OUST" else values.dtype.name


def stored_column(
    name: str, values: NDArray[Any], known: Sequence[str] | None = None
) -> StoredColumn:
    """Return a column as a store holds it; text of few kinds becomes categories.

    Parameters
    ----------
    name : str
    values : ndarray, shape (n,)
    known : sequence of str, optional
        The categories of text, where ``values`` are a part of a column only.

    Raises
    ------
    InputError
        Its data type, or its text, is nothing that a store can hold.
    """
    if kind_of(values) != TEXT:
        if values.dtype.name not in layout.ALLOWED_DTYPES:
            raise InputError(
                f"column {name!r} has data type {values.dtype}, which a store cannot hold; "
                "convert it, or leave it out"
            )
        return StoredColumn(values, {"kind": "number"})
    text = _arrow_text(name, values)
    if known is not None:
        categories = sorted(known)
        found = pc.index_in(text, value_set=pa.array(categories, pa.string()))
        if found.null_count != text.null_count:
            raise InputError(f"column {name!r} holds text that is none of {', '.join(categories)}")
        codes = found.fill_null(-1).to_numpy()
        return StoredColumn(codes, {"kind": "category", "categories": categories})
    coded = text.dictionary_encode()
    categories = coded.dictionary.to_pylist()
    if not _fit_categories(categories):
        return StoredColumn(text_bytes(name, text), {"kind": "text"})
    order = np.argsort(np.asarray(categories, dtype=object))
    code_of = np.empty(len(order) + 1, dtype=np.int32)
    code_of[order] = np.arange(len(order))
    code_of[-1] = -1
    codes = code_of[coded.indices.fill_null(-1).to_numpy()]
    categories = [categories[i] for i in order]
    return StoredColumn(codes, {"kind": "category", "categories": categories})


def stored_identifiers(ids: NDArray[Any]) -> NDArray[Any]:
    """Return int64 as it is, text as fixed-width UTF-8 bytes, uint8 of shape (n, width).

    Raises
    ------
    InputError
        They are not unique.
    """
    if np.issubdtype(ids.dtype, np.integer):
        values: NDArray[Any] = np.asarray(ids, dtype=np.int64)
        keys = values
    else:
        values = text_bytes("id", _arrow_text("id", ids))
        keys = as_bytes(values)
    ordered = np.sort(keys)
    if (ordered[1:] == ordered[:-1]).any():
        raise InputError("identifiers are not unique; drop or rename the duplicates")
    return values


def as_kind(name: str, values: NDArray[Any], kind: str) -> NDArray[Any]:
    """Return a column as the kind that a store has it in, where that changes no value.

    Raises
    ------
    InputError
        It would change a value.
    """
    if kind_of(values) == kind:
        return values
    empty = len(values) == 0 or _has_no_value(values)
    if kind == TEXT and empty:
        return np.full(len(values), None, dtype=object)
    if kind.startswith("float") and empty:
        return np.full(len(values), np.nan, dtype=kind)
    if kind not in (TEXT, "bool") and values.dtype.kind in "biuf":
        with np.errstate(invalid="ignore", over="ignore"):
            cast = values.astype(kind)
            back = cast.astype(values.dtype)
        if np.array_equal(back, values, equal_nan=values.dtype.kind == "f"):
            return cast
    raise InputError(
        f"column {name!r} is {kind_of(values)} here and {kind} in the store, which cannot hold all "
        "of its values; convert it in the table"
    )


def user_values(values: NDArray[Any], attributes: dict[str, Any]) -> NDArray[Any]:
    """Return what a store holds as the user's values; text as objects, ``str`` or None.

    Raises
    ------
    ValueError
        A code has no category, or bytes are no text: not what a store ever holds.
    """
    kind = attributes.get("kind")
    if kind == "category":
        names = attributes["categories"]
        if not isinstance(names, list) or not -1 <= values.min(initial=-1) <= values.max(
            initial=-1
        ) < max(len(names), 1):
            raise ValueError("codes without a category")
        categories: NDArray[Any] = np.asarray([*names, None], dtype=object)
        return np.asarray(categories[values], dtype=object)
    return as_text(values) if kind == "text" or values.ndim == 2 else values


def text_bytes(name: str, text: pa.Array) -> NDArray[np.uint8]:
    """Return UTF-8 text as zero-padded bytes, uint8 of shape (n, width); null as one 0xFF.

    Raises
    ------
    InputError
        A text holds a zero character, which the padding would swallow.
    """
    if pc.any(pc.match_substring(text, "\0"), min_count=0).as_py():
        raise InputError(
            f"column {name!r} holds text with a zero character, which a store cannot hold; "
            "clean it, or leave it out"
        )
    encoded = text.cast(pa.binary()).fill_null(NULL_TEXT)
    width = max(pc.max(pc.binary_length(encoded)).as_py() or 0, 1)
    padded = np.asarray(encoded.to_numpy(zero_copy_only=False), dtype=f"S{width}")
    return padded.view(np.uint8).reshape(len(text), width)


def as_bytes(values: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Return fixed-width rows, uint8 (n, width), as an array of bytes (n,), a view."""
    return np.ascontiguousarray(values).view(f"S{values.shape[1]}").reshape(-1)


def as_text(values: NDArray[np.uint8]) -> NDArray[Any]:
    """Return fixed-width UTF-8 rows, uint8 (n, width), as an object array of ``str`` or None."""
    text = [None if value == NULL_TEXT else value.decode() for value in as_bytes(values).tolist()]
    return np.asarray(text, dtype=object)


def is_too_wide(values: NDArray[Any]) -> bool:
    """Tell whether a text column cannot be stored: every row would be as wide as its longest."""
    text = _arrow_text("", values)
    width = pc.max(pc.binary_length(text)).as_py() or 0
    if width <= WIDEST_TEXT or width * len(values) <= MOST_TEXT_BYTES:
        return False
    return not _fit_categories(text.unique().drop_null().to_pylist())


def _fit_categories(categories: list[str]) -> bool:
    characters = sum(len(category) for category in categories)
    return len(categories) <= MOST_CATEGORIES and characters <= MOST_CATEGORY_CHARACTERS


def _has_no_value(values: NDArray[Any]) -> bool:
    if values.dtype.kind == "f":
        return bool(np.isnan(values).all())
    return values.dtype == object and all(value is None for value in values)


def _arrow_text(name: str, values: NDArray[Any]) -> pa.Array:
    try:
        text = pa.array(values.tolist() if values.dtype.kind == "U" else values, from_pandas=False)
        return text.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise InputError(f"column {name!r} holds what is no text: {error}") from None
