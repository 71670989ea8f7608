"""Labels against answers: both rates and their intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from catalogs.audit.labels.prediction_powered import Answers, Sample
from catalogs.audit.uniformity.fractions import normal_interval, wilson


@dataclass(frozen=True, slots=True)
class Rate:
    """A mean answer of n objects, with its 95% interval; None without objects."""

    n: int
    value: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """Labels against answers on one side, or on the whole sky.

    ``matrix`` has truth in rows (other, member), the answer in columns; None for summed
    probabilities. ``tpr`` and ``tnr`` are the mean answer, or its complement, of true members and
    others; ``truth`` the fraction of members among the labels, ``answers`` that of all answers.
    """

    labels: int
    objects: int
    matrix: tuple[tuple[int, int], tuple[int, int]] | None
    tpr: Rate
    tnr: Rate
    truth: Rate
    answers: Rate


def confusion(sample: Sample, *, hard: bool) -> Confusion:
    """Return the confusion of a sample of shape ()."""
    everybody = sample.labelled + sample.unlabelled
    members, others = sample.members, sample.others
    right = Answers(others.n, others.n - others.total, others.n - 2 * others.total + others.squares)
    labels = Answers(sample.labelled.n, members.n, members.n)
    matrix = None
    if hard:
        rows = [(round(float(a.n - a.total)), round(float(a.total))) for a in (others, members)]
        matrix = (rows[0], rows[1])
    return Confusion(
        round(float(sample.labelled.n)),
        round(float(everybody.n)),
        matrix,
        _rate(members, hard=hard),
        _rate(right, hard=hard),
        _rate(labels, hard=True),
        _rate(everybody, hard=hard),
    )


def _rate(answers: Answers, *, hard: bool) -> Rate:
    n, total = np.atleast_1d(answers.n), np.atleast_1d(answers.total)
    if n[0] == 0:
        return Rate(0, None, 0.0, 1.0)
    low, high = wilson(total, n) if hard else normal_interval(total, n, float(answers.variance))
    return Rate(round(float(n[0])), float(answers.mean), float(low[0]), float(high[0]))
