"""Rows within an arcsecond are the same object: the first one counts.

A published dipole fell from 4.0 to 0.3 sigma when its duplicates were removed. Of the rows of a
HEALPix pixel of order 20 (0.2 arcsec) the first stays, and of those all that have no earlier one
within an arcsecond: whether a row stays is told by its surroundings alone. A million rows or so
wait in memory; beyond that they go to a temporary file, each load sorted by a hash of their bin
(order 10, 3.4 arcmin), and come back in parts of the hash that fit into memory, however many there
are. Rows at the edge of a bin are written for its neighbours too, to be compared with but not to
be given back.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from catalogs import sky
from catalogs.storage.disk import disk_error

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Rows = NDArray[np.void]

IN_MEMORY = 1 << 21  # numbers; a million rows of an answer and its pixel
AT_ONCE = 1 << 17  # rows given back together
RADIUS = 1.0  # arcsec
_HASH_BITS = 10
_BIN, _EDGE, _PLACE = (2 * (sky.FINEST_ORDER - order) for order in (10, 16, 20))  # bits
_ALONG = int("01" * 6, 2)  # one axis of an edge's pixel of order 16 in its bin; the other is twice


class FirstAtPosition:
    """Collects rows, then gives back the first of every position, as often as asked.

    Use as a context manager: the temporary file vanishes with it.

    Parameters
    ----------
    width : int
        Numbers of a row: its answer, and whatever goes with it.
    every : bool
        Give back every row of a position instead.
    in_memory : int
        Numbers, a row's pixel and its own number among them, held before they go to the
        temporary file.
    """

    def __init__(self, width: int = 1, *, every: bool = False, in_memory: int = IN_MEMORY) -> None:
        self._every = every
        row = np.dtype([("pixel", np.int64), ("row", np.int64), ("values", np.float64, (width,))])
        self._held = np.empty(max(1, in_memory // (2 + width)), row)
        self._rows = self._added = 0
        self._file: BinaryIO | None = None
        self._loads: list[IntArray] = []  # where each value of the hash begins, rows of the file

    def __enter__(self) -> FirstAtPosition:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            with suppress(OSError):  # what a full disk has not taken
                self._file.close()

    def add(self, healpix_29: IntArray, values: FloatArray) -> None:
        """Add rows, in the order of the table; ``values`` has shape (m, width).

        Raises
        ------
        SkytallyError
            The temporary file cannot be written (disk full).
        """
        done = 0
        while done < len(values):
            if self._rows == len(self._held):
                self._spill()
            part = slice(done, done + len(self._held) - self._rows)
            new = self._held[self._rows : self._rows + len(values[part])]
            new["pixel"], new["values"] = healpix_29[part], values[part]
            new["row"] = np.arange(self._added, self._added + len(new))
            self._added += len(new)
            self._rows += len(new)
            done += len(new)

    def _spill(self) -> None:
        rows = self._held[: self._rows]
        bins = rows["pixel"] >> _BIN
        if not self._every:
            rows = first_of_places(rows)
            rows, bins = with_edges(rows)
        # Fibonacci hashing (Knuth vol. 3, section 6.4) spreads neighbouring bins.
        mixed = bins.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        part = (mixed >> np.uint64(64 - _HASH_BITS)).astype(np.uint16)
        begins = np.zeros(2**_HASH_BITS + 1, np.int64)
        np.cumsum(np.bincount(part, minlength=2**_HASH_BITS), out=begins[1:])
        before = int(self._loads[-1][-1]) if self._loads else 0
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
            left = rows[np.argsort(part, kind="stable")].view(np.uint8).data
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise disk_error(Path(tempfile.gettempdir()), error) from error
        self._loads.append(before + begins)
        self._rows = 0

    def unique(self) -> Iterator[tuple[IntArray, FloatArray]]:
        """Yield (healpix_29, values) without repeated objects, in parts."""
        for rows in self._parts():
            kept = rows if self._every else distinct(rows)
            for start in range(0, len(kept), AT_ONCE):
                some = kept[start : start + AT_ONCE]
                yield np.ascontiguousarray(some["pixel"]), np.ascontiguousarray(some["values"])

    def _parts(self) -> Iterator[Rows]:
        """Yield all rows, those of a bin and of its edges together."""
        if self._file is None:
            if self._rows:
                yield self._held[: self._rows]
            return
        if self._rows:
            self._spill()
        loads = np.array(self._loads)
        if self._every:
            for begin, *_, end in self._loads:
                yield self._read(np.array([begin]), np.array([end]))
            return
        whole = (loads - loads[:, :1]).sum(axis=0)  # rows before each value of the hash
        first = 0
        while first < 2**_HASH_BITS:
            # As many values of the hash as fit, at least one.
            fits = int(np.searchsorted(whole, whole[first] + len(self._held), side="right")) - 1
            last = max(first + 1, min(fits, 2**_HASH_BITS))
            yield self._read(loads[:, first], loads[:, last])
            first = last

    def _read(self, begins: IntArray, ends: IntArray) -> Rows:
        """Return these rows of the file."""
        assert self._file is not None
        rows = np.empty(int((ends - begins).sum()), self._held.dtype)
        size, at = rows.dtype.itemsize, 0
        into = rows.view(np.uint8).data
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            self._file.seek(begin * size)
            stop = at + (end - begin) * size
            while at < stop:
                got = self._file.readinto(into[at:stop])  # type: ignore[attr-defined]
                if not got:
                    lost = OSError(errno.EIO, "rows that were written are gone")
                    raise disk_error(Path(tempfile.gettempdir()), lost, "read")
                at += got
        return rows


def first_of_places(rows: Rows) -> Rows:
    """Return the first row of each pixel of order 20; nothing is copied without repeats."""
    places = rows["pixel"] >> _PLACE
    along = np.sort(places)
    if not np.any(along[1:] == along[:-1]):
        return rows
    return np.asarray(rows[np.sort(np.unique(places, return_index=True)[1])])


def with_edges(rows: Rows) -> tuple[Rows, IntArray]:
    """Add the rows at the edges of bins for the bins beside them, with numbers below zero.

    Returns
    -------
    rows : ndarray
    bins : ndarray of int64
        The bin that each goes to. Edges are pixels of order 16 (3 arcsec): what lies within
        `RADIUS` of a row lies in its pixel or in one of the eight around.
    """
    import cdshealpix.nested as cds

    home = rows["pixel"] >> _BIN
    within = rows["pixel"] >> _EDGE
    at_edge = np.zeros(len(rows), np.bool_)
    for axis in (_ALONG, 2 * _ALONG):
        at_edge |= (within & axis == 0) | (within & axis == axis)
    index = np.flatnonzero(at_edge)
    if not len(index):
        return rows, home
    around = np.asarray(cds.neighbours(within[index].astype(np.uint64), 16), np.int64)
    beside = np.sort(np.where(around < 0, -1, around >> (_BIN - _EDGE)), axis=1)
    other = (beside >= 0) & (beside != home[index, None])
    other[:, 1:] &= beside[:, 1:] != beside[:, :-1]
    which, column = np.nonzero(other)
    copies = rows[index[which]]
    copies["row"] = ~copies["row"]
    return np.concatenate([rows, copies]), np.concatenate([home, beside[which, column]])


def distinct(rows: Rows) -> Rows:
    """Return the rows that have no earlier one within `RADIUS`, in their order."""
    if not len(rows):
        return rows
    number = np.where(rows["row"] < 0, ~rows["row"], rows["row"])
    # In the order of the table, a row before its copies.
    rows = rows[np.lexsort((rows["row"] < 0, number))]
    number = np.where(rows["row"] < 0, ~rows["row"], rows["row"])
    rows = first_of_places(rows[np.diff(number, prepend=-1) > 0])
    places = sky.unit_vectors(*sky.tile_centres(rows["pixel"], sky.FINEST_ORDER))
    pairs = cKDTree(places).query_pairs(np.radians(RADIUS / 3600), output_type="ndarray")
    keep = rows["row"] >= 0
    keep[pairs.max(axis=1)] = False
    return np.asarray(rows[keep])
