"""The machine-readable result (``audit.json``) and its sentences in plain English."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np

from catalogs.audit.labels.census import Census
from catalogs.audit.reading.answers import Columns, Tally
from catalogs.audit.reading.lineage import lineage
from catalogs.audit.report import (
    cause_words,
    experiment_document,
    label_document,
    left_out_document,
    nuisance_document,
    paired_document,
)
from catalogs.audit.settings import AuditSettings
from catalogs.audit.uniformity import verdict
from catalogs.audit.uniformity.analysis import Analysis, TileTable, tile_positions
from catalogs.audit.uniformity.battery import CELL_ORDER
from catalogs.audit.uniformity.dipole import Detectable
from catalogs.audit.uniformity.tiles import TileCounts

SCHEMA_VERSION = 1
_DIGITS = 10
_LARGEST_DIPOLE = 0.5  # p + A cos(angle) lies between 0 and 1 on either side
_SOFTWARE = ("skytally", "numpy", "scipy", "astropy", "pyarrow", "cdshealpix")

BINOMIAL_NOTE = (
    "The four tests are binomial: they take every galaxy as independent, so a real clustered sky "
    "(galaxies of one kind live together) is a signal to them. With clustering of 1% rms a "
    "dipole test of this kind alarms on about 90% of skies that have no dipole."
)
# The rates are those of docs/results/audit-validation.md.
CORRELATED_NOTE = (
    f"{BINOMIAL_NOTE} p clustered takes the sky for a Gaussian random field, whose strength and "
    "scale are estimated from this sky. It does not raise the alarm and has rates of its own: "
    "with 10^6 galaxies over 11,000 square degrees it calls a dipole significant (p < .05) on 5% "
    "of skies without clustering, and on 14% and 10% of skies clustered by .5% and 1% rms; it "
    "finds a dipole of .5% on 80% of unclustered skies (the binomial test: 96%), one of 1% on "
    "61% of skies clustered by .5%."
)
NOT_CORRELATED_NOTE = (
    f"{BINOMIAL_NOTE} There are too few tiles here to estimate a clustering (p_correlated is null)."
)
CAUSE_NOTE = (
    "One map alone cannot tell a sky that varies from a classifier that varies over the sky: no "
    "cause is named without labels."
)
TEST_NAMES = {
    "global": "Global uniformity (Pearson X²)",
    "dipole": "Dipole (weighted least squares, χ²)",
    "scan": "Cap scan (largest |z|)",
    "tiles": "Single tiles (smallest q)",
}


def build(
    analysis: Analysis,
    counts: TileCounts,
    tally: Tally,
    columns: Columns,
    settings: AuditSettings,
    source: str,
    census: Census,
) -> dict[str, Any]:
    """Return the content of ``audit.json``: plain JSON types, no NaN, the same for the same sky.

    Parameters
    ----------
    analysis, counts, tally, columns, settings
        What was found, in which data, by which options.
    source : str
        The audited table, as the user named it.
    census : Census
        All its rows with a position.
    """
    decided = analysis.verdict
    made = [outcome.name for outcome in analysis.outcomes if outcome.p is not None]
    table = analysis.tables[0]
    judged = any(outcome.p_correlated is not None for outcome in analysis.outcomes)
    clustering_note = CORRELATED_NOTE if judged else NOT_CORRELATED_NOTE
    document: dict[str, Any] = plain(
        {
            "schema_version": SCHEMA_VERSION,
            "verdict": decided.verdict,
            "cause": decided.cause,
            "cause_basis": decided.basis,
            "cause_places": [{"where": where, "cause": cause} for where, cause in decided.places],
            "reasons": list(decided.reasons),
            "alarm": {"p": decided.p, "method": verdict.method(made), "alpha": settings.alpha},
            "tests": [
                {
                    "name": outcome.name,
                    "statistic": outcome.statistic,
                    "p": outcome.p,
                    "p_asymptotic": outcome.p_asymptotic,
                    "p_correlated": outcome.p_correlated,
                    "p_holm": p_holm,
                    "effect": outcome.effect,
                    "interval": outcome.interval,
                    "effect_name": outcome.effect_name,
                    **outcome.details,
                }
                for outcome, p_holm in zip(analysis.outcomes, decided.p_holm, strict=True)
            ],
            "detectable": {
                "power": 0.8,
                "dipole": _detectable(analysis.detectable, settings.alpha),
                "dipole_alone_raises_alarm": _detectable(
                    analysis.detectable_by_alarm, settings.alpha / max(len(made), 1)
                ),
            },
            "sky": {
                "answers": counts.total,
                "fraction": analysis.fraction,
                "interval": analysis.fraction_interval,
                "nside": 2**analysis.order,
                "order": analysis.order,
                "tiles_occupied": len(table.tiles),
                "tiles_tested": np.isfinite(table.p).sum(),
            },
            "flagged": _flagged(table),
            "unanswered": left_out_document.of_the_sky(census, analysis.order),
            "nuisances": None,
            "labels": None,
            "compared": None,
            "experiments": None,
            "counts": {
                "rows": tally.rows,
                "not_ok": tally.not_ok,
                "no_position": tally.no_position,
                "no_answer": tally.no_answer,
                "other_answer": tally.other_answer,
                "no_weight": tally.no_weight,
                "duplicate_ids": tally.same_id,
                "duplicate_positions": tally.same_place,
                "used": tally.used,
            },
            "settings": asdict(settings),
            "provenance": {
                "source": source,
                "columns": asdict(columns),
                "answers": tally.counted,
                "tile_counts_sha256": _digest(counts),
                "catalog": lineage(source),
                "software": {name: importlib.metadata.version(name) for name in _SOFTWARE},
            },
            "notes": [*_not_made(analysis, made, settings), clustering_note, CAUSE_NOTE],
        }
    )
    return document


def to_json(document: dict[str, Any]) -> str:
    """Return strict JSON with a final newline."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _detectable(found: Detectable | None, alpha: float) -> dict[str, Any] | None:
    return None if found is None else {"alpha": alpha, **asdict(found)}


