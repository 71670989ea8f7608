"""All tests of one sky: the step-by-step procedure on counts, without any file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from catalogs import sky
from catalogs.audit.settings import FINEST_ORDER, AuditSettings
from catalogs.audit.uniformity import dipole as dipoles
from catalogs.audit.uniformity import dispersion, fractions, verdict
from catalogs.audit.uniformity.battery import Battery, monte_carlo_p
from catalogs.audit.uniformity.correlated import Correlated
from catalogs.audit.uniformity.tiles import TileCounts, order_to_test

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_BLOCK = 500
_SIGMA_ORDERS = (2, 3, 4, 5)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test: its statistic and p, and the effect with its 95% interval in plain terms.

    ``p`` decides; ``p_asymptotic`` is the large-sample value where one is known, useful where
    ``p`` has reached the floor of the simulations; ``p_correlated`` takes the sky for a clustered
    one. None where the test could not be made.
    """

    name: str
    statistic: float | None
    p: float | None
    effect_name: str
    p_asymptotic: float | None = None
    p_correlated: float | None = None
    effect: float | None = None
    interval: tuple[float, float] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TileTable:
    """Every occupied tile of one order; arrays of shape (t,), NaN where not tested."""

    order: int
    tiles: IntArray
    n: IntArray
    k: FloatArray
    fraction: FloatArray
    low: FloatArray
    high: FloatArray
    cp_low: FloatArray
    cp_high: FloatArray
    shrunken: FloatArray
    difference: FloatArray
    z: FloatArray
    p: FloatArray
    q: FloatArray
    flag: BoolArray


@dataclass(frozen=True, slots=True)
class Caps:
    """Every cap of the scan: centre and radius [deg], and z; arrays of shape (c,)."""

    ra: FloatArray
    dec: FloatArray
    radius: FloatArray
    z: FloatArray


@dataclass(frozen=True, slots=True)
class Analysis:
    """Tests, verdict and tile tables; the first table is that of the testing order.

    ``dipole`` and ``caps`` are None where these tests could not be made. ``variance`` is that of
    one answer, ``labels`` whether all answers are 0 or 1.
    """

    order: int
    fraction: float
    fraction_interval: tuple[float, float]
    outcomes: tuple[Outcome, ...]
    verdict: verdict.Verdict
    detectable: dipoles.Detectable | None
    detectable_by_alarm: dipoles.Detectable | None
    tables: tuple[TileTable, ...]
    dipole: dipoles.Dipole | None
    caps: Caps | None
    variance: float
    labels: bool


def analyse(counts: TileCounts, settings: AuditSettings) -> Analysis:
    """Audit counts per tile (steps 1 to 5 of the procedure).

    Parameters
    ----------
    counts : TileCounts
        At order 5 or finer, at least one answer.
    settings : AuditSettings

    Returns
    -------
    Analysis
    """
    order = order_to_test(counts) if settings.order is None else settings.order
    tables = tuple(
        tile_table(counts.merged(o), settings, testing=o == order)
        for o in sorted({order, *range(4, FINEST_ORDER + 1)})
        if o >= order
    )
    if counts.variance <= 0:
        outcomes = tuple(Outcome(name, None, None, effect) for name, effect in _NAMES.items())
        smallest = by_alarm = dipole = caps = None
    else:
        outcomes, smallest, by_alarm, dipole, caps = _tests(counts, tables[0], settings)
    return Analysis(
        order,
        counts.mean,
        _interval(counts),
        outcomes,
        verdict.decide(
            [outcome.p for outcome in outcomes],
            None if smallest is None else smallest.mean,
            alpha=settings.alpha,
            effect=settings.effect,
            obstacles=_obstacles(counts, tables[0], settings),
        ),
        smallest,
        by_alarm,
        tables,
        dipole,
        caps,
        counts.variance,
        counts.labels,
    )


_NAMES = {
    "global": "standard deviation of the true fraction between tiles",
    "dipole": "amplitude",
    "scan": "fraction inside the cap minus outside",
    "tiles": "fraction of the most deviant tile minus the rest",
}


def _obstacles(counts: TileCounts, table: TileTable, settings: AuditSettings) -> list[str]:
    found = []
    if counts.variance <= 0:
        every = "every" if counts.mean > 0 else "no"
        found.append(f"{every} answer is {settings.answer!r}, so nothing varies over the sky")
    fewest = counts.fewest(settings.min_n)
    if not np.any(table.n >= fewest):
        found.append(
            f"no tile at nside {2**table.order} holds {fewest} answers ({counts.total} in all)"
        )
    return found


