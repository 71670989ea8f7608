"""Which cause may be named, and of which part of the sky.

Labels, or other networks, speak of the place where they were compared. What varies elsewhere may
vary for another reason: a cause is said of the whole sky only if the map does not alarm any more
once the places that it explains are taken out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from catalogs import sky
from catalogs.audit.comparison.paired import InCap, in_cap
from catalogs.audit.comparison.swap import seeds_in_cap
from catalogs.audit.labels import attribution, labelled
from catalogs.audit.labels.attribution import BOTH, CLASSIFIER, UNDETERMINED
from catalogs.audit.labels.labelled import Attribution, Labelled
from catalogs.audit.reading.table import Read
from catalogs.audit.region import Cap, Part, in_words, parse_part
from catalogs.audit.report import label_document, paired_document
from catalogs.audit.settings import AuditSettings
from catalogs.audit.uniformity import verdict
from catalogs.audit.uniformity.analysis import Analysis, Outcome, analyse
from catalogs.audit.uniformity.battery import HALF_SKY

BoolArray = NDArray[np.bool_]

_MOST_PLACES = 4
_FINER = 2  # orders below a tile at which a named region's edge is looked for
# Caps of a scan lie half a radius apart, so the edge of what they found is known no better.
_MARGIN = 1.5


def by_labels(
    analysis: Analysis, read: Read, settings: AuditSettings
) -> tuple[Analysis, tuple[Attribution, ...]]:
    """Ask the labels for the cause, in the named region or in the cap of the scan.

    Where the map alarms elsewhere as well, the cap of that alarm is asked next, without the places
    that have a cause, until the map is even or labels name no cause.

    Returns
    -------
    analysis : Analysis
        With the cause of the whole sky, or undetermined with the causes of its parts.
    found : tuple of Attribution
        Of every place that was asked; the first is the named region, or the scan's cap.
    """
    named, decided = settings.region is not None, analysis.verdict
    part = scanned_cap(analysis) if settings.region is None else parse_part(settings.region)
    if read.labelled is None or part is None:
        return analysis, ()
    first = labelled.attribute(read.labelled, part, named=named)
    reasons = label_document.reasons(first, settings.answer)
    if decided.verdict != verdict.ANISOTROPIC:
        if not named:
            return analysis, (labelled.in_noise(first),)
        # The only way to see mistakes that cancel: a question of its own, at its own level. The
        # verdict is the alarm's alone, so the region is told beside it.
        if first.cause == UNDETERMINED:
            return analysis, (first,)
        told = ((label_document.place(first), first.cause),)
        beside = replace(decided, basis="labels", places=told)
        return replace(analysis, verdict=beside), (first,)
    found, even = _places(first, analysis, read, read.labelled, settings)
    for one in found[1:]:
        reasons += label_document.reasons(one, settings.answer)
    causes = {one.cause for one in found} - {UNDETERMINED}
    if causes and not even:
        reasons.append("outside the places that labels explain the map alarms as well")
    cause = UNDETERMINED
    if even:
        cause = causes.pop() if len(causes) == 1 else BOTH
    return replace(analysis, verdict=_told(decided, cause, found, reasons)), tuple(found)


def _told(
    decided: verdict.Verdict, cause: str, found: Sequence[Attribution], reasons: Sequence[str]
) -> verdict.Verdict:
    places = tuple(
        (label_document.place(one), one.cause) for one in found if one.cause != UNDETERMINED
    )
    return replace(
        decided,
        cause=cause,
        reasons=(*decided.reasons, *reasons),
        basis="labels" if places else None,
        places=places,
    )


def _places(
    first: Attribution, analysis: Analysis, read: Read, labels: Labelled, settings: AuditSettings
) -> tuple[list[Attribution], bool]:
    """Return the places asked, and whether the map is even outside those with a cause."""
    found = [first]
    if first.cause == UNDETERMINED:
        cap = scanned_cap(analysis)
        if not first.named or cap is None or first.part.contains(cap.ra, cap.dec).all():
            return found, False
        found.append(labelled.attribute(labels, cap, named=False))
    while found[-1].cause != UNDETERMINED:
        explained = [one for one in found if one.cause != UNDETERMINED]
        if any(_is_half_sky(one) for one in explained):
            return found, True
        parts = [(one.part, one.named) for one in explained]
        left = _outside(parts, read, settings)
        if left is None:
            return found, True
        cap = scanned_cap(left)
        if cap is None or len(found) >= _MOST_PLACES:
            break
        rest = labels.without(_mask(parts, labels.order))
        found.append(labelled.attribute(rest, cap, named=False))
    return found, False


def _is_half_sky(found: Attribution) -> bool:
    """Say whether the scan found halves of the sky to differ: neither lies outside of that."""
    return not found.named and isinstance(found.part, Cap) and found.part.radius > HALF_SKY


def _outside(
    parts: Sequence[tuple[Part, bool]], read: Read, settings: AuditSettings
) -> Analysis | None:
    """Test the map outside some parts; None where it does not alarm."""
    keep = ~_mask(parts, read.counts.order)[read.counts.tiles]
    if not keep.any():
        return None
    left = analyse(read.counts.take(keep), settings)
    return left if left.verdict.verdict == verdict.ANISOTROPIC else None


def _mask(parts: Sequence[tuple[Part, bool]], order: int) -> BoolArray:
    """Return which tiles of an order touch the parts, each with whether it was named."""
    mask = np.zeros(12 * 4**order, np.bool_)
    finer = np.arange(12 * 4 ** (order + _FINER))
    places = sky.tile_centres(finer, order + _FINER)
    for part, named in parts:
        if isinstance(part, Cap) and not named:
            part = replace(part, radius=min(part.radius * _MARGIN, 180.0))
        mask |= part.contains(*places).reshape(len(mask), -1).any(axis=1)
    return mask


def by_others(analysis: Analysis, read: Read, settings: AuditSettings) -> Analysis:
    """Name the classifier where another network does not show the map's cap on the same objects.

    A difference of two networks does not say which of them varies there, so labels inside the cap
    must show that it is the audited one. Several comparisons are several chances, so their p are
    Holm's. Where labels have named a cause of the whole sky, or of a part, that stays.
    """
    decided, cap = analysis.verdict, scanned_cap(analysis)
    if decided.verdict != verdict.ANISOTROPIC or cap is None:
        return analysis
    seen = [
        (path, pair)
        for path, pair in zip(settings.compare, pairs_in_cap(analysis, read), strict=True)
        if pair is not None
    ]
    if read.seeds is not None:
        groups = [group for group, _ in settings.swapped]
        name = f"the other of {' and '.join(dict.fromkeys(groups))}"
        blind = _drawn_blind(read, cap)
        swap = seeds_in_cap(read.seeds, groups, cap, settings.seed, blind=blind)
        seen += [] if swap is None else [(name, swap)]
    reasons = [*decided.reasons, *paired_document.reasons(seen)]
    explained = paired_document.explained([one for _, one in seen])
    if decided.cause != UNDETERMINED or decided.places or not explained:
        return replace(analysis, verdict=replace(decided, reasons=tuple(reasons)))
    if not _mistakes_differ(read, cap):
        reasons.append(
            "one of the networks varies in that cap (this classifier or the other): which is not "
            "told, as no labels inside the cap, drawn blind, show that this one's mistakes differ "
            "there; so no cause is named"
        )
        return replace(analysis, verdict=replace(decided, reasons=tuple(reasons)))
    even = cap.radius > HALF_SKY or _outside([(cap, False)], read, settings) is None
    if not even:
        reasons.append("outside that cap the map alarms as well")
    told = replace(
        decided,
        cause=CLASSIFIER if even else UNDETERMINED,
        reasons=tuple(reasons),
        basis="comparison",
        places=((in_words(cap), CLASSIFIER),),
    )
    return replace(analysis, verdict=told)


def pairs_in_cap(analysis: Analysis, read: Read) -> list[InCap | None]:
    """Compare the effect inside the scan's cap with every other catalog's; None without a scan."""
    cap = scanned_cap(analysis)
    if cap is None:
        return [None] * len(read.pairs)
    blind, among = _drawn_blind(read, cap), _scan(analysis).details["caps"]
    return [in_cap(pairs, cap, blind=blind, among=among) for pairs in read.pairs]


def _drawn_blind(read: Read, cap: Cap) -> bool:
    return read.labelled is None or labelled.draw_tests(read.labelled, cap).refuted is None


def _mistakes_differ(read: Read, cap: Cap) -> bool:
    """Say whether labels show that the audited network's rates differ inside the cap."""
    if read.labelled is None or not read.labelled.hard or not _drawn_blind(read, cap):
        return False
    return labelled.mistakes(read.labelled, cap).p_joint < attribution.LEVEL


def scanned_cap(analysis: Analysis) -> Cap | None:
    """Return the cap of the scan; None where there was no scan."""
    return labelled.scanned_part(_scan(analysis).details)


def _scan(analysis: Analysis) -> Outcome:
    return next(outcome for outcome in analysis.outcomes if outcome.name == "scan")
