"""Whose fault is a deviant region? 2,000 labels inside and 8,000 outside, drawn blind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.audit_validation.detection import FIXED, TOTAL
from benchmarks.audit_validation.row import Row, share
from benchmarks.audit_validation.skies import FloatArray, Lab, P, lab
from catalogs import sky
from catalogs.audit.comparison.paired import Pairs, in_cap
from catalogs.audit.labels.attribution import (
    BOTH,
    CLASSIFIER,
    LEVEL,
    SKY,
    UNDETERMINED,
    causes,
    rates_test,
    sky_difference,
)
from catalogs.audit.labels.prediction_powered import Sample
from catalogs.audit.region import Cap
from catalogs.audit.report.paired_document import explained
from catalogs.audit.uniformity.battery import monte_carlo_p

INSIDE, OUTSIDE = 2_000, 8_000
USUAL, OTHER = (0.949, 0.9686), (0.9055, 0.9813)
EXCESS = 0.028


def answered(p: float, rates: tuple[float, float]) -> float:
    """Fraction called spiral."""
    return p * rates[0] + (1 - p) * (1 - rates[1])


# The true fraction at which the other rates answer as the usual ones do at P.
CANCELLING = (answered(P, USUAL) - (1 - OTHER[1])) / (OTHER[0] + OTHER[1] - 1)

CASES = {
    "null": (P, USUAL, UNDETERMINED),
    "sky": (P + EXCESS, USUAL, SKY),
    "classifier": (P, OTHER, CLASSIFIER),
    "both": (P + EXCESS, OTHER, BOTH),
    "both-adding": (P - EXCESS, OTHER, BOTH),
    "cancelling": (CANCELLING, OTHER, BOTH),
}
Counts = FloatArray  # (4, skies, cells): seen spirals, missed ones, false ones, seen ellipticals


def draw(
    n: FloatArray, p: float, rates: tuple[float, float], skies: int, rng: np.random.Generator
) -> Counts:
    """Truth and answers of all galaxies, per cell."""
    number = np.broadcast_to(n, (skies, len(n)))
    spirals = rng.binomial(number, p)
    seen = rng.binomial(spirals, rates[0])
    right = rng.binomial(number - spirals, rates[1])
    return np.stack([seen, spirals - seen, number - spirals - right, right])


def labelled(counts: FloatArray, labels: int, rng: np.random.Generator) -> Sample:
    """Label some of the galaxies of one side, shape (4, skies), whatever their answers."""
    drawn = np.array(
        [
            rng.multivariate_hypergeometric(c, min(labels, int(c.sum())))
            for c in counts.T.astype(int)
        ]
    ).T
    seen, missed, false, right = drawn
    rest = counts - drawn
    return Sample.of_labels([[right, false], [missed, seen]], rest.sum(axis=0), rest[0] + rest[2])


def named(inside: FloatArray, outside: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return the cause named for each sky, from all galaxies of either side, shape (4, skies)."""
    parts = labelled(inside, INSIDE, rng), labelled(outside, OUTSIDE, rng)
    return causes(rates_test(*parts).p, sky_difference(*parts).p, LEVEL)


def _fixed(bench: Lab, inside: Counts, outside: Counts) -> FloatArray:
    return named(inside.sum(axis=2), outside.sum(axis=2), bench.rng)


def _found(bench: Lab, inside: Counts, outside: Counts) -> FloatArray:
    """The region is the scan's most deviant cap; without an alarm of the scan nothing is named."""
    counts = bench.battery.at_scan(inside + outside)
    k = counts[0] + counts[2]
    scan = bench.battery.scan
    z = np.abs(scan.z(k, bench.battery.variance(k, bench.battery.cells.n)))
    best = z.argmax(axis=1)
    alarm = monte_carlo_p(z.max(axis=1), bench.null.scan) < 0.05
    directions = bench.vectors()
    cosine = np.sum(scan.axes[best][:, None] * directions, axis=2)
    member = cosine >= np.cos(np.radians(scan.radii[best]))[:, None] - 1e-12
    within = np.sum(counts * member, axis=2)
    names = named(within, counts.sum(axis=2) - within, bench.rng)
    return np.where(alarm, names, UNDETERMINED)


