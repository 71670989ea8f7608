"""One self-contained HTML page of an audit: nothing is loaded, and everything can be read aloud."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from catalogs.audit.report import document as sentences
from catalogs.audit.report import (
    experiment_document,
    label_document,
    left_out_document,
    method,
    paired_document,
    wording,
)
from catalogs.audit.report.cutouts import SIDE, Gallery
from catalogs.audit.report.figures import (
    confusion,
    corrected,
    covariates,
    differences,
    funnel,
    levels,
    posterior,
    power,
    scanmap,
    tiles,
)
from catalogs.audit.report.figures.projection import IntArray
from catalogs.audit.uniformity.analysis import Analysis, TileTable, tile_positions

_SHOWN_FLAGGED = 40
_SHOWN_TILES = 768


def environment() -> jinja2.Environment:
    """Return what renders the report's parts: all text of the data is escaped."""
    here = resources.files("catalogs.audit.report") / "templates"
    made = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(lambda name: (here / name).read_text(encoding="utf-8")),
    )
    made.filters["typeset"] = wording.typeset
    return made


def render(
    document: dict[str, Any],
    analysis: Analysis,
    training_sky: IntArray | None = None,
    gallery: Gallery | None = None,
) -> str:
    """Return the report.

    All text from the data is escaped. The page's policy allows its own style sheet and script (by
    hash) and inline images, and nothing else.

    Parameters
    ----------
    document : dict
        The content of ``audit.json``.
    analysis : Analysis
    training_sky : ndarray of int64, optional
        Nested tiles of order 4 on which the classifier was trained.
    gallery : Gallery, optional
        Example cutouts.
    """
    here = resources.files("catalogs.audit.report") / "templates"
    style = (here / "page.css").read_text(encoding="utf-8")
    script = (here / "page.js").read_text(encoding="utf-8")
    simulations = document["settings"]["simulations"]
    figures = _figures(document, analysis, training_sky)
    taken = method.steps(document)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            d=document,
            style=_own(style),
            style_hash=_hash(style),
            script=_own(script),
            script_hash=_hash(script),
            headline=sentences.headline(document),
            reasons=wording.findings(document),
            alarm=sentences.p_text(document["alarm"]["p"], 10**9),
            names=sentences.TEST_NAMES,
            p_text=lambda p: sentences.p_text(p, simulations),
            effect_text=sentences.effect_text,
            clustering=sentences.clustering_text(document),
            asymptotic=_asymptotic(document),
            conditions=wording.conditions(document),
            pair_lines=paired_document.pair_lines,
            swap_lines=paired_document.swap_lines,
            experiment_headline=lambda part: wording.sentence(experiment_document.headline(part)),
            labels_text=_labels_text(document),
            label_values=_label_values(document),
            left_out_text=lambda part: [
                wording.sentence(text)
                for text in left_out_document.place_text(part, document["settings"]["answer"])
            ],
            key=_key(document, training_sky),
            tiles=_tiles(analysis.tables[0]),
            shown=_SHOWN_FLAGGED,
            gallery=gallery,
            side=SIDE,
            with_cutouts=wording.with_cutouts(document),
            contents=_contents(document, figures),
            method=[step.text for step in taken],
            references=method.references(taken),
            not_asked=method.not_asked(document),
            again=wording.again(document),
            settings=wording.settings_rows(document),
            **figures,
        )
    )


def _labels_text(document: dict[str, Any]) -> str:
    labels = document["labels"]
    return "" if not labels or not labels["tiles"] else label_document.tiles_text(labels["tiles"])


def _label_values(document: dict[str, Any]) -> str:
    labels = document["labels"]
    said = left_out_document.values_text(labels["source"]) if labels else ""
    return wording.sentence(said) if said else ""


