"""False alarms, dipoles, regions, extra variance, false discoveries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.audit_validation.row import Row, mean, median, share
from benchmarks.audit_validation.skies import (
    FloatArray,
    Lab,
    P,
    errors_of_caps,
    false_discoveries,
    footprint,
    lab,
    overdispersed,
)
from catalogs import sky
from catalogs.audit.settings import AuditSettings
from catalogs.audit.uniformity.battery import Battery
from catalogs.audit.uniformity.tiles import (
    TileAccumulator,
    TileCounts,
    fourth_moment,
    order_to_test,
)

TOTAL = 1_000_000
NAMES = ("X2", "dipole", "scan", "tiles")
FIXED = sky.Region(170, 190, 10, 30)
_BLOCK = 500


def _blocks(skies: int) -> list[int]:
    return [min(_BLOCK, skies - start) for start in range(0, skies, _BLOCK)]


def isotropic(skies: int) -> Row:
    bench = lab(TOTAL, 100, simulations=10_000)
    p = np.concatenate([bench.p_values(bench.skies(P, block)) for block in _blocks(skies)])
    checks = [share("Holm alarm", 4 * p.min(axis=1) < 0.05, at_most=0.06)]
    for name, column in zip(NAMES, p.T, strict=True):
        checks.append(share(f"{name} p < .05", column < 0.05, at_least=0.035, at_most=0.065))
    return Row("isotropic", "isotropic", skies, checks)


_SURE, _UNSURE, _MEAN = 0.48, 0.25, 0.5
_FEW, _NULL = 250_000, 1000


def uneven(skies: int) -> Row:
    """Summed probabilities of one mean; a network that is surer in a cap than elsewhere."""
    rng = np.random.default_rng(106)
    n = footprint(_FEW, rng, order=4)
    centres = sky.unit_vectors(*sky.tile_centres(n.tiles, n.order))
    inside = centres @ sky.unit_vectors(190, 35)[0] > np.cos(np.radians(12))
    scatter = np.where(inside, _SURE, _UNSURE)
    drawn = [_probabilities(n, scatter, rng) for _ in range(skies)]
    own = np.concatenate([_bench(one, rng).p_values(one.k[None]) for one in drawn])
    shared = _bench(replace(drawn[0], spread=None), rng)
    one = shared.p_values(np.array([each.k for each in drawn]))
    checks = [share("Holm alarm", 4 * own.min(axis=1) < 0.05, at_most=0.06)]
    checks += [
        share(f"{name} p < .05", column < 0.05) for name, column in zip(NAMES, own.T, strict=True)
    ]
    told = "Holm alarm, were the variance one for the whole sky"
    checks.append(share(told, 4 * one.min(axis=1) < 0.05))
    part = n.n[inside].sum() / n.total
    note = (
        f"{_FEW:,} answers of mean {_MEAN}, with standard deviation {_SURE} in a cap of 12 deg "
        f"({part:.3f} of them) and {_UNSURE} elsewhere; each sky has its own null of {_NULL:,}"
    )
    return Row("uneven probabilities", "isotropic, uneven probabilities", skies, checks, note)


def _probabilities(n: TileCounts, scatter: FloatArray, rng: np.random.Generator) -> TileCounts:
    """Draw answers of the mean plus or minus the scatter."""
    high, low = _MEAN + scatter, _MEAN - scatter
    up = rng.binomial(n.n, 0.5)
    powers = [high**power * up + low**power * (n.n - up) for power in range(5)]
    _, k, squares, *_ = powers
    fourth = fourth_moment(np.sum(powers, axis=1))
    return TileCounts(n.order, n.tiles, n.n, k, squares.sum(), False, squares, fourth=fourth)


WEIGHTED = {  # fraction; log means and deviations of the weights of either answer
    "independent": (0.3, (0.0, 0.7), (0.0, 0.7)),
    "mild": (0.3, (0.5, 0.7), (0.0, 0.4)),
    "strong": (0.1, (1.5, 1.0), (0.0, 0.3)),
    "rare": (0.05, None, (0.0, 0.0)),  # a fifth of the rarer answer weighs 50, all else 1
}
_ROWS = 100_000


def weighted(kind: str, skies: int) -> Row:
    """Weights that depend on the answer, as 1/Vmax does; nothing depends on the position."""
    rng = np.random.default_rng(107)
    fraction, mine, others = WEIGHTED[kind]
    p = np.full((skies, len(NAMES)), np.nan)
    for i in range(skies):
        ra = rng.uniform(110, 265, _ROWS)
        dec = np.degrees(np.arcsin(rng.uniform(0, np.sin(np.radians(65)), _ROWS)))
        y = rng.random(_ROWS) < fraction
        heavy = np.where(rng.random(_ROWS) < 0.2, 50.0, 1.0)
        own = heavy if mine is None else rng.lognormal(*mine, _ROWS)
        tiles = TileAccumulator(5)
        answers = y.astype(np.float64)
        tiles.add(
            sky.tile_of(ra, dec, 29), answers, np.where(y, own, rng.lognormal(*others, _ROWS))
        )
        counts = tiles.counts()
        p[i] = _bench(counts, rng).p_values(counts.merged(4).k[None])[0]
    checks = [share("Holm alarm", 4 * np.nanmin(p, axis=1) < 0.05, at_most=0.06)]
    checks += [
        share(f"{name} p < .05", column < 0.05) for name, column in zip(NAMES, p.T, strict=True)
    ]
    told = (
        "a fifth of them weigh 50, all others 1"
        if mine is None
        else f"ln w of mean and deviation {mine}, of the others {others}"
    )
    note = f"{_ROWS:,} rows, {fraction:.0%} with the answer: {told}; each sky has its own null"
    return Row(f"weights {kind}", f"isotropic, weights: {kind}", skies, checks, note)


def _bench(counts: TileCounts, rng: np.random.Generator) -> Lab:
    battery = Battery(counts, order_to_test(counts), AuditSettings())
    null = battery.statistics(battery.permuted(float(counts.k.sum()), _NULL, rng))
    return Lab(battery, rng, null)


def dipole(amplitude: float, skies: int) -> Row:
    bench = lab(TOTAL, 101)
    pattern = amplitude * bench.axes(skies) @ bench.vectors().T
    p = bench.p_values(bench.skies(P + pattern, skies))
    found, alarm = p[:, 1] < 0.05, 4 * p.min(axis=1) < 0.05
    small = amplitude < 0.01
    checks = [
        share("dipole p < .05", found, **({"at_least": 0.95} if small else {})),
        share("Holm alarm", alarm, **({} if small else {"at_least": 0.99})),
    ]
    return Row(f"dipole {amplitude:.1%}", f"dipole {amplitude:.1%}, random axis", skies, checks)


def fixed_region(skies: int) -> Row:
    bench = lab(TOTAL, 102)
    k = bench.skies(P + 0.02 * bench.covered(FIXED), skies)
    errors = errors_of_caps(bench, k, sky.unit_vectors(180, 20)[0])
    checks = [
        share("scan p < .05", bench.p_values(k)[:, 2] < 0.05, at_least=0.95),
        median("error of the centre [deg]", errors, at_most=5.0),
    ]
    return Row("region", f"a fixed 20x20 deg region (RA, Dec {FIXED}) +2%", skies, checks)


def random_region(skies: int) -> Row:
    """Boxes of 20 deg of arc either way around random places of the footprint."""
    bench = lab(TOTAL, 103)
    cells = bench.battery.cells
    at = bench.rng.choice(len(cells.tiles), skies, p=cells.n / cells.n.sum())
    ra, dec = sky.tile_centres(cells.tiles[at], cells.order)
    half = 10 / np.cos(np.radians(dec))
    boxes = [
        sky.Region(float((a - h) % 360), float((a + h) % 360), float(d - 10), float(d + 10))
        for a, d, h in zip(ra, dec, half, strict=True)
    ]
    p = P + 0.02 * np.array([bench.covered(box) for box in boxes])
    k = bench.skies(p, skies)
    checks = [
        share("scan p < .05", bench.p_values(k)[:, 2] < 0.05, at_least=0.95),
        median("error of the centre [deg]", errors_of_caps(bench, k, sky.unit_vectors(ra, dec))),
    ]
    note = "part of a box may lie outside the footprint"
    return Row("region at random", "the same, placed at random", skies, checks, note)


def extra_variance(skies: int) -> Row:
    bench = lab(TOTAL, 104)
    p = bench.p_values(bench.skies(overdispersed(bench, skies, 0.005), skies))
    checks = [share("X2 p < .05", p[:, 0] < 0.05, at_least=0.95)]
    return Row("overdispersion", "overdispersion .005 at nside 8", skies, checks)


def discoveries(skies: int) -> Row:
    false, found = false_discoveries(lab(TOTAL, 105), skies, 0.03)
    checks = [
        mean("false among flagged tiles", false, at_most=0.07),
        mean("shifted tiles that are flagged", found),
    ]
    case = "a fifth of the tiles shifted by 3% either way"
    return Row("false discoveries", case, skies, checks)