def _interval(counts: TileCounts) -> tuple[float, float]:
    k, n = counts.k.sum(keepdims=True), counts.n.sum(keepdims=True)
    if counts.labels:
        low, high = fractions.wilson(k, n)
    else:
        more = 1.0 if counts.loads is None else float(counts.loads.sum() / n[0])
        low, high = fractions.normal_interval(k, n, counts.variance * more)
    return float(low[0]), float(high[0])


def _tests(
    counts: TileCounts, table: TileTable, settings: AuditSettings
) -> tuple[
    tuple[Outcome, ...],
    dipoles.Detectable | None,
    dipoles.Detectable | None,
    dipoles.Dipole | None,
    Caps | None,
]:
    battery = Battery(counts, table.order, settings)
    rng = np.random.default_rng(settings.seed)
    k = battery.cells.k
    observed = battery.statistics(k[None, :])
    blocks = [
        battery.statistics(
            battery.permuted(k.sum(), min(_BLOCK, settings.simulations - start), rng)
        )
        for start in range(0, settings.simulations, _BLOCK)
    ]

    def p_of(name: str) -> float | None:
        null = np.concatenate([getattr(block, name) for block in blocks])
        return _number(monte_carlo_p(getattr(observed, name), null)[0])

    judged = battery.correlated(k, counts.variance, settings.simulations, rng)
    outcomes = (
        _global(counts, battery, float(observed.x2[0]), p_of("x2"), settings),
        _dipole(counts, battery, p_of("dipole"), judged),
        _scan(counts, battery, p_of("scan"), judged),
        _tiles(counts, table),
    )
    caps = _caps(battery, k, counts.variance)
    if not battery.dipole.solvable:
        return outcomes, None, None, None, caps
    fit = battery.dipole.fit(battery.at_scan(k), counts.variance)
    made = sum(outcome.p is not None for outcome in outcomes)
    return (
        outcomes,
        dipoles.detectable_amplitude(fit.covariance, settings.alpha),
        dipoles.detectable_amplitude(fit.covariance, settings.alpha / made),
        fit,
        caps,
    )


def _caps(battery: Battery, k: FloatArray, variance: float) -> Caps | None:
    if not len(battery.scan):
        return None
    x, y, z = battery.scan.axes.T
    return Caps(
        np.degrees(np.arctan2(y, x)) % 360,
        np.degrees(np.arcsin(z)),
        battery.scan.radii,
        battery.scan.z(battery.at_scan(k), np.float64(variance)),
    )


def _global(
    counts: TileCounts, battery: Battery, x2: float, p: float | None, settings: AuditSettings
) -> Outcome:
    name, tiles = _NAMES["global"], len(battery.n)
    if p is None:
        return Outcome("global", None, None, name, details={"tiles": tiles})
    at_tiles = counts.merged(battery.order)
    known = _known(at_tiles, battery.tested)
    low, high = dispersion.excess_variance_interval(*known, counts.variance)
    by_nside = {}
    for order in _SIGMA_ORDERS:
        merged = counts.merged(order)
        use = merged.n >= counts.fewest(settings.min_n)
        if use.sum() > 1:
            value = dispersion.excess_variance(*_known(merged, use), counts.variance)
            by_nside[str(2**order)] = float(np.sqrt(value))
    return Outcome(
        "global",
        x2,
        p,
        name,
        float(stats.chi2.sf(x2, tiles - 1)) if at_tiles.loads is None else None,
        None,
        float(np.sqrt(dispersion.excess_variance(*known, counts.variance))),
        (float(np.sqrt(low)), float(np.sqrt(high))),
        {"degrees_of_freedom": tiles - 1, "tiles": tiles, "sigma_x_by_nside": by_nside},
    )


def _dipole(
    counts: TileCounts, battery: Battery, p: float | None, judged: Correlated | None
) -> Outcome:
    if p is None:
        return Outcome("dipole", None, None, _NAMES["dipole"])
    fit = battery.dipole.fit(battery.at_scan(battery.cells.k), counts.variance)
    ra, dec = fit.pole
    return Outcome(
        "dipole",
        fit.chi2,
        p,
        _NAMES["dipole"],
        float(stats.chi2.sf(fit.chi2, 3)),
        None if judged is None else judged.dipole_p,
        fit.amplitude,
        dipoles.amplitude_interval(fit),
        {
            "ra": ra,
            "dec": dec,
            "vector": fit.vector.tolist(),
            "covariance": fit.covariance.tolist(),
            "degrees_of_freedom": 3,
            "clustering": None
            if judged is None
            else {"sigma": judged.sigma, "slope": judged.slope if judged.sigma else None},
        },
    )


