"""Disks too small to show as such: the scale theta of the labelling bias, and what undoes it.

Medina-Rosales & Cabrera-Vives 2021, eqs. 3 and 4: a disk of resolution alpha (its radius over the
point spread function's standard deviation) is called smooth with probability
exp(-alpha^2/(2 theta^2)), and a smooth galaxy is never called a disk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LabellingBias:
    """A fitted bias: ``theta`` with its standard error, and the logistic coefficients.

    ``coefficients`` (shape (1 + d,), the constant first) give the chance to be a disk.
    """

    theta: float
    error: float
    coefficients: FloatArray


def fit(disk: ArrayLike, alpha: ArrayLike, features: ArrayLike) -> LabellingBias:
    """Return the maximum likelihood of theta, beside a logistic regression of the true class.

    A disk that was seen adds log s(z) + log(1 - b), anything else log(s(-z) + s(z) b), with
    b = exp(-alpha^2/(2 theta^2)) and z the regression; L-BFGS over its coefficients and
    log theta, the error from the Hessian.

    Parameters
    ----------
    disk : array_like of bool, shape (m,)
        Called a disk.
    alpha : array_like of float, shape (m,)
        Resolution, positive.
    features : array_like of float, shape (m, d)
        Intrinsic properties.

    Raises
    ------
    ValueError
        All objects are called alike.
    """
    seen, alpha = np.asarray(disk, np.bool_), np.asarray(alpha, np.float64)
    x = np.column_stack([np.ones(len(alpha)), np.asarray(features, np.float64)])
    if seen.all() or not seen.any():
        raise ValueError("all objects are called alike: theta cannot be told")
    half = alpha**2 / 2

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        z, exponent = x @ parameters[:-1], half * np.exp(-2 * parameters[-1])
        # log(1 - b), its derivative by log theta, and those of the smooth term.
        hidden = -np.expm1(-exponent)
        smooth = np.logaddexp(special.log_expit(-z), special.log_expit(z) - exponent)
        total = np.where(seen, special.log_expit(z) + np.log(hidden), smooth).sum()
        disk_though_smooth = np.exp(special.log_expit(z) - exponent - smooth)
        by_z = np.where(seen, 1.0, disk_though_smooth) - special.expit(z)
        by_exponent = np.where(seen, np.exp(-exponent) / hidden, -disk_though_smooth)
        gradient = np.append(by_z @ x, by_exponent @ (-2 * exponent))
        return -float(total), -gradient

    start = np.zeros(x.shape[1] + 1)
    start[0] = special.logit(seen.mean())
    start[-1] = np.log(np.median(alpha))
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", tol=1e-10)
    covariance = np.linalg.inv(_hessian(loss, found.x))
    theta = float(np.exp(found.x[-1]))
    return LabellingBias(theta, theta * float(np.sqrt(covariance[-1, -1])), found.x[:-1])


def _hessian(loss: object, at: FloatArray) -> FloatArray:
    """Return the Hessian by central differences of the gradient."""
    assert callable(loss)
    step = 1e-4
    rows = [(loss(at + step * e)[1] - loss(at - step * e)[1]) / (2 * step) for e in np.eye(len(at))]
    hessian = np.array(rows, np.float64)
    return (hessian + hessian.T) / 2


def disk_though_smooth(chance: ArrayLike, alpha: ArrayLike, theta: float) -> FloatArray:
    """Return the chance that an object called smooth is a disk: s b/(s b + 1 - s).

    Parameters
    ----------
    chance : array_like of float, shape (m,)
        s, the chance to be a disk by its intrinsic properties.
    alpha : array_like of float, shape (m,)
    theta : float
    """
    s, alpha = np.asarray(chance, np.float64), np.asarray(alpha, np.float64)
    hidden = s * np.exp(-(alpha**2) / (2 * theta**2))
    return np.asarray(hidden / np.maximum(hidden + 1 - s, np.finfo(np.float64).tiny))