POORER, COIN = (0.7, 0.68), (0.45, 0.55)
# Rates of the audited network in the region, and of the other one everywhere.
COMPARED = {
    "poorer": (P + 0.05, USUAL, POORER, UNDETERMINED),
    "coin": (P + 0.05, USUAL, COIN, UNDETERMINED),
    "lost": (P, (0.85, 0.9686), (0.9, 0.95), CLASSIFIER),
}


def compared(case: str, skies: int) -> Row:
    """Another network of constant rates on the same objects; labels measure both."""
    bench = lab(TOTAL, 109, simulations=1)
    p, rates, other, truth = COMPARED[case]
    cells, rng = bench.battery.cells, bench.rng
    part = Cap(180, 20, 10)
    inside = part.contains(*sky.tile_centres(cells.tiles, cells.order))[:, None]
    size, found = 12 * 4**cells.order, []
    for _ in range(skies):
        spirals = rng.binomial(cells.n, np.where(inside[:, 0], p, P))
        drawn = [
            rng.multinomial(number, np.where(inside, _joint(rates, other, kind), usual))
            for kind, number in enumerate((cells.n - spirals, spirals))
            for usual in [_joint(USUAL, other, kind)]
        ]
        by_kind = np.stack([one.sum(axis=0) for one in drawn])
        known = np.stack([rng.multivariate_hypergeometric(one, OUTSIDE // 2) for one in by_kind])
        counts = np.stack([(by_kind - known).sum(axis=0), *known]).reshape(3, 2, 2)
        n, a, b = np.zeros((3, size))
        answers = (drawn[0] + drawn[1]).astype(float)
        n[cells.tiles] = cells.n
        a[cells.tiles], b[cells.tiles] = answers[:, 2:].sum(axis=1), answers[:, 1::2].sum(axis=1)
        pairs = Pairs(cells.order, n, a, b, n, counts)
        seen = in_cap(pairs, part)
        named_ = seen is not None and explained([seen])
        found.append(CLASSIFIER if named_ else UNDETERMINED)
    right = np.array(found) == truth
    bounds = {"at_least": 0.94 if truth == CLASSIFIER else 0.96}
    note = f"rates of the other network {other[0]} and {other[1]} everywhere; 8,000 labels"
    name = f"comparison: {case}"
    return Row(name, name, skies, [share("right, cap fixed", right, **bounds)], note)


def _joint(a: tuple[float, float], b: tuple[float, float], kind: int) -> FloatArray:
    """Probabilities of (a, b) = 00, 01, 10, 11 of non-members (0) or members (1)."""
    pa, pb = ((rates[0] if kind else 1 - rates[1]) for rates in (a, b))
    return np.array([(1 - pa) * (1 - pb), (1 - pa) * pb, pa * (1 - pb), pa * pb])


_BLOCK = 200
REGIONS: dict[str, Callable[[Lab, Counts, Counts], FloatArray]] = {
    "fixed": _fixed,
    "found": _found,
}


def attribution(case: str, skies: int) -> Row:
    bench = lab(TOTAL, 108)
    p, rates, truth = CASES[case]
    n = bench.battery.cells.n
    inside = np.round(n * bench.covered(FIXED)).astype(np.int64)
    answers: dict[str, list[FloatArray]] = {region: [] for region in REGIONS}
    for start in range(0, skies, _BLOCK):
        block = min(_BLOCK, skies - start)
        within = draw(inside, p, rates, block, bench.rng)
        without = draw(n - inside, P, USUAL, block, bench.rng)
        for region, name in REGIONS.items():
            answers[region].append(name(bench, within, without))
    checks = []
    for region, parts in answers.items():
        found = np.concatenate(parts)
        bounds = {"at_least": 0.94} if region == "fixed" else {}
        checks.append(share(f"right, region {region}", found == truth, **bounds))
        if case == "sky":
            checks.append(
                share(f"called classifier, region {region}", found == CLASSIFIER, at_most=0.04)
            )
    names = [f"{name} {np.mean(found == name):.3f}" for name in np.unique(found)]
    there, usual = answered(p, rates), answered(P, USUAL)
    note = (
        f"spirals {p:.3f} inside and {P} outside, answered {there:.3f} and {usual:.3f}; with the "
        f"region of the scan, where it alarms: {', '.join(names)}"
    )
    return Row(f"attribution: {case}", f"attribution: {case}", skies, checks, note)
