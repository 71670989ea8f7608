"""Probabilities that mean what they say: one or two numbers, fitted on validation galaxies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax

FEWEST = 30  # galaxies that a question is calibrated on; of a class, fewer are told


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibrated log-odds are ``scale * logit + bias``; (1, 0) changes nothing.

    ``scale`` is the inverse of the temperature. A tree has one for each raw output, the same
    within a question: ``scales``.
    """

    scale: float = 1.0
    bias: float = 0.0
    scales: tuple[float, ...] = ()

    @property
    def factors(self) -> float | NDArray[np.float64]:
        """What raw outputs are multiplied with."""
        return np.asarray(self.scales) if self.scales else self.scale

    def probability(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of the second class."""
        return np.asarray(expit(self.scale * logits + self.bias), dtype=np.float64)


def of_mix(targets: NDArray[np.int64], mix: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return weights under which galaxies have a survey's mix of classes, float64 (n,).

    Parameters
    ----------
    targets : ndarray of int64, shape (n,)
        Indices of classes.
    mix : ndarray of float64, shape (classes,), optional
        Share of each class; without, every galaxy weighs one.
    """
    if mix is None:
        return np.ones(len(targets))
    counts = np.bincount(targets, minlength=len(mix))
    return np.asarray((mix * len(targets) / np.maximum(counts, 1))[targets], dtype=np.float64)


def fit_calibration(
    logits: NDArray[np.float64],
    targets: NDArray[np.int64],
    weights: NDArray[np.float64] | None = None,
) -> Calibration:
    """Fit scale and bias by maximum likelihood (Platt 1999), with his smoothed targets.

    Probabilities are those of a galaxy drawn from the survey, with its mix of classes, whatever
    the weights of the classes in training; so 0.5 is the threshold that errs least often.

    Parameters
    ----------
    logits : ndarray of float64, shape (n,)
    targets : ndarray of int64, shape (n,)
        0 or 1.
    weights : ndarray of float64, shape (n,), optional
        Of galaxies that were chosen by class; see `of_mix`.

    Returns
    -------
    Calibration
        The neutral one when a class does not occur, or when the logits order the classes
        backwards.
    """
    positive, negative = int(targets.sum()), int((1 - targets).sum())
    if positive == 0 or negative == 0:
        return Calibration()
    each = np.ones(len(logits)) if weights is None else weights
    soft = np.where(targets == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = parameters[0] * logits + parameters[1]
        value = np.mean(each * (np.logaddexp(0.0, z) - soft * z))
        slope = each * (expit(z) - soft) / len(z)
        return float(value), np.asarray([np.sum(slope * logits), np.sum(slope)])

    found = minimize(loss, np.asarray([1.0, 0.0]), jac=True, method="BFGS")
    scale, bias = (float(value) for value in found.x)
    return Calibration(scale, bias) if scale > 0 else Calibration()


def fit_temperature(
    raw: NDArray[np.float64],
    targets: NDArray[np.int64],
    weights: NDArray[np.float64] | None = None,
) -> Calibration:
    """Fit the scale of several classes' raw outputs by maximum likelihood (Guo et al. 2017).

    Parameters
    ----------
    raw : ndarray of float64, shape (n, classes)
    targets : ndarray of int64, shape (n,)
        Indices of classes.
    weights : ndarray of float64, shape (n,), optional
        Of galaxies that were chosen by class; see `of_mix`.

    Returns
    -------
    Calibration
        Scale is one over the temperature, within e^-5 to e^5.
    """

    def loss(log_scale: float) -> float:
        likelihood = log_softmax(np.exp(log_scale) * raw, axis=1)
        return -float(np.average(likelihood[np.arange(len(raw)), targets], weights=weights))

    return Calibration(float(np.exp(minimize_scalar(loss, bounds=(-5.0, 5.0)).x)))


def fit_questions(
    raw: NDArray[np.float64], votes: NDArray[np.float64], questions: Sequence[slice]
) -> Calibration:
    """Fit the scale of each question's raw outputs to the votes, by maximum likelihood.

    As `fit_temperature`, with as many labels as votes. A question of which fewer than 30 galaxies
    have a vote stays as it is.

    Parameters
    ----------
    raw, votes : ndarray of float64, shape (n, answers)
    questions : sequence of slice
        The answers of each.
    """
    scales = np.ones(raw.shape[1])
    for s in questions:
        said = votes[:, s]
        if np.sum(said.sum(axis=1) >= 1) < FEWEST:
            continue

        def loss(
            log_scale: float, z: NDArray[np.float64] = raw[:, s], k: NDArray[np.float64] = said
        ) -> float:
            return -float(np.sum(k * log_softmax(np.exp(log_scale) * z, axis=1)) / k.sum())

        scales[s] = np.exp(minimize_scalar(loss, bounds=(-5.0, 5.0)).x)
    return Calibration(scales=tuple(scales.tolist()))
