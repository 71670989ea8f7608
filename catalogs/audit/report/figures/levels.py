"""Classes of colour: a map's values cut into a few steps, so that a legend can name each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catalogs.audit.report.figures.svg import short

FloatArray = NDArray[np.float64]

UNKNOWN = "u"  # the class of a tile without a value
_CODES = "0123456789a"  # a class is one character, in the page's style sheet and data


@dataclass(frozen=True, slots=True)
class Levels:
    """Edges between classes; class i lies between edges i - 1 and i.

    ``kind`` is ``d`` (diverging, around nothing) or ``s`` (sequential).
    """

    kind: str
    edges: tuple[float, ...]

    def codes(self, values: FloatArray) -> str:
        """Return a character for each value, ``u`` where it is not finite."""
        known = np.isfinite(values)
        index = np.searchsorted(self.edges, np.where(known, values, 0.0), side="right")
        offset = self._offset
        return "".join(
            _CODES[i + offset] if ok else UNKNOWN
            for i, ok in zip(index.tolist(), known.tolist(), strict=True)
        )

    @property
    def legend(self) -> list[tuple[str, str]]:
        """Class and text of the edge at its right, which the last class does not have."""
        signed = self.kind == "d"
        texts = [("+" if signed and edge > 0 else "") + short(edge) for edge in self.edges]
        classes = [self.kind + _CODES[i + self._offset] for i in range(len(self.edges) + 1)]
        return list(zip(classes, [*texts, ""], strict=True))

    @property
    def _offset(self) -> int:
        """Sequential scales with few classes use the darker ones."""
        return 0 if self.kind == "d" else 7 - (len(self.edges) + 1)


def excess(values: FloatArray) -> Levels:
    """Return round steps around zero; about 2% of the values lie in the outermost, open classes.

    Small tiles at the survey's edge scatter most; they must not wash out the others.
    """
    size = np.abs(values[np.isfinite(values)])
    reach = float(np.percentile(size, 98)) if len(size) else 0.0
    raw = max(reach, 1e-3) / 5
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(m * power for m in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if m * power >= raw)
    return Levels("d", tuple(float(f"{i * step:.6g}") for i in (*range(-5, 0), *range(1, 6))))


def standard_errors() -> Levels:
    """Return whole standard errors: within one is the middle class."""
    return Levels("d", (-5.0, -4.0, -3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0, 5.0))


def numbers(values: FloatArray) -> Levels:
    """Return edges of 1, 2 and 5 times powers of ten; at most seven classes."""
    decades = [m * 10.0**d for d in range(12) for m in (1, 2, 5)]
    inside = [v for v in decades if values.min() < v <= values.max()]
    return Levels("s", tuple(inside[-6:]))
