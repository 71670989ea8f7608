"""From a survey store with labels to a training run: split, train, calibrate, measure."""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from catalogs.cutouts.chosen import crop_of
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter, Silent
from catalogs.sky import Regions, tile_of
from training import checkpoint, records
from training.answers import AnswerLayer, TwoClasses, answer_layer
from training.calibrate import FEWEST as FEWEST_CALIBRATED
from training.calibrate import (
    Calibration,
    fit_calibration,
    fit_questions,
    fit_temperature,
    of_mix,
)
from training.checkpoint import Run, RunData, RunResult
from training.data import Views, read_views
from training.debias import Theta, estimate_theta
from training.fit import device_of, fit, predict
from training.judge import Judgement, judge_classes, judge_tree, tiles
from training.labels import Labels, read_labels
from training.metrics import Measured
from training.models.registry import build
from training.objective import Sample
from training.reversal import draw_parts, read_parts
from training.settings import TrainSettings
from training.splits import (
    ROLE_NAMES,
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    Roles,
    at_most,
    block_order,
    restrict_to_regions,
    sky_blocked,
    sky_weights,
    without_neighbours,
)

THRESHOLD = 0.5
FEWEST = 2


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A complete run: its folder, and what it measured on the sky-blocked hold-out."""

    path: Path
    metrics: dict[str, Measured]
    counts: dict[str, dict[str, int]]
    votes: str
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
        No such survey or column, fewer than two classes, a role that would have no galaxies of
        a class, or ``to`` holds something else.
    """
    settings = settings or TrainSettings()
    reporter = reporter or Silent()
    store = Survey.open(survey)
    labels = read_labels(store, settings)
    device_of(settings)  # says what is not there, before images are read
    settings = _settled(settings, labels)
    roles = roles_of(labels, settings)
    counts = _counts(labels, roles)
    _check_counts(counts)
    every = roles_of(labels, _unrestricted(settings))
    used = np.flatnonzero(roles != UNUSED)
    tree, told = (labels.votes.tree, labels.votes.origin) if labels.votes else (None, "")
    answers = answer_layer(labels.answers, tree, settings.normalisation)
    network = build(settings.model, settings.shape, answers.outputs)
    crop = crop_of(store, settings.crop, network.crop)
    drawn = None
    if settings.adversary is not None:
        drawn = draw_parts(store.column("ra"), store.column("dec"), settings)
    data = RunData(
        survey=store.attributes.name,
        survey_uuid=store.attributes.uuid,
        names=labels.answers,
        crop=crop,
        fingerprint=labels.fingerprint,
        counts=counts,
        code_version=code_version(),
        questions=tree,
        votes=told,
        parts=None if drawn is None else drawn.counts,
    )
    complete = checkpoint.begin(to, settings, data)
    if complete:
        return TrainResult(to, Run.open(to).result.metrics, counts, told, resumed=True)
    resumed = (to / checkpoint.STATE).is_file()
    reporter.event("train", survey=str(survey), crop=crop, resumed=resumed, counts=counts)
    if told:
        reporter.event("votes", known=told)
    theta = _theta(labels, every, settings)
    if theta is not None:
        reporter.event("theta", value=theta.value, error=theta.error)
    views = read_views(store, labels.rows[used], crop, network.size, reporter, settings.threads)
    if views.problems:
        reporter.event("undecodable", images=len(views.problems))
    kept = used[views.kept]
    mixes = {role: _mix(labels, roles == role, every == role) for role in ROLE_NAMES}
    samples = {
        role: replace(_sample(views, labels, kept, roles, role, settings), mix=mix)
        for role, mix in mixes.items()
    }
    records.write_sky(to, labels, kept[roles[kept] == TRAIN])
    width = None if theta is None else theta.value
    sky = None
    if drawn is not None:
        sky = read_parts(store, drawn, crop, network.size, reporter, settings.threads)
    model = fit(samples[TRAIN], samples[VALIDATION], settings, to, reporter, answers, width, sky)
    raw = {role: predict(model, samples[role].cutouts) for role in (VALIDATION, TEST)}
    calibration = _calibration(answers, settings, raw[VALIDATION], samples[VALIDATION], reporter)
    probability = {role: probabilities(answers, calibration, z) for role, z in raw.items()}
    judged = {
        role: judge(probability[role], labels, kept[roles[kept] == role], settings)
        for role in (VALIDATION, TEST)
    }
    records.write_holdout(to, store, labels, kept[roles[kept] == TEST], probability[TEST])
    records.write_examples(to, store, labels.rows[kept[roles[kept] != TRAIN]], crop)
    records.write_curves(to)
    records.write_metrics(to, judged[TEST])
    records.write_triage(to, judged[TEST])
    checkpoint.write_tensors(to / checkpoint.WEIGHTS, model.state_dict(), {})
    result = RunResult(
        calibration=calibration,
        threshold=THRESHOLD,
        metrics=judged[TEST].metrics,
        validation=judged[VALIDATION].metrics,
        undecodable=len(views.problems),
        theta=theta,
    )
    checkpoint.write_json(to / checkpoint.RESULT, result.model_dump())
    reporter.event("trained", **{name: m.value for name, m in result.metrics.items()})
    return TrainResult(to, result.metrics, counts, told, resumed)


