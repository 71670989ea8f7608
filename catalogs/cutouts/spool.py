"""Columns on their way into a store, row by row in and column by column out, in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts import layout
from catalogs.storage.disk import disk_error


class ColumnSpool:
    """Keeps the last window of rows in memory, and earlier ones in a file that has no name.

    A window is as many rows as share a chunk in the store, 32 MiB of all columns together; a
    small table is never more than one. Within a window the file holds one column behind the other.

    Parameters
    ----------
    rows : int
        How many will come.
    like : mapping of str to ndarray, shape (any, ...)
        The columns: data types, and shapes beyond the first dimension.
    folder : Path, optional
        Where the file lies, if there is to be one; the system's folder for such by default.
    """

    def __init__(
        self, rows: int, like: Mapping[str, NDArray[Any]], folder: Path | None = None
    ) -> None:
        self.rows = rows
        self.row_bytes = sum(_row_bytes(values) for values in like.values())
        self.window = layout.rows_per_chunk(self.row_bytes)
        self._folder = folder
        self._file: Any = None
        self._flushed = self._used = 0
        held = min(rows, self.window)
        self._held = {key: np.empty((held, *v.shape[1:]), v.dtype) for key, v in like.items()}
        ends = np.cumsum([0, *(_row_bytes(values) for values in like.values())]).tolist()
        self._offset = dict(zip(like, ends[:-1], strict=True))

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            with suppress(OSError):  # what a full disk has not taken
                self._file.close()

    def like(self, key: str) -> NDArray[Any]:
        """Return an empty array with data type and further shape of a column."""
        return self._held[key][:0]

    def add(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Take the next rows of every column.

        Raises
        ------
        SkytallyError
            The file cannot be written (disk full).
        """
        count, done = len(next(iter(values.values()))), 0
        while done < count:
            size = min(self.window - self._used, count - done)
            for key, held in self._held.items():
                held[self._used : self._used + size] = values[key][done : done + size]
            self._used += size
            done += size
            if self._used == self.window and self.rows > self.window:
                self._flush()

    def read(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """Return some rows of a column; ``start`` is a multiple of ``window``."""
        held = self._held[key]
        parts = []
        for window in range(start // self.window, -(-stop // self.window)):
            if window == self._flushed:
                parts.append(held[: self._used])
            else:
                at = self.window * (window * self.row_bytes + self._offset[key])
                self._file.seek(at)
                found = np.frombuffer(self._file.read(self.window * _row_bytes(held)), held.dtype)
                parts.append(found.reshape(self.window, *held.shape[1:]))
        return (parts[0] if len(parts) == 1 else np.concatenate(parts))[: stop - start]

    def _flush(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  (see close)
            self._file.seek(self._flushed * self.window * self.row_bytes)
            for held in self._held.values():
                self._file.write(held.data.cast("B"))
            self._file.flush()
        except OSError as error:
            raise disk_error(self._folder or Path(tempfile.gettempdir()), error) from error
        self._flushed, self._used = self._flushed + 1, 0


def _row_bytes(values: NDArray[Any]) -> int:
    return int(np.prod(values.shape[1:], dtype=np.int64)) * values.dtype.itemsize
