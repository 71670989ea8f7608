"""Two classifiers on the same objects.

A true difference d of fractions shows as d J in the answers, where J = TPR + TNR - 1 says how well
a classifier tells members from others. What varies in the real sky cancels in the difference of
two classifiers' answers only if both have the same J; else it must be divided by each one's J
first, which takes labels. Without them a classifier that shows nothing may be a coin that is
tossed. Sums per tile suffice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from catalogs import sky
from catalogs.audit.comparison import papers
from catalogs.audit.region import Cap
from catalogs.audit.settings import FEWEST_LABELS, AuditSettings
from catalogs.audit.uniformity.battery import CELL_ORDER, Battery, monte_carlo_p
from catalogs.audit.uniformity.fractions import difference_interval, leave_one_out_z
from catalogs.audit.uniformity.tiles import TileCounts, counted_by, fourth_moment

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Rows = Callable[[], Iterator[tuple[IntArray, FloatArray]]]

_BLOCK = 500


@dataclass(frozen=True, slots=True)
class Pairs:
    """Answers a (audited) and b (other) of the objects that have both.

    ``n``, ``a``, ``b`` and ``squares`` (of a - b) are sums per tile of ``order``, shape
    (12 * 4**order,); ``fourth`` is that of (a - b - mean)^4 over the sky. ``counts`` has shape
    (3, 2, 2): without label, other, member; a no, yes; b no, yes; None for summed probabilities and
    with weights.
    """

    order: int
    n: FloatArray
    a: FloatArray
    b: FloatArray
    squares: FloatArray
    fourth: float
    counts: IntArray | None
    weighted: bool = False

    @property
    def difference(self) -> TileCounts:
        """Return a - b per occupied tile, as counts for the tests of a sky.

        Where both disagree more often a - b scatters more, so each tile has its own variance.
        """
        tiles = np.flatnonzero(self.n)
        total = (self.a - self.b)[tiles]
        n = self.n[tiles] if self.weighted else np.rint(self.n[tiles]).astype(np.int64)
        spread = self.squares[tiles]
        whole = float(spread.sum())
        return TileCounts(self.order, tiles, n, total, whole, False, spread, None, self.fourth)


def gather_pairs(
    rows: Rows, column: int, truth: int | None, order: int, unit: float | FloatArray | None = None
) -> Pairs:
    """Sum paired answers per tile.

    Parameters
    ----------
    rows : callable
        Gives (healpix_29, values) of all objects; the audited answer is the first value.
    column : int
        Where the other's answer is; NaN for none.
    truth : int, optional
        Where the label is; NaN for none.
    order : int
    unit : float or ndarray, optional
        The weight that counts as one object (see `counted_by`); the last
        value of a row is its weight then.

    Returns
    -------
    Pairs
    """
    size = 12 * 4**order
    sums, powers = np.zeros((4, size)), np.zeros(5)
    counts: IntArray | None = np.zeros((3, 2, 2), np.int64) if unit is None else None
    for pixels, values in rows():
        both = np.isfinite(values[:, column])
        tile = pixels[both] >> (2 * (sky.FINEST_ORDER - order))
        a, b = values[both, 0], values[both, column]
        weight = counted_by(values[both, -1], pixels[both], unit)
        for row, terms in enumerate((1.0, a, b, (a - b) ** 2)):
            sums[row] += np.bincount(tile, weight * terms, minlength=size)
        powers += [weight @ (a - b) ** power for power in range(5)]
        if counts is None or np.any((a != np.rint(a)) | (b != np.rint(b))):
            counts = None
            continue
        known = np.zeros(len(a))
        if truth is not None:
            label = values[both, truth]
            known = np.where(np.isnan(label), 0, 1 + label)
        kind = (known * 4 + a * 2 + b).astype(np.int64)
        counts += np.bincount(kind, minlength=12).reshape(3, 2, 2)
    n, a, b, squares = sums
    return Pairs(order, n, a, b, squares, fourth_moment(powers), counts, unit is not None)


@dataclass(frozen=True, slots=True)
class Shift:
    """A rate of both classifiers on the same n objects, and how it differs.

    ``binomial_p`` is the papers' test: the audited count against the other's fraction, taken as
    known; ``two_sample_p`` takes the objects for different ones. McNemar's is the right one.
    """

    n: int
    audited: int
    other: int
    difference: float
    interval: tuple[float, float]
    only_audited: int
    only_other: int
    mcnemar_p: float
    mcnemar_z: float
    binomial_p: float | None
    two_sample_p: float | None


def shift(table: NDArray[np.int64]) -> Shift | None:
    """Compare two rates on the same objects; None without objects.

    Parameters
    ----------
    table : ndarray of int64, shape (2, 2)
        Audited no, yes; other no, yes.
    """
    n, only_a, only_b, both = (int(x) for x in (table.sum(), table[1, 0], table[0, 1], table[1, 1]))
    if n == 0:
        return None
    a, b = only_a + both, only_b + both
    discordant, difference = only_a + only_b, (only_a - only_b) / n
    error = np.sqrt(max(discordant / n - difference**2, 0.0) / n)
    half = float(stats.norm.isf(0.025) * error)
    usable = 0 < b < n
    return Shift(
        n,
        a,
        b,
        difference,
        (difference - half, difference + half),
        only_a,
        only_b,
        papers.mcnemar(only_a, only_b),
        float((only_a - only_b) / np.sqrt(discordant)) if discordant else 0.0,
        papers.binomial_test(a, n, b / n).p_two_sided if usable else None,
        papers.two_sample_z(a, n, b, n).p if 0 < a + b < 2 * n else None,
    )


@dataclass(frozen=True, slots=True)
class DifferenceSky:
    """Does a - b vary over the sky? p from normal skies, of each tile's own variance of a - b."""

    dipole_p: float | None
    amplitude: float | None
    pole: tuple[float, float] | None
    scan_p: float | None
    cap: Cap | None
    cap_difference: float | None
    cap_interval: tuple[float, float] | None


