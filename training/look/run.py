"""From a run and its survey to the page: which galaxies are shown, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter, Silent
from training import checkpoint
from training.averaging import annotator_of
from training.checkpoint import Run
from training.data import read_views
from training.fit import deterministic
from training.labels import Labels, read_labels
from training.look import inside, page
from training.network import Annotator
from training.run import probabilities, roles_of
from training.splits import TEST

MOST = 2000  # galaxies that are looked at
SHOWN = 8  # in a row


@dataclass(frozen=True, slots=True)
class Looked:
    """The galaxies that were looked at, and what is said of each.

    Attributes
    ----------
    cutouts : Tensor of uint8, shape (n, s, s, 3)
    groups : ndarray of str, shape (n,)
        Class; the tree's name for all of a tree.
    error : ndarray of float64, shape (n,)
        How wrong the answer is: one minus the probability of the class, or the root mean square of
        a tree's cumulative fractions.
    captions : list of str
    """

    cutouts: Tensor
    groups: NDArray[np.object_]
    error: NDArray[np.float64]
    captions: list[str]


def look(run: Path, survey: Path, to: Path, reporter: Reporter | None = None) -> int:
    """Write the page of a network, and return how many held-out galaxies it was shown.

    Dieleman, Willett & Dambre 2015, figures 10 to 14.

    Parameters
    ----------
    run : Path
        A complete run of one network.
    survey : Path
        What it was trained on.
    to : Path
        HTML file to make.
    reporter : Reporter, optional

    Raises
    ------
    InputError
        The run is a mean of several networks or of another survey, or ``to`` exists.
    """
    if to.exists():
        raise InputError(f"{to} exists already; name another file, or remove it first")
    opened = Run.open(run)
    annotator = annotator_of(opened)
    if not isinstance(annotator, Annotator):
        raise InputError(f"{run} is the mean of several networks or views; look at one of its runs")
    store = Survey.open(survey)
    labels = read_labels(store, opened.settings)
    if labels.fingerprint != opened.data.fingerprint:
        raise InputError(f"{run} was trained on other data than {survey} holds")
    held = np.flatnonzero(roles_of(labels, opened.settings) == TEST)
    held = held[np.linspace(0, len(held) - 1, min(MOST, len(held))).astype(np.int64)]
    views = read_views(
        store, labels.rows[held], opened.data.crop, annotator.size, reporter or Silent()
    )
    classifier = annotator.classifier
    with deterministic(opened.settings.threads, opened.settings.seed):
        answered = inside.answer(classifier, views.cutouts)
        p = probabilities(classifier.answers, opened.result.calibration, answered.raw)
        looked = _looked(views.cutouts, p, labels, held[views.kept], store)
        examples = [
            (looked.captions[i], views.cutouts[i], inside.maps(classifier, views.cutouts[i]))
            for i in _examples(looked)
        ]
    units = inside.strongest_units(answered)
    html = page.render(
        title=run.name,
        run=opened,
        filters=inside.first_filters(classifier.network),
        examples=examples,
        units=[_unit(looked, answered, int(unit)) for unit in units],
        ends=_ends(looked),
        galaxies=len(looked.captions),
    )
    checkpoint.write_bytes(to, html.encode())
    return len(looked.captions)


def _looked(
    cutouts: Tensor,
    p: NDArray[np.float64],
    labels: Labels,
    chosen: NDArray[np.int64],
    store: Survey,
) -> Looked:
    identifiers = store.column("id")[labels.rows[chosen]]
    if labels.votes is None:
        targets = labels.targets[chosen]
        error = 1.0 - p[np.arange(len(p)), targets]
        said = [f"{c}, p {1 - e:.2f}" for c, e in zip(labels.classes[chosen], error, strict=True)]
    else:
        error = np.sqrt(np.mean((p - labels.votes[chosen].cumulative) ** 2, axis=1))
        said = [f"error {e:.3f}" for e in error]
    captions = [f"{i}: {text}" for i, text in zip(identifiers, said, strict=True)]
    return Looked(cutouts, labels.classes[chosen], error, captions)


def _examples(looked: Looked) -> list[int]:
    """Return the galaxy of each group that is answered best; of a single group also the worst."""
    found = [int(members[0]) for _, members in _ranked(looked)]
    if len(found) == 1:
        found.append(int(np.argmax(looked.error)))
    return found[:3]


def _ranked(looked: Looked) -> list[tuple[str, NDArray[np.int64]]]:
    """Return the galaxies of each group, the easiest first."""
    order = np.argsort(looked.error, kind="stable")
    return [(str(g), order[looked.groups[order] == g]) for g in sorted(set(looked.groups))]


def _ends(looked: Looked) -> list[page.Shown]:
    return [
        page.Shown(f"{which} {group}", *_pictures(looked, members))
        for group, ranked in _ranked(looked)
        for which, members in (("easiest", ranked[:SHOWN]), ("hardest", ranked[::-1][:SHOWN]))
    ]


def _unit(looked: Looked, answered: inside.Answered, unit: int) -> tuple[int, list[page.Shown]]:
    value = answered.top[:, unit]
    order = np.argsort(-value, kind="stable")
    rows = []
    for which, members in (("most", order[:SHOWN]), ("least", order[::-1][:SHOWN])):
        pictures, _ = _pictures(looked, members)
        said = [f"{looked.captions[i]}; unit {value[i]:.2f}" for i in members]
        rows.append(page.Shown(which, pictures, said))
    return unit, rows


def _pictures(
    looked: Looked, members: Sequence[int] | NDArray[np.int64]
) -> tuple[list[NDArray[np.uint8]], list[str]]:
    chosen = torch.as_tensor(np.array(members, dtype=np.int64))
    return list(looked.cutouts[chosen].numpy()), [looked.captions[int(i)] for i in members]
