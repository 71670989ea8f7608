"""Dipole and scan on a sky that is clustered by itself: the Gaussian likelihood of tile fractions.

Galaxies cluster, and so do the classes of neighbours. Tests that take tiles for independent call
such a sky anisotropic. Here the fractions of tiles are a mean, a dipole, a Gaussian random field
with angular power C_l ~ l^-slope, and the binomial noise; the field's size and slope are estimated
by restricted maximum likelihood (Patterson & Thompson 1971, Biometrika 58, 545), the effect by
generalised least squares, and both are done again on skies drawn from the fitted field, so that
the p values count in that its size and slope are known from this one sky only.

With weights w = sqrt(n)/s, tile fractions y and kernel K of a slope, w K w = U L U^T is diagonal
in one basis for every size of the field: the covariance of U^T (w y) is 1 + sigma^2 L. One
decomposition a slope then serves every sky with these positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SLOPES = (0.0, 0.6, 1.2, 1.8, 2.4)
SIZES = (0.0, *np.geomspace(5e-4, 0.12, 28).tolist())  # rms of the field over tiles, as a fraction
FEWEST_TILES = 12  # fewer cannot tell a field from a dipole
_MULTIPOLES_PER_NSIDE = 8


@dataclass(frozen=True, slots=True)
class Correlated:
    """What is left of dipole and scan on a clustered sky.

    Attributes
    ----------
    dipole_p, scan_p : float
        p values, from skies drawn out of the fitted field; the scan's is None without caps.
    sigma : float
        Fitted rms of the field over tiles, beside a mean and a dipole; 0 when there is none.
    slope : float
        Fitted slope of its power spectrum, C_l ~ l^-slope; meaningless where ``sigma`` is 0.
    dipole_chi2, scan_z : float
        The statistics.
    """

    dipole_p: float
    scan_p: float | None
    sigma: float
    slope: float
    dipole_chi2: float
    scan_z: float | None


@dataclass(frozen=True, slots=True)
class _Basis:
    """Everything that depends on positions and slope only; see the module's beginning."""

    rotation: FloatArray  # U, (t, t)
    power: FloatArray  # L, (t,)
    design: FloatArray  # U^T w (1, x, y, z), (t, 4)
    caps: FloatArray  # U^T w (inside a cap), (t, c)
    caps_squared: FloatArray


@dataclass(frozen=True, slots=True)
class _Fit:
    """Where on the grid of slopes and sizes each sky's likelihood is largest."""

    slope: IntArray
    size: IntArray


