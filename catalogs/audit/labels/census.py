"""Who has no answer, and whose label tells no shape: counted, as neither is left out by chance.

Fractions are of the objects with an answer. A classifier that says "unknown" of more spirals in a
part of the sky changes that fraction as well as one that takes them for ellipticals, and true
fractions among the answered change with it: labels call it a sky, unless those of the objects
without an answer are asked too. In the same way an expert's "unknown" makes the labels that are
left no draw of all objects. Counts per tile, by answer and truth, suffice; repeated rows count
as often as they are there, with an answer and without.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from catalogs import sky
from catalogs.audit.labels.attribution import (
    BLIND_LEVEL,
    LEVEL,
    Difference,
    exact_rates_p,
    rates_test,
)
from catalogs.audit.labels.prediction_powered import Answers, Sample
from catalogs.audit.region import Part
from catalogs.audit.uniformity.battery import CELL_ORDER

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

NO_SHAPE = -1.0  # the truth of an object whose label is none of those counted
MANY = 0.03  # of the labels, that tell no shape: what they hide may look like a small sky
_MATTERS = 0.1  # of a difference of fractions, that rows without an answer could make
_FEW = 5.0  # expected objects below which chi^2 gives way to Fisher's exact test
_NO_ANSWER = 0  # then others and members
_UNLABELLED, _SHAPELESS, _OTHERS, _MEMBERS = range(4)
_SIDES, _ANSWERS, _TRUTHS = 2, 3, 4


@dataclass(frozen=True, slots=True)
class Census:
    """Rows by side (outside, inside), answer (none, other, member), truth and tile.

    ``counts`` has the shape (2, 3, 4, 12 * 4**order); the truths are no label, a label that tells
    no shape, other and member.
    """

    order: int
    named: Part | None = None
    counts: FloatArray = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        if not self.counts.size:
            empty = np.zeros((_SIDES, _ANSWERS, _TRUTHS, 12 * 4**self.order))
            object.__setattr__(self, "counts", empty)

    def add(self, healpix_29: IntArray, answers: FloatArray, truth: FloatArray | None) -> None:
        """Count rows.

        Parameters
        ----------
        healpix_29 : ndarray of int64, shape (m,)
        answers : ndarray of float64, shape (m,)
            0 to 1, or NaN for none.
        truth : ndarray of float64, shape (m,), optional
            0, 1, `NO_SHAPE`, or NaN for no label.
        """
        answer = np.where(np.isnan(answers), 0, 1 + (answers >= 0.5)).astype(np.int64)
        known = np.zeros(len(answers), np.int64)
        if truth is not None:
            known = np.where(np.isnan(truth), 0, np.where(truth < 0, 1, 2 + (truth > 0)))
        side = np.zeros(len(answers), np.int64)
        if self.named is not None:
            side = self.named.contains(*sky.tile_centres(healpix_29, sky.FINEST_ORDER)) * 1
        tile = healpix_29 >> (2 * (sky.FINEST_ORDER - self.order))
        at = ((side * _ANSWERS + answer) * _TRUTHS + known) * self.counts.shape[-1] + tile
        self.counts.reshape(-1)[:] += np.bincount(at.astype(np.int64), minlength=self.counts.size)

    def without(self, mask: NDArray[np.bool_]) -> Census:
        """Return the rows outside some tiles, mask of shape (12 * 4**order,)."""
        return replace(self, counts=self.counts * ~mask)

    def split(self, part: Part | None) -> tuple[FloatArray, FloatArray]:
        """Return the rows inside and outside a part, shape (3, 4), as `Labelled.split` does."""
        if part is None:
            outside, inside = self.counts.sum(axis=-1)
            return inside, outside
        tiles = np.arange(self.counts.shape[-1]) >> (2 * (self.order - CELL_ORDER))
        whole = self.counts.sum(axis=0)
        where = part.contains(*sky.tile_centres(tiles, CELL_ORDER))
        return whole[..., where].sum(axis=-1), whole[..., ~where].sum(axis=-1)

    @property
    def no_shape(self) -> int:
        """Objects whose label tells no shape."""
        return int(self.counts[:, :, _SHAPELESS].sum())


@dataclass(frozen=True, slots=True)
class Side:
    """Objects on one side: all, without an answer; labelled ones, and those that tell no shape.

    ``members`` and ``others`` are true members and others, and those of them with an answer.
    """

    objects: int
    unanswered: int
    members: tuple[int, int]
    others: tuple[int, int]
    labels: int
    no_shape: int

    @property
    def share(self) -> float:
        """Share of the objects that have no answer."""
        return self.unanswered / max(self.objects, 1)

    @property
    def shapeless(self) -> float:
        """Share of the labels that tell no shape."""
        return self.no_shape / max(self.labels, 1)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Whether inside as outside the same objects lack an answer, or a label that tells a shape.

    ``p_share`` is that as many have no answer, ``p_kinds`` that as many of the true members, and of
    the others, have none (1 where all have one), ``p_covered`` that objects without an answer are
    labelled as often as those with one (Bonferroni over both sides). ``p_shapeless`` is that as
    many labels tell no shape inside as outside, ``p_shapeless_answers`` that such objects were
    answered like the other labelled ones (Bonferroni over both sides).
    """

    inside: Side
    outside: Side
    p_share: float
    p_kinds: float
    p_covered: float
    p_shapeless: float
    p_shapeless_answers: float

    @property
    def covered(self) -> bool:
        """Whether labels speak of objects without an answer as well."""
        labelled = sum(n - k for s in (self.inside, self.outside) for n, k in (s.members, s.others))
        return labelled > 0 and self.p_covered >= BLIND_LEVEL

    @property
    def many_shapeless(self) -> bool:
        """Whether so many labels tell no shape that the others are no draw of all objects."""
        return max(self.inside.shapeless, self.outside.shapeless) > MANY

    def kinds_p(self, p_mistakes: float, *, equal: bool) -> float:
        """Return test (i)'s p: of mistakes, or of objects that get no answer (Bonferroni).

        Parameters
        ----------
        p_mistakes : float
        equal : bool
            Whether mistakes were asked at equal intrinsic covariates, as objects without an answer
            cannot be: these name no classifier then.
        """
        nobody = all(n == k for s in (self.inside, self.outside) for n, k in (s.members, s.others))
        return p_mistakes if equal or nobody else min(1.0, 2 * min(p_mistakes, self.p_kinds))

    def _beyond(self, difference: Difference) -> tuple[float, float]:
        """Return how many more have no answer inside than a sky makes, and p that it is none.

        Where the kinds have answers at different rates, a sky of more of one kind changes the
        share alone.
        """
        a, b = self.inside, self.outside
        excess = a.share - b.share
        if not self.covered:
            return excess, self.p_share
        (m, found), (n, cleared) = (
            (one[0] + two[0], one[1] + two[1])
            for one, two in ((a.members, b.members), (a.others, b.others))
        )
        gap = cleared / max(n, 1) - found / max(m, 1)
        if min(m, n) == 0 or not np.isfinite(float(difference.error)):
            return excess, self.p_share
        whole = (a.unanswered + b.unanswered) / max(a.objects + b.objects, 1)
        spread = whole * (1 - whole) * (1 / max(a.objects, 1) + 1 / max(b.objects, 1))
        beyond = excess - gap * float(difference.value)
        error = float(np.sqrt(spread + (gap * float(difference.error)) ** 2))
        return beyond, float(2 * stats.norm.sf(abs(beyond) / error)) if error > 0 else 1.0

    def against_a_sky(self, difference: Difference, *, both: bool, equal: bool) -> str | None:
        """Say what speaks against naming the sky, in words; None where nothing does.

        Parameters
        ----------
        difference : Difference
            Of the sky's fractions.
        both : bool
            Whether the classifier is found to vary as well: an answer that is missing more often
            is then part of it, if labels speak of such objects.
        equal : bool
            As of `kinds_p`.
        """
        a, b = self.inside, self.outside
        beyond, p = self._beyond(difference)
        reach = abs(beyond) / max(1 - max(a.share, b.share), 1e-9)
        uneven = p < LEVEL and reach > _MATTERS * abs(float(difference.value))
        if uneven and not (both and self.covered):
            return (
                f"{a.share:.2%} of the objects inside have no answer, {b.share:.2%} outside "
                f"(p {p:.2g}): the classifier leaves out others there, which alone changes the "
                f"fraction of the rest by up to {reach:.4f}, and true fractions too"
            )
        if equal and self.p_kinds < LEVEL:
            return (
                f"the classifier leaves other objects without an answer inside "
                f"(p {self.p_kinds:.2g}), and whether at equal intrinsic covariates is not known"
            )
        if not self.many_shapeless:
            return None
        said = (
            f"{a.shapeless:.1%} of the labels inside tell no shape, {b.shapeless:.1%} outside "
            f"(p {self.p_shapeless:.2g})"
        )
        if self.p_shapeless < LEVEL:
            return f"{said}: those that tell one are a draw of other objects inside"
        if self.p_shapeless_answers < BLIND_LEVEL:
            return (
                f"{said}, and such objects were answered differently from the other labelled ones "
                f"(p {self.p_shapeless_answers:.1e}): those that tell one are no blind draw"
            )
        return None


