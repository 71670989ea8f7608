"""What an experiment says: findings, tables whose columns are explained, and figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with the same columns; ``NAME.parquet``, and shown on the page.

    Attributes
    ----------
    name : str
        Of the file, letters, digits and dashes.
    title : str
    columns : mapping of str to str
        What each column means, with its unit.
    rows : sequence of mapping
        Values of the columns; None where there is none.
    shown : bool
        Whether the page shows it; else it names the file only.
    """

    name: str
    title: str
    columns: Mapping[str, str]
    rows: Sequence[Mapping[str, Cell]]
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure; ``NAME.svg`` and ``NAME.png``, and shown on the page.

    Attributes
    ----------
    name, title : str
    alt : str
        What it shows, for those who do not see it.
    caption : str
    figure : matplotlib.figure.Figure
    """

    name: str
    title: str
    alt: str
    caption: str
    figure: Figure


@dataclass(frozen=True, slots=True)
class Product:
    """All that an experiment says.

    Attributes
    ----------
    headline : str
        The answer, in one sentence.
    findings : sequence of str
        What was found, one sentence each.
    tables, drawings : sequence
    method : sequence of str
        How, and what may not be concluded.
    facts : mapping
        Further numbers, as JSON values.
    """

    headline: str
    findings: Sequence[str]
    tables: Sequence[Table]
    drawings: Sequence[Drawing] = ()
    method: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def plain(value: Any) -> Any:  # noqa: ANN401  (any JSON value)
    """Return a value for JSON: no nan or infinity, no tuples, no numpy numbers."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        return plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def shown(value: Cell) -> str:
    """Return a table's cell for people."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value.is_integer():
            text = f"{value:,.0f}"
        elif abs(value) >= 1e-3:
            digits = 1 if abs(value) >= 100 else 4 if abs(value) >= 0.1 else 5
            text = f"{value:,.{digits}f}"
        else:
            text = f"{value:.2g}"
        return text.replace("-", "−")
    return value


def points(share: Cell) -> str:
    """Return a size in points for people: fractions differ by no more than 100."""
    size = 100 * abs(float(share or 0))
    return f"{size:.1f}" if size <= 100 else "more than 100"


def p_beside(p: Cell, level: Cell) -> str:
    """Return a p with so many digits that it stays on its side of a level; a dash for none."""
    if p is None:
        return "–"
    value, bound = float(p or 0), float(level or 0)
    texts = [f"{value:.{digits}g}" for digits in range(2, 17)]
    return next((text for text in texts if (float(text) < bound) == (value < bound)), texts[-1])


def p_text(value: Cell) -> str:
    """Return ``p = ...`` for people; what is too small for a number is said to be so."""
    return "p < 1e−300" if value == 0 else f"p = {shown(value)}"
