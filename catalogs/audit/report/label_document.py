"""The part of ``audit.json`` on labels, and its sentences in plain English."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.audit.labels import attribution
from catalogs.audit.labels.attribution import Difference
from catalogs.audit.labels.confusion import Confusion, Rate, confusion
from catalogs.audit.labels.correction import CorrectedTiles, wanting
from catalogs.audit.labels.labelled import Attribution, Labelled
from catalogs.audit.reading.training_sky import ORDER
from catalogs.audit.reading.truth import Matched
from catalogs.audit.region import in_words
from catalogs.audit.report import left_out_document
from catalogs.audit.settings import FEWEST_LABELS, AuditSettings
from catalogs.audit.uniformity.analysis import TileTable, tile_positions
from catalogs.audit.uniformity.battery import CELL_ORDER

# From tests/unit/test_audit_attribution.py and docs/decisions/0019-causes.md.
SCANNED_NOTE = (
    "The region was found by the scan on these same answers, which picks chance as gladly as "
    "effect: of uniform skies that alarm by chance (5%) about 60% are then called sky, and "
    "differences that cancel in the map are missed. A region named from other data (--region) has "
    "the stated levels."
)
COVERAGE_NOTE = (
    "The intervals promise 95% and hold 94% or more in simulations with 100 to 2,000 labels a "
    "tile, 2% to 49% members, true positive rates from .7 and true negative rates from .9, where "
    "labels are a random draw of each tile's objects. With few labels of rare members they are "
    "wider than they need be (2% members and 100 labels: up to 99.9%). Of bright objects only, "
    "they correct for the mistakes in bright objects."
)
WEIGHTED_NOTE = (
    "Rates, fractions and differences are weighted means; numbers of objects and labels are "
    "effective ones (weights over sum w^2/sum w of the table), so there is no table of counts."
)
MEANING_NOTE = (
    "Classifier: mistakes differ inside and outside, be it for the images or for fainter or "
    "smaller galaxies there. Sky: the galaxies themselves differ, be it by clustering."
)
UNSEEN_NOTE = (
    "Two things no test here can tell. Of galaxies that it learnt from a network looks better than "
    "it is, so their labels make a sky of what it errs in elsewhere. Labels made from the same "
    "images share what these hide: where blur or noise misleads people and network alike, their "
    "labels make it a sky."
)
EQUAL_NOTE = (
    "Classifier: mistakes differ inside and outside, also within tenths of each intrinsic "
    "covariate. Sky: the galaxies themselves differ, be it by clustering."
)
NO_CAUSE = "labels name no cause"
_SHOWN_WANTING = 10
# Conditions that hide structure.
_BLURRING = ("alpha", "seeing", "fwhm", "psffwhm", "psf_fwhm", "petrorad", "z", "redshift")
BLIND_NOTE = (
    "Both tests take the labelled objects for a random draw inside and outside the region, "
    "whatever their answer, brightness or size, on which the network was not trained."
)


def build(labelled: Labelled, matched: Matched, found: Sequence[Attribution]) -> dict[str, Any]:
    """Return the part on labels.

    Parameters
    ----------
    labelled : Labelled
    matched : Matched
        Where the labels come from.
    found : sequence of Attribution
        The region, and others that were asked as the map alarms there, too; empty where no region
        was named and the scan found none.
    """
    whole = found[0].whole if found else confusion(labelled.tiles.sum(), hard=labelled.hard)
    parts = [_attribution(one, weighted=labelled.weighted) for one in found]
    return {
        "source": asdict(matched),
        "whole": _confusion(whole),
        "attribution": parts[0] if parts else None,
        "elsewhere": parts[1:],
        "tiles": None,
        "remedies": [],
    }


def _attribution(found: Attribution, *, weighted: bool) -> dict[str, Any]:
    rates, difference, alone = found.rates, found.sky, found.alone
    return {
        "region": str(found.part),
        "region_in_words": where(found),
        "named": found.named,
        "cause": found.cause,
        "level": attribution.LEVEL,
        "inside": _confusion(found.inside),
        "outside": _confusion(found.outside),
        "rates": None
        if rates is None
        else {
            "statistic": float(rates.chi2),
            "degrees_of_freedom": float(rates.degrees),
            "p": found.p_rates,
            "exact": found.exact,
        },
        "sky": None if difference is None else _difference(difference),
        "labels_alone": None if alone is None else _difference(alone),
        "p_kinds": found.p_kinds,
        "left_out": left_out_document.of_a_place(found.left_out),
        "sky_of_all_objects": found.unanswered_in_sky,
        "mistakes_at_equal": [{"covariate": name, "p": p} for name, p in found.p_equal],
        "blind": {"declared": found.declared, "level": attribution.BLIND_LEVEL, **_drawn(found)},
        "obstacles": list(found.obstacles),
        "notes": [
            BLIND_NOTE,
            EQUAL_NOTE if found.p_equal else MEANING_NOTE,
            UNSEEN_NOTE,
            *([] if found.named else [SCANNED_NOTE]),
            *([WEIGHTED_NOTE] if weighted else []),
        ],
    }


def _drawn(found: Attribution) -> dict[str, Any]:
    drawn = found.drawn
    if drawn is None:
        return {"p": None, "p_covariates": None, "covariates": [], "refuted": None}
    return {
        "p": drawn.p_answers,
        "p_covariates": drawn.p_covariates,
        "covariates": [asdict(one) for one in drawn.covariates],
        "refuted": drawn.refuted,
    }


def _difference(found: Difference) -> dict[str, Any]:
    return {
        "difference": float(found.value),
        "interval": [float(bound) for bound in found.interval()],
        "z": float(found.value / found.error) if found.error > 0 else 0.0,
        "p": float(found.p),
    }


def tiles_part(
    table: TileTable, corrected: CorrectedTiles, settings: AuditSettings
) -> dict[str, Any]:
    """Return what corrected fractions there are, and where labels are missing."""
    have = np.isfinite(corrected.value)
    rows = wanting(corrected, table.z)
    ra, dec = tile_positions(table)
    missing = corrected.needed - corrected.labels
    return {
        "nside": 2**table.order,
        "fewest_labels": FEWEST_LABELS,
        "written": settings.correct,
        "corrected": int(have.sum()),
        "uncorrected": int((~have).sum()),
        "coverage": COVERAGE_NOTE,
        "precision": settings.precision,
        "labels_missing": float(missing[rows].sum()),
        "tiles_missing_labels": len(rows),
        "tiles_too_small": int(np.isnan(corrected.needed).sum()),
        "map": [
            {
                "tile": table.tiles[i],
                "ra": ra[i],
                "dec": dec[i],
                "objects": table.n[i],
                "labels": corrected.labels[i],
                "fraction": table.fraction[i],
                "corrected": corrected.value[i],
                "low": corrected.low[i],
                "high": corrected.high[i],
            }
            for i in np.flatnonzero(have & settings.correct)
        ],
        "most_wanting": [
            {
                "tile": table.tiles[i],
                "ra": ra[i],
                "dec": dec[i],
                "objects": table.n[i],
                "labels": corrected.labels[i],
                "needed": corrected.needed[i],
            }
            for i in rows[:_SHOWN_WANTING]
        ],
    }


def seen_note(labelled: Labelled, training_sky: NDArray[np.int64]) -> str:
    """Say how many labels lie where the classifier was trained, tiles of `training_sky.ORDER`."""
    known = labelled.merged(ORDER).labelled.n
    share = known[training_sky].sum() / known.sum()
    return (
        f"{share:.0%} of the labels lie on the classifier's training sky: they must not be those "
        "that it learnt from, as on these it is better than on the others."
    )


def blurring(document: dict[str, Any]) -> tuple[str, ...]:
    """Return the covariates that hide structure and on which the answers depend (p < .01)."""
    conditions = document["nuisances"]
    found = [] if conditions is None else conditions["covariates"]
    return tuple(
        one["name"]
        for one in found
        if one["name"].lower() in _BLURRING and one["dropped"] is None and one["p"] < 0.01
    )


def _confusion(found: Confusion) -> dict[str, Any]:
    rates = {name: _rate(getattr(found, name)) for name in ("tpr", "tnr", "truth", "answers")}
    return {
        "labels": found.labels,
        "objects": found.objects,
        "matrix": found.matrix,
        **rates,
    }


def _rate(rate: Rate) -> dict[str, Any]:
    return {"n": rate.n, "value": rate.value, "interval": [rate.low, rate.high]}


def where(found: Attribution) -> str:
    """Return the region in words: a named one takes objects, the scan's cap whole cells."""
    return in_words(found.part, cells=None if found.named else 2**CELL_ORDER)


