"""Even skies that labels could call a sky: answers are missing, experts unsure, labels learnt from.

Judged by the audit's own `attribute`; of a region that was named, with as many labels and objects
as in the rows of causes.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.audit_validation.causes import (
    DECLARED,
    EXCESS,
    INSIDE,
    LOST,
    OUTSIDE,
    USUAL,
)
from benchmarks.audit_validation.row import Row, share
from benchmarks.audit_validation.skies import FloatArray, P
from catalogs.audit.labels.attribution import BOTH, CLASSIFIER, SKY
from catalogs.audit.labels.census import Census
from catalogs.audit.labels.labelled import Labelled, attribute
from catalogs.audit.labels.prediction_powered import Answers, Sample
from catalogs.audit.region import Cap
from catalogs.audit.uniformity.battery import CELL_ORDER

_OBJECTS, _REST = 34_000, 966_000
_LEFT, _LEFT_THERE = 0.1, 0.2  # of all objects, and of true spirals inside, have no answer
_UNSURE, _FAINT = 0.85, 0.5  # experts, of the faint ones, and how many are faint
_LEARNT = (0.99, 0.995)  # rates on the galaxies that the network learnt from
_LITTLE = 0.05  # what TPR falls by inside, little enough for the draw to pass its tests


def cells(
    p: float = P,
    rates: tuple[float, float] = USUAL,
    left: tuple[float, float] = (_LEFT, _LEFT),
    unsure: float = 0.0,
) -> FloatArray:
    """Probabilities of answer (none, other, spiral), truth (other, spiral) and a label's shape.

    ``left`` are the shares of true spirals, and of others, that have no answer.
    """
    found = np.empty((3, 2, 2))
    for truth, (number, tells, none) in enumerate(
        ((1 - p, 1 - rates[1], left[1]), (p, rates[0], left[0]))
    ):
        answers = np.array([none, (1 - none) * (1 - tells), (1 - none) * tells])
        found[:, truth] = number * answers[:, None] * (unsure, 1 - unsure)
    return found


def _side(
    labels: int, objects: int, of: FloatArray, known: FloatArray, rng: np.random.Generator
) -> tuple[Sample, FloatArray]:
    """Draw one side: its answered objects, and all of them as a census counts them."""
    drawn = rng.multinomial(labels, known.ravel()).reshape(known.shape).astype(float)
    rest = rng.multinomial(objects - labels, of.ravel()).reshape(of.shape).astype(float)
    counts = np.stack(
        [rest.sum(axis=(1, 2)), drawn[:, :, 0].sum(axis=1), drawn[:, 0, 1], drawn[:, 1, 1]], axis=1
    )

    def answers(of: FloatArray) -> Answers:
        return Answers(of[1:].sum(keepdims=True), of[2:], of[2:])

    unlabelled = answers(counts[:, 0] + counts[:, 1])
    return Sample(unlabelled, answers(counts[:, 2]), answers(counts[:, 3])), counts


def _named(
    inside: tuple[FloatArray, FloatArray],
    outside: tuple[FloatArray, FloatArray],
    skies: int,
    seed: int,
) -> FloatArray:
    """Return the causes, shape (2, skies): of declared and undeclared labels.

    Each side is given by the probabilities of all objects, and of those with a label.
    """
    rng = np.random.default_rng(seed)
    names = []
    for _ in range(skies):
        a, there = _side(INSIDE, _OBJECTS, *inside, rng)
        b, elsewhere = _side(OUTSIDE, _REST, *outside, rng)
        census = Census(CELL_ORDER, counts=np.stack([elsewhere, there])[..., None])
        found = [
            Labelled(CELL_ORDER, a, b, True, False, 1, declared=declared, census=census)
            for declared in (True, False)
        ]
        names.append([attribute(one, Cap(0, 0, 10), named=True).cause for one in found])
    return np.array(names).T


def _row(
    name: str, names: FloatArray, note: str, truth: str | None = None, at_least: float = 0.94
) -> Row:
    checks = [
        share(f"called sky, {how}", np.isin(found, (SKY, BOTH)), at_most=0.04)
        for how, found in zip((DECLARED, "undeclared"), names, strict=True)
        if truth not in (SKY, BOTH)
    ]
    if truth is not None:
        checks.append(share(f"right, {DECLARED}", names[0] == truth, at_least=at_least))
        checks.append(share("right, undeclared", names[1] == truth))
    return Row(f"attribution: {name}", f"attribution: {name}", names.shape[1], checks, note)


def abstains(skies: int) -> Row:
    """The classifier has no answer for more spirals inside."""
    there, usual = cells(left=(_LEFT_THERE, _LEFT)), cells()
    names = _named((there, there), (usual, usual), skies, 112)
    note = (
        f"spirals {P} everywhere, rates {USUAL}; {_LEFT} of all objects have no answer, of true "
        f"spirals inside {_LEFT_THERE}"
    )
    return _row("answers missing", names, note, CLASSIFIER)


def abstains_evenly(skies: int) -> Row:
    """A real sky; the classifier has no answer for some, inside as outside."""
    left = (0.8 * _LEFT, 1.2 * _LEFT)
    there, usual = cells(P + EXCESS, left=left), cells(left=left)
    names = _named((there, there), (usual, usual), skies, 113)
    note = (
        f"spirals {P + EXCESS:.3f} inside and {P} outside, rates {USUAL}; {left[0]:.2f} of true "
        f"spirals and {left[1]:.2f} of others have no answer, everywhere"
    )
    return _row("a sky with answers missing alike", names, note, SKY, at_least=0.9)


def unsure(skies: int) -> Row:
    """Experts cannot tell most faint galaxies; the classifier misses faint spirals inside."""
    bright = partial(cells, left=(0.0, 0.0))
    faint = partial(bright, unsure=_UNSURE)
    missed = (USUAL[0] - LOST, USUAL[1])
    there = (1 - _FAINT) * bright() + _FAINT * faint(rates=missed)
    usual = (1 - _FAINT) * bright() + _FAINT * faint()
    names = _named((there, there), (usual, usual), skies, 114)
    note = (
        f"spirals {P} everywhere; {_FAINT} of all are faint, and experts say unknown of {_UNSURE} "
        f"of these; rates {USUAL}, but TPR lower by {LOST} for faint ones inside"
    )
    return _row("experts who cannot tell", names, note)


def learnt(skies: int) -> Row:
    """Labels are of galaxies that the network learnt from; it misses others inside."""
    known = cells(rates=_LEARNT, left=(0.0, 0.0))
    missed = (USUAL[0] - _LITTLE, USUAL[1])
    there, usual = (cells(rates=rates, left=(0.0, 0.0)) for rates in (missed, USUAL))
    names = _named((there, known), (usual, known), skies, 115)
    note = (
        f"spirals {P} everywhere; rates {_LEARNT} of those with a label, of the others {USUAL}, "
        f"but TPR lower by {_LITTLE} inside: declared, that is a sky"
    )
    row = _row("labels that the network learnt from", names, note)
    row.checks[0] = share(f"called sky, {DECLARED}", np.isin(names[0], (SKY, BOTH)))
    return row
