"""Whose fault is a deviant region? 2,000 labels inside and 8,000 outside, drawn blind.

Causes are named twice: as of labels declared a blind draw, and as of undeclared ones, of which a
sky must be borne out by the labelled alone. Of two networks the audited one is taken for the one
that varies: an audit names less.
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
    BLIND_LEVEL,
    BOTH,
    CLASSIFIER,
    LEVEL,
    SKY,
    UNDETERMINED,
    blindness_p,
    blindness_within_p,
    borne_out,
    causes,
    labelled_difference,
    rates_test,
    sky_difference,
    stratified_rates_p,
)
from catalogs.audit.labels.prediction_powered import Sample, stacked
from catalogs.audit.labels.strata import BINS, same_draw_p
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


def judged(inside: Sample, outside: Sample, p_rates: FloatArray | None = None) -> FloatArray:
    """Return the cause named for each sky, shape (2, skies): of declared and undeclared labels."""
    difference = sky_difference(inside, outside)
    alone = labelled_difference(inside, outside)
    rates = rates_test(inside, outside).p
    names = causes(rates if p_rates is None else p_rates, difference.p, LEVEL)
    pooled = [
        blindness_within_p(stacked([inside.take(i), outside.take(i)]))
        for i in np.arange(len(inside.labelled.n))[:, None]
    ]
    least = np.minimum(np.minimum(blindness_p(inside), blindness_p(outside)), pooled)
    refuted = 3 * least < BLIND_LEVEL
    declared = np.where(refuted, UNDETERMINED, names)
    doubtful = np.isin(names, (SKY, BOTH)) & ~borne_out(difference, alone)
    return np.stack([declared, np.where(doubtful, UNDETERMINED, declared)])


def named(inside: FloatArray, outside: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return the causes as `judged`, from all galaxies of either side, shape (4, skies)."""
    return judged(labelled(inside, INSIDE, rng), labelled(outside, OUTSIDE, rng))


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
    return Pairs(cells.order, n, a, b, n, float(n.sum()), counts)  # the rule reads sums alone


def _joint(a: tuple[float, float], b: tuple[float, float], kind: int) -> FloatArray:
    """Probabilities of (a, b) = 00, 01, 10, 11 of non-members (0) or members (1)."""
    pa, pb = ((rates[0] if kind else 1 - rates[1]) for rates in (a, b))
    return np.array([(1 - pa) * (1 - pb), (1 - pa) * pb, pa * (1 - pb), pa * pb])


_BLOCK = 200
DECLARED = "declared blind"
DRAWS = (DECLARED, "undeclared")
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
    alarms: list[NDArray[np.bool_]] = []
    for start in range(0, skies, _BLOCK):
        block = min(_BLOCK, skies - start)
        within = draw(inside, p, rates, block, bench.rng)
        without = draw(n - inside, P, USUAL, block, bench.rng)
        for region, name in REGIONS.items():
            answers[region].append(name(bench, within, without))
        if case == "null":
            p_values = bench.p_values((within + without)[[0, 2]].sum(axis=0))
            alarms.append(4 * p_values.min(axis=1) < 0.05)
    checks = []
    for region, parts in answers.items():
        both = np.concatenate(parts, axis=1)
        for how, found in zip(DRAWS, both, strict=True):
            bounds = {"at_least": 0.94} if region == "fixed" and how == DECLARED else {}
            checks.append(share(f"right, {how}, region {region}", found == truth, **bounds))
        if case == "sky":
            said = f"called classifier, {DECLARED}, region {region}"
            checks.append(share(said, both[0] == CLASSIFIER, at_most=0.04))
    if case == "null":
        alarm = np.concatenate(alarms)
        told = np.concatenate(answers["fixed"], axis=1)[0] != UNDETERMINED
        checks.append(share("anisotropic, region named", alarm, at_most=0.06))
        checks.append(share("a cause told beside an even map", told & ~alarm, at_most=0.06))
    names = [f"{name} {np.mean(both[0] == name):.3f}" for name in np.unique(both[0])]
    there, usual = answered(p, rates), answered(P, USUAL)
    note = (
        f"spirals {p:.3f} inside and {P} outside, answered {there:.3f} and {usual:.3f}; with the "
        f"region of the scan, where it alarms, {DECLARED}: {', '.join(names)}"
    )
    return Row(f"attribution: {case}", f"attribution: {case}", skies, checks, note)


BRIGHT, LOST = 4, 0.16  # tenths of the magnitude that have labels; what TPR falls by in the others
_FEW, _OBJECTS, _REST = 400, 12_000, 20  # labels and objects inside; times as many outside


