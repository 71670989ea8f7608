"""Trainings on galaxies that are chosen by class; runs that are damaged or cannot be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from surveys import encode

from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.errors import IntegrityError
from catalogs.progress import Silent
from catalogs.trees.tree import read_tree
from training import checkpoint
from training.answers import TwoClasses, answer_layer
from training.averaging import annotator_of
from training.calibrate import Calibration
from training.checkpoint import Run
from training.experts import read_levels
from training.labels import read_labels
from training.models.shamir import ShamirShape
from training.objective import Sample
from training.records import read_holdout
from training.run import _calibration, _mix, _unrestricted, roles_of, train
from training.settings import SplitSettings, TrainSettings
from training.splits import VALIDATION

ROWS = 1800
SETTINGS = TrainSettings(
    epochs=3,
    batch=32,
    warmup=2,
    average=0.5,
    learning_rate=0.01,
    augment=None,
    shape=ShamirShape(size=16, widths=(4, 4, 4, 4, 4), dense=8, dropout=0.0),
    split=SplitSettings(order=3, validation=0.3, test=0.3),
)


class Told(Silent):
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, object]] = {}

    def event(self, name: str, **fields: object) -> None:
        self.events[name] = fields


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter is spiral, everywhere; red over blue tells it, with noise."""
    random = np.random.default_rng(8)
    ra, dec = random.uniform(0, 180, ROWS), random.uniform(-30, 30, ROWS)
    spiral = random.random(ROWS) < 0.25
    hue = np.where(spiral, -25, 25) + random.normal(0, 22, ROWS)

    def images(chunks):
        for chunk in chunks:
            pictures = np.full((len(hue[chunk]), 16, 16, 3), 110.0)
            pictures[..., 0] += hue[chunk][:, None, None]
            pictures[..., 2] -= hue[chunk][:, None, None]
            yield [encode(p) for p in np.clip(pictures, 0, 255).astype(np.uint8)]

    to = tmp_path_factory.mktemp("chosen") / "quarter.zarr"
    labels = np.where(spiral, "spiral", "elliptical").astype(object)
    write_survey(
        to, SurveyTable(np.arange(ROWS), ra, dec, {"label": labels}), images, SurveyInfo(name="q")
    )
    return to


@pytest.fixture(scope="module")
def regional(survey: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told]:
    """A run whose spirals come from a small part of the sky."""
    run, told = tmp_path_factory.mktemp("runs") / "regional.run", Told()
    train(survey, run, replace(SETTINGS, regions={"spiral": "0..50,-30..30"}), told)
    return run, told


def test_p_spiral_is_of_the_surveys_mix_wherever_the_classes_were_learnt(
    regional: tuple[Path, Told],
) -> None:
    run, told = regional
    counts = Run.open(run).data.counts["validation"]
    assert counts["elliptical"] > 10 * counts["spiral"]
    assert told.events["calibrated_on_few"] == {"galaxies_of_a_class": counts["spiral"]}
    held = read_holdout(run)
    assert held.p.mean() == pytest.approx(np.mean(held.label == "spiral"), abs=0.04)


def test_as_many_of_each_class_do_not_make_them_equally_frequent(survey: Path) -> None:
    split = replace(SETTINGS.split, most=60)
    chosen, every = (replace(SETTINGS, split=one) for one in (split, SETTINGS.split))
    labels = read_labels(Survey.open(survey), chosen)
    roles, all_roles = roles_of(labels, chosen), roles_of(labels, every)
    spirals = labels.classes[all_roles == VALIDATION] == "spiral"
    assert np.bincount(labels.targets[roles == VALIDATION]).tolist() == [60, 60]
    mix = _mix(labels, roles == VALIDATION, all_roles == VALIDATION)
    assert mix.numpy() == pytest.approx([1 - spirals.mean(), spirals.mean()])
    assert roles_of(labels, _unrestricted(chosen)).tolist() == all_roles.tolist()
    assert _mix(labels, all_roles == VALIDATION, all_roles == VALIDATION) is None


def test_a_network_that_orders_backwards_is_said_to_be_uncalibrated() -> None:
    targets = np.arange(40) % 2
    nothing = torch.zeros((40, 1, 1, 3), dtype=torch.uint8)
    sample, told = Sample(nothing, nothing, torch.from_numpy(targets)), Told()
    raw = np.where(targets, -1.0, 1.0)[:, None]
    assert _calibration(TwoClasses(), SETTINGS, raw, sample, told) == Calibration()
    assert "backwards" in str(told.events["uncalibrated"]["reason"])


def test_a_trees_questions_that_few_were_asked_are_named() -> None:
    tree = read_tree("gz2")
    random = np.random.default_rng(9)
    votes = np.zeros((40, 37))
    votes[:, :3] = random.multinomial(10, [0.5, 0.4, 0.1], 40)
    settings = TrainSettings(tree="gz2", normalise="softmax")
    nothing = torch.zeros((40, 1, 1, 3), dtype=torch.uint8)
    sample, told = Sample(nothing, nothing, torch.from_numpy(votes)), Told()
    answers = answer_layer(tree.names, tree, settings.normalisation)
    _calibration(answers, settings, random.normal(size=(40, 37)), sample, told)
    asked = [question.name for question in tree.questions]
    assert told.events["uncalibrated"]["questions"] == ", ".join(asked[1:])


@pytest.mark.parametrize("damage", ["metrics", "json", "gone", "weights", "names", "crop"])
def test_a_damaged_run_is_told_in_one_line(
    regional: tuple[Path, Told], tmp_path: Path, damage: str
) -> None:
    run = tmp_path / "a.run"
    shutil.copytree(regional[0], run)
    data = json.loads((run / "data.json").read_text())
    if damage == "metrics":
        (run / "metrics.json").write_text('{"triage": [{"confidence": "x"}]}')
    elif damage == "json":
        (run / "metrics.json").write_text("not json")
    elif damage == "gone":
        (run / "metrics.json").unlink()
    elif damage == "weights":
        weights = checkpoint.read_tensors(run / "weights.safetensors")
        checkpoint.write_tensors(
            run / "weights.safetensors", weights | {next(iter(weights)): torch.zeros(3)}, {}
        )
    elif damage == "names":
        (run / "data.json").write_text(json.dumps(data | {"names": ["a", "b", "c"]}))
    else:
        (run / "data.json").write_text(json.dumps(data | {"crop": 10**9}))

    def used() -> None:
        read_levels(run)
        annotator_of(Run.open(run))

    with pytest.raises(IntegrityError, match=r"; train again$") as caught:
        used()
    assert "\n" not in str(caught.value)
