"""Rows that wait: a million or so in memory, more in a temporary file, as often read as asked.

Each load goes to the file sorted by a hash of the rows' keys. So rows come back in parts of the
hash, those of a key together, each part no larger than fits into memory, however many there are.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from catalogs.storage.disk import disk_error

IntArray = NDArray[np.int64]
Rows = NDArray[np.void]
Keyed = Callable[[Rows], tuple[Rows, IntArray]]

_HASH_BITS = 10
_PARTS = 4  # parts of a load that are read back at once


class WaitingRows:
    """Collects rows of one structured type, and gives them back in order, or by their keys.

    Parameters
    ----------
    kind : numpy.dtype
        Of the rows.
    most : int
        Rows held before they go to the temporary file.
    keyed : callable, optional
        Turns a load of rows into those to write and the key of each, int64; without it rows come
        back in their order.
    """

    def __init__(self, kind: np.dtype[Any], most: int, keyed: Keyed | None = None) -> None:
        self._held: Rows = np.empty(max(1, most), kind)
        self._keyed = keyed
        self._rows = self.added = 0
        self._file: BinaryIO | None = None
        self._loads: list[IntArray] = []  # where each value of the hash begins, rows of the file

    def close(self) -> None:
        """Let go of memory and of the file."""
        self._held, self._rows, self._loads = self._held[:0].copy(), 0, []
        if self._file is not None:
            with suppress(OSError):  # what a full disk has not taken
                self._file.close()
            self._file = None

    def add(self, rows: Rows) -> None:
        """Add rows.

        Raises
        ------
        SkytallyError
            The temporary file cannot be written (disk full).
        """
        done = 0
        while done < len(rows):
            if self._rows == len(self._held):
                self._spill()
            some = rows[done : done + len(self._held) - self._rows]
            self._held[self._rows : self._rows + len(some)] = some
            self._rows += len(some)
            done += len(some)
        self.added += len(rows)

    def parts(self) -> Iterator[Rows]:
        """Yield all rows, those of a key together and otherwise as they were added.

        What `keyed` leaves out or adds is left out or added only where rows went to the file.
        """
        if self._file is not None and self._rows:
            self._spill()
        if self._file is None:
            if self._rows:
                yield self._held[: self._rows]
            return
        loads = np.array(self._loads)
        if self._keyed is None:
            for begin, *_, end in self._loads:
                yield self._read(np.array([begin]), np.array([end]))
            return
        whole = (loads - loads[:, :1]).sum(axis=0)  # rows before each value of the hash
        first = 0
        while first < 2**_HASH_BITS:
            # As many values of the hash as fit, at least one.
            most = whole[first] + len(self._held) // _PARTS
            fits = int(np.searchsorted(whole, most, side="right")) - 1
            last = max(first + 1, min(fits, 2**_HASH_BITS))
            yield self._read(loads[:, first], loads[:, last])
            first = last

    def _spill(self) -> None:
        rows = self._held[: self._rows]
        begins = np.array([0, len(rows)])
        if self._keyed is not None:
            rows, keys = self._keyed(rows)
            # Fibonacci hashing (Knuth vol. 3, section 6.4) spreads neighbouring keys.
            mixed = keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            part = (mixed >> np.uint64(64 - _HASH_BITS)).astype(np.uint16)
            begins = np.zeros(2**_HASH_BITS + 1, np.int64)
            np.cumsum(np.bincount(part, minlength=2**_HASH_BITS), out=begins[1:])
            rows = rows[np.argsort(part, kind="stable")]
        before = int(self._loads[-1][-1]) if self._loads else 0
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
            left = rows.view(np.uint8).data
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise disk_error(Path(tempfile.gettempdir()), error) from error
        self._loads.append(before + begins)
        self._rows = 0

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