def left_out(inside: FloatArray, outside: FloatArray) -> LeftOut:
    """Compare what lacks an answer or a shape inside and outside.

    Parameters
    ----------
    inside, outside : ndarray of float64, shape (3, 4)
        As `Census.split` returns them.
    """
    sides = (inside, outside)
    answered = [
        Sample(_all(0, 0), *(_kind(side, k) for k in (_OTHERS, _MEMBERS))) for side in sides
    ]
    exact = exact_rates_p(*answered)
    share = [(side[_NO_ANSWER].sum(), side.sum()) for side in sides]
    labels = [side[:, _SHAPELESS:].sum(axis=1) for side in sides]
    shapeless = [side[:, _SHAPELESS] for side in sides]
    covered = [
        same_share_p(known[0], side[0].sum(), known[1:].sum(), side[1:].sum())
        for known, side in zip(labels, sides, strict=True)
    ]
    answers = [
        same_share_p(none[2], none[1:].sum(), known[2] - none[2], (known - none)[1:].sum())
        for none, known in zip(shapeless, labels, strict=True)
    ]
    return LeftOut(
        _side(inside),
        _side(outside),
        same_share_p(*share[0], *share[1]),
        float(rates_test(*answered).p) if exact is None else exact,
        min(1.0, 2 * min(covered)),
        same_share_p(
            *(float(x) for i in (0, 1) for x in (shapeless[i].sum(), labels[i].sum())),
        ),
        min(1.0, 2 * min(answers)),
    )


