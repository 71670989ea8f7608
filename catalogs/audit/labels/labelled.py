"""What labels say: confusion by region, and whether the sky or the classifier differs there.

Sums per tile, by truth, suffice for all of it, so memory depends on tiles and not on labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs import sky
from catalogs.audit.labels import attribution
from catalogs.audit.labels.attribution import Difference, RatesTest
from catalogs.audit.labels.census import Census, LeftOut, left_out, with_unanswered
from catalogs.audit.labels.confusion import Confusion, confusion
from catalogs.audit.labels.prediction_powered import Answers, Sample, stacked
from catalogs.audit.labels.strata import Draw, Strata, draws
from catalogs.audit.region import Cap, Part
from catalogs.audit.settings import FEWEST_LABELS
from catalogs.audit.uniformity.battery import CELL_ORDER
from catalogs.audit.uniformity.tiles import counted_by

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Rows = Callable[[], Iterator[tuple[IntArray, FloatArray]]]

_SIDES, _GROUPS, _MOMENTS = 2, 3, 3  # outside, inside; unlabelled, others, members; n, sum, squares


@dataclass(frozen=True, slots=True)
class Labelled:
    """Answers by truth in all tiles of one order, on either side of a region.

    ``inside`` and ``outside`` have arrays of shape (12 * 4**order,). Without a region named in
    advance everything is outside. ``mistakes`` are labelled rows whose answer (1 from .5 on) is
    another than their label, of the whole sky. ``declared`` says that the user knows the labelled
    objects for a blind draw; ``strata`` are the same answers in bins of each covariate, ``census``
    all rows, with those without an answer.
    """

    order: int
    inside: Sample
    outside: Sample
    hard: bool
    weighted: bool
    mistakes: int
    declared: bool = False
    strata: tuple[Strata, ...] = ()
    census: Census | None = None

    @property
    def tiles(self) -> Sample:
        """Return both sides together."""
        return self.inside + self.outside

    def merged(self, order: int) -> Sample:
        """Return both sides at a coarser order."""
        tiles, factor = self.tiles, 4 ** (self.order - order)

        def coarser(part: Answers) -> Answers:
            sums = (x.reshape(-1, factor).sum(axis=1) for x in (part.n, part.total, part.squares))
            return Answers(*sums)

        parts = (tiles.unlabelled, tiles.others, tiles.members)
        return Sample(*(coarser(part) for part in parts))

    def without(self, mask: NDArray[np.bool_]) -> Labelled:
        """Return the labels outside some tiles, mask of shape (12 * 4**order,)."""
        inside, outside = (side.where(~mask) for side in (self.inside, self.outside))
        strata = tuple(one.without(mask) for one in self.strata)
        census = None if self.census is None else self.census.without(mask)
        return replace(self, inside=inside, outside=outside, strata=strata, census=census)

    def split(self, part: Part | None) -> tuple[Sample, Sample]:
        """Return all inside and all outside, shape (): of ``part``, by centres of the scan's cells.

        None splits by the region that was named in advance, object by object.
        """
        if part is None:
            return self.inside.sum(), self.outside.sum()
        tiles = np.arange(12 * 4**self.order) >> (2 * (self.order - CELL_ORDER))
        whole = self.tiles
        inside = whole.take(part.contains(*sky.tile_centres(tiles, CELL_ORDER))).sum()
        return inside, whole.sum() - inside


def gather(
    rows: Rows, column: int, order: int, named: Part | None, unit: float | FloatArray | None = None
) -> Labelled:
    """Sum answers per tile by truth.

    Parameters
    ----------
    rows : callable
        Gives (healpix_29, values) of all objects; the answer comes first in the values.
    column : int
        Where the truth is in the values: 1, 0, or NaN for no label.
    order : int
        HEALPix order of the tiles, at least 4.
    named : Region or Cap, optional
        The region that was named in advance.
    unit : float or ndarray, optional
        The weight that counts as one object (see `counted_by`); the last
        value of a row is its weight then.

    Returns
    -------
    Labelled
    """
    size = 12 * 4**order
    sums = np.zeros((_SIDES, _GROUPS, _MOMENTS, size))
    hard, mistakes = unit is None, 0
    for pixels, values in rows():
        answers, truth = values[:, 0], values[:, column]
        known = np.isfinite(truth)
        mistakes += int(np.sum((answers[known] >= 0.5) != (truth[known] > 0)))
        side = np.zeros(len(pixels), np.int64)
        if named is not None:
            side = named.contains(*sky.tile_centres(pixels, sky.FINEST_ORDER)).astype(np.int64)
        group = np.where(np.isnan(truth), 0, 1 + (truth > 0)).astype(np.int64)
        at = (side * _GROUPS + group) * size + (pixels >> (2 * (sky.FINEST_ORDER - order)))
        weight = counted_by(values[:, -1], pixels, unit)
        for moment, terms in enumerate((weight, weight * answers, weight * answers**2)):
            summed = np.bincount(at, terms, minlength=_SIDES * _GROUPS * size)
            sums[:, :, moment] += summed.reshape(_SIDES, _GROUPS, size)
        hard = hard and bool(np.all((answers == 0) | (answers == 1)))
    outside, inside = (Sample(*(Answers(*group) for group in side)) for side in sums)
    return Labelled(order, inside, outside, hard, unit is not None, mistakes)


@dataclass(frozen=True, slots=True)
class DrawTests:
    """Whether labelled objects are a blind draw on either side of a place.

    ``p_answers`` is that their answers are those of the others (either side, and both together;
    Bonferroni);
    ``covariates`` the same of each covariate.
    """

    p_answers: float
    covariates: tuple[Draw, ...]

    @property
    def p_covariates(self) -> float | None:
        """The smallest p of the covariates after Holm's correction; None without covariates."""
        p = [one.p for one in self.covariates]
        return min(1.0, len(p) * min(p)) if p else None

    @property
    def refuted(self) -> str | None:
        """What shows that they are none, in words."""
        end = "so they are no blind draw of the catalog"
        if self.p_answers < attribution.BLIND_LEVEL:
            return (
                "the labelled objects were answered differently from the others "
                f"({_p(self.p_answers)}), {end}"
            )
        p = self.p_covariates
        if p is None or p >= attribution.BLIND_LEVEL:
            return None
        worst = min(self.covariates, key=lambda one: one.p)
        known, others = (
            "no value" if np.isnan(mean) else f"{mean:.4g}" for mean in (worst.known, worst.others)
        )
        return (
            f"the labelled objects are not like the others in {worst.name} (mean {known} against "
            f"{others} {worst.where}, {_p(p)}), {end}"
        )


