"""From a survey store with labels to a training run: split, train, calibrate, measure."""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter, Silent
from catalogs.sky import Region
from training import checkpoint, records
from training.calibrate import fit_calibration
from training.checkpoint import Run, RunData, RunResult
from training.data import Labels, Views, crop_of, read_labels, read_views
from training.fit import Sample, fit, predict
from training.metrics import Measured, evaluate
from training.models.registry import build
from training.settings import TrainSettings
from training.splits import (
    ROLE_NAMES,
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    Roles,
    block_order,
    restrict_to_regions,
    sky_blocked,
)

THRESHOLD = 0.5
FEWEST = 2


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A complete run: its folder, and what it measured on the sky-blocked hold-out."""

    path: Path
    metrics: dict[str, Measured]
    counts: dict[str, dict[str, int]]
    resumed: bool


def train(
    survey: Path,
    to: Path,
    settings: TrainSettings | None = None,
    reporter: Reporter | None = None,
) -> TrainResult:
    """Train a network on the labelled galaxies of a survey.

    Parameters
    ----------
    survey : Path
        A survey store with a label column.
    to : Path
        ``NAME.run``. A training that was interrupted goes on, to the same weights; one that is
        complete is returned as it is.
    settings : TrainSettings, optional
    reporter : Reporter, optional

    Raises
    ------
    InputError
        No such survey or column, not two classes, a role that would have no galaxies of a
        class, or ``to`` holds something else.
    """
    settings = settings or TrainSettings()
    reporter = reporter or Silent()
    store = Survey.open(survey)
    labels = read_labels(store, settings.label)
    settings = _with_order(settings, labels)
    roles = _roles(labels, settings)
    counts = _counts(labels, roles)
    _check_counts(counts)
    used = np.flatnonzero(roles != UNUSED)
    network = build(settings.model, settings.shape, outputs=1)
    crop = crop_of(store, settings.crop, network.crop)
    data = RunData(
        survey=store.attributes.name,
        survey_uuid=store.attributes.uuid,
        names=labels.names,
        crop=crop,
        fingerprint=labels.fingerprint,
        counts=counts,
        code_version=code_version(),
    )
    complete = checkpoint.begin(to, settings, data)
    if complete:
        return TrainResult(to, Run.open(to).result.metrics, counts, resumed=True)
    resumed = (to / checkpoint.STATE).is_file()
    reporter.event("train", survey=str(survey), crop=crop, resumed=resumed, counts=counts)
    views = read_views(store, labels.rows[used], crop, network.size, reporter, settings.threads)
    if views.problems:
        reporter.event("undecodable", images=len(views.problems))
    kept = used[views.kept]
    samples = {role: _sample(views, labels, kept, roles, role) for role in ROLE_NAMES}
    records.write_sky(to, labels, kept[roles[kept] == TRAIN])
    model = fit(samples[TRAIN], samples[VALIDATION], settings, to, reporter)
    validation, test = samples[VALIDATION], samples[TEST]
    logits = {role: predict(model, samples[role].cutouts) for role in (VALIDATION, TEST)}
    calibration = fit_calibration(logits[VALIDATION], validation.targets.numpy())
    probability = {role: calibration.probability(z) for role, z in logits.items()}
    metrics = {
        role: evaluate(probability[role], sample.targets.numpy(), labels.names, THRESHOLD)
        for role, sample in ((VALIDATION, validation), (TEST, test))
    }
    records.write_holdout(to, store, labels, kept[roles[kept] == TEST], probability[TEST])
    records.write_examples(to, store, labels.rows[kept[roles[kept] == VALIDATION]], crop)
    records.write_curves(to)
    checkpoint.write_tensors(to / checkpoint.WEIGHTS, model.state_dict(), {})
    result = RunResult(
        calibration=calibration,
        threshold=THRESHOLD,
        metrics=metrics[TEST],
        validation=metrics[VALIDATION],
        undecodable=len(views.problems),
    )
    checkpoint.write_json(to / checkpoint.RESULT, result.model_dump())
    reporter.event("trained", **{name: m.value for name, m in result.metrics.items()})
    return TrainResult(to, result.metrics, counts, resumed)


def code_version() -> str:
    """Return skytally's version and a digest of the sources that decide a training's result."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return f"{importlib.metadata.version('skytally')}+{digest.hexdigest()[:12]}"


def _with_order(settings: TrainSettings, labels: Labels) -> TrainSettings:
    """Settle the order of the sky blocks, so that the run's settings name it."""
    if settings.split.order is not None:
        return settings
    order = block_order(labels.ra, labels.dec)
    return replace(settings, split=replace(settings.split, order=order))


def _roles(labels: Labels, settings: TrainSettings) -> Roles:
    roles = sky_blocked(labels.ra, labels.dec, settings.split)
    regions = {name: Region.parse(text) for name, text in settings.regions.items()}
    return restrict_to_regions(roles, labels.classes, labels.ra, labels.dec, regions)


def _counts(labels: Labels, roles: Roles) -> dict[str, dict[str, int]]:
    """Return the number of galaxies of each class in each role."""
    return {
        text: {
            name: int(np.sum((labels.classes == name) & (roles == role))) for name in labels.names
        }
        for role, text in ROLE_NAMES.items()
    }


def _check_counts(counts: dict[str, dict[str, int]]) -> None:
    for role, by_class in counts.items():
        for name, count in by_class.items():
            if count < FEWEST:
                raise InputError(
                    f"the {role} tiles hold {count} galaxies labelled {name!r}, at least {FEWEST} "
                    "are needed; use more galaxies, a wider region, or a finer [split] order"
                )


def _sample(
    views: Views, labels: Labels, kept: NDArray[np.int64], roles: Roles, role: int
) -> Sample:
    chosen = torch.from_numpy(np.flatnonzero(roles[kept] == role))
    targets = torch.from_numpy(labels.targets[kept])
    # Only training looks beyond the framing.
    wide = views.wide[chosen] if role == TRAIN else views.wide[:0]
    return Sample(wide, views.cutouts[chosen], targets[chosen])