def probabilities(
    answers: AnswerLayer, calibration: Calibration, raw: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the calibrated probability of each answer, (n, answers), from raw outputs."""
    if isinstance(answers, TwoClasses):
        p = calibration.probability(raw[:, 0])
        return np.stack([1.0 - p, p], axis=1)
    scaled = torch.from_numpy(raw * calibration.factors + calibration.bias)
    return np.asarray(answers(scaled).numpy(), dtype=np.float64)


def code_version() -> str:
    """Return skytally's version and a digest of the sources that decide a training's result."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return f"{importlib.metadata.version('skytally')}+{digest.hexdigest()[:12]}"


def _settled(settings: TrainSettings, labels: Labels) -> TrainSettings:
    """Settle what depends on the rest, so that the run's settings name it."""
    split = settings.split
    if split.order is None:
        split = replace(split, order=block_order(labels.ra, labels.dec))
    return replace(settings, split=split, balanced=settings.weighted)


def roles_of(labels: Labels, settings: TrainSettings) -> Roles:
    """Return which galaxies train, validate and test."""
    roles = sky_blocked(labels.ra, labels.dec, settings.split)
    regions = {name: Regions.parse(text) for name, text in settings.regions.items()}
    roles = restrict_to_regions(roles, labels.classes, labels.ra, labels.dec, regions)
    roles = without_neighbours(roles, labels.ra, labels.dec)
    split = settings.split
    if split.tested:
        inside = Regions.parse(" + ".join(split.tested)).contains(labels.ra, labels.dec)
        roles[(roles == TEST) & ~inside] = UNUSED
    if split.most is None:
        return roles
    return at_most(roles, labels.classes, labels.rows, split.most, split.seed)


def _unrestricted(settings: TrainSettings) -> TrainSettings:
    """Return the same split, of which no galaxy is left out for its class."""
    return replace(settings, regions={}, split=replace(settings.split, most=None))


def _mix(
    labels: Labels, chosen: NDArray[np.bool_], every: NDArray[np.bool_]
) -> torch.Tensor | None:
    """Return the share of each class in a role's tiles; None where all galaxies were chosen."""
    if len(labels.names) < 2 or np.array_equal(chosen, every):
        return None
    counts = np.bincount(labels.targets[every], minlength=len(labels.names))
    return torch.from_numpy(counts / counts.sum())


def _theta(labels: Labels, roles: Roles, settings: TrainSettings) -> Theta | None:
    """Return the width of the labelling bias, given or found from all training tiles."""
    debias = settings.debias
    if debias is None:
        return None
    if debias.disk not in labels.names or len(labels.names) != 2:
        raise InputError(
            f"debias.disk {debias.disk!r} is none of two classes; column {settings.label!r} has "
            f"{', '.join(labels.names)}"
        )
    if debias.theta is not None:
        return Theta(debias.theta)
    assert labels.resolution is not None
    assert labels.features is not None
    chosen = roles == TRAIN
    disk = (labels.classes[chosen] == debias.disk).astype(np.int64)
    return estimate_theta(labels.resolution[chosen], disk, labels.features[chosen])


def _calibration(
    answers: AnswerLayer,
    settings: TrainSettings,
    raw: NDArray[np.float64],
    sample: Sample,
    reporter: Reporter,
) -> Calibration:
    """Fit the calibration on the validation galaxies, with the mix of classes of their tiles.

    Of a tree where its outputs are logits: what is rectified has no scale, and the Dirichlet
    distributions have their own. Not after de-biasing: labels that are biased would bring the
    bias back.
    """
    targets = sample.targets.numpy()
    if answers.tree is not None and settings.normalisation == "softmax":
        found = fit_questions(raw, targets.astype(np.float64), answers.tree.slices)
        asked = zip(answers.tree.questions, answers.tree.slices, strict=True)
        left = [q.name for q, s in asked if set(found.scales[s]) == {1.0}]
        if left:
            reason = f"fewer than {FEWEST_CALIBRATED} validation galaxies were asked"
            reporter.event("uncalibrated", questions=", ".join(left), reason=reason)
        return found
    if settings.objective != "cross_entropy":
        return Calibration()
    weights = of_mix(targets, None if sample.mix is None else sample.mix.numpy())
    if not isinstance(answers, TwoClasses):
        return fit_temperature(raw, targets, weights)
    found = fit_calibration(raw[:, 0], targets, weights)
    fewest = int(np.bincount(targets, minlength=2).min())
    if found == Calibration():
        reason = "the validation galaxies' logits order the classes backwards"
        reporter.event("uncalibrated", reason=reason)
    elif fewest < FEWEST_CALIBRATED:
        reporter.event("calibrated_on_few", galaxies_of_a_class=fewest)
    return found


def judge(
    probability: NDArray[np.float64],
    labels: Labels,
    chosen: NDArray[np.int64],
    settings: TrainSettings,
) -> Judgement:
    """Judge the answers on some galaxies; per tile by the first question."""
    if labels.votes is not None:
        votes = labels.votes[chosen]
        judgement = judge_tree(probability, votes)
        first = votes.tree.slices[votes.tree.roots[0]]
        right = probability[:, first].argmax(axis=1) == votes.conditional[:, first].argmax(axis=1)
    else:
        targets = labels.targets[chosen]
        judgement = judge_classes(probability, targets, labels.names, THRESHOLD)
        right = (probability[:, 1] >= THRESHOLD) == (targets == 1)
        if len(labels.names) > 2:
            right = probability.argmax(axis=1) == targets
    assert settings.split.order is not None
    by_tile = tiles(labels.ra[chosen], labels.dec[chosen], right, settings.split.order)
    judgement.details["tiles"] = {"order": settings.split.order, "accuracy": by_tile}
    return judgement


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
    views: Views,
    labels: Labels,
    kept: NDArray[np.int64],
    roles: Roles,
    role: int,
    settings: TrainSettings,
) -> Sample:
    here = np.flatnonzero(roles[kept] == role)
    chosen, rows = torch.from_numpy(here), kept[here]
    targets, cumulative, resolution, weights = (
        torch.from_numpy(labels.targets[rows]),
        None,
        None,
        None,
    )
    if labels.votes is not None:
        votes = labels.votes[rows]
        targets = torch.from_numpy(votes.counts).to(torch.float32)
        cumulative = torch.from_numpy(votes.cumulative).to(torch.float32)
    if labels.resolution is not None:
        resolution = torch.from_numpy(labels.resolution[rows]).to(torch.float32)
    if settings.sampling == "sky":
        assert settings.split.order is not None
        blocks = tile_of(labels.ra[rows], labels.dec[rows], settings.split.order)
        weights = torch.from_numpy(sky_weights(blocks, labels.classes[rows].astype(str)))
    # Only training looks beyond the framing.
    wide = views.wide[chosen] if role == TRAIN else views.wide[:0]
    return Sample(wide, views.cutouts[chosen], targets, cumulative, resolution, weights)
