"""The vector dipole f = p + A cos(angle), its test, its interval and the smallest detectable.

A tile of mean direction v and n answers has expected fraction p + A.v and variance s^2/n.
Weighted least squares then needs only the tiles' centred directions x = v - <v> (weights n)
and their scatter G = sum n x x^T: the estimate is A = G^-1 sum k x with covariance s^2 G^-1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

FloatArray = NDArray[np.float64]

_DEGENERATE = 1e-9


@dataclass(frozen=True, slots=True)
class Dipole:
    """A fitted dipole.

    ``vector`` is A (shape (3,), ICRS Cartesian), ``covariance`` its covariance (3, 3),
    ``chi2`` the test statistic A^T C^-1 A with 3 degrees of freedom.
    """

    vector: FloatArray
    covariance: FloatArray
    chi2: float

    @property
    def amplitude(self) -> float:
        """Length of the vector: the fraction's change from the mean at the pole."""
        return float(np.linalg.norm(self.vector))

    @property
    def pole(self) -> tuple[float, float]:
        """Right ascension and declination [deg] of the direction of the largest fraction."""
        x, y, z = self.vector / max(self.amplitude, 1e-300)
        return float(np.degrees(np.arctan2(y, x)) % 360), float(np.degrees(np.arcsin(z)))


class DipoleDesign:
    """The fixed part of the fit: where the answers lie, and how many.

    Parameters
    ----------
    directions : array_like of float, shape (t, 3)
        Unit vectors of the tiles' centres.
    n : array_like of float, shape (t,)
        Answers per tile.
    taken : array_like of float, shape (t, q), optional
        L, where counts are residuals of a regression: their covariance is s^2 (diag n - L L^T).
        By default that of counts whose mean was fitted, L = n/sqrt(N).
    loads : array_like of float, shape (t,), optional
        Variances of the sums over s^2, where one answer's is not s^2 everywhere: the covariance of
        the fit is then White's (1980, Econometrica 48, 817), robust to that.
    """

    def __init__(
        self,
        directions: ArrayLike,
        n: ArrayLike,
        taken: ArrayLike | None = None,
        loads: ArrayLike | None = None,
    ) -> None:
        v, n = np.asarray(directions, np.float64), np.asarray(n, np.float64)
        self.centred = v - (n @ v) / n.sum()
        self.scatter = (self.centred * n[:, None]).T @ self.centred
        if taken is not None:
            along = self.centred.T @ np.asarray(taken, np.float64)
            self.scatter = self.scatter - along @ along.T
        self._spread = self.scatter  # of the score, in units of s^2
        if loads is not None:
            self._spread = (self.centred * np.asarray(loads)[:, None]).T @ self.centred
        eigenvalues = np.linalg.eigvalsh(self.scatter)
        self.solvable = bool(eigenvalues[0] > _DEGENERATE * max(eigenvalues[-1], 1e-300))

    def statistic(self, k: ArrayLike, variance: ArrayLike) -> FloatArray:
        """Return chi^2 of the dipole for one sky or many.

        Parameters
        ----------
        k : array_like of float, shape (..., t)
            Sums of answers per tile.
        variance : array_like of float, shape (...,)
            Variance s^2 of one answer under the null.

        Returns
        -------
        ndarray of float64, shape (...,)
            chi^2 with 3 degrees of freedom when labels do not depend on direction.
        """
        score = np.asarray(k, np.float64) @ self.centred
        solved = score @ np.linalg.inv(self._spread)
        return np.asarray(np.sum(score * solved, axis=-1) / np.asarray(variance, np.float64))

    def fit(self, k: ArrayLike, variance: float) -> Dipole:
        """Return the dipole of one sky; ``k`` has shape (t,)."""
        inverse = np.linalg.inv(self.scatter)
        vector = inverse @ (np.asarray(k, np.float64) @ self.centred)
        covariance = inverse if self._spread is self.scatter else inverse @ self._spread @ inverse
        return Dipole(vector, variance * covariance, float(self.statistic(k, variance)))


