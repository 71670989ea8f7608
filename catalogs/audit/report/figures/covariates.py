"""The fraction against each covariate, with what the regression expects."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from catalogs.audit.report.figures.svg import Plot

_LONGEST = 28


def draw(part: dict[str, Any], answer: str) -> list[Markup]:
    """Return a plot of each covariate, all with the same vertical axis.

    Parameters
    ----------
    part : dict
        ``nuisances`` of the document.
    answer : str
        Named on the axis.
    """
    covariates = part["covariates"]
    if not covariates:
        return []
    low = min(min(c["curve"]["low"]) for c in covariates)
    high = max(max(c["curve"]["high"]) for c in covariates)
    pad = (high - low) * 0.06 or 0.01
    return [
        _one(c, i, part["fraction"], (low - pad, high + pad), answer)
        for i, c in enumerate(covariates)
    ]


def _one(
    covariate: dict[str, Any], number: int, mean: float, y: tuple[float, float], answer: str
) -> Markup:
    curve = {name: np.asarray(values, np.float64) for name, values in covariate["curve"].items()}
    x = curve["x"]
    span = float(np.ptp(x)) or 1.0
    limits = float(x.min()) - 0.05 * span, float(x.max()) + 0.05 * span
    plot = Plot(limits, y, shortened(covariate["name"]), f"fraction {shortened(answer)}")
    plot.line(list(limits), [mean, mean], "limit2")
    for at, low, high in zip(x, curve["low"], curve["high"], strict=True):
        plot.line([at, at], [low, high], "bar")
    plot.dots(x, curve["fraction"], "dots")
    if covariate["dropped"] is None:
        plot.line(x, curve["fitted"], "fit")
    return plot.svg(
        f"covariate{number}",
        f"Fraction of {answer} answers against {covariate['name']}: "
        f"{curve['fraction'][0]:.4f} at {x[0]:.4g}, {curve['fraction'][-1]:.4f} at {x[-1]:.4g}",
    )


def shortened(text: str) -> str:
    """Return a foreign text as an axis has room for."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
