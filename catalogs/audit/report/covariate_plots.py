"""The fraction against each covariate, with what the regression expects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from catalogs.audit.report.plots import STYLE, drawable

FILES = ("covariates.png", "covariates.svg")
_ACROSS = 3


def draw(part: dict[str, Any], answer: str, folder: Path) -> None:
    """Write ``covariates.png`` and ``.svg``: one panel for each covariate.

    Parameters
    ----------
    part : dict
        ``nuisances`` of the document.
    answer : str
        Named on the axis.
    folder : Path
        Existing folder to write into.
    """
    covariates = part["covariates"]
    if not covariates:
        return
    rows = -(-len(covariates) // _ACROSS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.0, 2.5 * rows), facecolor="white", layout="constrained")
        panels = figure.subplots(rows, min(_ACROSS, len(covariates)), squeeze=False, sharey=True)
        for axes in panels.ravel()[len(covariates) :]:
            axes.set_axis_off()
        for axes, covariate in zip(panels.ravel(), covariates, strict=False):
            curve = {name: np.asarray(values) for name, values in covariate["curve"].items()}
            middle = curve["fraction"]
            errors = np.maximum([middle - curve["low"], curve["high"] - middle], 0)
            axes.errorbar(
                curve["x"],
                middle,
                errors,
                fmt="o",
                color="#0072b2",
                markersize=3.5,
                linewidth=1,
                label="measured, 95%",
            )
            if covariate["dropped"] is None:
                axes.plot(curve["x"], curve["fitted"], color="#d55e00", linewidth=1, label="fitted")
            axes.axhline(part["fraction"], color="0.6", linewidth=0.6, linestyle=":")
            axes.set_xlabel(drawable(covariate["name"]), parse_math=False)
        for axes in panels[:, 0]:
            axes.set_ylabel(f"fraction {drawable(answer)}", parse_math=False)
        panels[0, 0].legend(frameon=False, fontsize=7)
        figure.savefig(folder / "covariates.png", dpi=200, metadata={"Software": None})
        figure.savefig(folder / "covariates.svg", metadata={"Date": None, "Creator": None})
