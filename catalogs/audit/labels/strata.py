"""Labels in bins of a covariate: whether their draw, and the mistakes, depend on it.

Sums per bin and per cell of the sky, by truth, suffice for both, so memory depends on cells and
covariates, not on rows (some 5 MB a covariate).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from catalogs import sky
from catalogs.audit.labels.prediction_powered import Answers, Sample
from catalogs.audit.region import Part
from catalogs.audit.uniformity.battery import CELL_ORDER
from catalogs.audit.uniformity.tiles import counted_by

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Rows = Callable[[], Iterator[tuple[IntArray, FloatArray]]]

BINS = 10  # Cochran 1968, Biometrics 24, 295: five remove 90% of what goes with a covariate
_CELLS = 12 * 4**CELL_ORDER
_SIDES, _GROUPS = 2, 3  # outside, inside; unlabelled, others, members
_FEW = 5.0  # expected objects below which bins are pooled


@dataclass(frozen=True, slots=True)
class Strata:
    """Answers by truth in the bins of one covariate, on either side of a region.

    ``inside`` and ``outside`` have arrays of shape (bins, cells), the last bin being that of
    objects without a value; ``sums`` of the values of objects without and with label, shape
    (2 sides, 2, cells). ``intrinsic`` says that it is a property of the galaxies.
    """

    name: str
    intrinsic: bool
    inside: Sample
    outside: Sample
    sums: FloatArray

    def without(self, mask: NDArray[np.bool_]) -> Strata:
        """Return what lies outside some nested tiles, mask of shape (12 * 4**order,)."""
        keep = np.asarray(~mask.reshape(_CELLS, -1).any(axis=1))
        inside, outside = (side.where(keep) for side in (self.inside, self.outside))
        return replace(self, inside=inside, outside=outside, sums=self.sums * keep)

    def split(self, part: Part | None) -> tuple[Sample, Sample, FloatArray]:
        """Return both sides, arrays of shape (bins,), and sums, shape (2 sides, 2).

        They are split as `labelled.Labelled.split` does it.
        """
        if part is None:
            return self.inside.over(1), self.outside.over(1), self.sums.sum(axis=2)
        where = part.contains(*sky.tile_centres(np.arange(_CELLS), CELL_ORDER))
        whole, sums = self.inside + self.outside, self.sums.sum(axis=0)
        inside, outside = (whole.where(keep).over(1) for keep in (where, ~where))
        return inside, outside, np.stack([sums @ ~where, sums @ where])

    def within(self, order: int) -> Draw:
        """Compare objects with and without label within tiles of an order, at most the cells'."""
        whole, size = self.inside + self.outside, 4 ** max(CELL_ORDER - order, 0)
        known, rest = (
            side.n.reshape(len(side.n), -1, size).sum(axis=2)
            for side in (whole.labelled, whole.unlabelled)
        )
        p = same_draw_p(known, rest)
        return Draw(
            self.name, p, "within tiles", *_means(whole.over(1), self.sums.sum(axis=(0, 2)))
        )


@dataclass(frozen=True, slots=True)
class Draw:
    """Whether objects with label are like those without in a covariate, where they are least so.

    ``p`` is of both sides (Bonferroni); ``where`` is that side, in words; ``known`` and ``others``
    are mean values there, NaN where no object has one.
    """

    name: str
    p: float
    where: str
    known: float
    others: float


