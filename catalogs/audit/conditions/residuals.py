"""The tests of a sky, again on what its observing conditions leave.

Residuals of a regression have the covariance diag v - L L^T (v: sums of the rows' variance in
each cell, L = S G^-1/2; see :mod:`.nuisances`): what the fit took away is missing
from them, so a dipole or a cap along a covariate has less left to be seen with. Their Monte Carlo
skies are drawn from the normal distribution with that covariance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from catalogs.audit.conditions.nuisances import Model
from catalogs.audit.settings import AuditSettings
from catalogs.audit.uniformity import dipole as dipoles
from catalogs.audit.uniformity import fractions, verdict
from catalogs.audit.uniformity.battery import (
    CELL_ORDER,
    Statistics,
    cap_centres,
    directions_of,
    grouped,
    mean_directions,
    monte_carlo_p,
)
from catalogs.audit.uniformity.dipole import Detectable, DipoleDesign
from catalogs.audit.uniformity.scan import CapScan
from catalogs.audit.uniformity.tiles import TileCounts

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_BLOCK = 500


class Residuals:
    """The tests of one footprint for the residuals of one regression.

    Parameters
    ----------
    cells : TileCounts
        Complete rows per cell, at an order of at least 4 and at least ``order``.
    variance : ndarray of float64, shape (c,)
        v.
    taken : ndarray of float64, shape (c, q)
        L.
    order : int
        The testing order of X^2 and of single tiles.
    settings : AuditSettings
        ``min_n`` and ``radii`` are used.
    finer : TileCounts, optional
        The same rows in finer cells, to know where in a cell they lie.
    """

    def __init__(
        self,
        cells: TileCounts,
        variance: FloatArray,
        taken: FloatArray,
        order: int,
        settings: AuditSettings,
        finer: TileCounts | None = None,
    ) -> None:
        self.variance, self.taken = variance, taken
        parents = cells.merged(order)
        tested = parents.n >= settings.min_n
        self._sum_tiles = _Sums(cells, order, tested)
        self.at_scan = _Sums(cells, CELL_ORDER, None)
        self.tiles, self.n = parents.tiles[tested], parents.n[tested]
        self.tile_variance = self._sum_tiles(variance)
        self.tile_left = self.tile_variance - np.sum(self._sum_tiles(taken.T) ** 2, axis=0)
        self._scanned, self._settings = cells.merged(CELL_ORDER), settings
        self.scale = float(variance.sum() / cells.total)
        # In units of one answer's mean variance, so that dipole and caps see numbers of answers.
        self._directions = directions_of(self._scanned.tiles, CELL_ORDER)
        self._loads = self.at_scan(variance) / self.scale
        self._shared = self.at_scan(taken.T).T / np.sqrt(self.scale)
        mean = mean_directions(cells if finer is None else finer, CELL_ORDER)
        self.dipole = DipoleDesign(mean, self._loads, self._shared)

    @cached_property
    def scan(self) -> CapScan:
        """The caps."""
        radii, min_n = self._settings.radii, self._settings.min_n
        centres = cap_centres(self._scanned, radii)
        return CapScan(self._directions, self._loads, centres, radii, min_n, self._shared)

    def cap(self, residual: FloatArray) -> tuple[float, float, float, float] | None:
        """Return the most deviant cap of one sky: position and radius [deg], and difference."""
        if not len(self.scan):
            return None
        best = self.scan.best(self.at_scan(residual), self.scale)
        difference = best.k / best.n + best.k / (self.scan.total - best.n)
        return (*self.scan.centre(best.index), float(self.scan.radii[best.index]), difference)

    def statistics(self, residual: FloatArray) -> Statistics:
        """Return the statistics of residuals, shape (skies, c); NaN where not to be had."""
        at_scan = self.at_scan(residual)
        missing, scale = np.full(len(residual), np.nan), np.full(len(residual), self.scale)
        x2 = missing
        if len(self.n) > 1:
            x2 = np.sum(self._sum_tiles(residual) ** 2 / self.tile_variance, axis=1)
        return Statistics(
            x2,
            self.dipole.statistic(at_scan, scale) if self.dipole.solvable else missing,
            self.scan.statistic(at_scan, scale) if len(self.scan) else missing,
        )

    def draw(self, skies: int, rng: np.random.Generator) -> FloatArray:
        """Draw residuals of skies that vary with their conditions only, shape (skies, c)."""
        noise = rng.standard_normal((skies, len(self.variance))) * np.sqrt(self.variance)
        per_answer = self.taken / self.variance[:, None]
        # What the fit learns from beyond the cells' sums: conditions that differ within a cell.
        within = np.eye(self.taken.shape[1]) - self.taken.T @ per_answer
        values, vectors = np.linalg.eigh(within)
        beyond = rng.standard_normal((skies, len(values))) * np.sqrt(np.maximum(values, 0))
        return np.asarray(noise - (noise @ per_answer + beyond @ vectors.T) @ self.taken.T)

    def tile_z(self, residual: FloatArray) -> FloatArray:
        """Return each tested tile's residual over its standard error; shape (..., t)."""
        left = np.maximum(self.tile_left, 1e-3 * self.tile_variance)
        return np.asarray(self._sum_tiles(residual) / np.sqrt(left))

    def vector(self, residual: FloatArray) -> dipoles.Dipole:
        """Return the dipole of one sky's residuals, shape (c,), in fractions."""
        return self.dipole.fit(self.at_scan(residual), self.scale)

    def dispersion(self, residual: FloatArray) -> tuple[float, float]:
        """Return the overdispersion between tiles, and its degrees of freedom.

        Pearson's X^2 over what it is expected to be (McCullagh & Nelder 1989, section 4.5.2); 1,
        with degrees without end, where less than one is left in tested tiles to estimate it from.
        """
        x2 = float(np.sum(self._sum_tiles(residual) ** 2 / self.tile_variance))
        expected = float(np.sum(self.tile_left / self.tile_variance))
        return (x2 / expected, expected) if expected >= 1 else (1.0, np.inf)


