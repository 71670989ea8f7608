"""A row of the table: what must hold, what came out, and how sure that is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


@dataclass(frozen=True)
class Check:
    """A measured value with its 95% Monte Carlo interval and the bounds it must keep."""

    what: str
    value: float
    low: float
    high: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the value keeps its bounds; None where nothing was asked."""
        if self.at_least is None and self.at_most is None:
            return None
        above = self.at_least is None or self.value >= self.at_least
        return bool(above and (self.at_most is None or self.value <= self.at_most))


@dataclass
class Row:
    """All checks of one case."""

    name: str
    case: str
    skies: int
    checks: list[Check] = field(default_factory=list)
    note: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Row:
        return cls(**(data | {"checks": [Check(**check) for check in data["checks"]]}))


def share(what: str, hits: ArrayLike, **bounds: float) -> Check:
    """A share of skies, with its Clopper-Pearson interval."""
    hits = np.asarray(hits, bool)
    interval = stats.binomtest(int(hits.sum()), hits.size).proportion_ci(method="exact")
    return Check(what, float(hits.mean()), float(interval.low), float(interval.high), **bounds)


def mean(what: str, values: ArrayLike, **bounds: float) -> Check:
    """A mean, with the normal interval of its standard error."""
    values = np.asarray(values, float)
    half = 1.96 * values.std(ddof=1) / np.sqrt(values.size)
    return Check(what, float(values.mean()), values.mean() - half, values.mean() + half, **bounds)


def median(what: str, values: ArrayLike, **bounds: float) -> Check:
    """A median, with the interval of its order statistics."""
    ordered = np.sort(np.asarray(values, float))
    low, high = stats.binom.ppf([0.025, 0.975], len(ordered), 0.5).astype(int)
    return Check(
        what,
        float(np.median(ordered)),
        float(ordered[low]),
        float(ordered[min(high, len(ordered) - 1)]),
        **bounds,
    )
