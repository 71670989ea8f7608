"""What each covariate explains, and what the tests say before and after (step 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from catalogs.audit.conditions.nuisances import Curve, Evidence, Model
from catalogs.audit.conditions.regression import Covariate
from catalogs.audit.conditions.residuals import Judged, Residuals, judge, taken_by
from catalogs.audit.settings import AuditSettings
from catalogs.audit.uniformity.battery import CELL_ORDER, grouped
from catalogs.audit.uniformity.tiles import TileCounts

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Effect:
    """What one covariate does to the fraction.

    Attributes
    ----------
    coefficient, quadratic : tuple of float or None
        Change of the log odds per standard deviation, and that of its square, with their
        overdispersed standard errors; the other covariates held.
    per_sd : float or None
        The first as a change of the fraction.
    p : float or None
        F test of both terms; chi^2 where no overdispersion could be estimated.
    deviance_alone, deviance_beyond : float or None
        By which it lowers the deviance by itself, and beyond the other covariates.
    dipole_alone : float or None
        Amplitude of the dipole left by a regression on it alone.
    """

    covariate: Covariate
    curve: Curve
    coefficient: tuple[float, float] | None = None
    quadratic: tuple[float, float] | None = None
    per_sd: float | None = None
    p: float | None = None
    deviance_alone: float | None = None
    deviance_beyond: float | None = None
    dipole_alone: float | None = None


@dataclass(frozen=True, slots=True)
class Explained:
    """What all covariates explain together, and the tests on the rows that have them all.

    ``dispersion`` is the overdispersion between tiles that the errors allow for, with its
    degrees of freedom (`Residuals.dispersion`); ``null_deviance`` that of one fraction for all
    rows.
    """

    rows: int
    fraction: float
    dispersion: tuple[float, float]
    null_deviance: float
    deviance: float
    effects: tuple[Effect, ...]
    before: Judged
    after: Judged


def explain(evidence: Evidence, order: int, settings: AuditSettings) -> Explained:
    """Test the sky before and after the regression.

    Parameters
    ----------
    evidence : Evidence
        At an order of at least 4 and at least ``order``.
    order : int
        The testing order.
    settings : AuditSettings
    """
    rng = np.random.default_rng(settings.seed)
    finest = _finest(evidence)
    cells = finest.merged(max(CELL_ORDER, order))
    mean = cells.mean
    one = mean * (1 - mean) * evidence.dispersion
    plain = Residuals(
        cells,
        one * cells.n.astype(np.float64),
        np.sqrt(one / cells.total) * cells.n[:, None],
        order,
        settings,
        finest,
    )
    before = judge(plain, cells.k - cells.n * mean, settings, rng)
    tests, residual = _tests(evidence, evidence.whole, cells, order, settings)
    after = judge(tests, residual, settings, rng)
    dispersion = tests.dispersion(residual)
    effects = tuple(
        _effect(evidence, at, dispersion, cells, order, settings)
        for at in range(len(evidence.design.covariates))
    )
    return Explained(
        cells.total,
        mean,
        dispersion,
        evidence.null_deviance,
        evidence.whole.deviance,
        effects,
        before,
        after,
    )


def _tests(
    evidence: Evidence, model: Model, cells: TileCounts, order: int, settings: AuditSettings
) -> tuple[Residuals, FloatArray]:
    """Return the tests of a model's residuals, and these, per cell of the tests."""
    group = np.searchsorted(cells.tiles, evidence.cells >> (2 * (evidence.order - cells.order)))
    size = len(cells.tiles)
    scale = evidence.dispersion
    variance = grouped(model.variance, group, size) * scale
    taken = grouped(taken_by(model).T, group, size).T * np.sqrt(scale)
    residual = grouped(model.residual, group, size)
    return Residuals(cells, variance, taken, order, settings, _finest(evidence)), residual


def _finest(evidence: Evidence) -> TileCounts:
    total = float(evidence.k.sum())
    return TileCounts(evidence.order, evidence.cells, evidence.n, evidence.k, total, labels=True)


def _effect(
    evidence: Evidence,
    at: int,
    dispersion: tuple[float, float],
    cells: TileCounts,
    order: int,
    settings: AuditSettings,
) -> Effect:
    covariate, whole = evidence.design.covariates[at], evidence.whole
    alone, curve = evidence.alone[at], evidence.curves[at]
    if alone is None or covariate.linear is None:
        return Effect(covariate, curve)
    excess, freedom = dispersion
    covariance = np.linalg.inv(whole.information)
    columns = covariate.columns
    beta, own = whole.beta[columns], covariance[np.ix_(columns, columns)]
    wald = float(beta @ np.linalg.solve(own, beta))
    # Of rows, not of tiles: probabilities scatter less than labels do.
    errors = np.sqrt(np.diag(own) * excess * evidence.dispersion)
    statistic = wald / (excess * evidence.dispersion)
    p = stats.chi2.sf(statistic, len(columns))
    if np.isfinite(freedom):
        p = stats.f.sf(statistic / len(columns), len(columns), freedom)
    tests, residual = _tests(evidence, alone, cells, order, settings)
    mean_variance = float(whole.variance.sum() / cells.total)
    return Effect(
        covariate,
        curve,
        (float(beta[0]), float(errors[0])),
        (float(beta[1]), float(errors[1])) if len(columns) > 1 else None,
        float(beta[0]) * mean_variance,
        float(p),
        evidence.null_deviance - alone.deviance,
        wald,
        tests.vector(residual).amplitude if tests.dipole.solvable else None,
    )
