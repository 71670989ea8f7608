"""The pattern on a disk: arms, short sheared pieces of arms, rings, dust lanes, lopsidedness.

All are functions of the position in the disk's plane, and multiply its smooth light.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import ive

from catalogs.sky import FloatArray
from catalogs.synthetic.frame import Image
from catalogs.synthetic.streams import stream

TEXTURE = 256  # samples a side, over 2 pi each way

# Young stars make the pattern and the old disk follows it less: contrast in g, r, i.
YOUNG = (1.0, 0.82, 0.7)
# Extinction in g, r, i over g: Schlafly & Finkbeiner 2011 (ApJ 737, 103), R_V = 3.1.
EXTINCTION = (1.0, 0.69, 0.51)


@lru_cache(maxsize=1)
def texture() -> Image:
    """Return smooth noise of unit variance, periodic, longer along its first axis than across.

    The first axis is ln r, the second the azimuth that turns with the arms: patches of it are
    pieces of arms, as stochastic star formation sheared by rotation makes them (Gerola & Seiden
    1978, ApJ 223, 129). Galaxies read it at places of their own.
    """
    white = stream(0, "texture of disks", 0).standard_normal((TEXTURE, TEXTURE))
    total = np.zeros_like(white)
    for weight, along, across in ((1.0, 11.0, 8.0), (0.6, 5.0, 3.5)):
        smooth = gaussian_filter(white, (along, across), mode="wrap")
        total += weight * smooth / smooth.std()
    return np.asarray((total - total.mean()) / total.std(), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Phases:
    """Where the pattern of one galaxy lies: angles [rad], and its place in the texture."""

    arms: float
    wobble: float
    wave: float
    side: float
    row: int
    column: int

    @classmethod
    def draw(cls, rng: Generator) -> Phases:
        """Draw them, always with the same count of numbers."""
        arms, wobble, wave, side = (float(angle) for angle in rng.uniform(0, 2 * np.pi, 4))
        row, column = (int(place) for place in rng.integers(0, TEXTURE, 2))
        return cls(arms, wobble, wave, side, row, column)


def visible(q: FloatArray) -> FloatArray:
    """Return how much of the pattern shows, 0 to 1, by the apparent axis ratio of the disk."""
    return np.asarray(np.clip((q - 0.15) / 0.3, 0.0, 1.0))


def azimuth(
    galaxy: NDArray[np.void], log_r: Image, theta: Image, phases: Phases
) -> tuple[Image, Image]:
    """Return the azimuth that is constant along an arm, and the phase across the arms.

    Arms are logarithmic spirals, ``theta = ln(r) / tan(pitch)``, that bend a little. Of a barred
    galaxy they begin at the ends of the bar.
    """
    winding = 1 / np.tan(float(galaxy["pitch"]))
    bend = np.float32(0.3) * np.sin(np.float32(3.0) * log_r + np.float32(phases.wobble))
    sheared = theta - np.float32(winding) * log_r + bend
    start = phases.arms
    if galaxy["bar"] > 0:
        length = np.log(float(galaxy["bar_length"]))
        at_end = float(galaxy["handedness"]) * float(galaxy["bar_angle"]) - winding * length
        at_end += 0.3 * np.sin(3.0 * length + phases.wobble)
        start = -int(galaxy["arms"]) * at_end
    return sheared, np.float32(int(galaxy["arms"])) * sheared + np.float32(start)


def arms(
    galaxy: NDArray[np.void], radius: Image, log_r: Image, theta: Image, phases: Phases
) -> tuple[Image, Image]:
    """Return what arms add to a disk of unit light, and how much dust lies on each place.

    The profile across is von Mises: around every circle arms add as much as they take. Dust lies
    along their inner edges (Lynds 1970, IAU Symp. 38, 26).

    Parameters
    ----------
    galaxy : one record of ``GALAXY``
    radius, log_r, theta : ndarray of float32, shape (n,)
        In the disk's plane; radius in half-light radii, theta in the sense of winding.
    phases : Phases

    Returns
    -------
    added, dust : ndarray of float32, shape (n,)
        Relative to the disk's light, for a contrast of one; and from 0 to 1.
    """
    _, across = azimuth(galaxy, log_r, theta, phases)
    kappa = float(galaxy["sharpness"])
    profile = np.exp(np.float32(kappa) * (np.cos(across) - 1)) / np.float32(ive(0, kappa)) - 1
    fade = np.float32(0.75) + np.float32(0.25) * np.sin(
        theta - np.float32(2.0) * log_r + np.float32(phases.wave)
    )
    inner = max(0.22, 0.85 * float(galaxy["bar_length"]))
    squared = radius * radius
    grow = 1 - np.exp(-squared * squared * np.float32(inner**-4))  # none through the centre
    lane = np.exp(np.float32(4.0) * (np.cos(across - np.float32(0.9)) - 1))
    return profile * fade * grow, lane * grow * np.exp(-radius)


def patches(galaxy: NDArray[np.void], log_r: Image, theta: Image, phases: Phases) -> Image:
    """Return the logarithm of the light in pieces of arms, unit variance; shape (n,)."""
    sheared, _ = azimuth(galaxy, log_r, theta, phases)
    to_sample = np.float32(TEXTURE / (2 * np.pi))
    column = (sheared * to_sample).astype(np.int32) + np.int32(phases.column)
    row = (log_r * to_sample).astype(np.int32) + np.int32(phases.row)
    mask = np.int32(TEXTURE - 1)
    return np.asarray(texture().ravel()[(row & mask) * np.int32(TEXTURE) + (column & mask)])


def ring(galaxy: NDArray[np.void], log_r: Image) -> Image:
    """Return the light that a ring adds, relative to the disk's; shape (n,)."""
    away = (log_r - np.float32(np.log(galaxy["ring_radius"]))) / np.float32(0.13)
    return np.asarray(np.float32(galaxy["ring"]) * np.exp(np.float32(-0.5) * away * away))


def lane_place(galaxy: NDArray[np.void]) -> tuple[FloatArray, FloatArray]:
    """Return an edge-on lane's height, and how far its near side lies off the centre.

    In half-light radii, of one record of ``GALAXY`` or of many.
    """
    shift = 0.35 * np.cos(galaxy["inclination"]) * galaxy["handedness"]
    return 0.45 * galaxy["thickness"] + 0.01, shift


def edge_on_lane(galaxy: NDArray[np.void], along: Image, across: Image) -> Image:
    """Return the share of light, 0 to 1, that an edge-on dust layer can take; shape (n,).

    The layer is thinner and more extended than the stars (Xilouris et al. 1999, A&A 344, 868);
    off the edge, its near side is what is seen.

    Parameters
    ----------
    galaxy : one record of ``GALAXY``
    along, across : ndarray of float32, shape (n,)
        Distances along the major and minor axis, in half-light radii.
    """
    height, shift = lane_place(galaxy)
    z = (across - np.float32(shift)) / np.float32(height)
    return np.asarray(np.exp(-z * z - np.abs(along) / np.float32(1.2)), dtype=np.float32)