class CorrelatedSky:
    """The likelihood of one footprint with its numbers of answers.

    Parameters
    ----------
    directions : array_like of float, shape (t, 3)
        Unit vectors of the tiles' centres.
    n : array_like of float, shape (t,)
        Answers per tile.
    variance : float
        Variance s^2 of one answer.
    caps : array_like of bool, shape (c, t)
        Which tiles lie in each cap of the scan.
    nside : int
        Of the tiles; fractions are averages over them.
    """

    def __init__(
        self, directions: ArrayLike, n: ArrayLike, variance: float, caps: ArrayLike, nside: int
    ) -> None:
        v = np.asarray(directions, np.float64)
        self.weights = np.sqrt(np.asarray(n, np.float64) / variance)
        ones = np.ones((len(v), 1))
        self._bases = []
        for kernel in kernels(np.clip(v @ v.T, -1, 1), nside):
            power, rotation = np.linalg.eigh(self.weights[:, None] * kernel * self.weights)
            weighted = rotation.T * self.weights
            design = weighted @ np.hstack([ones, v])
            inside = weighted @ np.asarray(caps, np.float64).T
            self._bases.append(_Basis(rotation, np.maximum(power, 0.0), design, inside, inside**2))

    def judge(self, fractions: ArrayLike, simulations: int, rng: np.random.Generator) -> Correlated:
        """Return what is left of dipole and scan of one sky.

        Parameters
        ----------
        fractions : array_like of float, shape (t,)
            Fraction of the answer in each tile.
        simulations : int
            Skies drawn from the fitted field, for each of the two.
        rng : numpy.random.Generator
        """
        y = np.atleast_2d(np.asarray(fractions, np.float64)) * self.weights
        fit = self._fit(y, 4)
        chi2 = float(self._chi2(y, fit)[0])
        drawn = self._draw(fit, simulations, rng)
        dipole_p = _p(chi2, self._chi2(drawn, self._fit(drawn, 4)))
        scan_p = z = None
        if self._bases[0].caps.shape[1]:
            mean_only = self._fit(y, 1)
            z = float(self._largest_z(y, mean_only)[0])
            drawn = self._draw(mean_only, simulations, rng)
            scan_p = _p(z, self._largest_z(drawn, self._fit(drawn, 1)))
        size, slope = SIZES[int(fit.size[0])], SLOPES[int(fit.slope[0])]
        return Correlated(dipole_p, scan_p, size, slope, chi2, z)

    def log_likelihood(self, fractions: ArrayLike, columns: int = 4) -> FloatArray:
        """Return the restricted log likelihood, less a constant, on the grid.

        Parameters
        ----------
        fractions : array_like of float, shape (skies, t)
        columns : {1, 4}
            A mean, or a mean and a dipole.

        Returns
        -------
        ndarray of float64, shape (skies, slopes, sizes)
        """
        return self._grid(np.atleast_2d(np.asarray(fractions, np.float64)) * self.weights, columns)

    def _grid(self, y: FloatArray, columns: int) -> FloatArray:
        found = np.empty((len(y), len(SLOPES), len(SIZES)))
        for i, basis in enumerate(self._bases):
            rotated, design = y @ basis.rotation, basis.design[:, :columns]
            squares = rotated**2
            for j, size in enumerate(SIZES):
                inverse = 1 / (1 + size**2 * basis.power)
                information = (design.T * inverse) @ design
                score = (rotated * inverse) @ design
                explained = np.einsum("si,ij,sj->s", score, np.linalg.inv(information), score)
                constant = np.linalg.slogdet(information)[1] - np.log(inverse).sum()
                found[:, i, j] = -0.5 * (constant + squares @ inverse - explained)
        return found

    def _fit(self, y: FloatArray, columns: int) -> _Fit:
        grid = self._grid(y, columns)
        best = grid.reshape(len(y), -1).argmax(axis=1)
        slope, size = np.unravel_index(best, (len(SLOPES), len(SIZES)))
        return _Fit(np.asarray(slope), np.asarray(size))

    def _chi2(self, y: FloatArray, fit: _Fit) -> FloatArray:
        """Return A^T C^-1 A of the dipole A that generalised least squares finds in each sky."""
        found = np.empty(len(y))
        for at, basis, inverse in self._alike(fit):
            rotated = y[at] @ basis.rotation
            covariance = np.linalg.inv((basis.design.T * inverse) @ basis.design)
            vector = ((rotated * inverse) @ basis.design) @ covariance[:, 1:]
            solved = vector @ np.linalg.inv(covariance[1:, 1:])
            found[at] = (vector * solved).sum(axis=1)
        return found

    def _largest_z(self, y: FloatArray, fit: _Fit) -> FloatArray:
        """Return max |z| over the caps: the step at a cap's edge over its standard error."""
        found = np.empty(len(y))
        for at, basis, inverse in self._alike(fit):
            rotated = (y[at] @ basis.rotation) * inverse
            ones = basis.design[:, 0]
            total = (ones * inverse) @ ones
            shared = (ones * inverse) @ basis.caps
            score = rotated @ basis.caps - np.outer(rotated @ ones, shared) / total
            spread = np.sqrt(inverse @ basis.caps_squared - shared**2 / total)
            found[at] = np.abs(score / spread).max(axis=1)
        return found

    def _alike(self, fit: _Fit) -> list[tuple[IntArray, _Basis, FloatArray]]:
        """Group the skies whose fitted field is the same: indices, basis, inverse covariance."""
        group = fit.slope * len(SIZES) + fit.size
        return [
            (np.flatnonzero(group == g), basis, 1 / (1 + SIZES[g % len(SIZES)] ** 2 * basis.power))
            for g in np.unique(group).tolist()
            for basis in [self._bases[g // len(SIZES)]]
        ]

    def _draw(self, fit: _Fit, skies: int, rng: np.random.Generator) -> FloatArray:
        """Draw weighted fractions, of mean 0, out of one sky's fitted field and its noise."""
        basis, size = self._bases[int(fit.slope[0])], SIZES[int(fit.size[0])]
        spread = np.sqrt(1 + size**2 * basis.power)
        return np.asarray((rng.standard_normal((skies, len(spread))) * spread) @ basis.rotation.T)


def kernels(cosines: FloatArray, nside: int) -> list[FloatArray]:
    """Return the correlation of tile averages at these distances, one matrix for each slope.

    K(theta) = sum_l (2l + 1) C_l w_l^2 P_l(cos theta), C_l = l^-slope from l = 1 on, over its
    value at 0. The window w_l = exp(-l(l + 1) a^2/24) is that of a square of side a, to second
    order.

    Parameters
    ----------
    cosines : ndarray of float64
        Of the angles between tile centres.
    nside : int
    """
    side_squared = np.pi / (3 * nside**2)
    sums = [np.zeros_like(cosines) for _ in SLOPES]
    total = np.zeros(len(SLOPES))
    before, now = np.ones_like(cosines), cosines
    for l in range(1, _MULTIPOLES_PER_NSIDE * nside + 1):  # noqa: E741  (its name everywhere)
        window = np.exp(-l * (l + 1) * side_squared / 12)
        for i, slope in enumerate(SLOPES):
            weight = (2 * l + 1) * l**-slope * window
            sums[i] += weight * now
            total[i] += weight
        # Bonnet's recursion
        before, now = now, ((2 * l + 1) * cosines * now - l * before) / (l + 1)
    return [summed / value for summed, value in zip(sums, total, strict=True)]


def _p(observed: float, null: FloatArray) -> float:
    return float((1 + (null >= observed).sum()) / (1 + len(null)))
