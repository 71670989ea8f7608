"""De-biasing: red shows the truth, blue the resolution, and labels miss unresolved disks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from surveys import encode, scattered

from catalogs.audit.conditions.resolution import resolution_bias
from catalogs.config import parse
from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from experiments import debias, lab
from experiments.relabel import DEBIASED
from training.records import read_holdout

THETA = 9.0
VALUES = {
    "debias": {"disk": "spiral", "resolution": "alpha", "features": ["hue"]},
    "truth": "truth",
    "intrinsic": ["size"],
    "seeds": 1,
    "galaxies": 1000,
    "train": {
        "epochs": 6,
        "batch": 32,
        "warmup": 4,
        "average": 0.5,
        "learning_rate": 0.01,
        "shape": {"size": 16, "widths": [4, 4, 4, 4, 4], "dense": 8, "dropout": 0.0},
        "split": {"test": 0.5},
        "augment": {"gain": 0, "colour": 0, "saturation": 0, "background": 0, "noise": 0},
    },
}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = 1060
    random = np.random.default_rng(8)
    ra, dec = scattered(rows)
    disk = random.random(rows) < 0.6
    alpha = random.uniform(2, 30, rows)
    seen = disk & (random.random(rows) > np.exp(-(alpha**2) / (2 * THETA**2)))
    names = np.array(["elliptical", "spiral"], dtype=object)
    columns = {
        "truth": names[disk.astype(int)],
        "label": names[seen.astype(int)],
        "alpha": alpha,
        "hue": disk + random.normal(0, 0.3, rows),
        "size": random.normal(0, 1, rows),
    }

    def images(chunks):
        for chunk in chunks:
            pictures = np.zeros((len(chunk), 16, 16, 3), np.uint8)
            pictures[..., 0] = (60 + 60 * disk[chunk] + chunk % 40)[:, None, None]
            pictures[..., 2] = (8 * alpha[chunk])[:, None, None]
            yield [encode(picture) for picture in pictures]

    to = tmp_path_factory.mktemp("missed") / "missed.zarr"
    table = SurveyTable(10_000 + np.arange(rows), ra, dec, columns)
    write_survey(to, table, images, SurveyInfo(name="missed"))
    return to


@pytest.fixture(scope="module")
def out(survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("debias") / "out"
    lab.run("debias", to, survey, parse(debias.Settings, VALUES, "settings"))
    return to


def drawn(out: Path) -> Survey:
    (folder,) = (out / "steps").glob("relabel-*")
    return Survey.open(folder / "sky.zarr")


def test_theta_is_found_and_debiased_labels_are_nearer_to_the_truth(out):
    document = json.loads((out / "results.json").read_text())
    for row in document["tables"]["theta"]["rows"]:
        assert abs(row["theta"] - THETA) < 4 * row["error"] < 3
    store = drawn(out)
    assert store.rows == 1000
    truth = store.column("truth")
    biased, debiased = (np.mean(store.column(n) == truth) for n in ("label", DEBIASED))
    assert debiased > biased + 0.05
    assert not np.any((store.column("label") == "spiral") & (store.column(DEBIASED) != "spiral"))


def test_the_drawn_survey_has_the_images_of_its_galaxies(out, survey):
    store, whole = drawn(out), Survey.open(survey)
    place = {name: row for row, name in enumerate(whole.column("id").tolist())}
    for name in ("truth", "alpha", "ra"):
        expected = whole.column(name)[[place[i] for i in store.column("id").tolist()]]
        assert np.array_equal(store.column(name), expected)
    run = next(path for path in (out / "steps").glob("train-*"))
    held = read_holdout(run / "network.run")
    assert set(held.id) <= set(store.column("id").astype(str))


def test_scores_and_biases_are_those_of_the_answers(out):
    document = json.loads((out / "results.json").read_text())
    judged = {row["who"]: row for row in pq.read_table(out / "judged.parquet").to_pylist()}
    store = drawn(out)
    place = {name: row for row, name in enumerate(store.column("id").astype(str).tolist())}
    runs = {
        step["title"]: read_holdout(out / "steps" / name / "network.run")
        for name, step in document["steps"].items()
        if name.startswith("train-")
    }
    assert len(runs) == 3
    for title, held in runs.items():
        row = judged[title.removeprefix("train on ").removesuffix(", seed 0")]
        rows = np.array([place[i] for i in held.id])
        truth, says = store.column("truth")[rows] == "spiral", held.p >= 0.5
        found = precision_recall_fscore_support(truth, says, average="binary")[:3]
        names = ("true_precision", "true_recall", "true_f1")
        assert [row[name] for name in names] == pytest.approx(list(found))
        assert row["true_accuracy"] == pytest.approx(accuracy_score(truth, says))
        order = np.argsort(rows)  # bootstraps draw by position
        alpha = store.column("alpha")[rows][order]
        rng = np.random.default_rng(0)
        assert row["cv14"] == pytest.approx(resolution_bias(says[order], alpha, None, rng).value)
    assert judged["de-biasing loss"]["true_recall"] > judged["biased labels"]["true_recall"]
    assert judged["the labels"]["cv14_denoised"] > 0.15
    assert judged["the truth"]["cv14_denoised"] < 0.1
    assert judged["the truth"]["leaves"] == 1
    changed = pq.read_table(out / "changed.parquet").to_pandas()
    assert (changed["p_debiased"] >= 0.5).all()
    labels = store.column("label")[changed["row"].to_numpy()]
    assert set(labels) == {"elliptical"}
    assert (out / "gallery.svg").is_file()


def test_without_features_nothing_is_relabelled():
    values = {"debias": {"resolution": "alpha", "theta": 9.18}}
    settings = parse(debias.Settings, values, "settings")
    assert list(debias.trainings(settings)) == ["biased labels", "de-biasing loss"]
    assert not settings.train.balanced
    weighted = parse(debias.Settings, values | {"train": {"balanced": True}}, "settings")
    assert {n: t.weighted for n, t in debias.trainings(weighted).items()} == {
        "biased labels": True,
        "de-biasing loss": False,
    }
    values["corrected"] = "better"
    made = debias.trainings(parse(debias.Settings, values, "settings"))
    assert made["de-biased labels"].label == "better"
