"""From probabilities to labels, and to how sure they are: what a catalog holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.manifest import Manifest, Question

NOT_ASKED = -1
OTHER = "other"  # the label of a tree's galaxy that is not called spiral

Answers = NDArray[np.float32]
Choices = NDArray[np.int64]


def stacked(answers: dict[str, Answers], manifest: Manifest) -> Answers:
    """Return the outputs of a graph as one array, (n, answers)."""
    return np.stack([answers[name] for name in manifest.answers], axis=1)


def conditional(answers: Answers, question: Question) -> NDArray[np.float64]:
    """Return the shares of those who are asked a question, (n, its answers); 0 if nobody is."""
    shares = answers[:, question.at].astype(np.float64)
    asked = shares.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(shares, asked, out=np.zeros_like(shares), where=asked > 0))


def choices(answers: Answers, question: Question, manifest: Manifest) -> Choices:
    """Return which answer a galaxy is given, (n,): an index, or -1 where nobody is asked.

    The likeliest one. Where one answer is ``spiral``: that one if its probability reaches the
    bundle's threshold, else the likeliest other.
    """
    shares = answers[:, question.at]
    likeliest = np.nan_to_num(shares, nan=-1.0)
    if manifest.tree is None and manifest.spiral in question.answers:
        spiral = question.answers.index(manifest.spiral)
        others = likeliest.copy()
        others[:, spiral] = -1.0
        above = shares[:, spiral] >= manifest.threshold
        return np.asarray(np.where(above, spiral, np.argmax(others, axis=1)), dtype=np.int64)
    found = np.asarray(np.argmax(likeliest, axis=1), dtype=np.int64)
    if manifest.tree is not None:
        found[~(shares.sum(axis=1) > 0)] = NOT_ASKED
    return found


def spiralness(answers: Answers, manifest: Manifest) -> Answers | None:
    """Return how spiral each galaxy is, (n,); None where the bundle calls nothing spiral."""
    if manifest.spiral is None:
        return None
    return answers[:, manifest.answers.index(manifest.spiral)]


def agreement(answers: NDArray[np.floating]) -> Answers:
    """Return how sure the network is, 0 to 1: a(p) = 1 - H(p) / log n.

    Parameters
    ----------
    answers : ndarray of float, shape (n, answers)
        Probabilities that sum to 1 in each row.

    References
    ----------
    Dieleman, Willett & Dambre 2015, MNRAS 450, 1441, equations 6 and 7.
    """
    p = answers.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(p > 0, p * np.log(p), 0.0).sum(axis=1)
    share = np.clip(1.0 - entropy / np.log(p.shape[1]), 0.0, 1.0)
    return np.asarray(share, dtype=np.float32)
