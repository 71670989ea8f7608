"""From p values to one alarm and one verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNIFORM, ANISOTROPIC, INSUFFICIENT = "uniform", "anisotropic", "insufficient"
_METHODS = {"global": "global X2", "dipole": "dipole", "scan": "cap scan", "tiles": "single tiles"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the audit concludes.

    ``cause`` is None unless the sky is anisotropic; "undetermined" as long as there is one map
    alone, which cannot tell the sky from the classifier. It is of the whole sky: of all that
    alarms. ``basis`` says what named it (``labels`` or ``comparison``), and ``places`` where, in
    words, each with the cause there; places without a cause of the whole sky leave something
    unexplained. Beside another verdict than anisotropic it is a named region, whose labels were
    asked at a level of their own. ``p`` is the smallest Holm-adjusted p,
    None when no test could be made; ``p_holm`` those of all tests, in their order.
    """

    verdict: str
    cause: str | None
    p: float | None
    p_holm: tuple[float | None, ...]
    reasons: tuple[str, ...]
    basis: str | None = None
    places: tuple[tuple[str, str], ...] = ()


def method(made: Sequence[str]) -> str:
    """Return how the alarm is raised, given the names of the tests that were made."""
    if not made:
        return "none: no test was made"
    count = {1: "one binomial test", 2: "two", 3: "three", 4: "four"}[len(made)]
    tests = count if len(made) == 1 else f"{count} binomial tests"
    return f"Holm over {tests} ({', '.join(_METHODS[name] for name in made)})"


def holm(p: Sequence[float]) -> NDArray[np.float64]:
    """Return Holm's step-down adjusted p values.

    Holm 1979, Scandinavian Journal of Statistics 6, 65: valid whatever the dependence.

    Parameters
    ----------
    p : sequence of float, length m

    Returns
    -------
    ndarray of float64, shape (m,)
    """
    values = np.asarray(p, np.float64)
    rank = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[rank] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[rank] = np.minimum(steps, 1.0)
    return adjusted


def decide(
    p: Sequence[float | None],
    detectable: float | None,
    *,
    alpha: float,
    effect: float,
    obstacles: Sequence[str] = (),
) -> Verdict:
    """Return the verdict of a set of tests.

    Parameters
    ----------
    p : sequence of float or None
        p values of the tests; None where the positions did not allow a test, which Holm's
        correction then leaves out: it is over the tests that were made.
    detectable : float or None
        Dipole amplitude detectable with 80% power; None if no dipole can be fitted.
    alpha : float
        Level of the alarm.
    effect : float
        Largest detectable amplitude that still permits the verdict ``uniform``.
    obstacles : sequence of str
        Reasons known beforehand why the data do not suffice for a uniform verdict.

    Returns
    -------
    Verdict
        ``anisotropic`` if the alarm is raised; else ``insufficient`` with its reasons if the
        data could not have shown the effect; else ``uniform``.
    """
    adjusted = iter(holm([value for value in p if value is not None]).tolist())
    p_holm = tuple(None if value is None else float(next(adjusted)) for value in p)
    smallest = min((value for value in p_holm if value is not None), default=None)
    if smallest is not None and smallest < alpha:
        return Verdict(ANISOTROPIC, "undetermined", smallest, p_holm, ())
    reasons = list(obstacles)
    if not reasons and detectable is None:
        reasons.append("the footprint does not allow a dipole to be fitted")
    if detectable is not None and detectable > effect:
        reasons.append(
            f"the smallest dipole detectable with 80% power, by the dipole test alone, is "
            f"{detectable:.4f}, larger than the effect of {effect:g} that was asked for"
        )
    verdict = INSUFFICIENT if reasons else UNIFORM
    return Verdict(verdict, None, smallest, p_holm, tuple(reasons))
