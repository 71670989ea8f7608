"""Identifiers of objects in two tables: which columns, and which row has which."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalogs.errors import InputError

IntArray = NDArray[np.int64]

ID_NAMES = ("id", "objid", "object_id", "source_id")
_WRITTEN = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
)
NO_ID = -(2**63)  # in place of null


def own_id(names: list[str]) -> str | None:
    """Return the column that identifies a table's objects, None without."""
    found = (next((own for own in names if own.lower() == name), None) for name in ID_NAMES)
    return next((name for name in found if name is not None), None)


def shared_id(ours: list[str], theirs: list[str]) -> tuple[str, str] | None:
    """Return the id columns of both tables, None unless both have one of the same name."""
    for name in ID_NAMES:
        a = next((own for own in ours if own.lower() == name), None)
        b = next((own for own in theirs if own.lower() == name), None)
        if a is not None and b is not None:
            return a, b
    return None


def keys_of(ids: pa.Array) -> IntArray:
    """Return a number for each identifier, the same for equal ones, shape (m,).

    Whole numbers are their own, text is digested to 64 bits (two of 10^8 share one with a chance
    of 3e-4); null, empty text, and what is not exact (fractions) is `NO_ID`.
    """
    if pa.types.is_dictionary(ids.type):
        ids = ids.cast(ids.type.value_type)
    if pa.types.is_integer(ids.type):
        return _keys(ids)
    found = np.full(len(ids), NO_ID)
    if any(kind(ids.type) for kind in _WRITTEN):
        written = ids.cast(pa.large_binary()).to_pylist()
        known = [i for i, text in enumerate(written) if text]
        digests = b"".join(blake2b(written[i], digest_size=8).digest() for i in known)
        found[known] = np.frombuffer(digests, np.int64)
    return found


def as_text(ids: pa.Array, name: str) -> pa.Array:
    """Return identifiers of any kind as text, so that 12 and "12" are the same."""
    if pa.types.is_dictionary(ids.type):
        ids = ids.cast(ids.type.value_type)
    if pa.types.is_floating(ids.type):
        raise InputError(f"id column {name!r} holds {ids.type}, which is not exact; use integers")
    if pa.types.is_fixed_size_binary(ids.type):
        ids = ids.cast(pa.binary())
    return ids.cast(pa.string())


class Identifiers:
    """Finds the rows of identifiers; the first row of an identifier counts.

    Whole numbers are sorted once and looked up by bisection. Text is hashed anew for every batch
    that is looked up, which is slow beyond some millions.

    Parameters
    ----------
    ids : pyarrow.Array
    name : str
        Of the column, for messages.
    """

    def __init__(self, ids: pa.Array, name: str) -> None:
        self._name = name
        self._text: pa.Array | None = None
        self._ids = ids
        self._keys, self._rows = np.empty(0, np.int64), np.empty(0, np.int64)
        self.whole_numbers = False
        numbers = _whole_numbers(ids)
        if numbers is not None:
            self.whole_numbers = True
            self._keys, self._rows = np.unique(numbers, return_index=True)

    def find(self, ids: pa.Array) -> IntArray:
        """Return the row of each identifier, -1 for none and for null."""
        if not len(self._ids):
            return np.full(len(ids), -1)
        if self.whole_numbers and pa.types.is_integer(ids.type):
            wanted = _keys(ids)
            at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
            found = (self._keys[at] == wanted) & (wanted != NO_ID)
            return np.where(found, self._rows[at], -1)
        if self._text is None:
            self._text = as_text(self._ids, self._name)
        wanted = as_text(ids, self._name)
        index = pc.index_in(wanted, self._text, skip_nulls=True)
        return np.asarray(pc.fill_null(index, -1).to_numpy(zero_copy_only=False), np.int64)


def _whole_numbers(ids: pa.Array) -> IntArray | None:
    """Return identifiers as numbers where all are whole numbers, or text of such."""
    if pa.types.is_integer(ids.type):
        return _keys(ids)
    try:
        numbers = ids.cast(pa.int64())
    except pa.ArrowException:
        return None
    same = pc.all(pc.equal(numbers.cast(pa.string()), ids.cast(pa.string()))).as_py()
    return _keys(numbers) if same else None  # "007" is not 7


def _keys(ids: pa.Array) -> IntArray:
    return np.asarray(ids.cast(pa.int64(), safe=False).fill_null(NO_ID), np.int64)
