"""The whole judgement of a run, on galaxies that it has not seen: ``metrics.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.sky import FloatArray, IntArray, tile_of
from training import scores
from training.labels import Votes
from training.metrics import Measured, evaluate, wilson
from training.scores import agreement, bootstrapped, by_rank, calibration_error, class_scores
from training.triage import levels

# A question is judged on galaxies about which this share of the volunteers were asked it.
ASKED = 0.5


@dataclass(frozen=True, slots=True)
class Judgement:
    """A few numbers for people and for the bundle, and everything for ``metrics.json``."""

    metrics: dict[str, Measured]
    details: dict[str, Any]


def judge_classes(
    probability: FloatArray, targets: IntArray, names: tuple[str, ...], threshold: float
) -> Judgement:
    """Judge classes.

    Parameters
    ----------
    probability : ndarray of float64, shape (n, classes)
    targets : ndarray of int64, shape (n,)
        Indices of classes.
    names : tuple of str
    threshold : float
        Of two classes, the answer is the second from here on; of several, the most probable.
    """
    two = len(names) == 2
    answer = (
        (probability[:, 1] >= threshold).astype(np.int64)
        if two
        else probability.argmax(axis=1).astype(np.int64)
    )
    details = _of_question(targets, answer, probability, names)
    metrics = (
        evaluate(probability[:, 1], targets, names, threshold)
        if two
        else _several(targets, answer, details["classes"])
    )
    return Judgement(metrics, details)


def judge_tree(probability: FloatArray, votes: Votes) -> Judgement:
    """Judge the answers to a tree's questions.

    Parameters
    ----------
    probability : ndarray of float64, shape (n, answers)
        Cumulative.
    votes : Votes
        Of the same galaxies.

    Returns
    -------
    Judgement
        Per question, on galaxies about which half of the volunteers were asked it: how often the
        likeliest answer is theirs (Dieleman, Willett & Dambre 2015, tables 3 and 4), and the same
        by agreement and by confidence (figure 9). The errors are root mean squares over galaxies
        and answers of cumulative fractions (equation 1); ``rmse_mean_answer`` is that of
        answering the mean of these galaxies.
    """
    tree, truth = votes.tree, votes.cumulative
    metrics = dict(
        zip(
            ("rmse", "rmse_mean_answer"),
            _errors(probability - truth, truth - truth.mean(axis=0)),
            strict=True,
        )
    )
    questions = {}
    for i, (question, s) in enumerate(zip(tree.questions, tree.slices, strict=True)):
        chosen = votes.asked[:, i] >= ASKED
        # A network may say that nobody is asked: then no answer is likelier than another.
        p = probability[chosen, s]
        total = p.sum(axis=1, keepdims=True)
        p = np.divide(p, total, out=np.full_like(p, 1.0 / p.shape[1]), where=total > 0)
        v = votes.conditional[chosen, s]
        right = v.argmax(axis=1).astype(np.int64)
        answer = p.argmax(axis=1).astype(np.int64)
        names = tuple(a.name for a in question.answers)
        found: dict[str, Any] = {"galaxies": int(chosen.sum())}
        if chosen.any():
            metrics[f"accuracy_{question.name}"] = wilson(int(np.sum(right == answer)), len(p))
            found |= _of_question(right, answer, p, names)
            found["by_agreement"] = _plain(by_rank(agreement(v), right == answer))
        questions[question.name] = found
    return Judgement(metrics, {"questions": questions})


def tiles(
    ra: FloatArray, dec: FloatArray, right: NDArray[np.bool_], order: int
) -> list[dict[str, Any]]:
    """Return the accuracy in each HEALPix tile, nested, at ``order``."""
    numbers = tile_of(ra, dec, order)
    return [
        {
            "tile": int(t),
            **asdict(wilson(int(right[numbers == t].sum()), int((numbers == t).sum()))),
        }
        for t in np.unique(numbers)
    ]


def _of_question(
    truth: IntArray, answer: IntArray, probability: FloatArray, names: tuple[str, ...]
) -> dict[str, Any]:
    """Return all that is said of one question, or of plain classes."""
    accuracy, classes = class_scores(truth, answer, probability, names)
    right = truth == answer
    # Of two classes the second's probability is followed over its whole range.
    two = len(names) == 2
    stated = probability[:, 1] if two else probability.max(axis=1)
    came_true = truth == 1 if two else right
    sure = agreement(probability)
    return {
        "accuracy": asdict(accuracy),
        "classes": {n: {k: asdict(m) for k, m in v.items()} for n, v in classes.items()},
        "confusion": scores.confusion(truth, answer, len(names)).tolist(),
        "reliability": _plain(scores.reliability(stated, came_true)),
        "expected_calibration_error": asdict(calibration_error(stated, came_true)),
        "by_confidence": _plain(by_rank(sure, right)),
        "triage": [level.plain() for level in levels(sure, right)],
    }


def _several(
    truth: IntArray, answer: IntArray, classes: dict[str, dict[str, dict[str, Any]]]
) -> dict[str, Measured]:
    """Return the accuracy, and recall and area of each class."""
    right = truth == answer
    found = {"accuracy": wilson(int(right.sum()), len(right))}
    for kind in ("recall", "roc_auc"):
        found |= {f"{kind}_{name}": Measured(**four[kind]) for name, four in classes.items()}
    return found


def _errors(*differences: FloatArray) -> list[Measured]:
    """Return root mean squares over galaxies and answers."""
    squares = np.stack([np.mean(d**2, axis=1) for d in differences])

    def statistic(weights: FloatArray) -> FloatArray:
        return np.asarray(np.sqrt(squares @ weights / weights.sum()))

    return bootstrapped(statistic, squares.shape[1])


def _plain(bins: list[scores.Bin]) -> list[dict[str, Any]]:
    return [asdict(b) for b in bins]
