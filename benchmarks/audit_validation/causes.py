"""Whose fault is a deviant region? 2,000 labels inside and 8,000 outside, drawn blind.

Labels are known to be drawn blind here, so a sky need not be borne out by the labelled alone, and
of two networks the audited one is taken for the one that varies: an audit names less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    best, alarm = _scanned(bench, counts[0] + counts[2])
    scan = bench.battery.scan
    directions = bench.vectors()
    cosine = np.sum(scan.axes[best][:, None] * directions, axis=2)
    member = cosine >= np.cos(np.radians(scan.radii[best]))[:, None] - 1e-12
    within = np.sum(counts * member, axis=2)
    names = named(within, counts.sum(axis=2) - within, bench.rng)
    return np.where(alarm, names, UNDETERMINED)


def _scanned(bench: Lab, k: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return each sky's most deviant cap and alarm; k is of shape (skies, scanned cells)."""
    scan = bench.battery.scan
    z = np.abs(scan.z(k, bench.battery.variance(k, bench.battery.cells.n)))
    return z.argmax(axis=1), monte_carlo_p(z.max(axis=1), bench.null.scan) < 0.05


POORER, COIN, GOOD = (0.7, 0.68), (0.45, 0.55), (0.9, 0.95)


@dataclass(frozen=True)
class World:
    """A sky seen by two networks, whose rates are the same all over but for ``lost`` in the cap."""

    excess: float = 0.0
    audited: tuple[float, float] = USUAL
    lost: float = 0.0
    other: tuple[float, float] = GOOD

    @property
    def truth(self) -> str:
        return CLASSIFIER if self.lost else UNDETERMINED


COMPARED = {
    "poorer": World(0.05, other=POORER),
    "coin": World(0.05, other=COIN),
    "better": World(0.05, POORER),
    "weak": World(0.02, other=POORER),
    "weak-better": World(0.02, POORER),
    "isotropic": World(),
    "isotropic-poor": World(audited=POORER),
    "lost": World(lost=0.1),
    "lost-little": World(lost=0.05),
}
_PART = Cap(180, 20, 10)


def compared(case: str, skies: int) -> Row:
    """Another network of constant rates on the same objects; labels measure both."""
    bench, world = lab(TOTAL, 109), COMPARED[case]
    cells = bench.battery.cells
    named_in: dict[str, list[bool]] = {"fixed": [], "found": []}
    alarms: list[NDArray[np.bool_]] = []
    for start in range(0, skies, _BLOCK):
        seen = [_seen_by_both(world, bench) for _ in range(min(_BLOCK, skies - start))]
        k = np.stack([pairs.a[cells.tiles] for pairs in seen])
        best, alarm = _scanned(bench, bench.battery.at_scan(k))
        x, y, z = bench.battery.scan.axes[best].T
        ra, dec = np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arcsin(z))
        caps = map(Cap, ra.tolist(), dec.tolist(), bench.battery.scan.radii[best].tolist())
        named_in["fixed"] += [_named_by_other(pairs, _PART) for pairs in seen]
        named_in["found"] += [
            bool(raised) and _named_by_other(pairs, cap, len(bench.battery.scan))
            for pairs, cap, raised in zip(seen, caps, alarm, strict=True)
        ]
        alarms.append(alarm)
    real, checks = world.truth == UNDETERMINED, []
    strong = real or world.lost >= 0.1
    for region, found in named_in.items():
        right = np.array(found) != real
        bounds = {"at_least": 0.96 if real else 0.94} if strong else {}
        checks.append(share(f"right, cap {region}", right, **bounds))
    alarm = np.concatenate(alarms)
    among = float(np.mean(np.array(named_in["found"])[alarm])) if alarm.any() else 0.0
    note = (
        f"spirals {P + world.excess:.2f} in a cap of {_PART.radius:g} deg and {P} elsewhere; rates "
        f"of the audited network {world.audited}"
        + (f", TPR {world.audited[0] - world.lost:.3f} in the cap" if world.lost else "")
        + f", of the other {world.other}; 8,000 labels; "
        f"the scan alarms in {alarm.mean():.3f}, and of these classifier is named in {among:.3f}"
    )
    name = f"comparison: {case}"
    return Row(name, name, skies, checks, note)


def _named_by_other(pairs: Pairs, cap: Cap, among: int = 1) -> bool:
    seen = in_cap(pairs, cap, among=among)
    return seen is not None and explained([seen])


def _seen_by_both(world: World, bench: Lab) -> Pairs:
    """Draw a sky, both networks' answers, and 4,000 labels of either class."""
    cells, rng = bench.battery.cells, bench.rng
    inside = _PART.contains(*sky.tile_centres(cells.tiles, cells.order))
    spirals = rng.binomial(cells.n, P + world.excess * inside)
    there = (world.audited[0] - world.lost, world.audited[1])
    drawn = [
        rng.multinomial(
            number,
            np.where(
                inside[:, None],
                _joint(there, world.other, kind),
                _joint(world.audited, world.other, kind),
            ),
        )
        for kind, number in enumerate((cells.n - spirals, spirals))
    ]
    by_kind = np.stack([one.sum(axis=0) for one in drawn])
    known = np.stack([rng.multivariate_hypergeometric(one, OUTSIDE // 2) for one in by_kind])
    counts = np.stack([(by_kind - known).sum(axis=0), *known]).reshape(3, 2, 2)
    n, a, b = np.zeros((3, 12 * 4**cells.order))
    answers = (drawn[0] + drawn[1]).astype(float)
    n[cells.tiles] = cells.n
    a[cells.tiles], b[cells.tiles] = answers[:, 2:].sum(axis=1), answers[:, 1::2].sum(axis=1)
    return Pairs(cells.order, n, a, b, n, counts)


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
