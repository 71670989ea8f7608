"""How far two sets of answers are apart: probabilities, labels, fractions; over the sky, too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from catalogs.sky import tile_of
from export.answers import NOT_ASKED, Answers, choices, conditional, spiralness
from export.manifest import Flips, Manifest, Shift

CONFIDENCE = 0.95
TORN = 0.51  # below such a larger probability a label may hang on the last bit
ASKED = 0.5  # share of the volunteers from which on a question counts as asked
CLASSES = "label"  # what the question of plain classes is called
FINEST_TILES, CUTOUTS_PER_TILE = 4, 128

Bools = NDArray[np.bool_]
Groups = NDArray[np.int64]


def flips(expected: Answers, found: Answers, manifest: Manifest) -> dict[str, Flips]:
    """Count the labels that differ, by question.

    Parameters
    ----------
    expected, found : ndarray of float32, shape (n, answers)
        Of the reference, and of what is compared with it.
    manifest : Manifest

    Returns
    -------
    dict of str to Flips
        A tree's question is compared where at least half of the volunteers come to it. A label
        is confident where the larger probability is .51 or more, and that of a spiral is not
        within .01 of the threshold.
    """
    result = {}
    for question in manifest.questions:
        shares = conditional(expected, question)
        sure = shares.max(axis=1) >= TORN
        asked = np.ones(len(expected), dtype=np.bool_)
        if manifest.tree is not None:
            asked = expected[:, question.at].sum(axis=1) >= ASKED
        elif manifest.spiral in question.answers:
            p = shares[:, question.answers.index(manifest.spiral)]
            sure &= np.abs(p - manifest.threshold) >= TORN - 0.5
        before, after = (choices(a, question, manifest) for a in (expected, found))
        differ = asked & (before != after) & (before != NOT_ASKED)
        result[question.name or CLASSES] = Flips(
            cutouts=int(asked.sum()),
            flips=int(differ.sum()),
            confident_flips=int((differ & sure).sum()),
        )
    return result


def positives(answers: Answers, manifest: Manifest) -> dict[str, Bools]:
    """Return which cutouts count as what, by answer: as spirals, or as each class or answer."""
    p = spiralness(answers, manifest)
    if manifest.spiral is not None and p is not None:
        return {manifest.spiral: np.asarray(p >= manifest.threshold)}
    return {
        answer: choices(answers, question, manifest) == i
        for question in manifest.questions
        for i, answer in enumerate(question.answers)
    }


def shift(expected: Bools, found: Bools, galaxy: Groups) -> Shift:
    """Return by how much a fraction differs, with the interval of Tango (1998).

    Parameters
    ----------
    expected, found : ndarray of bool, shape (n,)
    galaxy : ndarray of int64, shape (n,)
        Which cutouts are of one galaxy. Their answers are alike, so where differing labels
        cluster in galaxies the counts are divided by the design effect (Rao & Scott 1992,
        Biometrics 48, 577): the variance between galaxies over that of independent cutouts.

    References
    ----------
    Tango 1998, Statistics in Medicine 17, 891: a score interval for paired proportions. It has a
    width even where no pair differs: +- z^2 / (n + z^2).
    """
    n = len(expected)
    change = found.astype(np.int64) - expected.astype(np.int64)
    mean = float(change.mean())
    _, group = np.unique(galaxy, return_inverse=True)
    between = float((np.bincount(group, weights=change - mean) ** 2).sum())
    within = float(((change - mean) ** 2).sum())
    effect = max(1.0, between / within) if within > 0 else 1.0
    low, high = tango(
        float((change > 0).sum()) / effect, float((change < 0).sum()) / effect, n / effect
    )
    return Shift(reference=float(expected.mean()), value=mean, low=low, high=high)


def tango(more: float, fewer: float, n: float) -> tuple[float, float]:
    """Return the 95% score interval of the difference of paired proportions.

    Parameters
    ----------
    more, fewer : float
        Pairs that are positive only after, and only before.
    n : float
        All pairs.

    Returns
    -------
    low, high : float
        Where Tango's statistic (1998, equation 8) is +-1.96.
    """
    z = float(norm.ppf(0.5 + CONFIDENCE / 2))
    observed = (more - fewer) / n

    def excess(delta: float) -> float:
        # The likeliest probability of "only before", given the difference (equation 9).
        a, c = 2 * n, -fewer * delta * (1 - delta)
        b = -more - fewer + (2 * n - more + fewer) * delta
        before = (np.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = max(n * (2 * before + delta * (1 - delta)), 0.0)
        return float((more - fewer - n * delta) ** 2 - z * z * variance)

    ends = []
    for edge in (-1.0, 1.0):
        # At the difference observed the statistic is 0; at a difference of 1 it is large.
        inside = observed if excess(observed) < 0 else observed + np.sign(edge) * 1e-12
        ends.append(edge if excess(edge) <= 0 else float(brentq(excess, inside, edge)))
    return ends[0], ends[1]


@dataclass(frozen=True, slots=True)
class TileShift:
    """How a fraction differs in one tile of the sky."""

    answer: str
    order: int
    tile: int
    cutouts: int
    flips: int
    shift: Shift


def by_tile(
    expected: Bools, found: Bools, galaxy: Groups, tiles: Groups, order: int, answer: str
) -> list[TileShift]:
    """Return the shift in each tile; cutouts of no known place (tile -1) are left out."""
    rows = []
    for tile in np.unique(tiles[tiles >= 0]).tolist():
        here = tiles == tile
        rows.append(
            TileShift(
                answer,
                order,
                tile,
                int(here.sum()),
                int((expected[here] != found[here]).sum()),
                shift(expected[here], found[here], galaxy[here]),
            )
        )
    return rows


def tiles_of(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> tuple[Groups, int]:
    """Return each cutout's tile, -1 where its place is not known, and the tiles' HEALPix order.

    The finest order up to 4 (3.7 degrees) whose tiles have 128 cutouts on average.
    """
    known = np.isfinite(ra) & np.isfinite(dec)
    tiles, order = np.full(len(ra), -1, dtype=np.int64), 0
    if not known.any():
        return tiles, order
    for order in range(FINEST_TILES, -1, -1):
        tiles[known] = tile_of(ra[known], dec[known], order)
        if known.sum() >= CUTOUTS_PER_TILE * len(np.unique(tiles[known])):
            break
    return tiles, order
