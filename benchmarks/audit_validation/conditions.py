"""Seeing that varies over the sky, before and after regression on it.

Galaxies have log-normal resolutions; a disk is called smooth as in Medina-Rosales & Cabrera-Vives
2021, eq. 3, so poor seeing lowers the fraction. Seeing is one value in each cell of nside 16.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

from benchmarks.audit_validation.clustered import field
from benchmarks.audit_validation.row import Row, share
from benchmarks.audit_validation.skies import FloatArray, Lab, P, lab
from catalogs.audit.conditions.nuisances import Model
from catalogs.audit.conditions.regression import design, logistic
from catalogs.audit.conditions.residuals import Residuals, taken_by
from catalogs.audit.settings import AuditSettings
from catalogs.audit.uniformity.battery import monte_carlo_p

TOTAL = 1_000_000
THETA = 9.18
MEDIAN_ALPHA, SPREAD = 12.0, 0.5
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(40)


def called_spiral(seeing: FloatArray | float) -> FloatArray:
    """Chance of the answer at a seeing relative to the mean; P at the mean."""
    alpha = MEDIAN_ALPHA * np.exp(SPREAD * _NODES) / np.asarray(seeing, float)[..., None]
    seen = -np.expm1(-(alpha**2) / (2 * THETA**2)) @ (_WEIGHTS / _WEIGHTS.sum())
    return np.asarray(_SPIRALS * seen)


_SPIRALS = 1.0
_SPIRALS = float(optimize.brentq(lambda f: f * float(called_spiral(1.0)) - P, 0.1, 1.0))


def regressed(
    bench: Lab, k: FloatArray, seeing: FloatArray, settings: AuditSettings
) -> tuple[Residuals, FloatArray]:
    """Fit one sky on its seeing, as the audit does; return the tests and the residuals."""
    cells = bench.battery.cells
    n = cells.n.astype(float)
    x = design(seeing[:, None], ["seeing"]).matrix(seeing[:, None])
    beta = logistic(x, k, n)
    mu = special.expit(x @ beta)
    terms = x * (n * mu * (1 - mu))[:, None]
    columns = list(range(x.shape[1]))
    model = Model(columns, beta, x.T @ terms, k - n * mu, terms[:, 0], terms, 0.0)
    tests = Residuals(cells, model.variance, taken_by(model), bench.battery.order, settings)
    return tests, model.residual


def seeing_skies(rms: float, dipole: float, skies: int, **bounds: float) -> Row:
    bench, settings = lab(TOTAL, 107), AuditSettings()
    null: FloatArray | None = None
    found = np.empty((skies, 3))
    for i, axis in enumerate(bench.axes(skies)):
        seeing = 1 + field(bench, rms)
        p = called_spiral(seeing) + dipole * bench.vectors() @ axis
        k = bench.skies(p, 1)[0]
        tests, residual = regressed(bench, k, seeing, settings)
        if null is None:  # its distribution hardly depends on the seeing: all skies share it
            drawn = tests.draw(4000, bench.rng)
            null = tests.dipole.statistic(tests.at_scan(drawn), np.full(4000, tests.scale))
        at = tests.at_scan(residual[None])
        after = tests.dipole.statistic(at, np.array([tests.scale]))
        variance = bench.battery.variance(k[None], bench.battery.cells.n)
        before = bench.battery.dipole.statistic(bench.battery.at_scan(k[None]), variance)
        found[i, 0] = monte_carlo_p(before, bench.null.dipole)[0]
        found[i, 1] = monte_carlo_p(after, null)[0]
        found[i, 2] = np.linalg.norm(tests.vector(residual).vector - dipole * axis)
    checks = [
        share("dipole p < .05, before", found[:, 0] < 0.05),
        share("dipole p < .05, after", found[:, 1] < 0.05, **bounds),
    ]
    also = f" and a dipole of {dipole:.1%}" if dipole else ""
    slope = (float(called_spiral(1.01)) - float(called_spiral(0.99))) / 0.02
    return Row(
        f"seeing {rms:.0%}" + (f", dipole {dipole:.1%}" if dipole else ""),
        f"seeing {rms:.0%} rms{also}",
        skies,
        checks,
        f"the fraction falls by {-slope / 100:.4f} per 1% of seeing",
    )