def place(found: Attribution) -> str:
    """Return the region in short, to be read after a verb."""
    words = in_words(found.part)
    return f"at {words}" if words.startswith("RA") else words


def reasons(found: Attribution, answer: str) -> list[str]:
    """Return why the cause is what it is, in words."""
    region = where(found)
    if found.rates is None or found.sky is None or found.p_rates is None:
        return [f"no cause can be named: {'; '.join(found.obstacles)} ({region})"]
    inside, outside = found.inside, found.outside
    low, high = (float(bound) for bound in found.sky.interval())
    differ = found.p_rates < attribution.LEVEL
    rates = (
        f"{region} the classifier finds {_both(inside.tpr, outside.tpr)} of true {answer} objects "
        f"and clears {_both(inside.tnr, outside.tnr)} of the others (inside against outside; "
        f"p {found.p_rates:.2g}): its mistakes {'differ' if differ else 'do not differ'}"
    )
    changed = float(found.sky.p) < attribution.LEVEL
    shown = changed and found.alone is not None and attribution.borne_out(found.sky, found.alone)
    declared = "as is declared" if found.declared else "which nothing says"
    said = "differs" if shown else f"differs, if the labels are a blind draw, {declared}"
    true = (
        f"the corrected fraction of true {answer} objects is {float(found.sky.value):+.4f} "
        f"[{low:+.4f}, {high:+.4f}] against the rest (p {float(found.sky.p):.2g}): the sky "
        f"{said if changed else 'shows no difference'}"
    )
    more = [f"{NO_CAUSE}: {text}" for text in found.obstacles]
    return [rates, *left_out_document.reasons(found, answer), true, *more]