def difference_over_the_sky(
    pairs: Pairs, order: int, settings: AuditSettings
) -> DifferenceSky | None:
    """Test dipole and scan on the difference; None where no two answers differ.

    Parameters
    ----------
    pairs : Pairs
    order : int
        The testing order.
    settings : AuditSettings
    """
    counts = pairs.difference
    if counts.total == 0 or counts.variance <= 0:
        return None
    battery = Battery(counts, order, settings)
    rng = np.random.default_rng(settings.seed)
    k = battery.cells.k
    observed = battery.statistics(k[None, :])
    blocks = [
        battery.statistics(
            battery.permuted(float(k.sum()), min(_BLOCK, settings.simulations - start), rng)
        )
        for start in range(0, settings.simulations, _BLOCK)
    ]

    def p_of(name: str) -> float | None:
        null = np.concatenate([getattr(block, name) for block in blocks])
        p = float(monte_carlo_p(getattr(observed, name), null)[0])
        return None if np.isnan(p) else p

    dipole_p, scan_p = p_of("dipole"), p_of("scan")
    at_scan = battery.at_scan(k)
    fit = None if dipole_p is None else battery.dipole.fit(at_scan, counts.variance)
    cap, effect, interval = None, None, None
    if scan_p is not None:
        best = battery.scan.best(at_scan, counts.variance)
        rest = (float(at_scan.sum() - best.k), battery.scan.total - best.n)
        cap = Cap(*battery.scan.centre(best.index), float(battery.scan.radii[best.index]))
        effect, interval = difference_interval((best.k, best.n), rest, counts.variance)
    amplitude, pole = (None, None) if fit is None else (fit.amplitude, fit.pole)
    return DifferenceSky(dipole_p, amplitude, pole, scan_p, cap, effect, interval)


@dataclass(frozen=True, slots=True)
class DifferenceTiles:
    """Mean of a - b in each tile that holds enough pairs; arrays of shape (t,).

    ``z`` is of each tile against the rest of the sky.
    """

    order: int
    tiles: IntArray
    n: IntArray
    difference: FloatArray
    z: FloatArray


def difference_tiles(pairs: Pairs, order: int, min_n: int) -> DifferenceTiles:
    """Map a - b over the tiles of an order that hold at least ``min_n`` pairs."""
    counts = pairs.difference.merged(order)
    enough = counts.n >= min_n
    n, k = counts.n[enough], counts.k[enough]
    z = np.zeros(len(n))
    if (loads := counts.loads) is not None and len(counts.n) > 1:
        whole_sky = float(counts.k.sum()), float(counts.total)
        own = loads[enough], float(loads.sum())
        z = leave_one_out_z(k, n, counts.variance, whole_sky, own)
    whole = np.maximum(np.floor(n), 1).astype(np.int64)  # weighted numbers need not be whole
    return DifferenceTiles(order, counts.tiles[enough], whole, k / n, z)


@dataclass(frozen=True, slots=True)
class Skill:
    """J = TPR + TNR - 1 (Youden's index) of both classifiers, from the same labelled objects.

    ``errors`` are the standard errors, ``covariance`` that of the two J.
    """

    audited: float
    other: float
    errors: tuple[float, float]
    covariance: float

    @property
    def usable(self) -> bool:
        """Whether both are surely (2.5%) better than chance, so that one may divide by them."""
        z = float(stats.norm.isf(0.025))
        return self.audited > z * self.errors[0] and self.other > z * self.errors[1]


def skill(counts: IntArray | None) -> Skill | None:
    """Measure J of both from the labelled pairs; None with fewer than 100 of either class.

    Parameters
    ----------
    counts : ndarray of int64, shape (3, 2, 2), or None
        As of `Pairs`.

    Returns
    -------
    Skill or None
        Errors are of one mistake more of either kind, so that none seen is not certainty.
    """
    if counts is None or counts[1:].sum(axis=(1, 2)).min() < FEWEST_LABELS:
        return None
    j, spread = np.zeros(2), np.zeros((2, 2))
    for sign, table in ((-1, counts[1]), (1, counts[2])):
        n = float(table.sum())
        j += sign * np.array([table[1].sum(), table[:, 1].sum()]) / n
        cautious = (table + np.eye(2)) / (n + 2)
        rate = np.array([cautious[1].sum(), cautious[:, 1].sum()])
        both = float(cautious[1, 1] - rate[0] * rate[1])
        spread += np.array([[rate[0] * (1 - rate[0]), both], [both, rate[1] * (1 - rate[1])]]) / n
    errors = np.sqrt(np.diag(spread))
    return Skill(float(j[0]), float(j[1]), (float(errors[0]), float(errors[1])), spread[0, 1])


