"""The cap scan: the disk on the sky that differs most from the rest of the sky.

Every cap of every radius is compared with its complement, z = (k - n K/N)/sqrt(s^2 n (N-n)/N),
and the largest |z| is judged against skies of permuted answers (Kulldorff's scan with a normal
score; Kulldorff 1997, Comm. Stat. 26, 1481).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from catalogs.audit.settings import DEFAULT_RADII

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Cap:
    """The most deviant cap: its index, signed z, and counts inside."""

    index: int
    z: float
    k: float
    n: float


class CapScan:
    """Caps over a fixed set of tiles; the membership matrix is built once.

    Parameters
    ----------
    directions : array_like of float, shape (t, 3)
        Unit vectors of the tiles' centres.
    n : array_like of float, shape (t,)
        Answers per tile.
    centres : sequence of array_like, each of shape (c, 3)
        Unit vectors of the caps' centres, one array per radius.
    radii : sequence of float
        Degrees.
    min_n : float
        A cap and its complement must both hold at least so many answers.
    taken : array_like of float, shape (t, q), optional
        L, where counts are residuals of a regression: their covariance is s^2 (diag n - L L^T).
        Caps of which it leaves less than a hundredth are not scanned.
    loads : array_like of float, shape (t,), optional
        Variances of the sums over s^2, where one answer's is not s^2 everywhere.
    """

    def __init__(
        self,
        directions: ArrayLike,
        n: ArrayLike,
        centres: tuple[FloatArray, ...],
        radii: tuple[float, ...] = DEFAULT_RADII,
        min_n: float = 100,
        taken: ArrayLike | None = None,
        loads: ArrayLike | None = None,
    ) -> None:
        v, n = np.asarray(directions, np.float64), np.asarray(n, np.float64)
        self.total = float(n.sum())
        inside, axes, sizes, spreads = [], [], [], []
        for radius, around in zip(radii, centres, strict=True):
            member = around @ v.T >= np.cos(np.radians(radius)) - 1e-12
            counts = member @ n
            usable = (counts >= min_n) & (self.total - counts >= min_n)
            squared = counts * (self.total - counts) / self.total
            if taken is not None:
                left = counts - np.sum((member @ np.asarray(taken, np.float64)) ** 2, axis=1)
                usable &= left > 0.01 * squared
                squared = left
            if loads is not None:
                uneven, share = np.asarray(loads, np.float64), counts / self.total
                squared = (member @ uneven) * (1 - 2 * share) + share**2 * uneven.sum()
            spreads.append(np.sqrt(squared[usable]))
            inside.append(member[usable])
            axes.append(around[usable])
            sizes.append(np.full(int(usable.sum()), radius))
        self.axes = np.concatenate(axes)
        self.radii = np.concatenate(sizes)
        member = np.concatenate(inside).astype(np.float64)
        self.n = member @ n
        self._spread = spread = np.concatenate(spreads)
        # z is linear in the counts: subtract n/N from membership, divide by the spread, once.
        self._weights = ((member - (self.n / self.total)[:, None]) / spread[:, None]).T

    def __len__(self) -> int:
        return len(self.radii)

    def z(self, k: ArrayLike, variance: ArrayLike) -> FloatArray:
        """Return z of every cap, shape (..., caps), for counts of shape (..., t)."""
        s = np.sqrt(np.asarray(variance, np.float64))
        return np.asarray((np.asarray(k, np.float64) @ self._weights) / s[..., None])

    def statistic(self, k: ArrayLike, variance: ArrayLike, block: int = 256) -> FloatArray:
        """Return max |z| over the caps for many skies.

        Parameters
        ----------
        k : array_like of float, shape (skies, t)
            Sums of answers per tile.
        variance : array_like of float, shape (skies,)
            Variance of one answer.
        block : int
            Skies in memory at a time.

        Returns
        -------
        ndarray of float64, shape (skies,)
        """
        k, variance = np.atleast_2d(np.asarray(k, np.float64)), np.atleast_1d(variance)
        parts = [
            np.abs(self.z(k[start : start + block], variance[start : start + block])).max(axis=-1)
            for start in range(0, len(k), block)
        ]
        return np.concatenate(parts)

    def best(self, k: ArrayLike, variance: float) -> Cap:
        """Return the most deviant cap of one sky; ``k`` has shape (t,)."""
        k = np.asarray(k, np.float64)
        z = self.z(k, np.float64(variance))
        index = int(np.argmax(np.abs(z)))
        n = self.n[index]
        spread = np.sqrt(variance) * self._spread[index]
        return Cap(index, float(z[index]), float(z[index] * spread + n * k.sum() / self.total), n)

    def centre(self, index: int) -> tuple[float, float]:
        """Return right ascension and declination [deg] of a cap's centre."""
        x, y, z = self.axes[index]
        return float(np.degrees(np.arctan2(y, x)) % 360), float(np.degrees(np.arcsin(z)))