def with_unanswered(sample: Sample, counts: FloatArray, answer: float) -> Sample:
    """Return one side's sample with its objects without an answer, each given the same one.

    Corrected fractions are then those of all objects. They are unbiased whatever stands for a
    missing answer, if labels are a blind draw of all objects; the mean answer adds least noise.

    Parameters
    ----------
    sample : Sample
        Of the objects with an answer, shape ().
    counts : ndarray of float64, shape (3, 4)
        As `Census.split` returns them.
    answer : float
        The same on both sides.
    """
    none = counts[_NO_ANSWER]
    more = Sample(
        _all(none[_UNLABELLED] + none[_SHAPELESS], answer),
        _all(none[_OTHERS], answer),
        _all(none[_MEMBERS], answer),
    )
    return sample + more


def same_share_p(k: float, n: float, other_k: float, other_n: float) -> float:
    """Return p that k of n and other_k of other_n are one share: chi^2, or Fisher's where few."""
    whole, both = n + other_n, k + other_k
    if min(n, other_n) == 0 or both in (0, whole):
        return 1.0
    if min(n, other_n) * min(both, whole - both) / whole < _FEW:
        table = [[k, n - k], [other_k, other_n - other_k]]
        return float(stats.fisher_exact(np.asarray(table, np.int64)).pvalue)
    spread = both * (whole - both) / whole**2 * (1 / n + 1 / other_n)
    return float(stats.chi2.sf((k / n - other_k / other_n) ** 2 / spread, 1))


def _all(n: float, answer: float) -> Answers:
    sums = (np.asarray(float(x)) for x in (n, n * answer, n * answer**2))
    return Answers(*sums)


def _kind(side: FloatArray, kind: int) -> Answers:
    """Return whether the objects of a kind have an answer, as an answer of its own."""
    return _all(side[1:, kind].sum(), 1.0) + _all(side[0, kind], 0.0)


def _side(counts: FloatArray) -> Side:
    def of(kind: int) -> tuple[int, int]:
        return int(counts[:, kind].sum()), int(counts[1:, kind].sum())

    return Side(
        int(counts.sum()),
        int(counts[_NO_ANSWER].sum()),
        of(_MEMBERS),
        of(_OTHERS),
        int(counts[:, _SHAPELESS:].sum()),
        int(counts[:, _SHAPELESS].sum()),
    )