def _p(p: float) -> str:
    """Return a tiny p as text; what is too small for a double is not 0."""
    return f"p {p:.1e}" if p > 0 else "p < 1e-300"


def draw_tests(labelled: Labelled, part: Part | None) -> DrawTests:
    """Test the draw of the labels inside a part, and outside; None as in `Labelled.split`."""
    sides = labelled.split(part)
    p = [float(attribution.blindness_p(side)) for side in sides]
    p.append(attribution.blindness_within_p(stacked(sides)))
    return DrawTests(min(1.0, len(p) * min(p)), draws(labelled.strata, part))


@dataclass(frozen=True, slots=True)
class Attribution:
    """Whether sky or classifier differ inside a region, and why that may not be said.

    ``rates``, ``p_rates`` and ``sky`` are None where labels are too few; ``obstacles`` say in words
    why no cause is named. ``p_rates`` is exact where mistakes are rare; ``p_equal`` is that of the
    same question at equal values of each intrinsic covariate. ``alone`` is the difference of the
    sky from the labelled objects alone, without the answers of the others. ``drawn`` says whether
    the labels are a blind draw, as far as that can be tested; ``left_out`` what has no answer, or a
    label that tells no shape, and ``p_kinds`` test (i)'s p with the former. ``sky`` and ``alone``
    are of all objects where labels cover those without an answer (``unanswered_in_sky``).
    """

    part: Part
    named: bool
    cause: str
    whole: Confusion
    inside: Confusion
    outside: Confusion
    rates: RatesTest | None
    p_rates: float | None
    exact: bool
    sky: Difference | None
    alone: Difference | None
    drawn: DrawTests | None
    obstacles: tuple[str, ...]
    declared: bool = False
    p_equal: tuple[tuple[str, float], ...] = ()
    left_out: LeftOut | None = None
    p_kinds: float | None = None
    unanswered_in_sky: bool = False


@dataclass(frozen=True, slots=True)
class Mistakes:
    """Whether mistakes differ: chi^2, its p (or the exact one), and p at equal covariates."""

    rates: RatesTest
    p: float
    exact: bool
    p_equal: tuple[tuple[str, float], ...]

    @property
    def p_joint(self) -> float:
        """The largest: they must differ among all objects, and among those of equal covariates."""
        return max([self.p, *(p for _, p in self.p_equal)])


def mistakes(labelled: Labelled, part: Part | None) -> Mistakes:
    """Test whether mistakes inside a part are those outside; None as in `Labelled.split`."""
    inside, outside = labelled.split(part)
    rates = attribution.rates_test(inside, outside)
    exact = attribution.exact_rates_p(inside, outside) if labelled.hard else None
    p_equal = tuple(
        (one.name, attribution.stratified_rates_p(*one.split(part)[:2]))
        for one in labelled.strata
        if one.intrinsic
    )
    return Mistakes(rates, float(rates.p) if exact is None else exact, exact is not None, p_equal)


