"""Confusion by region: of each true class, what share was answered how."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup, escape

from catalogs.audit.report.figures.covariates import shortened
from catalogs.audit.report.figures.svg import whole

_CELL, _LEFT, _TOP = 96, 120, 74


def draw(labels: dict[str, Any], answer: str) -> list[Markup]:
    """Return a matrix for the whole sky, and inside and outside of each region compared.

    Parameters
    ----------
    labels : dict
        ``labels`` of the document.
    answer : str
    """
    first = labels["attribution"]
    asked = [] if first is None else [first, *labels["elsewhere"]]
    parts = {"whole sky": labels["whole"]}
    for number, found in enumerate(asked, start=1):
        place = f"place {number}" if len(asked) > 1 else "the region"
        parts |= {f"inside {place}": found["inside"], f"outside {place}": found["outside"]}
    return [
        _matrix(name, part["matrix"], answer, i)
        for i, (name, part) in enumerate(parts.items())
        if part["matrix"] is not None
    ]


def _matrix(name: str, matrix: list[list[float]], answer: str, number: int) -> Markup:
    classes = ("other", shortened(answer))
    parts, told = [], []
    for i, row in enumerate(matrix):
        total = sum(row)
        middle = _TOP + _CELL * i + _CELL / 2
        parts.append(
            f'<text x="{_LEFT - 8}" y="{middle + 4}" text-anchor="end">{escape(classes[i])}</text>'
        )
        for j, count in enumerate(row):
            share = count / total if total else 0.0
            told.append(f"true {classes[i]} answered {classes[j]}: {count:,g} ({share:.1%})")
            x, y = _LEFT + _CELL * j, _TOP + _CELL * i
            strength = min(int(share * 7), 6)
            ink = "onLight" if strength < 4 else "onMid" if strength == 4 else "onDark"
            parts.append(
                f'<rect class="s{strength}" x="{x}" y="{y}" width="{_CELL - 2}" '
                f'height="{_CELL - 2}"/>'
                f'<text class="{ink} big" x="{x + _CELL / 2 - 1}" y="{y + 46}" '
                f'text-anchor="middle">{share:.1%}</text>'
                f'<text class="{ink}" x="{x + _CELL / 2 - 1}" y="{y + 66}" '
                f'text-anchor="middle">{count:,g}</text>'
            )
    for j, kind in enumerate(classes):
        parts.append(
            f'<text x="{_LEFT + _CELL * j + _CELL / 2}" y="{_TOP - 8}" '
            f'text-anchor="middle">{escape(kind)}</text>'
        )
    right = _LEFT + 2 * _CELL
    head = (
        f'<svg class="plot matrix" viewBox="0 0 {right + 4} {_TOP + 2 * _CELL + 4}" role="img" '
        f'aria-labelledby="confusion{number}-t"><title id="confusion{number}-t">'
        f"{escape(name)}: {escape('; '.join(told))}</title>"
        f'<text class="label" x="{_LEFT}" y="18">{escape(name)}</text>'
        f'<text x="{_LEFT + _CELL}" y="42" text-anchor="middle">answered</text>'
        f'<text x="8" y="{_TOP - 8}">true</text>'
    )
    return whole([head, *parts, "</svg>"])
