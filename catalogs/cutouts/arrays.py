"""The arrays of a store, opened from metadata that were checked, and read through a small cache.

Zarr is handed the very bytes that were compared with their digest and with the allow-lists, so
that nothing on disk can lead around these checks: no consolidated metadata, no second reading.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import StorePath

from catalogs.cutouts import layout
from catalogs.cutouts.documents import REMEDY, check_array, parse
from catalogs.cutouts.salvage import salvage
from catalogs.errors import IntegrityError
from catalogs.storage.disk import disk_error
from catalogs.storage.place import Place

CACHE_BYTES = 2 * layout.COLUMNS_WINDOW
OPEN_ARRAYS = 4096
# What Zarr and its codecs raise on bytes that are not what was written.
DAMAGE = (ValueError, RuntimeError, TypeError, KeyError, IndexError, AttributeError)


class Arrays:
    """The arrays of one store; safe to use from several threads."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._store = place.zarr()
        self._windows: OrderedDict[tuple[str, int], NDArray[Any]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()
        self.open = lru_cache(OPEN_ARRAYS)(self._open)

    def document(self, name: str, sha256: str) -> dict[str, Any]:
        """Return the ``zarr.json`` of a node, after comparing its bytes with their digest.

        Raises
        ------
        IntegrityError
            It is missing or changed.
        """
        where = f"{self._place.url}/{name}/{layout.METADATA}"
        try:
            content = self._place.read(f"{name}/{layout.METADATA}")
        except FileNotFoundError:
            raise IntegrityError(f"{where} is missing; {REMEDY}") from None
        if hashlib.sha256(content).hexdigest() != sha256:
            raise IntegrityError(f"{where} is not what was written; {REMEDY}")
        return parse(content, where)

    def _open(self, name: str, sha256: str) -> zarr.Array[Any]:
        """Open an array.

        Raises
        ------
        IntegrityError
            Its metadata are missing or changed, or ask for what a survey store never has.
        """
        refuse_links(self._place, name, deep=True)
        metadata = self.document(name, sha256)
        where = f"{self._place.url}/{name}"
        check_array(where, metadata)
        try:
            path = StorePath(self._store, name)
            return zarr.Array(zarr.AsyncArray(metadata, path))  # type: ignore[call-overload]
        except DAMAGE as error:
            raise IntegrityError(f"{where} is no array of a survey store: {error}") from error

    def read(self, array: zarr.Array[Any], start: int, stop: int) -> NDArray[Any]:
        """Return some rows of an array.

        Raises
        ------
        IntegrityError
            The bytes are not what was written.
        BusyError, SkytallyError
            They cannot be read now, or at all.
        """
        try:
            return np.asarray(array[start:stop])
        except OSError as error:
            raise disk_error(Path(self._place.url, array.path), error, "read") from error
        except DAMAGE as error:
            raise IntegrityError(
                f"{self._place.url}: array {array.path} cannot be read, rows {start} to {stop}: "
                f"{str(error).splitlines()[0] if str(error) else error!r}; {REMEDY}"
            ) from error

    def has(self, name: str) -> bool:
        """Say whether the store has a file."""
        return self._place.size(name) is not None

    def salvage(self, array: zarr.Array[Any], chunk: int) -> NDArray[np.uint8] | None:
        """Return a damaged chunk of the images' bytes, for the images in it that are whole."""
        return salvage(self._place, array.path, chunk)

    def rows(self, array: zarr.Array[Any], start: int, stop: int) -> NDArray[Any]:
        """Return some rows like `read`, read-only, keeping whole chunks for the next partition."""
        size = array.chunks[0]
        parts = [
            self._window(array, window)[max(start - window * size, 0) : stop - window * size]
            for window in range(start // size, -(-stop // size))
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _window(self, array: zarr.Array[Any], window: int) -> NDArray[Any]:
        key = (array.path, window)
        with self._lock:
            found = self._windows.get(key)
            if found is not None:
                self._windows.move_to_end(key)
                return found
        size = array.chunks[0]
        values = self.read(array, window * size, min((window + 1) * size, array.shape[0]))
        values.flags.writeable = False
        with self._lock:
            if key not in self._windows:
                self._windows[key] = values
                self._bytes += values.nbytes
            while self._bytes > CACHE_BYTES:
                self._bytes -= self._windows.popitem(last=False)[1].nbytes
        return values


def refuse_links(place: Place, name: str, *, deep: bool = False) -> None:
    """Refuse symbolic links in a folder, and with ``deep`` below it; buckets have none.

    Raises
    ------
    IntegrityError
        There is one: Zarr would read through it what was never ingested.
    """
    if place.path is None:
        return
    pending = [str(place.path / name)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        raise IntegrityError(
                            f"{entry.path} is a symbolic link, which a survey store never holds; "
                            "put the files themselves there, or ingest again"
                        )
                    if deep and entry.is_dir():
                        pending.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            continue  # what is missing is found by who reads it
