"""The binomial tests of a sky, made ready once for fixed positions and applied to many skies.

Positions are fixed and labels random. Under the null every way to deal the labels out over the
objects is equally likely, so counts per tile are multivariate hypergeometric given their total,
and Monte Carlo p values are exact for any number of simulations (Phipson & Smyth 2010, Stat.
Appl. Genet. Mol. Biol. 9, 39).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from catalogs import sky
from catalogs.audit.settings import TESTING_ORDER, AuditSettings
from catalogs.audit.uniformity import dispersion, fractions
from catalogs.audit.uniformity.correlated import FEWEST_TILES, Correlated, CorrelatedSky
from catalogs.audit.uniformity.dipole import DipoleDesign
from catalogs.audit.uniformity.scan import CapScan
from catalogs.audit.uniformity.tiles import TileCounts

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

CELL_ORDER = 4
HALF_SKY = 45.0  # deg; a cap with a larger radius is one
# numpy's sampler takes totals below 1e9; such counts are normal to every digit that matters.
_LARGEST_HYPERGEOMETRIC = 10**9


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of many skies, each of shape (skies,)."""

    x2: FloatArray
    dipole: FloatArray
    scan: FloatArray


class Battery:
    """The tests of one footprint with its numbers of answers.

    Parameters
    ----------
    counts : TileCounts
        At an order of at least 4 and at least ``order``; only its tiles, numbers and kind of
        answers matter here.
    order : int
        The testing order of X^2 and of single tiles.
    settings : AuditSettings
        ``min_n`` and ``radii`` are used.
    """

    def __init__(self, counts: TileCounts, order: int, settings: AuditSettings) -> None:
        self.order = order
        self._radii, self._min_n = settings.radii, counts.fewest(settings.min_n)
        self.cells = counts.merged(max(CELL_ORDER, order))
        self.labels = counts.labels
        self._fixed_variance = None if counts.labels else counts.variance
        parents = self.cells.merged(order)
        self._to_tile = np.searchsorted(
            parents.tiles, self.cells.tiles >> (2 * (self.cells.order - order))
        )
        self._all_tiles = parents
        # An answer's variance is taken to be even within a tile of the testing order.
        self._loads, self._tile_loads = None, parents.loads
        if self._tile_loads is not None:
            self._loads = self.cells.n * (self._tile_loads / parents.n)[self._to_tile]
        self.tested = parents.n >= self._min_n
        self.tiles, self.n = parents.tiles[self.tested], parents.n[self.tested]
        scanned = self.cells.merged(CELL_ORDER)
        self._to_scan = np.searchsorted(
            scanned.tiles, self.cells.tiles >> (2 * (self.cells.order - CELL_ORDER))
        )
        directions = directions_of(scanned.tiles, CELL_ORDER)
        loads = None if self._loads is None else self.at_scan(self._loads)
        self.dipole = DipoleDesign(mean_directions(counts, CELL_ORDER), scanned.n, loads=loads)
        centres = cap_centres(scanned, settings.radii)
        self.scan = CapScan(
            directions, scanned.n, centres, settings.radii, self._min_n, loads=loads
        )

    def at_tiles(self, k: FloatArray) -> FloatArray:
        """Sum counts per cell, shape (..., cells), to the tested tiles, shape (..., tiles)."""
        summed = grouped(k, self._to_tile, len(self._all_tiles.tiles))
        return np.asarray(summed[..., self.tested])

    def at_scan(self, k: FloatArray) -> FloatArray:
        """Sum counts per cell to the cells of the dipole and the scan."""
        return grouped(k, self._to_scan, int(self._to_scan.max()) + 1)

    def variance(self, k: FloatArray, n: IntArray | FloatArray) -> FloatArray:
        """Return the null variance of one answer, shape (...,): p(1 - p) for labels."""
        p = np.asarray(k.sum(axis=-1) / n.sum())
        if self._fixed_variance is None:
            return np.asarray(p * (1 - p))
        return np.full(p.shape, self._fixed_variance)

    def statistics(self, k: FloatArray) -> Statistics:
        """Return the statistics of skies whose counts per cell have shape (skies, cells).

        A statistic that these positions do not allow is NaN.
        """
        k_tile, k_cell = self.at_tiles(k), self.at_scan(k)
        missing = np.full(len(k), np.nan)
        variance = self.variance(k, self.cells.n)
        x2 = missing
        if len(self.n) > 1:
            x2 = dispersion.chi_square(k_tile, self.n, self.variance(k_tile, self.n))
        dipole = self.dipole.statistic(k_cell, variance) if self.dipole.solvable else missing
        scan = self.scan.statistic(k_cell, variance) if len(self.scan) else missing
        return Statistics(x2, dipole, scan)

    def tile_p(self, k: FloatArray) -> FloatArray:
        """Return p of each tested tile against the rest of the sky, for one sky's cells."""
        whole = (float(k.sum()), float(self.cells.n.sum()))
        k_tile = self.at_tiles(k)
        if self.labels:
            return fractions.leave_one_out_p(k_tile, self.n, whole)
        variance = float(self.variance(k, self.cells.n))
        loads = None
        if self._tile_loads is not None:
            loads = (self._tile_loads[self.tested], float(self._tile_loads.sum()))
        z = fractions.leave_one_out_z(k_tile, self.n, variance, whole, loads)
        return fractions.normal_p(z)

    def correlated(
        self, k: FloatArray, variance: float, simulations: int, rng: np.random.Generator
    ) -> Correlated | None:
        """Judge dipole and scan on a clustered sky, at nside 8 or coarser.

        Parameters
        ----------
        k : ndarray of float64, shape (cells,)
        variance : float
            Of one answer.
        simulations : int
        rng : numpy.random.Generator

        Returns
        -------
        Correlated or None
            None when too few tiles hold enough answers.
        """
        clustered = self.clustered(variance)
        if clustered is None:
            return None
        return clustered.judge(self.clustered_fractions(k), simulations, rng)

    def clustered(self, variance: float) -> CorrelatedSky | None:
        """Return the likelihood of these positions; None when too few tiles hold enough answers."""
        sky_, kept = self._clustered_tiles(self.cells)
        if not self.dipole.solvable or kept.sum() < FEWEST_TILES:
            return None
        n, directions = sky_.n[kept], directions_of(sky_.tiles[kept], sky_.order)
        loads = sky_.loads
        known = n if loads is None else n**2 / loads[kept]  # s^2/known: variance of a fraction
        inside = [
            around @ directions.T >= np.cos(np.radians(radius)) - 1e-12
            for radius in self._radii
            for around in [directions if radius <= HALF_SKY else _whole_sky()]
        ]
        caps = np.unique(np.concatenate(inside), axis=0)
        held = caps @ n
        caps = caps[(held >= self._min_n) & (n.sum() - held >= self._min_n)]
        return CorrelatedSky(directions, known, variance, caps, 2**sky_.order)

    def clustered_fractions(self, k: FloatArray) -> FloatArray:
        """Return the fractions of the tiles of `clustered`, from counts per cell, (cells,)."""
        sky_, kept = self._clustered_tiles(replace(self.cells, k=k))
        return np.asarray(sky_.k[kept] / sky_.n[kept])

    def _clustered_tiles(self, cells: TileCounts) -> tuple[TileCounts, NDArray[np.bool_]]:
        tiles = cells.merged(min(self.order, TESTING_ORDER))
        return tiles, tiles.n >= self._min_n

    def permuted(self, k_total: float, skies: int, rng: np.random.Generator) -> FloatArray:
        """Deal the answers out anew over the fixed positions.

        Parameters
        ----------
        k_total : float
            Sum of all answers.
        skies : int
            Number of skies.
        rng : numpy.random.Generator

        Returns
        -------
        ndarray of float64, shape (skies, cells)
            Sums per cell. Sums of probabilities are drawn from the normal distribution with
            the permutation's mean and covariance s^2 (diag n - n n^T/N), with each tile's own s^2
            where that differs.
        """
        n, total = self.cells.n, float(self.cells.n.sum())
        if self.labels and total < _LARGEST_HYPERGEOMETRIC:
            drawn = rng.multivariate_hypergeometric(
                np.asarray(n, np.int64), round(k_total), size=skies, method="marginals"
            )
            return drawn.astype(np.float64)
        p = k_total / total
        variance = p * (1 - p) if self._fixed_variance is None else self._fixed_variance
        loads = n if self._loads is None else self._loads
        noise = rng.standard_normal((skies, len(n))) * np.sqrt(variance * loads)
        return np.asarray(n * p + noise - np.outer(noise.sum(axis=1), n / total))


