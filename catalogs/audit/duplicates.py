"""Rows at the same position are the same object: the first one counts.

A published dipole fell from 4.0 to 0.3 sigma when its duplicates were removed. Positions agree
when they share a HEALPix pixel of order 29 (0.4 milliarcseconds). The rows wait in memory, and
beyond a few million on disk, split by a hash of the position, so that memory stays bounded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

IN_MEMORY = 1 << 21
_BUCKETS = 64
_ROW = np.dtype([("pixel", np.int64), ("answer", np.float64)])


class FirstAtPosition:
    """Collects rows, then gives back the first of every position.

    Use as a context manager: temporary files vanish with it.

    Parameters
    ----------
    in_memory : int
        Rows held before they go to temporary files.
    """

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._limit = in_memory
        self._waiting: list[NDArray[np.void]] = []
        self._rows = 0
        self._files: list[BinaryIO] = []

    def __enter__(self) -> FirstAtPosition:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files:
            file.close()

    def add(self, healpix_29: IntArray, answers: FloatArray) -> None:
        """Add rows, in the order of the table."""
        rows = np.empty(len(answers), _ROW)
        rows["pixel"], rows["answer"] = healpix_29, answers
        self._waiting.append(rows)
        self._rows += len(rows)
        if self._rows > self._limit:
            self._spill()

    def _spill(self) -> None:
        if not self._files:
            self._files = [tempfile.TemporaryFile() for _ in range(_BUCKETS)]  # noqa: SIM115
        rows = np.concatenate(self._waiting)
        # Fibonacci hashing (Knuth vol. 3, section 6.4) spreads neighbouring pixels.
        mixed = rows["pixel"].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        bucket = (mixed >> np.uint64(58)).astype(np.int64)
        order = np.argsort(bucket, kind="stable")
        bounds = np.searchsorted(bucket[order], np.arange(_BUCKETS + 1))
        rows = rows[order]
        for i, file in enumerate(self._files):
            file.write(rows[bounds[i] : bounds[i + 1]].tobytes())
        self._waiting, self._rows = [], 0

    def unique(self) -> Iterator[tuple[IntArray, FloatArray]]:
        """Yield (healpix_29, answers) without repeated positions, in parts."""
        if not self._files:
            if self._waiting:
                yield _first(np.concatenate(self._waiting))
            return
        if self._waiting:
            self._spill()
        for file in self._files:
            file.seek(0)
            yield _first(np.frombuffer(file.read(), _ROW))


def _first(rows: NDArray[np.void]) -> tuple[IntArray, FloatArray]:
    _, index = np.unique(rows["pixel"], return_index=True)
    kept = rows[index]
    return np.ascontiguousarray(kept["pixel"]), np.ascontiguousarray(kept["answer"])