def amplitude_interval(dipole: Dipole, confidence: float = 0.95) -> tuple[float, float]:
    """Return the profile-likelihood interval of the dipole's amplitude.

    All a with min over |A| = a of (A - fit)^T C^-1 (A - fit) <= chi^2_1's quantile. The
    minimiser is (M + l I)^-1 M fit with M = C^-1, and a multiplier l > 0 for the lower and
    -min eigenvalue < l < 0 for the upper bound (the trust-region problem: Nocedal & Wright,
    Numerical Optimization, theorem 4.1). Touches 0 when the dipole could be none.
    """
    limit = float(stats.chi2.ppf(confidence, 1))
    m, rotation = np.linalg.eigh(np.linalg.inv(dipole.covariance))
    b = rotation.T @ dipole.vector

    def excess(multiplier: float) -> float:
        return float(np.sum(m * (multiplier * b / (m + multiplier)) ** 2)) - limit

    def length(multiplier: float) -> float:
        return float(np.linalg.norm(m * b / (m + multiplier)))

    low = 0.0
    if np.sum(m * b**2) > limit:
        top = float(m[-1])
        while excess(top) < 0:
            top *= 4
        low = length(optimize.brentq(excess, 0.0, top))
    bottom = -float(m[0]) * (1 - 1e-9)
    if excess(bottom) > 0:
        high = length(optimize.brentq(excess, bottom, 0.0))
    else:  # the fit has no component along the weakest axis: the rest of the way lies along it
        high = float(np.hypot(length(bottom), np.sqrt(max(-excess(bottom), 0.0) / m[0])))
    return low, high


@dataclass(frozen=True, slots=True)
class Detectable:
    """Dipole amplitudes found with the stated power: over random axes, and by direction."""

    mean: float
    best: float
    worst: float


def detectable_amplitude(
    covariance: ArrayLike, alpha: float = 0.05, power: float = 0.8
) -> Detectable:
    """Return the amplitude that the chi^2 test (3 degrees) finds with the given power.

    Under amplitude a along d the statistic is noncentral chi^2 with a^2 d^T C^-1 d.

    Parameters
    ----------
    covariance : array_like of float, shape (3, 3)
        Covariance C of the fitted vector, from the footprint and the counts.
    alpha, power : float
        Size of the test, and the wanted probability to find the dipole.

    Returns
    -------
    Detectable
        ``mean``: power averaged over directions distributed evenly on the sphere reaches the
        target; ``best`` and ``worst``: along the strongest and the weakest axis.
    """
    threshold = float(stats.chi2.isf(alpha, 3))

    def found(noncentrality: ArrayLike) -> FloatArray:
        return np.asarray(stats.ncx2.sf(threshold, 3, noncentrality), np.float64)

    needed = float(optimize.brentq(lambda x: float(found(x)) - power, 1e-6, 1e3))
    information = np.linalg.inv(np.asarray(covariance, np.float64))
    eigenvalues = np.linalg.eigvalsh(information)
    best, worst = np.sqrt(needed / eigenvalues[-1]), np.sqrt(needed / eigenvalues[0])
    axes = _even_directions(1000)
    along = np.einsum("ij,jk,ik->i", axes, information, axes)
    mean = worst
    if worst > best * (1 + 1e-9):
        mean = optimize.brentq(
            lambda a: float(found(a * a * along).mean()) - power, best * 0.5, worst * 1.5
        )
    return Detectable(float(mean), float(best), float(worst))


def _even_directions(count: int) -> FloatArray:
    """Return unit vectors of a Fibonacci lattice (Gonzalez 2010, Math. Geosci. 42, 49)."""
    i = np.arange(count) + 0.5
    z = 1 - 2 * i / count
    turn = np.pi * (1 + np.sqrt(5)) * i
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=-1)
