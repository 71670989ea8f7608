"""The width theta of the labelling bias, from labels alone: before any network is trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import approx_fprime, minimize
from scipy.special import expit, log_expit

from catalogs.errors import InputError
from catalogs.sky import FloatArray


@dataclass(frozen=True, slots=True)
class Theta:
    """The width of the bias: a disk is called smooth with exp(-alpha^2 / (2 value^2)).

    ``error`` is its standard error, None where it was given and not found.
    """

    value: float
    error: float | None = None


@dataclass(frozen=True, slots=True)
class LogisticModel:
    """The true class by logistic regression, and the width of the bias that labels have.

    Attributes
    ----------
    theta : Theta
    weights : ndarray of float64, shape (1 + k,)
        Of one and the features, these less ``mean`` and divided by ``spread``.
    mean, spread : ndarray of float64, shape (k,)
    """

    theta: Theta
    weights: FloatArray
    mean: FloatArray
    spread: FloatArray

    def posterior(
        self, resolution: FloatArray, disk: NDArray[np.int64], features: FloatArray
    ) -> FloatArray:
        """Return the probability of a disk, given also what the galaxy was called.

        ``s b / (s b + 1 - s)`` where it was called smooth, with ``b`` of equation 4 of
        Medina-Rosales & Cabrera-Vives 2021; 1 where it was called a disk.

        Parameters
        ----------
        resolution, disk, features
            As of `logistic_model`.
        """
        z = self.weights[0] + (features - self.mean) / self.spread @ self.weights[1:]
        half = resolution**2 / (2.0 * self.theta.value**2)
        return np.where(disk == 1, 1.0, expit(z - half))


def estimate_theta(resolution: FloatArray, disk: NDArray[np.int64], features: FloatArray) -> Theta:
    """Find theta by maximum likelihood: that of `logistic_model`."""
    return logistic_model(resolution, disk, features).theta


def logistic_model(
    resolution: FloatArray, disk: NDArray[np.int64], features: FloatArray
) -> LogisticModel:
    """Find theta by maximum likelihood, together with a logistic model of the true class.

    The likelihood of `training.losses.debiased` with z = w . (1, features), maximised over w and
    log theta by L-BFGS; the error is from the Hessian. How Cabrera-Vives et al. 2014 found the
    9.18 of Medina-Rosales & Cabrera-Vives 2021, from Sersic index, ellipticity and half-light
    radius.

    Parameters
    ----------
    resolution : ndarray of float64, shape (n,)
        alpha > 0.
    disk : ndarray of int64, shape (n,)
        1 where the galaxy was called a disk.
    features : ndarray of float64, shape (n, k)

    Raises
    ------
    InputError
        The labels do not determine theta.
    """
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    scaled = (features - mean) / spread
    x = np.column_stack([np.ones(len(scaled)), scaled])
    square = resolution**2 / 2.0
    seen = disk == 1

    def slope(p: FloatArray) -> FloatArray:
        return value(p)[1]

    def value(p: FloatArray) -> tuple[float, FloatArray]:
        """Return minus the mean log likelihood and its gradient."""
        z, half = x @ p[:-1], square * np.exp(-2.0 * p[-1])
        missed = np.logaddexp(log_expit(-z), log_expit(z) - half)
        lost = np.where(seen, -(log_expit(z) + np.log(-np.expm1(-half))), -missed)
        # d/dz and d/dhalf; half falls by 2 half for each unit of log theta.
        share = np.exp(log_expit(z) - half - missed)  # of the smooth: the true disks
        by_z = np.where(seen, -expit(-z), expit(z) - share)
        by_half = np.where(seen, -1.0 / np.expm1(half), share)
        gradient = np.append(x.T @ by_z, np.sum(by_half * -2.0 * half)) / len(x)
        return float(lost.mean()), gradient

    start = np.append(np.zeros(x.shape[1]), np.log(np.median(resolution)))
    bounds = [(None, None)] * x.shape[1] + [(start[-1] - 7.0, start[-1] + 7.0)]
    options = {"maxiter": 2000, "ftol": 1e-13, "gtol": 1e-8}
    found = minimize(value, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    hessian = approx_fprime(found.x, slope, 1e-6) * len(x)
    determined = bool(np.isfinite(hessian).all()) and np.linalg.cond(hessian) < 1e12
    variance = np.linalg.inv((hessian + hessian.T) / 2)[-1, -1] if determined else -1.0
    if not 0 < variance < 1:  # of log theta
        raise InputError(
            f"{len(x)} labels do not determine theta; give it with [debias] theta, or use more "
            "galaxies or other features"
        )
    theta = float(np.exp(found.x[-1]))
    error = theta * float(np.sqrt(variance))
    return LogisticModel(Theta(theta, error), found.x[:-1], mean, spread)