def gather(
    rows: Rows,
    names: Sequence[str],
    intrinsic: Sequence[str],
    sample: FloatArray,
    column: int,
    named: Part | None,
    unit: float | FloatArray | None = None,
) -> tuple[Strata, ...]:
    """Sum answers per bin and cell by truth.

    Parameters
    ----------
    rows : callable
        Gives (healpix_29, values) of all objects: the answer first, then the covariates.
    names, intrinsic : sequence of str
        The covariates, and those of them that are properties of the galaxies.
    sample : ndarray of float64, shape (m, d)
        Values of some objects, whose quantiles bound the bins.
    column : int
        Where the truth is in the values: 1, 0, or NaN for no label.
    named : Region or Cap, optional
        The region that was named in advance.
    unit : float or ndarray, optional
        The weight that counts as one object, as in `labelled.gather`.

    Returns
    -------
    tuple of Strata
    """
    shares = np.arange(1, BINS) / BINS
    edges = [np.unique(np.quantile(x, shares)) if len(x) else np.empty(0) for x in sample.T]
    sizes = [len(edge) + 2 for edge in edges]  # one more for what has no value
    counted = [np.zeros((3, _SIDES * _GROUPS * size * _CELLS)) for size in sizes]
    sums = np.zeros((len(names), _SIDES * 2 * _CELLS))
    for pixels, values in rows():
        answers, truth = values[:, 0], values[:, column]
        side = np.zeros(len(pixels), np.int64)
        if named is not None:
            side = named.contains(*sky.tile_centres(pixels, sky.FINEST_ORDER)).astype(np.int64)
        known = ~np.isnan(truth)
        group = np.where(known, 1 + (truth > 0), 0).astype(np.int64)
        cell = pixels >> (2 * (sky.FINEST_ORDER - CELL_ORDER))
        weight = counted_by(values[:, -1], pixels, unit)
        moments = (weight, weight * answers, weight * answers**2)
        for j, (edge, size) in enumerate(zip(edges, sizes, strict=True)):
            value = values[:, 1 + j]
            has = np.isfinite(value)
            bins = np.where(has, np.searchsorted(edge, value, side="right"), size - 1)
            at = ((side * _GROUPS + group) * size + bins) * _CELLS + cell
            for row, terms in zip(counted[j], moments, strict=True):
                row += np.bincount(at, terms, len(row))
            place = (side * 2 + known) * _CELLS + cell
            terms = weight * np.where(has, value, 0.0)
            sums[j] += np.bincount(place, terms, sums.shape[1])
    made = []
    for j, (name, size) in enumerate(zip(names, sizes, strict=True)):
        by = counted[j].reshape(3, _SIDES, _GROUPS, size, _CELLS)
        outside, inside = (
            Sample(*(Answers(*by[:, side, group]) for group in range(_GROUPS)))
            for side in range(_SIDES)
        )
        parts = sums[j].reshape(_SIDES, 2, _CELLS)
        made.append(Strata(name, name in intrinsic, inside, outside, parts))
    return tuple(made)


def draws(strata: Sequence[Strata], part: Part | None) -> tuple[Draw, ...]:
    """Compare objects with and without label on either side of a part, covariate by covariate."""
    made = []
    for one in strata:
        inside, outside, sums = one.split(part)
        sides = (outside, inside)
        p = [same_draw_p(side.labelled.n[:, None], side.unlabelled.n[:, None]) for side in sides]
        least = int(p[1] < p[0])
        where = ("outside the region", "inside the region")[least]
        means = _means(sides[least], sums[least])
        made.append(Draw(one.name, min(1.0, 2 * min(p)), where, *means))
    return tuple(made)


def _means(side: Sample, sums: FloatArray) -> tuple[float, float]:
    """Return the mean value of objects with label, and of those without."""
    numbers = (float(part.n[:-1].sum()) for part in (side.labelled, side.unlabelled))
    known, others = (
        float(total) / n if n > 0 else np.nan for total, n in zip(sums[::-1], numbers, strict=True)
    )
    return known, others


def same_draw_p(known: FloatArray, rest: FloatArray) -> float:
    """Return p that within cells the known objects are a random draw of all, whatever their bin.

    The generalised Cochran-Mantel-Haenszel test (Mantel 1963, JASA 58, 690; Agresti 2013,
    Categorical Data Analysis, section 8.4.3): given the bins of a cell's objects, the known ones'
    are multivariate hypergeometric, and cells add up. Of one cell it is Pearson's chi^2 times
    (N - 1)/N. Bins where fewer than 5 are expected are pooled.

    Parameters
    ----------
    known, rest : ndarray of float64, shape (bins, cells)
        Numbers of objects.

    Returns
    -------
    float
        1 where no cell has both kinds, or all is in one bin.
    """
    n, other = known.sum(axis=0), rest.sum(axis=0)
    both = (n > 0) & (other > 0)
    known, rest, n, other = known[:, both], rest[:, both], n[both], other[both]
    share = (known + rest) / (n + other)
    expected = np.minimum(share @ n, share @ other)
    rare = expected < _FEW
    excess, share = (np.vstack([x[~rare], x[rare].sum(axis=0)]) for x in (known - share * n, share))
    if expected[rare].sum() < _FEW:  # too few to be judged, of no weight to anything
        excess, share = excess[:-1], share[:-1]
    if len(excess) == 0 or not both.any():
        return 1.0
    spread = n * other / np.maximum(n + other - 1, 1)
    covariance = np.diag(share @ spread) - (share * spread) @ share.T
    total = excess.sum(axis=1)
    rank = int(np.linalg.matrix_rank(covariance, hermitian=True))
    if rank == 0:
        return 1.0
    chi2 = total @ np.linalg.pinv(covariance, rcond=1e-10, hermitian=True) @ total
    return float(stats.chi2.sf(chi2, rank))