def monte_carlo_p(observed: FloatArray, null: FloatArray) -> FloatArray:
    """Return (1 + number of null values at or above the observed)/(1 + number of null values).

    Parameters
    ----------
    observed : ndarray of float64, shape (m,)
    null : ndarray of float64, shape (b,)

    Returns
    -------
    ndarray of float64, shape (m,)
        NaN where the observed statistic is NaN.
    """
    # Equal counts may differ in the last bits of their statistic: those are ties.
    slack = 1e-9 * np.abs(observed)
    above = len(null) - np.searchsorted(np.sort(null), observed - slack, side="left")
    return np.where(np.isnan(observed), np.nan, (1 + above) / (1 + len(null)))


def grouped(k: FloatArray, group: IntArray, groups: int) -> FloatArray:
    """Sum the last axis by group; groups are contiguous because nested tiles ascend."""
    if groups == k.shape[-1]:
        return k
    starts = np.searchsorted(group, np.arange(groups))
    return np.asarray(np.add.reduceat(k, starts, axis=-1))


def directions_of(tiles: IntArray, order: int) -> FloatArray:
    """Return the unit vectors of the centres of tiles, shape (t, 3)."""
    return sky.unit_vectors(*sky.tile_centres(tiles, order))


def mean_directions(counts: TileCounts, order: int) -> FloatArray:
    """Return the mean direction of the objects in each tile of an order, shape (t, 3).

    Where a survey fills a part of a tile only, such as a stripe, its centre is not where they are.
    """
    parents = counts.merged(order)
    group = np.searchsorted(parents.tiles, counts.tiles >> (2 * (counts.order - order)))
    summed = grouped(
        (directions_of(counts.tiles, counts.order) * counts.n[:, None]).T, group, len(parents.tiles)
    )
    return np.asarray((summed / parents.n).T)


def cap_centres(cells: TileCounts, radii: tuple[float, ...]) -> tuple[FloatArray, ...]:
    """Return centres about half a radius apart: occupied tiles, or the sphere for half skies."""
    return tuple(_cap_centres(cells, radius) for radius in radii)


def _cap_centres(cells: TileCounts, radius: float) -> FloatArray:
    if radius > HALF_SKY:
        return _whole_sky()
    order = cap_order(radius)
    return directions_of(cells.merged(order).tiles, order)


def cap_order(radius: float) -> int:
    """Return the order of the tiles in whose centres caps of a radius [deg] are centred."""
    return 4 if radius <= 10 else 3 if radius <= 20 else 2


def _whole_sky() -> FloatArray:
    """Return directions 15 degrees apart: half skies may be centred where nothing was seen."""
    return directions_of(np.arange(12 * 4**2), 2)