def _both(inside: Rate, outside: Rate) -> str:
    return " against ".join(
        "none" if rate.value is None else f"{rate.value:.2%}" for rate in (inside, outside)
    )


def lines(document: dict[str, Any]) -> list[str]:
    """Return the part on labels as lines for a terminal."""
    part = document["labels"]
    if part is None:
        return []
    source, whole = part["source"], part["whole"]
    told = f"Labels: {whole['labels']:,} of {whole['objects']:,} objects"
    if source["labels"] is not None:
        told += f" ({source['labels']:,} in {source['source']}, matched by {source['how']})"
    out = [told, f"  {rates_text(whole)}"]
    out += [f"  {said}"] if (said := left_out_document.values_text(source)) else []
    found = part["attribution"]
    if found is None:
        out.append("  no region was named, and the scan found none: nothing to compare")
        return out if part["tiles"] is None else [*out, tiles_text(part["tiles"])]
    for one in (found, *part["elsewhere"]):
        out += _attribution_lines(one, document["settings"]["answer"])
    out += [f"Remedy: {remedy['name']}: {remedy['why']}" for remedy in part["remedies"]]
    tiles = part["tiles"]
    if tiles is not None:
        out.append(tiles_text(tiles))
    return out


def _attribution_lines(found: dict[str, Any], answer: str) -> list[str]:
    out = [f"Cause: {found['cause']}, comparing {found['region_in_words']} with the rest"]
    out += [
        f"  {side:>7}: {found[side]['labels']:,} labels, {rates_text(found[side])}"
        for side in ("inside", "outside")
    ]
    if found["rates"] is not None:
        p = found["rates"]["p"]
        out.append(f"  do mistakes differ? {_yes(p, found['level'])}, p {p:.3g}")
        for name, what, of in (
            ("sky", "does the sky differ, if labels are a blind draw?", "corrected fraction"),
            ("labels_alone", "do labels alone show it?", "their fraction"),
        ):
            part, (low, high) = found[name], found[name]["interval"]
            out.append(
                f"  {what} {_yes(part['p'], found['level'])}, p {part['p']:.3g}, {of} "
                f"{part['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"
            )
        for one in found["mistakes_at_equal"]:
            out.append(
                f"  do they differ among objects of equal {one['covariate']}? "
                f"{_yes(one['p'], found['level'])}, p {one['p']:.3g}"
            )
        out.append(f"  {draw_text(found['blind'])}")
        out += [f"  {text}" for text in left_out_document.place_text(found["left_out"], answer)]
    return out + [f"  {NO_CAUSE}: {text}" for text in found["obstacles"]]