def _flagged(table: TileTable) -> list[dict[str, Any]]:
    ra, dec = tile_positions(table)
    rows = np.flatnonzero(table.flag)
    return [
        {
            "tile": table.tiles[i],
            "ra": ra[i],
            "dec": dec[i],
            "n": table.n[i],
            "fraction": table.fraction[i],
            "interval": [table.low[i], table.high[i]],
            "difference": table.difference[i],
            "z": table.z[i],
            "q": table.q[i],
        }
        for i in rows[np.argsort(table.q[rows], kind="stable")]
    ]


def _not_made(analysis: Analysis, made: list[str], settings: AuditSettings) -> list[str]:
    """Say which tests could not be made, and why where single tiles are too small."""
    missing = [outcome.name for outcome in analysis.outcomes if outcome.name not in made]
    if not missing or not made:
        return []
    small = np.all(analysis.tables[0].n < settings.min_n)
    why = (
        f": no tile at nside {2**analysis.order} holds {settings.min_n} answers"
        f"{', choose a smaller order to test tiles' if analysis.order else ''}"
        if small
        else ""
    )
    tests, left = ", ".join(missing), ", ".join(made)
    note = f"Tests that could not be made: {tests}{why}. Holm's correction is over the others"
    return [f"{note} ({left})."]


def _digest(counts: TileCounts) -> str:
    digest = hashlib.sha256(str(counts.order).encode())
    for array in (counts.tiles.astype("<i8"), counts.n.astype("<i8"), counts.k.astype("<f8")):
        digest.update(array.tobytes())
    return digest.hexdigest()


