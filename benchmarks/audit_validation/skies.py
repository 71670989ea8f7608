"""A survey-like footprint of 11,000 square degrees, and skies of answers drawn per cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catalogs import sky
from catalogs.audit.settings import AuditSettings
from catalogs.audit.uniformity.battery import Battery, Statistics, monte_carlo_p
from catalogs.audit.uniformity.fractions import benjamini_hochberg
from catalogs.audit.uniformity.tiles import TileCounts, order_to_test

FloatArray = NDArray[np.float64]

P = 0.49
FINE = 7
FINE_TILES = sky.survey_footprint_tiles(FINE)
TESTS = ("x2", "dipole", "scan")


def footprint(total: int, rng: np.random.Generator, order: int = 5) -> TileCounts:
    """Spread this many galaxies over the footprint."""
    tiles, area = np.unique(FINE_TILES >> (2 * (FINE - order)), return_counts=True)
    n = rng.multinomial(total, area / area.sum())
    tiles, n = tiles[n > 0], n[n > 0]
    k = rng.binomial(n, P).astype(float)
    return TileCounts(order, tiles, n, k, float(k.sum()), labels=True)


@dataclass
class Lab:
    """The battery of one footprint, and one null that all its skies share."""

    battery: Battery
    rng: np.random.Generator
    null: Statistics

    def skies(self, p: FloatArray | float, number: int) -> FloatArray:
        n = self.battery.cells.n
        return self.rng.binomial(n, p, size=(number, len(n))).astype(float)

    def p_values(self, k: FloatArray) -> FloatArray:
        """Global, dipole, scan, tiles: shape (skies, 4)."""
        found = self.battery.statistics(k)
        columns = [monte_carlo_p(getattr(found, name), getattr(self.null, name)) for name in TESTS]
        smallest = [benjamini_hochberg(self.battery.tile_p(row)).min() for row in k]
        return np.stack([*columns, smallest], axis=1)

    def vectors(self) -> FloatArray:
        cells = self.battery.cells
        return sky.unit_vectors(*sky.tile_centres(cells.tiles, cells.order))

    def covered(self, region: sky.Region) -> FloatArray:
        """Part of each cell inside a region."""
        inside = region.contains(*sky.tile_centres(FINE_TILES, FINE)).astype(float)
        cells = self.battery.cells
        parents, index = np.unique(FINE_TILES >> (2 * (FINE - cells.order)), return_inverse=True)
        part = np.bincount(index, inside) / np.bincount(index)
        return part[np.searchsorted(parents, cells.tiles)]

    def axes(self, number: int) -> FloatArray:
        """Random directions, shape (number, 3)."""
        axes = self.rng.normal(size=(number, 3))
        return np.asarray(axes / np.linalg.norm(axes, axis=1)[:, None])


def lab(total: int, seed: int, simulations: int = 2000) -> Lab:
    rng = np.random.default_rng(seed)
    counts = footprint(total, rng)
    battery = Battery(counts, order_to_test(counts), AuditSettings())
    null = battery.statistics(battery.permuted(round(P * total), simulations, rng))
    return Lab(battery, rng, null)


def alarms(p: FloatArray) -> float:
    """Share of skies on which Holm's correction over the four tests raises the alarm."""
    return float(np.mean(4 * p.min(axis=1) < 0.05))


def overdispersed(lab: Lab, number: int, sigma: float) -> FloatArray:
    """Fractions that scatter between tiles of nside 8 on their own, shape (number, cells)."""
    parent = lab.battery.cells.tiles >> (2 * (lab.battery.cells.order - 3))
    _, index = np.unique(parent, return_inverse=True)
    return P + sigma * lab.rng.standard_normal((number, index.max() + 1))[:, index]


def false_discoveries(lab: Lab, number: int, shift: float) -> tuple[FloatArray, FloatArray]:
    """Shift a fifth of the tiles; return, per sky, the false among flagged, and the found."""
    battery, rng = lab.battery, lab.rng
    bad = rng.random(len(battery.tiles)) < 0.2
    moved = np.where(bad, shift * rng.choice([-1, 1], len(bad)), 0.0)
    parent = battery.cells.tiles >> (2 * (battery.cells.order - 3))
    at = np.minimum(np.searchsorted(battery.tiles, parent), len(moved) - 1)
    p = P + np.where(battery.tiles[at] == parent, moved[at], 0.0)
    false, found = [], []
    for k in lab.skies(p, number):
        tile = battery.at_tiles(k)
        rest = (k.sum() - tile) / (battery.cells.n.sum() - battery.n)
        q = benjamini_hochberg(battery.tile_p(k))
        flag = (q < 0.05) & (np.abs(tile / battery.n - rest) >= 0.01)
        false.append(np.sum(flag & ~bad) / max(1, flag.sum()))
        found.append(np.mean(flag[bad]))
    return np.array(false), np.array(found)


def errors_of_caps(lab: Lab, k: FloatArray, centre: FloatArray) -> FloatArray:
    """Degrees from the scan's caps to true centres, of shape (3,) or (skies, 3)."""
    scan = lab.battery.scan
    best = np.abs(scan.z(lab.battery.at_scan(k), np.full(len(k), P * (1 - P)))).argmax(axis=1)
    cosine = np.sum(scan.axes[best] * np.atleast_2d(centre), axis=1)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