class _Sums:
    """Sums the last axis, over cells, to the tiles of an order."""

    def __init__(self, cells: TileCounts, order: int, kept: BoolArray | None) -> None:
        parents = cells.merged(order).tiles
        self._group = np.searchsorted(parents, cells.tiles >> (2 * (cells.order - order)))
        self._groups, self._kept = len(parents), kept

    def __call__(self, values: FloatArray) -> FloatArray:
        summed = grouped(values, self._group, self._groups)
        return summed if self._kept is None else np.asarray(summed[..., self._kept])


def taken_by(model: Model) -> FloatArray:
    """Return L = S G^-1/2 of a model, shape (c, q): its covariance with the cells is L L^T."""
    return np.asarray(
        np.linalg.solve(np.linalg.cholesky(model.information), model.terms.T).T, np.float64
    )


# ------------------------------------------------------------------------- before and after


@dataclass(frozen=True, slots=True)
class Judged:
    """The four tests of one sky: p, Holm-adjusted p, and what they measured.

    ``sigma_x`` is the standard deviation between tiles beyond chance; ``cap`` its difference
    from the rest, and where (right ascension, declination, radius; degrees).
    """

    statistic: dict[str, float | None]
    p: dict[str, float | None]
    p_holm: dict[str, float | None]
    sigma_x: float
    dipole: dipoles.Dipole | None
    amplitude_interval: tuple[float, float] | None
    cap: tuple[float, float, float, float] | None
    detectable: Detectable | None

    @property
    def alarm(self) -> float | None:
        """Smallest Holm-adjusted p."""
        return min((p for p in self.p_holm.values() if p is not None), default=None)


def judge(
    tests: Residuals, residual: FloatArray, settings: AuditSettings, rng: np.random.Generator
) -> Judged:
    """Test one sky's residuals, shape (c,), by Monte Carlo.

    Parameters
    ----------
    tests : Residuals
    residual : ndarray of float64, shape (c,)
    settings : AuditSettings
        ``simulations`` and ``alpha``.
    rng : numpy.random.Generator
    """
    observed = tests.statistics(residual[None])
    blocks = [
        tests.statistics(tests.draw(min(_BLOCK, settings.simulations - start), rng))
        for start in range(0, settings.simulations, _BLOCK)
    ]
    null = {
        name: np.concatenate([getattr(block, name) for block in blocks])
        for name in ("x2", "dipole", "scan")
    }
    z = tests.tile_z(residual)
    q = fractions.benjamini_hochberg(fractions.normal_p(z)) if len(z) else np.array([np.nan])
    largest = float(np.abs(z).max()) if len(z) else np.nan
    statistic = {
        "global": _number(observed.x2[0]),
        "dipole": _number(observed.dipole[0]),
        "scan": _number(observed.scan[0]),
        "tiles": _number(largest),
    }
    p = {
        "global": _number(monte_carlo_p(observed.x2, null["x2"])[0]),
        "dipole": _number(monte_carlo_p(observed.dipole, null["dipole"])[0]),
        "scan": _number(monte_carlo_p(observed.scan, null["scan"])[0]),
        "tiles": _number(q.min()),
    }
    adjusted = iter(verdict.holm([value for value in p.values() if value is not None]).tolist())
    sigma = 0.0
    if len(tests.n) > 1:
        # The method of moments of DerSimonian & Laird 1986, eq. 8, around the drawn skies' mean.
        excess = float(observed.x2[0] - null["x2"].mean())
        sigma = float(np.sqrt(max(0.0, excess / np.sum(tests.n**2 / tests.tile_variance))))
    found = tests.vector(residual) if tests.dipole.solvable else None
    return Judged(
        statistic,
        p,
        {name: None if value is None else next(adjusted) for name, value in p.items()},
        sigma,
        found,
        None if found is None else dipoles.amplitude_interval(found),
        tests.cap(residual),
        None if found is None else dipoles.detectable_amplitude(found.covariance, settings.alpha),
    )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