def plain(value: Any) -> Any:  # noqa: ANN401  # any JSON value
    """Convert to JSON types; floats to ten digits, as the last bits depend on the machine."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value


# ------------------------------------------------------------------------------- sentences


def p_text(p: float | None, simulations: int) -> str:
    """Return a p value as text; at the floor of the simulations it is only a bound."""
    if p is None:
        return "not tested"
    floor = 1 / (1 + simulations)
    if math.isclose(p, floor, rel_tol=1e-6):
        return f"≤ {floor:.1g}"
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def clustered_text(test: dict[str, Any], simulations: int) -> str:
    """Return p on a clustered sky, in brackets; nothing where it was not computed."""
    if test["p_correlated"] is None:
        return ""
    return f" ({p_text(test['p_correlated'], simulations)} if the sky is clustered)"


def clustering_text(document: dict[str, Any]) -> str:
    """Return the clustering that was estimated, as a sentence; empty where it was not."""
    found = [test["clustering"] for test in document["tests"] if test.get("clustering")]
    if not found:
        return ""
    if not found[0]["sigma"]:
        return "No clustering was found beside a mean and a dipole."
    return (
        f"Beside a mean and a dipole the fraction varies by {found[0]['sigma']:.2%} rms between "
        f"tiles more than chance does, like a field with C_l ~ l^-{found[0]['slope']:g}."
    )


def could_be_clustering(document: dict[str, Any]) -> bool:
    """Say whether dipole and scan were judged on a clustered sky, and neither stands out there.

    They are two looks at one sky, hence Holm's correction.
    """
    judged = [t["p_correlated"] for t in document["tests"] if t["p_correlated"] is not None]
    return bool(judged) and min(verdict.holm(judged)) >= document["alarm"]["alpha"]


def headline(document: dict[str, Any]) -> str:
    """Return the verdict as one sentence."""
    answer = document["settings"]["answer"]
    alpha = document["alarm"]["alpha"]
    if document["verdict"] == verdict.ANISOTROPIC:
        varies = f"The fraction of {answer} answers varies over the sky more than chance allows"
        if document["cause"] == "undetermined" and could_be_clustering(document):
            varies += ", though a sky that is clustered by itself could look so"
        return f"{varies}; {cause_words.of_the_sky(document)}."
    if document["verdict"] == verdict.INSUFFICIENT:
        reasons, beside = "; ".join(document["reasons"]), cause_words.of_a_region(document)
        return f"These data do not suffice for a verdict: {reasons}.{beside}"
    found = document["detectable"]
    return (
        f"No variation of the fraction of {answer} answers over the sky was found at the "
        f"{alpha:g} level. With 80% power, averaged over its direction, the dipole test alone "
        f"would find a dipole of {found['dipole']['mean']:.4f} (one of "
        f"{found['dipole']['worst']:.4f} along the worst axis), and raise the alarm at one of "
        f"{found['dipole_alone_raises_alarm']['mean']:.4f}.{cause_words.of_a_region(document)}"
    )


def effect_text(test: dict[str, Any]) -> str:
    """Return what a test measured, in words."""
    if test["effect"] is None:
        return "could not be made"
    low, high = test["interval"]
    value = f"{test['effect']:.4f} [{low:.4f}, {high:.4f}]"
    signed = f"{test['effect']:+.4f} [{low:+.4f}, {high:+.4f}]"
    if test["name"] == "global":
        return f"true fraction scatters by {value} between {test['tiles']} tiles"
    if test["name"] == "dipole" and high > _LARGEST_DIPOLE:
        return f"amplitude not constrained (fit {value}; above {_LARGEST_DIPOLE} none is possible)"
    if test["name"] == "dipole":
        return f"amplitude {value}, maximum at RA {test['ra']:.1f}°, Dec {test['dec']:+.1f}°"
    if test["name"] == "scan":
        return (
            f"{signed} in cells of nside {2**CELL_ORDER} whose centres lie within "
            f"{test['radius']:g}° of RA {test['ra']:.1f}°, Dec {test['dec']:+.1f}°, "
            f"the most deviant of {test['caps']:,} caps"
        )
    return f"{signed} in the most deviant of {test['tested']} tiles; {test['flagged']} flagged"


def flagged_text(document: dict[str, Any]) -> str:
    """Say that single tiles stand out though the alarm, over all tests, is not raised."""
    tiles = len(document["flagged"])
    if document["verdict"] == verdict.ANISOTROPIC or not tiles:
        return ""
    made = sum(test["p"] is not None for test in document["tests"])
    have = "One tile has" if tiles == 1 else f"{tiles} tiles have"
    return f"{have} q < {document['alarm']['alpha']:g}; over {made} tests this does not alarm."


def left_out(document: dict[str, Any]) -> list[tuple[str, int]]:
    """Return what was left out and how often, without the zeros."""
    counts = document["counts"]
    names = {
        "not_ok": "status not ok",
        "no_position": "no valid position",
        "no_answer": "no answer",
        "other_answer": "another answer than those counted",
        "no_weight": "no weight",
        "duplicate_ids": "the id of an earlier row",
        "duplicate_positions": "within 1 arcsec of an earlier row",
    }
    return [(text, counts[name]) for name, text in names.items() if counts[name]]


def summary(document: dict[str, Any]) -> list[str]:
    """Return the result as a few plain lines for a terminal."""
    sky, simulations = document["sky"], document["settings"]["simulations"]
    low, high = sky["interval"]
    cause = f" (cause {document['cause']})" if document["cause"] else ""
    size = (
        f"{sky['answers']:,} answers, fraction {document['settings']['answer']} "
        f"{sky['fraction']:.4f} [{low:.4f}, {high:.4f}]; {sky['tiles_tested']} of "
        f"{sky['tiles_occupied']} tiles tested at nside {sky['nside']}"
    )
    lines = [f"Verdict: {document['verdict']}{cause}", headline(document), size]
    lines.append(f"Counted: {document['provenance']['answers']}")
    lines += [
        f"{test['name']:>7}: p {p_text(test['p'], simulations)}"
        f"{clustered_text(test, simulations)}, {effect_text(test)}"
        for test in document["tests"]
        if test["p"] is not None
    ]
    lines += [said] if (said := flagged_text(document)) else []
    if document["alarm"]["p"] is not None:
        made = sum(test["p"] is not None for test in document["tests"])
        lines.append(f"Alarm: smallest of {made} p after Holm {document['alarm']['p']:.4g}")
    if document["detectable"]["dipole"] is not None:
        lines.append(
            "Smallest dipole that the dipole test alone finds with 80% power: "
            f"{document['detectable']['dipole']['mean']:.4f} averaged over its direction, "
            f"{document['detectable']['dipole']['worst']:.4f} along the worst axis"
        )
    lines += nuisance_document.lines(document)
    lines += label_document.lines(document)
    lines += paired_document.lines(document)
    lines += experiment_document.lines(document)
    usual = (CORRELATED_NOTE, NOT_CORRELATED_NOTE, CAUSE_NOTE)
    lines += [note for note in document["notes"] if note not in usual]
    lines += [said] if (said := left_out_document.sky_text(document["unanswered"])) else []
    out = left_out(document)
    if out:
        lines.append("Left out: " + ", ".join(f"{number:,} {text}" for text, number in out))
    return lines
