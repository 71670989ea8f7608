"""Where a dipole may point, and how large it may be: the posterior under a flat prior.

The fitted vector is normal with known covariance, so under a flat prior on the vector A the
density of its direction d is proportional to the integral over the amplitude a of
a^2 N(a d; fit, C), and that of the amplitude to a^2 times the mean of N over directions.
"""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from scipy import special

from catalogs import sky
from catalogs.audit.report.figures.frame import SkyFrame, svg
from catalogs.audit.report.figures.projection import Mollweide
from catalogs.audit.report.figures.svg import Plot
from catalogs.audit.uniformity.dipole import Dipole

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

CREDIBLE = (0.5, 0.68, 0.95)
_ORDERS = (4, 5, 6, 7)
_FEWEST = 12  # tiles within the smallest region, or finer ones are taken
_HALF, _MARGIN = 475, 30


def direction_density(dipole: Dipole, directions: FloatArray) -> FloatArray:
    """Return the posterior density of the dipole's direction, up to a factor.

    Parameters
    ----------
    dipole : Dipole
    directions : ndarray of float64, shape (t, 3)
        Unit vectors.

    Returns
    -------
    ndarray of float64, shape (t,)
        At most 1.
    """
    information = np.linalg.inv(dipole.covariance)
    curvature = np.einsum("ij,jk,ik->i", directions, information, directions)
    mean = (directions @ information @ dipole.vector) / curvature
    width = 1 / np.sqrt(curvature)
    t = mean / width
    # int_0^inf a^2 exp(-(a - m)^2 / 2s^2) da
    #     = s [(m^2 + s^2) sqrt(2 pi) Phi(m/s) + m s exp(-m^2 / 2s^2)]
    exponent = t * t / 2
    top = exponent[t > 0].max(initial=0.0)
    below = np.sqrt(2 * np.pi) * np.exp(special.log_ndtr(t) + exponent - top)
    integral = width**3 * ((t * t + 1) * below + t * np.exp(-top))
    density = np.maximum(integral, 0.0)
    return np.asarray(density / density.max())


def regions(dipole: Dipole) -> tuple[int, IntArray, FloatArray]:
    """Return the tiles of the 95% region: order, nested numbers, and the share up to each.

    Tiles come in the order of falling density; the share is the posterior probability that the
    dipole points into this tile or one before it.
    """
    for order in _ORDERS:
        tiles = np.arange(12 * 4**order, dtype=np.int64)
        directions = sky.unit_vectors(*sky.tile_centres(tiles, order))
        density = direction_density(dipole, directions)
        rank = np.argsort(-density, kind="stable")
        share = np.cumsum(density[rank])
        share /= share[-1]
        if np.searchsorted(share, CREDIBLE[0]) >= _FEWEST or order == _ORDERS[-1]:
            break
    kept = int(np.searchsorted(share, CREDIBLE[-1])) + 1
    return order, tiles[rank[:kept]], share[:kept]


def amplitude_density(dipole: Dipole, amplitudes: FloatArray) -> FloatArray:
    """Return the posterior density of the dipole's amplitude, integrating to 1.

    Parameters
    ----------
    dipole : Dipole
    amplitudes : ndarray of float64, shape (a,)
        Even steps.
    """
    information = np.linalg.inv(dipole.covariance)
    directions = sky.unit_vectors(*sky.tile_centres(np.arange(12 * 16**2), 4))
    # Average over directions in the fit's own frame, where all are alike on the lattice.
    log = np.empty((len(amplitudes), len(directions)))
    for row, amplitude in enumerate(amplitudes.tolist()):
        away = amplitude * directions - dipole.vector
        log[row] = -0.5 * np.einsum("ij,jk,ik->i", away, information, away)
    density = amplitudes**2 * np.exp(log - log.max()).mean(axis=1)
    step = float(amplitudes[1] - amplitudes[0])
    return np.asarray(density / (density.sum() * step))


def draw_direction(dipole: Dipole, centre: float) -> Markup:
    """Draw the credible regions of the direction on the sky, and the fit."""
    frame = SkyFrame(Mollweide(centre), _HALF, _MARGIN)
    order, tiles, share = regions(dipole)
    codes = "".join(str(int(np.searchsorted(CREDIBLE, s))) for s in share)
    ra, dec = dipole.pole
    x, y = frame.point(ra, dec)
    area = len(tiles) * 4 * np.pi * np.degrees(1) ** 2 / (12 * 4**order)
    title = (
        f"Posterior of the dipole's direction: most probable near right ascension {ra:.0f}, "
        f"declination {dec:+.0f} degrees; 95% within {area:,.0f} square degrees"
    )
    parts = [
        frame.ellipse("space"),
        '<g class="tiles">',
        *frame.tiles(tiles, order, codes.replace("3", "2"), "c"),
        "</g>",
        frame.grid(60, 30),
        frame.plane(),
        frame.ellipse("edge"),
        f'<path class="pole" d="M{x - 16} {y}h32M{x} {y - 16}v32"/>',
        *frame.degrees(),
    ]
    return svg(frame, "posterior", "half", title, parts)


def draw_amplitude(
    dipole: Dipole, interval: tuple[float, float], detectable: float, effect: float
) -> Markup:
    """Draw the density of the amplitude, its interval, and the effect that was asked for."""
    spread = float(np.sqrt(np.linalg.eigvalsh(dipole.covariance)[-1]))
    top = max(dipole.amplitude + 4 * spread, interval[1] * 1.1, effect * 1.15, detectable * 1.1)
    amplitudes = np.linspace(0, top, 241)
    density = amplitude_density(dipole, amplitudes)
    peak = float(density.max())
    plot = Plot((0, top), (0, 1.18), "amplitude of the dipole", "density / its peak")
    inside = (amplitudes >= interval[0]) & (amplitudes <= interval[1])
    if inside.sum() > 1:
        a = amplitudes[inside]
        plot.band(a, np.zeros(len(a)), density[inside] / peak, "band")
    plot.line(amplitudes, density / peak, "line")
    marks = ((effect, "limit", "asked for", 1.1), (detectable, "limit2", "80% power", 1.02))
    for value, kind, words, height in marks:
        plot.line([value, value], [0, height], kind)
        if value > top / 2:
            plot.text(value, height, f"{words}\u2002", "note", "end")
        else:
            plot.text(value, height, f"\u2002{words}", "note", "start")
    return plot.svg(
        "amplitude",
        f"Posterior density of the amplitude, with its 95% interval from {interval[0]:.4f} to "
        f"{interval[1]:.4f}",
    )