def _figures(
    document: dict[str, Any], analysis: Analysis, training_sky: IntArray | None
) -> dict[str, Any]:
    """Draw what these data allow; None in place of the others."""
    frame = tiles.frame_of(analysis)
    centre = frame.projection.centre
    alpha, effect = document["alarm"]["alpha"], document["settings"]["effect"]
    marks = tiles.test_marks(frame, document["tests"], alpha)
    figures: dict[str, Any] = {
        "map": tiles.draw(analysis, marks, training_sky),
        "scans": None,
        "scan_legend": levels.standard_errors().legend,
        "posterior": None,
        "amplitude": None,
        "power": None,
        "power_sentence": "",
        "funnel": None,
        "funnel_sentence": "",
        "curves": [],
        "confusion": [],
        "corrected": None,
        "differences": [],
    }
    answer = document["settings"]["answer"]
    if document["nuisances"] is not None:
        figures["curves"] = covariates.draw(document["nuisances"], answer)
    if document["labels"] is not None:
        figures["confusion"] = confusion.draw(document["labels"], answer)
        rows = document["labels"]["tiles"]["map"]
        figures["corrected"] = corrected.draw(rows, analysis.tables[0], centre)
    if document["compared"] is not None:
        figures["differences"] = differences.draw(document["compared"]["catalogs"], centre)
    by_name = {test["name"]: test for test in document["tests"]}
    if analysis.caps is not None:
        figures["scans"] = scanmap.draw(analysis.caps, by_name["scan"], centre)
    found = document["detectable"]
    if analysis.dipole is not None:
        figures["posterior"] = posterior.draw_direction(analysis.dipole, centre)
        interval = tuple(by_name["dipole"]["interval"])
        figures["amplitude"] = posterior.draw_amplitude(
            analysis.dipole, interval, found["dipole"]["mean"], effect
        )
        figures["power"] = power.draw(
            found["dipole"],
            found["dipole_alone_raises_alarm"],
            document["sky"]["answers"],
            effect,
        )
        figures["power_sentence"] = power.sentence(document)
    table = analysis.tables[0]
    if np.any(np.isfinite(table.z)):
        numbers = (analysis.fraction, analysis.variance)
        figures["funnel"] = funnel.draw(table, *numbers, answer, labels=analysis.labels)
        outer = funnel.outside(table, *numbers, labels=analysis.labels)
        tested = int(np.isfinite(table.z).sum())
        figures["funnel_sentence"] = (
            f"Outside lie {outer[0]} and {outer[1]} of {tested}, where chance alone puts "
            f"{tested * 0.05:.1f} and {tested * 0.002:.1f}."
        )
    return figures


def _contents(document: dict[str, Any], figures: dict[str, Any]) -> list[tuple[str, str]]:
    able = figures["power"] or figures["funnel"]
    return [
        ("verdict", "Verdict"),
        ("sky", "Sky"),
        ("tests", "Tests"),
        *([("conditions", "Observing conditions")] if document["nuisances"] else []),
        *([("labels", "Labels")] if document["labels"] else []),
        *([("compared", "Other networks")] if document["compared"] else []),
        *([("experiments", "Experiments")] if document["experiments"] else []),
        *([("power", "Power")] if able else []),
        ("flagged", "Flagged tiles"),
        ("cutouts", "Cutouts"),
        ("data", "Data"),
        ("method", "Method"),
    ]


def _key(document: dict[str, Any], training_sky: IntArray | None) -> str:
    """Name what is drawn over the tiles."""
    alpha = document["alarm"]["alpha"]
    raised = {t["name"] for t in document["tests"] if (t["p_holm"] or 1) < alpha}
    parts = ["hatched: too few answers"]
    if document["flagged"]:
        parts.append("outlined: flagged")
    parts.append("dotted: Galactic plane")
    if training_sky is not None:
        parts.append("purple: the classifier's training sky")
    if "scan" in raised:
        parts.append("dashed: the scan's cap")
    if "dipole" in raised:
        parts.append("plus and minus: the dipole's poles")
    return "; ".join(parts) + "."


def _tiles(table: TileTable) -> dict[str, Any]:
    """Return the tiles' rows, most deviant first."""
    rank = np.argsort(-np.abs(np.nan_to_num(table.z)), kind="stable")[:_SHOWN_TILES]
    return {
        "rows": _rows(table, rank),
        "total": len(table.tiles),
        "cut": len(table.tiles) > _SHOWN_TILES,
    }


def _rows(table: TileTable, which: NDArray[np.intp]) -> list[dict[str, Any]]:
    ra, dec = tile_positions(table)

    def known(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    return [
        {
            "tile": int(table.tiles[i]),
            "ra": float(ra[i]),
            "dec": float(dec[i]),
            "n": int(table.n[i]),
            "fraction": float(table.fraction[i]),
            "interval": (float(table.low[i]), float(table.high[i])),
            "difference": known(table.difference[i]),
            "z": known(table.z[i]),
            "q": known(table.q[i]),
            "state": _state(table, i),
        }
        for i in which.tolist()
    ]


def _state(table: TileTable, i: int) -> str:
    if table.flag[i]:
        return "flagged"
    return "not flagged" if np.isfinite(table.z[i]) else "too few answers to test"


def _asymptotic(document: dict[str, Any]) -> str:
    return ", ".join(
        f"{test['name']} {test['p_asymptotic']:.2g}"
        for test in document["tests"]
        if test["p_asymptotic"] is not None
    )


def _own(text: str) -> Markup:
    return Markup(text)  # noqa: S704 - our own file, not the user's


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
