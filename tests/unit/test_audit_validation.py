"""What the audit must hold, on simulated skies (a reduced run of the full validation).

A survey-like footprint of 11,000 square degrees, p = .49, counts drawn per cell. Bounds leave
room for the noise of the smaller numbers of skies used here (about three standard errors).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from catalogs import sky
from catalogs.audit.battery import Battery, monte_carlo_p
from catalogs.audit.fractions import benjamini_hochberg
from catalogs.audit.settings import AuditSettings
from catalogs.audit.tiles import TileCounts, order_to_test

P = 0.49
FINE = 7
FINE_TILES = sky.survey_footprint_tiles(FINE)


def footprint(total: int, rng: np.random.Generator, order: int = 5) -> TileCounts:
    tiles, area = np.unique(FINE_TILES >> (2 * (FINE - order)), return_counts=True)
    n = rng.multinomial(total, area / area.sum())
    tiles, n = tiles[n > 0], n[n > 0]
    k = rng.binomial(n, P).astype(float)
    return TileCounts(order, tiles, n, k, float(k.sum()), labels=True)


@dataclass
class Lab:
    battery: Battery
    rng: np.random.Generator
    null: object

    def skies(self, p: np.ndarray | float, number: int) -> np.ndarray:
        n = self.battery.cells.n
        return self.rng.binomial(n, p, size=(number, len(n))).astype(float)

    def p_values(self, k: np.ndarray) -> np.ndarray:
        """Global, dipole, scan, tiles: shape (skies, 4)."""
        found = self.battery.statistics(k)
        columns = [
            monte_carlo_p(getattr(found, name), getattr(self.null, name))
            for name in ("x2", "dipole", "scan")
        ]
        smallest = [benjamini_hochberg(self.battery.tile_p(row)).min() for row in k]
        return np.stack([*columns, smallest], axis=1)

    def vectors(self) -> np.ndarray:
        cells = self.battery.cells
        return sky.unit_vectors(*sky.tile_centres(cells.tiles, cells.order))

    def covered(self, region: sky.Region) -> np.ndarray:
        """Part of each cell inside a region."""
        inside = region.contains(*sky.tile_centres(FINE_TILES, FINE)).astype(float)
        cells = self.battery.cells
        parents, index = np.unique(FINE_TILES >> (2 * (FINE - cells.order)), return_inverse=True)
        part = np.bincount(index, inside) / np.bincount(index)
        return part[np.searchsorted(parents, cells.tiles)]


def lab(total: int, seed: int) -> Lab:
    rng = np.random.default_rng(seed)
    counts = footprint(total, rng)
    battery = Battery(counts, order_to_test(counts), AuditSettings())
    null = battery.statistics(battery.permuted(round(P * total), 2000, rng))
    return Lab(battery, rng, null)


@pytest.fixture(scope="module")
def million() -> Lab:
    return lab(1_000_000, 30)


def alarms(p: np.ndarray) -> float:
    return float(np.mean(4 * p.min(axis=1) < 0.05))


def test_footprint_is_the_stated_one(million: Lab) -> None:
    area = len(FINE_TILES) * 41252.96 / (12 * 4**FINE)
    assert area == pytest.approx(11_000, rel=0.1)
    assert million.battery.order == 3


@pytest.mark.parametrize(("total", "skies"), [(1_000_000, 1000), (20_000, 400)])
def test_isotropic_skies_seldom_alarm(total: int, skies: int) -> None:
    p = (bench := lab(total, 31)).p_values(bench.skies(P, skies))
    noise = 3 * np.sqrt(0.05 * 0.95 / skies)
    assert alarms(p) <= 0.045 + noise
    each = np.mean(p < 0.05, axis=0)
    assert np.all(np.abs(each - 0.05) < noise), each


def test_dipoles_are_found(million: Lab) -> None:
    axes = million.rng.normal(size=(300, 3))
    axes /= np.linalg.norm(axes, axis=1)[:, None]
    pattern = axes @ million.vectors().T
    half = million.p_values(million.skies(P + 0.005 * pattern, 300))
    assert np.mean(half[:, 1] < 0.05) >= 0.95 - 0.01
    whole = million.p_values(million.skies(P + 0.01 * pattern, 300))
    assert alarms(whole) >= 0.99


def test_a_deviant_region_is_found_where_it_is(million: Lab) -> None:
    k = million.skies(P + 0.02 * million.covered(sky.Region(170, 190, 10, 30)), 300)
    assert np.mean(million.p_values(k)[:, 2] < 0.05) >= 0.95
    centre = sky.unit_vectors(180, 20)[0]
    scan = million.battery.scan
    axes = scan.axes[[scan.best(row, P * (1 - P)).index for row in million.battery.at_scan(k)]]
    errors = np.degrees(np.arccos(np.clip(axes @ centre, -1, 1)))
    assert np.median(errors) <= 5


def test_extra_variance_is_found(million: Lab) -> None:
    parent = million.battery.cells.tiles >> (2 * (million.battery.cells.order - 3))
    _, index = np.unique(parent, return_inverse=True)
    extra = 0.005 * million.rng.standard_normal((300, index.max() + 1))[:, index]
    p = million.p_values(million.skies(P + extra, 300))
    assert np.mean(p[:, 0] < 0.05) >= 0.95 - 0.01


def test_flagged_tiles_are_seldom_false(million: Lab) -> None:
    battery, rng = million.battery, million.rng
    bad = rng.random(len(battery.tiles)) < 0.2
    shift = np.where(bad, 0.03 * rng.choice([-1, 1], len(bad)), 0.0)
    parent = battery.cells.tiles >> (2 * (battery.cells.order - 3))
    at = np.minimum(np.searchsorted(battery.tiles, parent), len(shift) - 1)
    p = P + np.where(battery.tiles[at] == parent, shift[at], 0.0)
    false, true = [], []
    for k in million.skies(p, 150):
        tile = battery.at_tiles(k)
        rest = (k.sum() - tile) / (battery.cells.n.sum() - battery.n)
        q = benjamini_hochberg(battery.tile_p(k))
        flag = (q < 0.05) & (np.abs(tile / battery.n - rest) >= 0.01)
        false.append(np.sum(flag & ~bad) / max(1, flag.sum()))
        true.append(np.mean(flag[bad]))
    assert np.mean(false) <= 0.07
    assert np.mean(true) > 0.5


def test_summed_probabilities_keep_the_size() -> None:
    rng = np.random.default_rng(33)
    counts = footprint(20_000, rng, order=4)
    cell = np.repeat(np.arange(len(counts.n)), counts.n)
    values = rng.beta(0.5, 0.6, counts.total)
    k = np.stack([np.bincount(cell, rng.permutation(values)) for _ in range(400)])
    drawn = TileCounts(4, counts.tiles, counts.n, k[0], float(values @ values), labels=False)
    assert drawn.variance == pytest.approx(values.var())
    battery = Battery(drawn, 2, AuditSettings())
    null = battery.statistics(battery.permuted(values.sum(), 2000, rng))
    p = Lab(battery, rng, null).p_values(k)
    noise = 3 * np.sqrt(0.05 * 0.95 / 400)
    assert alarms(p) <= 0.045 + noise
    assert np.all(np.abs(np.mean(p < 0.05, axis=0) - 0.05) < noise)


def test_permuted_probabilities_have_the_permutations_moments() -> None:
    rng = np.random.default_rng(34)
    counts = footprint(20_000, rng, order=4)
    labels = Battery(counts, 2, AuditSettings())
    gaussian = Battery(
        TileCounts(4, counts.tiles, counts.n, counts.k, float(counts.k.sum()), labels=False),
        2,
        AuditSettings(),
    )
    total = float(counts.k.sum())
    exact, normal = (b.permuted(total, 4000, rng) for b in (labels, gaussian))
    np.testing.assert_allclose(exact.sum(axis=1), round(total))
    np.testing.assert_allclose(normal.sum(axis=1), total)
    np.testing.assert_allclose(normal.mean(axis=0), exact.mean(axis=0), atol=0.25)
    busy = counts.n > 10
    np.testing.assert_allclose(normal.var(axis=0)[busy], exact.var(axis=0)[busy], rtol=0.15)


def test_a_finer_testing_order_changes_only_the_tile_tests() -> None:
    rng = np.random.default_rng(35)
    counts = footprint(200_000, rng)
    coarse, fine = (Battery(counts, order, AuditSettings(min_n=1)) for order in (3, 5))
    assert (coarse.cells.order, fine.cells.order) == (4, 5)
    a = coarse.statistics(coarse.cells.k[None, :])
    b = fine.statistics(fine.cells.k[None, :])
    assert a.dipole == pytest.approx(b.dipole)
    assert a.scan == pytest.approx(b.scan)
    for battery, found in ((coarse, a), (fine, b)):
        k = counts.merged(battery.order).k
        np.testing.assert_array_equal(battery.at_tiles(battery.cells.k), k)
        table = np.stack([k, battery.n - k])
        assert found.x2[0] == pytest.approx(
            chi2_contingency(table, correction=False).statistic, rel=1e-9
        )
