"""One self-contained HTML page of an audit: no remote asset, no script, readable in print."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from catalogs.audit import document as sentences
from catalogs.audit import label_document, nuisance_document, paired_document
from catalogs.audit.plots import MAPS

_SHOWN_TILES = 40


def environment() -> jinja2.Environment:
    """Return what renders the report's parts: all text of the data is escaped."""
    here = resources.files("catalogs.audit")
    return jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(lambda name: (here / name).read_text(encoding="utf-8")),
    )


def render(document: dict[str, Any], folder: Path) -> str:
    """Return the report of ``document``; the maps are read from ``folder`` and put inline.

    All text from the data is escaped, and the page's policy allows nothing but inline images
    and its own style sheet (by hash).
    """
    here = resources.files("catalogs.audit")
    style = (here / "report.css").read_text(encoding="utf-8")
    simulations = document["settings"]["simulations"]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            d=document,
            style=Markup(style),  # noqa: S704 - our own file, not the user's
            style_hash=f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}",
            headline=sentences.headline(document),
            names=sentences.TEST_NAMES,
            p_text=lambda p: sentences.p_text(p, simulations),
            effect_text=sentences.effect_text,
            clustering=sentences.clustering_text(document),
            asymptotic=_asymptotic(document),
            images={name: _inline(folder / f"map_{name}.svg") for name in MAPS},
            conditions=None if document["nuisances"] is None else nuisance_document.lines(document),
            curves=_inline(curves) if (curves := folder / "covariates.svg").exists() else None,
            pair_lines=paired_document.pair_lines,
            swap_lines=paired_document.swap_lines,
            labels_text=_labels_text(document),
            shown=_SHOWN_TILES,
        )
    )


def _labels_text(document: dict[str, Any]) -> str:
    labels = document["labels"]
    return "" if not labels or not labels["tiles"] else label_document.tiles_text(labels["tiles"])


def _asymptotic(document: dict[str, Any]) -> str:
    return ", ".join(
        f"{test['name']} {test['p_asymptotic']:.2g}"
        for test in document["tests"]
        if test["p_asymptotic"] is not None
    )


def _inline(image: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(image.read_bytes()).decode("ascii")
