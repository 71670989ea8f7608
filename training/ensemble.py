"""Several runs, or one that sees each galaxy from all sides, as one run like any other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter, Silent
from training import checkpoint, records
from training.averaging import Average, annotator_of
from training.calibrate import Calibration
from training.checkpoint import Averaged, Member, Run, RunResult
from training.data import read_views
from training.fit import deterministic
from training.labels import read_labels
from training.network import Annotator
from training.run import THRESHOLD, TrainResult, code_version, judge, roles_of
from training.settings import dump
from training.splits import TEST, VALIDATION

BATCH = 32


def average(
    survey: Path,
    runs: Sequence[Path],
    to: Path,
    turned: bool = False,
    reporter: Reporter | None = None,
) -> TrainResult:
    """Make a run whose answers are the means of other runs' calibrated answers.

    Dieleman, Willett & Dambre 2015, section 7.8.

    Parameters
    ----------
    survey : Path
        What the runs were trained on; its held-out galaxies judge the mean.
    runs : sequence of Path
        Complete runs, one or more, with the same data, answers, framing and split.
    to : Path
        ``NAME.run``.
    turned : bool
        Average each over the sixty transformations of the image as well: sixty times the work.
    reporter : Reporter, optional

    Raises
    ------
    InputError
        The runs do not belong together or to this survey, or ``to`` holds something else.
    """
    reporter = reporter or Silent()
    members = [Run.open(path) for path in runs]
    first = members[0]
    for other in members:
        _check_alike(first, other)
    store = Survey.open(survey)
    labels = read_labels(store, first.settings)
    if labels.fingerprint != first.data.fingerprint:
        raise InputError(f"{first.path} was trained on other data than {survey} holds")
    averaged = Averaged(
        members=tuple(
            Member(
                name=run.path.name,
                settings=dump(run.settings),
                calibration=run.result.calibration,
            )
            for run in members
        ),
        turned=turned,
    )
    data = first.data.model_copy(update={"averaged": averaged, "code_version": code_version()})
    weights: dict[str, Tensor] = {}
    for i, run in enumerate(members):
        weights |= {f"{i}.{name}": tensor for name, tensor in run.weights.items()}
    if checkpoint.begin(to, first.settings, data):
        found = Run.open(to).result.metrics
        return TrainResult(to, found, data.counts, data.votes, resumed=True)
    checkpoint.write_tensors(to / checkpoint.WEIGHTS, weights, {})
    checkpoint.write_bytes(to / checkpoint.SKY, (first.path / checkpoint.SKY).read_bytes())
    # Judged as it will be read back.
    blank = RunResult(
        calibration=Calibration(), threshold=THRESHOLD, metrics={}, validation={}, undecodable=0
    )
    annotator = annotator_of(Run(to, first.settings, data, blank, weights))
    roles = roles_of(labels, first.settings)
    used = np.flatnonzero((roles == TEST) | (roles == VALIDATION))
    views = read_views(store, labels.rows[used], data.crop, annotator.size, reporter)
    kept = used[views.kept]
    with deterministic(first.settings.threads, first.settings.seed):
        probability = _answers(annotator, views.cutouts, reporter)
    judged = {}
    for role in (VALIDATION, TEST):
        here = roles[kept] == role
        judged[role] = judge(probability[here], labels, kept[here], first.settings)
    test = roles[kept] == TEST
    records.write_holdout(to, store, labels, kept[test], probability[test])
    records.write_examples(to, store, labels.rows[kept[~test]], data.crop)
    records.write_metrics(to, judged[TEST])
    records.write_triage(to, judged[TEST])
    result = blank.model_copy(
        update={
            "metrics": judged[TEST].metrics,
            "validation": judged[VALIDATION].metrics,
            "undecodable": len(views.problems),
        }
    )
    checkpoint.write_json(to / checkpoint.RESULT, result.model_dump())
    return TrainResult(to, result.metrics, data.counts, data.votes, resumed=False)


def _check_alike(first: Run, other: Run) -> None:
    """Refuse a run that was trained or held out on other galaxies, or answers something else."""
    if other.data.averaged is not None:
        raise InputError(f"{other.path} is a mean already; give the runs that it is made of")
    pairs = {
        "data": (first.data.fingerprint, other.data.fingerprint),
        "answers": (first.data.names, other.data.names),
        "tree": (first.data.questions, other.data.questions),
        "crop": (first.data.crop, other.data.crop),
        "split": (first.settings.split, other.settings.split),
        "regions": (first.settings.regions, other.settings.regions),
    }
    for name, (one, two) in pairs.items():
        if one != two:
            raise InputError(
                f"{first.path} and {other.path} differ in {name}; only runs of the same galaxies "
                "can be averaged, or the held-out ones of one have trained another"
            )


def _answers(
    annotator: Annotator | Average, cutouts: Tensor, reporter: Reporter
) -> NDArray[np.float64]:
    parts = []
    with torch.inference_mode():
        for start in range(0, len(cutouts), BATCH):
            parts.append(torch.stack(annotator(cutouts[start : start + BATCH]), dim=1))
            reporter.progress("answer", min(start + BATCH, len(cutouts)), len(cutouts), "images")
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float64)