def bright(skies: int) -> Row:
    """An even sky; the classifier misses faint spirals inside; labels are of bright objects."""
    rng = np.random.default_rng(110)
    inside, by_bin = zip(*(_bright_side(1, LOST, rng) for _ in range(skies)), strict=True)
    outside, rest = zip(*(_bright_side(_REST, 0.0, rng) for _ in range(skies)), strict=True)
    names = judged(stacked(inside), stacked(outside))
    p = [2 * min(same_draw_p(*a), same_draw_p(*b)) for a, b in zip(by_bin, rest, strict=True)]
    read = np.where(np.array(p) < BLIND_LEVEL, UNDETERMINED, names[0])
    checks = [
        share("called sky, undeclared", np.isin(names[1], (SKY, BOTH)), at_most=0.04),
        share(f"called sky, {DECLARED}, magnitude read", np.isin(read, (SKY, BOTH)), at_most=0.04),
        share(f"called sky, {DECLARED}, nothing read", np.isin(names[0], (SKY, BOTH))),
    ]
    note = (
        f"spirals {P} everywhere; {_FEW} labels of {_OBJECTS:,} objects inside, {_REST} times as "
        f"many of either outside, all of the brightest {BRIGHT} tenths; rates {USUAL}, but TPR "
        f"lower by {LOST} for the others inside"
    )
    name = "attribution: labels of bright objects"
    return Row(name, name, skies, checks, note)


def _bright_side(
    times: int, lost: float, rng: np.random.Generator
) -> tuple[Sample, tuple[FloatArray, FloatArray]]:
    """Return one side's answers, and labelled and other objects by tenths of the magnitude."""
    every = rng.multinomial(times * _OBJECTS, np.full(BINS, 1 / BINS))
    known = np.zeros(BINS, np.int64)
    known[:BRIGHT] = rng.multivariate_hypergeometric(every[:BRIGHT], times * _FEW)
    rest = every - known
    near = _drawn(times * _FEW, int(rest[:BRIGHT].sum()), P, USUAL, rng)
    far = _drawn(0, int(rest[BRIGHT:].sum()), P, (USUAL[0] - lost, USUAL[1]), rng)
    return near + far, (known[:, None] * 1.0, rest[:, None] * 1.0)


def _drawn(
    labels: int, rest: int, p: float, rates: tuple[float, float], rng: np.random.Generator
) -> Sample:
    """Draw objects with label and without."""
    spirals = rng.binomial(labels, p)
    seen, right = rng.binomial(spirals, rates[0]), rng.binomial(labels - spirals, rates[1])
    matrix = [[right, labels - spirals - right], [spirals - seen, seen]]
    return Sample.of_labels(matrix, rest, rng.binomial(rest, answered(p, rates)))


EASY, HARD = (0.99, 0.99), (0.9, 0.95)


def easier(skies: int) -> Row:
    """Fewer spirals and easier galaxies inside; the classifier sees each kind alike everywhere."""
    rng = np.random.default_rng(111)

    def side(labels: int, objects: int, p: float, easy: float) -> Sample:
        known, rest = (rng.multinomial(n, (easy, 1 - easy)) for n in (labels, objects - labels))
        return stacked(
            [
                _drawn(int(known[kind]), int(rest[kind]), p, rates, rng)
                for kind, rates in enumerate((EASY, HARD))
            ]
        )

    inside = [side(INSIDE, 34_000, P - 0.04, 0.75) for _ in range(skies)]
    outside = [side(OUTSIDE, 966_000, P, 0.5) for _ in range(skies)]
    p_equal = [stratified_rates_p(*pair) for pair in zip(inside, outside, strict=True)]
    whole = [stacked([one.sum() for one in of]) for of in (inside, outside)]
    plain = judged(*whole)[0]
    names = judged(*whole, np.maximum(rates_test(*whole).p, p_equal))[0]
    checks = [
        share(f"right, {DECLARED}, kinds read", names == SKY, at_least=0.94),
        share(f"right, {DECLARED}, nothing read", plain == SKY),
        share(f"called both, {DECLARED}, nothing read", plain == BOTH),
    ]
    note = (
        f"spirals {P - 0.04:.2f} inside and {P} outside, easy galaxies .75 and .5 of all; "
        f"rates {EASY} of easy and {HARD} of other galaxies, everywhere"
    )
    name = "attribution: a sky of easier galaxies"
    return Row(name, name, skies, checks, note)
