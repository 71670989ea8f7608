"""Funnel plot of the tiles: fraction against number of answers, with control limits.

Spiegelhalter 2005, Statistics in Medicine 24, 1185: limits of 95% and 99.8% around the mean.
"""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from scipy import stats

from catalogs.audit.report.figures.svg import Plot
from catalogs.audit.uniformity.analysis import TileTable

FloatArray = NDArray[np.float64]

LEVELS = (0.95, 0.998)


def limits(
    n: FloatArray, mean: float, variance: float, level: float, *, labels: bool
) -> tuple[FloatArray, FloatArray]:
    """Return control limits of a fraction at ``n`` answers, each of shape (n,).

    Binomial limits, interpolated between whole counts (Spiegelhalter 2005, appendix A.1.1), for
    labels; normal ones for summed probabilities of that variance.
    """
    tail = (1 - level) / 2
    if not labels:
        half = stats.norm.isf(tail) * np.sqrt(variance / n)
        return np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)
    n = np.round(n)

    def bound(p: float) -> FloatArray:
        r = stats.binom.ppf(p, n, mean)
        at, before = stats.binom.cdf(r, n, mean), stats.binom.cdf(r - 1, n, mean)
        share = (at - p) / np.maximum(at - before, 1e-300)
        return np.asarray((r - share) / n)

    return np.clip(bound(tail), 0, 1), np.clip(bound(1 - tail), 0, 1)


def draw(table: TileTable, mean: float, variance: float, answer: str, *, labels: bool) -> Markup:
    """Draw the tested tiles of one order; flagged ones are marked.

    Parameters
    ----------
    table : TileTable
    mean, variance : float
        Fraction over the sky, and variance of one answer.
    answer : str
    labels : bool
        Whether answers are 0 or 1.
    """
    tested = np.isfinite(table.z)
    n, fraction = table.n[tested].astype(np.float64), table.fraction[tested]
    flagged = table.flag[tested]
    low_n, high_n = float(n.min()) / 1.08, float(n.max()) * 1.08
    if high_n / low_n < 1.5:
        low_n, high_n = low_n / 1.3, high_n * 1.3
    grid = np.unique(np.round(np.geomspace(max(low_n, 1), high_n, 80)))
    curves = [limits(grid, mean, variance, level, labels=labels) for level in LEVELS]
    lowest = min(float(fraction.min()), float(curves[1][0].min()))
    highest = max(float(fraction.max()), float(curves[1][1].max()))
    pad = (highest - lowest) * 0.05 or 0.01
    plot = Plot(
        (float(grid[0]), float(grid[-1])),
        (max(lowest - pad, -0.01), min(highest + pad, 1.01)),
        "answers in the tile",
        f"fraction {answer if len(answer) <= 24 else answer[:23] + '…'}",
        log_x=True,
    )
    for (low, high), kind in zip(curves, ("limit2", "limit"), strict=True):
        plot.line(grid, low, kind)
        plot.line(grid, high, kind)
    plot.line([float(grid[0]), float(grid[-1])], [mean, mean], "mean")
    plot.dots(n[~flagged], fraction[~flagged], "dots")
    plot.dots(n[flagged], fraction[flagged], "dots strong")
    outside = int(np.sum(_outside(n, fraction, mean, variance, labels=labels)))
    return plot.svg(
        "funnel",
        f"Funnel plot of {len(n)} tiles: {outside} lie outside of the 99.8% limits, where chance "
        f"puts {0.002 * len(n):.1f}",
    )


def outside(table: TileTable, mean: float, variance: float, *, labels: bool) -> tuple[int, int]:
    """Return how many tested tiles lie outside of the 95% and of the 99.8% limits."""
    tested = np.isfinite(table.z)
    n, fraction = table.n[tested].astype(np.float64), table.fraction[tested]
    found = [
        int(_outside(n, fraction, mean, variance, labels=labels, level=level).sum())
        for level in LEVELS
    ]
    return found[0], found[1]


def _outside(
    n: FloatArray,
    fraction: FloatArray,
    mean: float,
    variance: float,
    *,
    labels: bool,
    level: float = LEVELS[1],
) -> NDArray[np.bool_]:
    low, high = limits(n, mean, variance, level, labels=labels)
    return np.asarray((fraction < low) | (fraction > high))
