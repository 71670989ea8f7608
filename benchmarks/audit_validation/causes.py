"""Whose fault is a deviant region? 2,000 labels inside and 8,000 outside, drawn blind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.audit_validation.detection import FIXED, TOTAL
from benchmarks.audit_validation.row import Row, share
from benchmarks.audit_validation.skies import FloatArray, Lab, P, lab
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