def attribute(labelled: Labelled, part: Part, *, named: bool) -> Attribution:
    """Say what differs between a region and the rest (step 7 of the procedure).

    Parameters
    ----------
    labelled : Labelled
    part : Region or Cap
        The region.
    named : bool
        Whether it was named in advance; else it is a cap that the scan found.

    Returns
    -------
    Attribution
    """
    where = None if named else part
    inside, outside = labelled.split(where)
    a, b = (confusion(sample, hard=labelled.hard) for sample in (inside, outside))
    whole = confusion(inside + outside, hard=labelled.hard)
    few = [
        f"{side.labels:,} labels {where} the region, {FEWEST_LABELS} are needed"
        for side, where in ((a, "inside"), (b, "outside"))
        if side.labels < FEWEST_LABELS
    ]
    unknown = attribution.UNDETERMINED
    untested = Attribution(
        part,
        named,
        unknown,
        whole,
        a,
        b,
        None,
        None,
        False,
        None,
        None,
        None,
        tuple(few),
        labelled.declared,
    )
    if few:
        return untested
    drawn = draw_tests(labelled, where)
    asked = mistakes(labelled, where)
    missing, of_all, p_kinds = None, False, asked.p_joint
    if labelled.census is not None:
        counts = labelled.census.split(where)
        missing = left_out(*counts)
        p_kinds = missing.kinds_p(asked.p_joint, equal=bool(asked.p_equal))
        of_all = missing.covered and not labelled.weighted
        if of_all:
            everybody = inside + outside
            mean = float((everybody.labelled + everybody.unlabelled).mean)
            inside, outside = (
                with_unanswered(side, count, mean)
                for side, count in zip((inside, outside), counts, strict=True)
            )
    difference = attribution.sky_difference(inside, outside)
    alone = attribution.labelled_difference(inside, outside)
    cause = str(attribution.causes(p_kinds, difference.p))
    obstacles: list[str] = []
    if (refuted := drawn.refuted) is not None:
        obstacles.append(refuted)
        cause = unknown
    elif cause in (attribution.SKY, attribution.BOTH):
        both, equal = cause == attribution.BOTH and not labelled.weighted, bool(asked.p_equal)
        against = None
        if missing is not None:
            against = missing.against_a_sky(difference, both=both, equal=equal)
        if against is None:
            against = _not_borne_out(cause, difference, alone, missing, labelled)
        if against is not None:
            obstacles.append(against)
            cause = unknown
    elif cause == unknown:
        obstacles.append(_nothing_differs(asked))
    return replace(
        untested,
        cause=cause,
        rates=asked.rates,
        p_rates=asked.p,
        exact=asked.exact,
        sky=difference,
        alone=alone,
        drawn=drawn,
        obstacles=tuple(obstacles),
        p_equal=asked.p_equal,
        left_out=missing,
        p_kinds=p_kinds,
        unanswered_in_sky=of_all,
    )


def _not_borne_out(
    cause: str,
    difference: Difference,
    alone: Difference,
    missing: LeftOut | None,
    labelled: Labelled,
) -> str | None:
    """Say why the labelled objects do not stand for the others; None where that is not needed."""
    shapeless = missing is not None and missing.many_shapeless
    if (labelled.declared and not shapeless) or attribution.borne_out(difference, alone):
        return None
    low, high = (float(bound) for bound in alone.interval())
    told = (
        f"it would be {cause} if the labelled objects are a blind draw, inside as outside; "
        f"they alone differ by {float(alone.value):+.4f} [{low:+.4f}, {high:+.4f}] "
        f"(p {float(alone.p):.2g}); "
    )
    if missing is not None and shapeless:
        return (
            f"{told}{missing.inside.shapeless:.1%} of the labels inside and "
            f"{missing.outside.shapeless:.1%} outside tell no shape, so those that tell one are "
            "no draw of all objects, whatever is declared"
        )
    return f"{told}if they were drawn so, declare it (--labels-blind)"


def _nothing_differs(asked: Mistakes) -> str:
    if asked.p >= attribution.LEVEL:
        return "neither the rates of mistakes nor the corrected fractions differ"
    same = [name for name, p in asked.p_equal if p >= attribution.LEVEL]
    return (
        f"the rates of mistakes do not differ among objects of equal {' or '.join(same)}, so the "
        "objects differ there; the corrected fractions do not differ"
    )


def in_noise(found: Attribution) -> Attribution:
    """Return what labels say of a cap that a scan found on a map without alarm: no cause."""
    text = "the map does not alarm, so the scan's cap is where noise happens to be largest"
    return replace(found, cause=attribution.UNDETERMINED, obstacles=(*found.obstacles, text))


def scanned_part(details: Mapping[str, Any]) -> Cap | None:
    """Return the cap that a scan found, from its outcome's details; None where there was none."""
    if "radius" not in details:
        return None
    return Cap(details["ra"], details["dec"], details["radius"])