def _scan(
    counts: TileCounts, battery: Battery, p: float | None, judged: Correlated | None
) -> Outcome:
    if p is None:
        return Outcome("scan", None, None, _NAMES["scan"], details={"caps": 0})
    k = battery.at_scan(battery.cells.k)
    cap = battery.scan.best(k, counts.variance)
    rest = (float(k.sum() - cap.k), battery.scan.total - cap.n)
    effect, interval = fractions.difference_interval((cap.k, cap.n), rest, counts.variance)
    ra, dec = battery.scan.centre(cap.index)
    details = {
        "ra": ra,
        "dec": dec,
        "radius": float(battery.scan.radii[cap.index]),
        "n": round(cap.n),
        "caps": len(battery.scan),
    }
    p_correlated = None if judged is None else judged.scan_p
    return Outcome(
        "scan", abs(cap.z), p, _NAMES["scan"], None, p_correlated, effect, interval, details
    )


def _tiles(counts: TileCounts, table: TileTable) -> Outcome:
    if not np.any(np.isfinite(table.p)):
        return Outcome("tiles", None, None, _NAMES["tiles"], details={"tested": 0, "flagged": 0})
    best = int(np.nanargmin(table.p))
    rest = (counts.k.sum() - table.k[best], float(counts.total - table.n[best]))
    details: dict[str, Any] = {
        "tile": int(table.tiles[best]),
        "nside": 2**table.order,
        "flagged": int(table.flag.sum()),
        "tested": int(np.isfinite(table.p).sum()),
    }
    if rest[1] == 0:
        return Outcome("tiles", None, None, _NAMES["tiles"], details=details)
    effect, interval = fractions.difference_interval(
        (float(table.k[best]), float(table.n[best])), rest, counts.variance
    )
    return Outcome(
        "tiles",
        float(abs(table.z[best])),
        float(np.nanmin(table.q)),
        _NAMES["tiles"],
        None,
        None,
        effect,
        interval,
        details,
    )


def tile_table(counts: TileCounts, settings: AuditSettings, *, testing: bool) -> TileTable:
    """Return the table of one order; only tiles of the testing order are flagged.

    Parameters
    ----------
    counts : TileCounts
        Merged to the order of the table.
    settings : AuditSettings
    testing : bool
        Whether this is the order of the tests.

    Returns
    -------
    TileTable
    """
    n, k, variance = counts.n, counts.k, counts.variance
    tested = (n >= counts.fewest(settings.min_n)) & (variance > 0)
    whole = (float(k.sum()), float(n.sum()))
    missing = np.full(len(n), np.nan)
    z, p, q = missing.copy(), missing.copy(), missing.copy()
    between = 0.0
    loads = counts.loads
    own = None if loads is None else (loads[tested], float(loads.sum()))
    if tested.any():
        z[tested] = fractions.leave_one_out_z(k[tested], n[tested], variance, whole, own)
        p[tested] = (
            fractions.leave_one_out_p(k[tested], n[tested], whole)
            if counts.labels
            else fractions.normal_p(z[tested])
        )
        q[tested] = fractions.benjamini_hochberg(p[tested])
    if tested.sum() > 1:
        between = dispersion.excess_variance(*_known(counts, tested), variance)
    if counts.labels:
        (low, high), cp = fractions.wilson(k, n), fractions.clopper_pearson(k, n)
    else:
        each = variance if loads is None else variance * loads / n
        (low, high), cp = fractions.normal_interval(k, n, each), (missing, missing)
    rest = whole[1] - n
    difference = np.where(rest > 0, k / n - (whole[0] - k) / np.maximum(rest, 1e-300), np.nan)
    flag = np.zeros(len(n), np.bool_)
    if testing:
        flag = (q < settings.alpha) & (np.abs(difference) >= settings.min_difference)
    return TileTable(
        counts.order,
        counts.tiles,
        np.maximum(np.floor(n), 1).astype(np.int64),  # effective numbers need not be whole
        k,
        np.clip(k / n, 0.0, 1.0),  # rounding may go beyond
        low,
        high,
        *cp,
        fractions.shrunken(k, n, counts.mean, between),
        difference,
        z,
        p,
        q,
        flag,
    )


def _known(counts: TileCounts, use: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Return (k, n) of some tiles, n for how many answers of variance s^2 they say as much."""
    n, k = np.asarray(counts.n[use], np.float64), counts.k[use]
    more = 1.0 if counts.loads is None else n / counts.loads[use]
    return k * more, n * more


def tile_positions(table: TileTable) -> tuple[FloatArray, FloatArray]:
    """Return right ascension and declination [deg] of the centres of a table's tiles."""
    return sky.tile_centres(table.tiles, table.order)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
