"""Two groups of seeds, trained on two skies, on the same objects: the seed is the unit."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from catalogs import sky
from catalogs.audit.comparison.paired import EffectIn, InCap, Rows
from catalogs.audit.region import Cap
from catalogs.audit.settings import FEWEST_LABELS, AuditSettings
from catalogs.audit.uniformity.battery import Battery
from catalogs.audit.uniformity.tiles import TileCounts

FloatArray = NDArray[np.float64]

FEWEST_SEEDS = 6
_MOST_PERMUTATIONS = 5000


@dataclass(frozen=True, slots=True)
class Seeds:
    """Sums of answers of every seed, on the objects that all of them answered.

    ``n`` and ``audited`` (sums of the audited answers) have shape (t,), ``k`` (seeds, t), for all
    tiles of ``order``; ``members`` and ``others`` are (n, sums of answers of each seed) of true
    members and others.
    """

    order: int
    n: FloatArray
    audited: FloatArray
    k: FloatArray
    members: tuple[float, FloatArray]
    others: tuple[float, FloatArray]


def gather_seeds(rows: Rows, columns: slice, truth: int | None, order: int) -> Seeds:
    """Sum the answers of all seeds per tile; parameters as of `gather_pairs`."""
    size, seeds = 12 * 4**order, columns.stop - columns.start
    n, audited, k = np.zeros(size), np.zeros(size), np.zeros((seeds, size))
    totals, by_truth = np.zeros(2), np.zeros((2, seeds))
    for pixels, values in rows():
        answers = values[:, columns]
        whole = np.all(np.isfinite(answers), axis=1)
        tile = pixels[whole] >> (2 * (sky.FINEST_ORDER - order))
        answers = answers[whole]
        n += np.bincount(tile, minlength=size)
        audited += np.bincount(tile, values[whole, 0], minlength=size)
        for seed in range(seeds):
            k[seed] += np.bincount(tile, answers[:, seed], minlength=size)
        if truth is not None:
            label = values[whole, truth]
            for kind in (0, 1):
                totals[kind] += np.sum(label == kind)
                by_truth[kind] += answers[label == kind].sum(axis=0)
    return Seeds(order, n, audited, k, (totals[1], by_truth[1]), (totals[0], by_truth[0]))


@dataclass(frozen=True, slots=True)
class Swap:
    """Two groups of seeds, trained on two skies; p over all ways to deal the seeds to them.

    p is None with fewer than 6 seeds a group: the seed is the unit of such a claim.
    """

    names: tuple[str, str]
    seeds: tuple[int, int]
    objects: int
    fractions: tuple[tuple[float, ...], tuple[float, ...]]
    difference: float
    fraction_p: float | None
    dipole_p: float | None
    scan_p: float | None
    cap: Cap | None
    tpr: tuple[float, float, float] | None
    tnr: tuple[float, float, float] | None


def judge_swap(seeds: Seeds, groups: list[str], order: int, settings: AuditSettings) -> Swap:
    """Compare two groups of seeds.

    Parameters
    ----------
    seeds : Seeds
    groups : list of str
        The group of each seed; two names.
    order : int
        The testing order.
    settings : AuditSettings

    Returns
    -------
    Swap
        ``tpr`` and ``tnr`` are the means of both groups and Welch's p over seeds.
    """
    first, second = dict.fromkeys(groups)
    mine = np.array([group == first for group in groups])
    tiles = np.flatnonzero(seeds.n)
    n = seeds.n[tiles].astype(np.int64)
    whole = TileCounts(seeds.order, tiles, n, seeds.k[0, tiles], float(n.sum()), labels=False)
    battery = Battery(whole, order, settings)
    at = np.searchsorted(battery.cells.tiles, tiles >> (2 * (seeds.order - battery.cells.order)))
    cells = np.zeros((len(groups), len(battery.cells.tiles)))
    for seed, row in enumerate(seeds.k[:, tiles]):
        cells[seed] = np.bincount(at, row, minlength=cells.shape[1])
    k = battery.at_scan(cells)
    deals = _deals(mine, np.random.default_rng(settings.seed))
    weights = deals / deals.sum(axis=1, keepdims=True)
    weights = weights - ~deals / (~deals).sum(axis=1, keepdims=True)
    sums = weights @ k
    objects = int(n.sum())
    enough = min(mine.sum(), (~mine).sum()) >= FEWEST_SEEDS

    def p_of(statistic: FloatArray) -> float | None:
        if not enough:
            return None
        return float(np.mean(statistic >= statistic[0] * (1 - 1e-9)))

    scans = len(battery.scan) > 0
    cap = None
    if scans:
        best = battery.scan.best(sums[0], 1.0)
        radius = float(battery.scan.radii[best.index])
        cap = Cap(*battery.scan.centre(best.index), radius)
    fractions = k.sum(axis=1) / objects
    return Swap(
        (first, second),
        (int(mine.sum()), int((~mine).sum())),
        objects,
        (tuple(fractions[mine].tolist()), tuple(fractions[~mine].tolist())),
        float(fractions[mine].mean() - fractions[~mine].mean()),
        p_of(np.abs(sums.sum(axis=1))),
        p_of(battery.dipole.statistic(sums, np.ones(len(sums))))
        if battery.dipole.solvable
        else None,
        p_of(battery.scan.statistic(sums, np.ones(len(sums)))) if scans else None,
        cap,
        _by_seed(seeds.members, mine, complement=False),
        _by_seed(seeds.others, mine, complement=True),
    )


def seeds_in_cap(
    seeds: Seeds, groups: list[str], cap: Cap, seed: int, *, blind: bool = True
) -> InCap | None:
    """Compare the effect inside the audited map's cap between groups of seeds.

    Parameters
    ----------
    seeds : Seeds
    groups : list of str
        The group of each seed.
    cap : Cap
    seed : int
        Of the permutations, where there are too many to make all.
    blind : bool
        Whether the labels were drawn blind; else they do not say J.

    Returns
    -------
    InCap or None
        The other is the group that shows less of the audited effect; p is by permutation of
        the seeds' effect/J. The audited catalog is taken to have the mean J of its group, that
        which shows more. None with fewer than 6 seeds a group, or nothing on one side of the cap.
    """
    mine = np.array([group == groups[0] for group in groups])
    effect = EffectIn(cap, seeds.n, seeds.order)
    if effect.empty or min(mine.sum(), (~mine).sum()) < FEWEST_SEEDS:
        return None
    seen = np.array([effect.of(row) for row in seeds.k])
    audited = effect.of(seeds.audited)
    sign = 1.0 if audited > 0 else -1.0
    skills = _skills(seeds) if blind else None
    if skills is None:
        less = min((mine, ~mine), key=lambda group: sign * seen[group].mean())
        other = float(seen[less].mean())
        return InCap(audited, other, effect.interval(other, _mean(seeds, less)))
    j, errors = skills
    true = seen / j
    less = min((mine, ~mine), key=lambda group: sign * true[group].mean())
    other, mean = float(seen[less].mean()), _mean(seeds, less)
    deals = _deals(mine, np.random.default_rng(seed))
    difference = np.abs([true[deal].mean() - true[~deal].mean() for deal in deals])
    return InCap(
        audited,
        other,
        effect.interval(other, mean),
        float(np.mean(difference >= difference[0] * (1 - 1e-9))),
        audited / float(j[~less].mean()),
        # Seeds mistake the same objects, so a mean J is no surer than one.
        effect.true_interval(other, mean, float(j[less].mean()), float(errors[less].mean())),
    )


def _mean(seeds: Seeds, group: NDArray[np.bool_]) -> float:
    return float(seeds.k[group].sum() / (group.sum() * seeds.n.sum()))


def _skills(seeds: Seeds) -> tuple[FloatArray, FloatArray] | None:
    """Return J = TPR + TNR - 1 of every seed and its standard error, each of shape (seeds,).

    None with fewer than 100 labels of either class, or where a seed is not surely above chance.
    """
    j, variance = np.full(len(seeds.k), 0.0), np.zeros(len(seeds.k))
    for sign, (n, total) in ((1, seeds.members), (-1, seeds.others)):
        if n < FEWEST_LABELS:
            return None
        rate = (total + 1) / (n + 2)
        j += sign * total / n
        variance += rate * (1 - rate) / n
    errors = np.sqrt(variance)
    return (j, errors) if np.all(j > stats.norm.isf(0.025) * errors) else None


def _deals(mine: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return ways to deal seeds to the first group, the true one first; all if they are few."""
    size, total = int(mine.sum()), len(mine)
    if comb(total, size) <= _MOST_PERMUTATIONS:
        rows = [np.isin(np.arange(total), chosen) for chosen in combinations(range(total), size)]
        others = [row for row in rows if not np.array_equal(row, mine)]
        return np.array([mine, *others])
    return np.array([mine, *(rng.permutation(mine) for _ in range(_MOST_PERMUTATIONS - 1))])


def _by_seed(
    sums: tuple[float, FloatArray], mine: NDArray[np.bool_], *, complement: bool
) -> tuple[float, float, float] | None:
    if sums[0] == 0 or min(mine.sum(), (~mine).sum()) < 2:
        return None
    rate = sums[1] / sums[0]
    rate = 1 - rate if complement else rate
    p = 1.0
    if np.ptp(rate[mine]) + np.ptp(rate[~mine]) > 0:
        # From moments: one group may agree to the last label, of which scipy would warn.
        moments = [
            x
            for part in (rate[mine], rate[~mine])
            for x in (part.mean(), part.std(ddof=1), len(part))
        ]
        p = float(stats.ttest_ind_from_stats(*moments, equal_var=False).pvalue)
    return float(rate[mine].mean()), float(rate[~mine].mean()), p