def draw_text(blind: dict[str, Any]) -> str:
    """Return what is known of the draw of the labels, as sentences."""
    level = blind["level"]
    told = "declared a blind draw" if blind["declared"] else "not declared a blind draw"
    said = f"are labelled objects answered otherwise than the others? {_yes(blind['p'], level)}, "
    said += _p(blind["p"])
    if blind["covariates"]:
        each = ", ".join(f"{one['name']} {_p(one['p'])}" for one in blind["covariates"])
        said += (
            f"; are they other objects? {_yes(blind['p_covariates'], level)}, {each} "
            f"(smallest after Holm {_p(blind['p_covariates'])})"
        )
    else:
        said += "; no covariate was read that could tell whether they are other objects"
    return f"labels are {told}; {said} (level {level:g})"


def _p(p: float) -> str:
    """Return p as text; what is too small for a double is not 0."""
    return f"p {p:.3g}" if p > 0 else "p < 1e-300"


def _yes(p: float, level: float) -> str:
    return "yes" if p < level else "no sign of it"


def tiles_text(tiles: dict[str, Any]) -> str:
    """Return how many tiles were corrected, and what more labels would do, as a sentence."""
    lead = (
        f"{tiles['corrected']} tiles at nside {tiles['nside']} have a corrected fraction, "
        f"{tiles['uncorrected']} have fewer than {tiles['fewest_labels']} labels and so have none"
        if tiles["written"]
        else f"{tiles['corrected']} tiles at nside {tiles['nside']} have labels enough for a "
        "corrected fraction (--correct writes them)"
    )
    wanted = f"corrected fractions within {tiles['precision']:g}"
    if tiles["tiles_missing_labels"]:
        more = (
            f"{wanted} take {tiles['labels_missing']:,.0f} more labels in "
            f"{tiles['tiles_missing_labels']} tiles"
        )
    elif not tiles["tiles_too_small"]:
        more = f"{wanted} take no more labels in any tile"
    else:
        more = f"even labels for all objects would not give {wanted}"
    small = tiles["tiles_too_small"]
    rest = f": {small} tiles hold too few objects for them" if small else ""
    return f"{lead}; {more}{rest}."


def rates_text(part: dict[str, Any]) -> str:
    """Return true positive and true negative rate with their intervals."""
    words = []
    for name, short in (("tpr", "TPR"), ("tnr", "TNR")):
        rate = part[name]
        if rate["value"] is not None:
            low, high = rate["interval"]
            words.append(f"{short} {rate['value']:.4f} [{low:.4f}, {high:.4f}]")
    return ", ".join(words) or f"fewer than {FEWEST_LABELS} labels"
