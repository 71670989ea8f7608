"""The cutouts on which two models are compared: real ones, and views of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts.chosen import crop_of, read_usable
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError

CUTOUTS = 4096
SYMMETRIES = 8
SHIFT = 2  # px between one view's place and the next one's
MAX_PIXEL_BYTES = 1 << 29  # of different galaxies held in memory

Pixels = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Galaxies:
    """Real cutouts, where they are on the sky, and whose.

    Attributes
    ----------
    cutouts : ndarray, shape (n, side, side, channels)
    ra, dec : ndarray of float64, shape (n,)
        ICRS, degrees; NaN where the place is not known.
    source : str
    """

    cutouts: Pixels
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    source: str


@dataclass(frozen=True, slots=True)
class Views:
    """So many cutouts made of galaxies.

    Every galaxy as it is, then each turned and mirrored in the seven other ways, then the same
    again beside its place by a few pixels more each time. Made when they are asked for: thousands
    of cutouts do not fit into memory.
    """

    galaxies: Galaxies
    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def distinct(self) -> int:
        """How many different galaxies there are among the views."""
        return min(self.count, len(self.galaxies.cutouts))

    @property
    def galaxy(self) -> NDArray[np.int64]:
        """Which galaxy each view is of, shape (count,)."""
        return np.arange(self.count) % len(self.galaxies.cutouts)

    def batches(self, size: int, stop: int | None = None) -> Iterator[Pixels]:
        """Yield the views, or the first ``stop`` of them, so many at a time."""
        last = self.count if stop is None else min(stop, self.count)
        for start in range(0, last, size):
            yield np.stack([self[i] for i in range(start, min(start + size, last))])

    def __getitem__(self, index: int) -> Pixels:
        galaxies = self.galaxies.cutouts
        turn, galaxy = divmod(index, len(galaxies))
        away, symmetry = divmod(turn, SYMMETRIES)
        image = galaxies[galaxy]
        if symmetry >= SYMMETRIES // 2:
            image = image[:, ::-1]
        image = np.rot90(image, symmetry % (SYMMETRIES // 2))
        # Sky comes in again at the other edge, where nothing of the galaxy is.
        y, x = SHIFT * away, -SHIFT * (away // 2)
        return np.ascontiguousarray(np.roll(image, (y, x), axis=(0, 1)))


def of_survey(
    survey: Path, crop: int, count: int, allowed: NDArray[np.bool_] | None = None
) -> Galaxies:
    """Read galaxies of a survey, spread evenly over its rows, which are in the sky's order.

    Parameters
    ----------
    survey : Path
        Survey store.
    crop : int
        The framing that the network wants [px], unless the survey asks for another.
    count : int
        How many are wanted; fewer where there are fewer, or where so many large ones would not
        fit into memory.
    allowed : ndarray of bool, optional
        Which rows of the store may be used.

    Raises
    ------
    InputError
        There is none.
    """
    store = Survey.open(survey)
    ra, dec = store.column("ra"), store.column("dec")
    rows = np.flatnonzero(np.ones(len(ra), dtype=np.bool_) if allowed is None else allowed)
    side = crop_of(store, None, crop)
    pixels = store.attributes
    each = side * side * pixels.channels * np.dtype(pixels.dtype).itemsize
    most = max(min(count, len(rows), MAX_PIXEL_BYTES // each), 1)
    if len(rows):
        rows = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
    cutouts, kept = read_usable(store, rows, side)
    if len(cutouts) == 0:
        raise InputError(f"{survey} has no cutout that can be used; compare on another survey")
    return Galaxies(cutouts, ra[kept], dec[kept], pixels.name)


def made(size: int, channels: int, dtype: str) -> Pixels:
    """Return noise, even levels and a checkerboard: what no survey holds, (13, size, size, c)."""
    shape = (size, size, channels)
    brightest = np.iinfo(dtype).max if np.issubdtype(np.dtype(dtype), np.integer) else 255
    random = np.random.default_rng(0).integers(0, 256, (8, *shape)) / 255
    levels = [np.full(shape, level / 255) for level in (0, 1, 128, 255)]
    checks = np.repeat((np.indices((size, size)).sum(0) % 2)[:, :, None], channels, axis=2)
    return np.asarray(np.stack([*random, *levels, checks]) * brightest).astype(dtype)
