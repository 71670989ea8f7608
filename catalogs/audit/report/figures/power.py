"""What these data could show, and how many galaxies a smaller effect asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from catalogs.audit.report.figures.svg import Plot


def needed(found: dict[str, float], answers: int, effect: float) -> int:
    """Return how many answers, spread as these are, detect ``effect`` with the same power.

    The covariance of the fitted dipole falls as 1/N, so the detectable amplitude as N^-1/2.
    """
    return int(np.ceil(answers * (found["mean"] / effect) ** 2))


def draw(alone: dict[str, float], alarm: dict[str, float], answers: int, effect: float) -> Markup:
    """Draw the detectable dipole against the number of answers.

    Parameters
    ----------
    alone, alarm : dict
        ``mean``, ``best``, ``worst`` and ``alpha`` of the dipole test by itself, and of one that
        must raise the alarm after Holm.
    answers : int
        How many there are now.
    effect : float
        The amplitude that was asked for.
    """
    goal = needed(alarm, answers, effect)
    low = min(answers, goal) / 8
    high = max(answers, goal) * 8
    n = np.geomspace(low, high, 60)
    scale = np.sqrt(answers / n)
    top = max(alarm["mean"] * float(scale[0]), effect) * 1.1
    bottom = min(alone["best"] * float(scale[-1]), effect) / 1.1
    plot = Plot(
        (low, high),
        (bottom, top),
        "answers, spread over the sky as these are",
        "dipole detected with 80% power",
        log_x=True,
        log_y=True,
    )
    plot.band(n, alone["best"] * scale, alone["worst"] * scale, "band")
    plot.line(n, alone["mean"] * scale, "line")
    plot.line(n, alarm["mean"] * scale, "line dashed")
    plot.line([low, high], [effect, effect], "limit")
    plot.text(high, effect * (top / bottom) ** 0.02, "asked for ", "note", "end")
    plot.line([answers, answers], [bottom, top], "limit2")
    here = np.array([float(answers)])
    plot.dots(here, np.array([alone["mean"]]), "dots strong")
    return plot.svg(
        "power",
        f"Detectable dipole amplitude against the number of answers: {alone['mean']:.4f} at the "
        f"present {answers:,}",
    )


def sentence(document: dict[str, Any]) -> str:
    """Return what the power curve says, in words."""
    asked = document["settings"]["effect"]
    answers = document["sky"]["answers"]
    found = document["detectable"]["dipole"]
    wanted = needed(found, answers, asked)
    if wanted <= answers:
        return (
            f"A dipole of {asked:g} is found in 80% of cases with {wanted:,} answers spread like "
            f"these; there are {answers:,}."
        )
    return (
        f"To find a dipole of {asked:g} in 80% of cases takes {wanted:,} answers spread like "
        f"these; there are {answers:,}."
    )
