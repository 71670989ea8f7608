"""What people would say of the galaxies, knowing them only from their images.

A galaxy that is small beside the point spread function looks smooth whatever it is: the labelling
bias of Medina-Rosales & Cabrera-Vives 2021, equations 3 and 4. The pictures do not depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import binom

from catalogs.errors import InputError
from catalogs.sky import FloatArray
from catalogs.synthetic.streams import uniforms

THETA = 9.18  # of Galaxy Zoo 2 (Medina-Rosales & Cabrera-Vives 2021)
VOTERS = 40  # of a typical galaxy in Galaxy Zoo
SHARPNESS = 2.0  # log-odds of one vote per standard deviation of how conspicuous features are
SMOOTH, DISK = "elliptical", "spiral"
NO_LABEL = ""  # a store's null


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """How people label.

    Attributes
    ----------
    theta : float
        Resolution below which a disk looks smooth more often than not, nearly; the width of
        equation 4.
    voters : int
        People who look at one galaxy.
    """

    theta: float = THETA
    voters: int = VOTERS

    def __post_init__(self) -> None:
        if not 0 < self.theta < 1000:
            raise InputError(f"theta {self.theta:g}: expected more than 0, and less than 1000")
        if not 1 <= self.voters <= 1000:
            raise InputError(f"voters {self.voters}: expected 1 to 1000")


@dataclass(frozen=True, slots=True)
class Labels:
    """What people say; arrays of shape (n,).

    Attributes
    ----------
    alpha : ndarray of float64
        Resolution: radius over the sigma of the point spread function.
    human_label : ndarray of str
        ``elliptical`` where most voters see none, ``spiral`` where they see a disk's features,
        empty where they see those of an irregular or a merger: two classes to train on.
    votes : ndarray of int64
        Voters who see features, of ``voters``.
    vote_fraction : ndarray of float64
        The same as a fraction.
    certainty : ndarray of float64
        The larger of this fraction and the rest, .5 to 1; Dhar & Shamir 2022 train on .9 and more.
    """

    alpha: FloatArray
    human_label: NDArray[np.str_]
    votes: NDArray[np.int64]
    vote_fraction: FloatArray
    certainty: FloatArray


COLUMNS = {
    "alpha": ("", "resolution: Petrosian radius over the sigma of the point spread function"),
    "human_label": ("", "what most voters say: elliptical, spiral, or null for other features"),
    "votes": ("", "voters who see features"),
    "vote_fraction": ("", "share of the voters who see features"),
    "certainty": ("", "the larger of this share and the rest"),
}
"""Unit and meaning of each column."""


def resolution(radius: FloatArray, seeing: FloatArray) -> FloatArray:
    """Return ``alpha = r / sigma_PSF = 2 sqrt(2 ln 2) r / FWHM``, both in arcsec."""
    return np.asarray(2 * np.sqrt(2 * np.log(2)) * radius / seeing)


def smooth_probability(alpha: FloatArray, theta: float) -> FloatArray:
    """Return the probability that a galaxy with features looks smooth (MC21, equation 4)."""
    return np.asarray(np.exp(-(alpha**2) / (2 * theta**2)))


def label(
    index: NDArray[np.int64],
    truth: NDArray[np.str_],
    radius: FloatArray,
    seeing: FloatArray,
    settings: LabelSettings,
    seed: int,
) -> Labels:
    """Return what people say of galaxies.

    How conspicuous a galaxy's features are is a standard normal number; they are seen where it
    exceeds the quantile that equation 4 asks for, and a single voter's log-odds are its distance
    from there. So the label follows the equation exactly, votes are near even where it is a close
    call, and smooth galaxies are never taken for others (P(disk | smooth) = 0). Votes are drawn on
    the condition that they give the label.

    Parameters
    ----------
    index : ndarray of int64, shape (n,)
        The galaxies' own numbers.
    truth : ndarray of str, shape (n,)
        True classes; all but ``elliptical`` have features.
    radius, seeing : ndarray of float64, shape (n,)
        Petrosian radius and FWHM, arcsec.
    settings : LabelSettings
    seed : int
        Of the people; the same for other conditions.
    """
    alpha = resolution(radius, seeing)
    featured = truth != SMOOTH
    conspicuous = ndtri(uniforms(seed, "human label", index))
    with np.errstate(divide="ignore"):
        beyond = conspicuous - ndtri(smooth_probability(alpha, settings.theta))
    seen = featured & (beyond > 0)
    # What is truly smooth is so by a margin: few voters see a disk.
    beyond = np.where(featured, beyond, -1.0 - np.abs(conspicuous))
    votes = _votes(index, 1 / (1 + np.exp(-SHARPNESS * beyond)), seen, settings.voters, seed)
    fraction = votes / settings.voters
    return Labels(
        alpha=alpha,
        human_label=np.where(seen, np.where(truth == DISK, DISK, NO_LABEL), SMOOTH),
        votes=votes,
        vote_fraction=fraction,
        certainty=np.maximum(fraction, 1 - fraction),
    )


def _votes(
    index: NDArray[np.int64],
    p: FloatArray,
    most: NDArray[np.bool_],
    voters: int,
    seed: int,
) -> NDArray[np.int64]:
    """Draw binomial votes on the condition that more than half are for features, or are not."""
    half = voters // 2
    below = binom.cdf(half, voters, p)
    u = uniforms(seed, "human votes", index)
    rank = np.where(most, below + u * (1 - below), u * below)
    votes = np.asarray(binom.ppf(rank, voters, p), dtype=np.int64)
    # Rounding at the very end of the distribution must not cross the middle.
    return np.where(most, np.maximum(votes, half + 1), np.minimum(votes, half))