@dataclass(frozen=True, slots=True)
class InCap:
    """Fraction inside minus outside of the audited map's cap, by both classifiers.

    ``audited`` and ``other`` are of the answers, with the other's 95% interval. ``difference_p``
    is of effect/J of the one against the other: a sky that varies, seen by classifiers whose rates
    do not, gives both the same. ``true_audited`` and ``true_interval`` (95%) are effect/J of the
    audited, and of the other. The three are None without labels to measure J.
    """

    audited: float
    other: float
    other_interval: tuple[float, float]
    difference_p: float | None = None
    true_audited: float | None = None
    true_interval: tuple[float, float] | None = None

    @property
    def shared(self) -> bool:
        """Whether the other sees at least half of the effect, or could.

        It does where the bound of its effect/J, on the side of the audited effect, reaches half of
        the audited one's; and it could where nothing says J.
        """
        if self.true_audited is None or self.true_interval is None:
            return True
        sign = 1.0 if self.true_audited > 0 else -1.0
        reach = max(sign * bound for bound in self.true_interval)
        return reach >= abs(self.true_audited) / 2


def in_cap(pairs: Pairs, cap: Cap, *, blind: bool = True, among: int = 1) -> InCap | None:
    """Compare the effect inside a cap between both; None where one side is empty.

    Parameters
    ----------
    pairs : Pairs
    cap : Cap
    blind : bool
        Whether the labels were drawn blind; else they do not say J.
    among : int
        Of how many caps this one was picked by the audited answers: chance that they have and the
        other does not is a difference, too, so p is Bonferroni's.

    Returns
    -------
    InCap or None
        p is of the difference e_a J_b - e_b J_a, whose variance carries those of the effects e,
        of J, and that both are of the same objects; the interval of e_b/J_b is Gauss's.
    """
    effect = EffectIn(cap, pairs.n, pairs.order)
    if effect.empty:
        return None
    mean = float(pairs.b.sum() / pairs.n.sum())
    audited, other = effect.of(pairs.a), effect.of(pairs.b)
    interval = effect.interval(other, mean)
    j = skill(pairs.counts) if blind else None
    if pairs.counts is None or j is None or not j.usable:
        return InCap(audited, other, interval)
    table = pairs.counts.sum(axis=0) / pairs.counts.sum()
    a, b = table[1].sum(), table[:, 1].sum()
    crossed = j.other**2 * a * (1 - a) + j.audited**2 * b * (1 - b)
    crossed -= 2 * j.audited * j.other * (table[1, 1] - a * b)
    error2 = crossed * effect.leverage
    error2 += (audited * j.errors[1]) ** 2 + (other * j.errors[0]) ** 2
    error2 -= 2 * audited * other * j.covariance
    z = (audited * j.other - other * j.audited) / np.sqrt(error2) if error2 > 0 else 0.0
    return InCap(
        audited,
        other,
        interval,
        float(min(1.0, among * 2 * stats.norm.sf(abs(z)))),
        audited / j.audited,
        effect.true_interval(other, mean, j.other, j.errors[1]),
    )


class EffectIn:
    """Fraction inside a cap minus outside, from sums per tile."""

    def __init__(self, cap: Cap, n: FloatArray, order: int) -> None:
        cells = np.arange(len(n)) >> (2 * (order - CELL_ORDER))
        self._inside = cap.contains(*sky.tile_centres(cells, CELL_ORDER))
        self._n = float(n[self._inside].sum()), float(n[~self._inside].sum())
        self.empty = min(self._n) == 0

    @property
    def leverage(self) -> float:
        """Variance of the effect for a variance of 1 of each answer."""
        return 1 / self._n[0] + 1 / self._n[1]

    def of(self, sums: FloatArray) -> float:
        """Return the effect."""
        inside, outside = float(sums[self._inside].sum()), float(sums[~self._inside].sum())
        return inside / self._n[0] - outside / self._n[1]

    def interval(self, effect: float, mean: float) -> tuple[float, float]:
        """Return its 95% interval, for answers of a mean."""
        spread = max(mean * (1 - mean), 0.0) * self.leverage
        half = float(stats.norm.isf(0.025) * np.sqrt(spread))
        return effect - half, effect + half

    def true_interval(
        self, effect: float, mean: float, j: float, error: float
    ) -> tuple[float, float]:
        """Return the 95% interval of effect/J, for J with a standard error."""
        spread = max(mean * (1 - mean), 0.0) * self.leverage + (effect / j * error) ** 2
        half = float(stats.norm.isf(0.025) * np.sqrt(spread)) / j
        return effect / j - half, effect / j + half
