"""De-biasing: red shows the truth, blue the resolution, and labels miss unresolved disks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from statsmodels.stats.multitest import multipletests
from surveys import encode, scattered

from catalogs.audit.conditions.resolution import resolution_bias
from catalogs.config import parse
from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.errors import InputError
from experiments import debias, debias_sums, lab
from experiments import debias_words as words
from experiments.relabel import DEBIASED
from experiments.truth import refuse_truth
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
        "seldom": np.where(np.arange(rows) < 70, names[disk.astype(int)], "").astype(object),
        "kind": np.array(["early", "late"], dtype=object)[disk.astype(int)],
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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"truth": "alpha"}, "truth: column 'alpha' .* the classes of the labels are"),
        ({"truth": "seldom"}, "would judge .* test galaxies; 20 of each class are needed"),
        ({"corrected": "kind"}, "corrected: column 'kind' has early, late"),
    ],
)
def test_columns_of_other_classes_are_refused(survey, change, said):
    with pytest.raises(InputError, match=said):
        debias.check(Survey.open(survey), parse(debias.Settings, {**VALUES, **change}, "settings"))


def test_truth_is_counted_among_the_galaxies_that_may_be_tested(survey):
    store, names = Survey.open(survey), ("elliptical", "spiral")
    told = store.column("seldom").astype(str) != ""
    known, unknown = np.flatnonzero(told), np.flatnonzero(~told)
    refuse_truth(store, "seldom", names, known, 1.0)
    with pytest.raises(InputError, match=r"would judge .* test galaxies"):
        refuse_truth(store, "seldom", names, known, 0.2)
    with pytest.raises(InputError, match="the classes of the labels are"):
        refuse_truth(store, "seldom", names, unknown, 1.0)


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
    assert judged["the truth"]["leaves"] is None  # half of 1,000 galaxies fill one leaf
    assert judged["the truth"]["cv18"] is None
    assert "1 seed: bias L (CV14)" in document["headline"]
    assert "(no p: no change is shown" in document["headline"]
    changed = pq.read_table(out / "changed.parquet").to_pandas()
    assert (changed["p_debiased"] >= 0.5).all()
    labels = store.column("label")[changed["row"].to_numpy()]
    assert set(labels) == {"elliptical"}
    assert (out / "gallery.svg").is_file()


def told(rows: int, seed: int, shift: float) -> debias_sums.Tested:
    """Answers of a seed: the network with the loss calls more disks, of small ones above all."""
    random = np.random.default_rng(seed)
    alpha, truth = random.uniform(2, 30, rows), random.random(rows) < 0.5
    missed = random.random(rows) < np.exp(-(alpha**2) / (2 * THETA**2))
    half = missed & (random.random(rows) > shift)
    p = {name: np.where(truth & ~m, 0.9, 0.1) for name, m in (("biased labels", missed),)}
    p |= {"de-biasing loss": np.where(truth & ~half, 0.9, 0.1), "the truth": 1.0 * truth}
    p["the labels"] = 1.0 * (truth & ~missed)
    return debias_sums.Tested(np.arange(rows), p, alpha, random.normal(0, 1, (rows, 1)))


def test_all_seeds_have_as_many_leaves_or_there_is_no_cv18():
    settings = parse(debias.Settings, VALUES, "settings")
    enough = 2 * 8 * 58
    for sizes, leaves in (((4 * enough, enough), 2), ((enough, enough - 1), None)):
        every = [told(rows, seed, 0.5) for seed, rows in enumerate(sizes)]
        depth = debias.depth_of(every)
        for seed, one in enumerate(every):
            for row in debias.judged(one, settings, seed, depth):
                assert row["leaves"] == leaves
                assert (row["cv18"] is None) == (leaves is None)
                if leaves is not None and row["who"] == "the truth":
                    says, rng = one.p["the truth"] >= 0.5, np.random.default_rng(0)
                    found = resolution_bias(says, one.alpha, one.intrinsic, rng, depth=1)
                    assert row["cv18"] == found.value


def test_a_change_is_shown_or_said_not_to_be():
    settings = parse(debias.Settings, VALUES, "settings")
    ratio = 0.5 / 0.4
    for shift, said in ((0.5, "(falls, p = "), (0.0, "no change is shown")):
        every = [told(1000, seed, shift) for seed in range(4)]
        rows = [r for seed, one in enumerate(every) for r in debias.judged(one, settings, seed, 1)]
        changes = debias_sums.compared(rows, ratio)
        first = words.headline(changes).split("; ")[0]
        assert first.startswith("The de-biasing loss against biased labels, 4 seeds: bias L (CV18)")
        assert said in first
        at = {(row["who"], row["seed"]): row["cv18"] for row in rows}
        change = next(row for row in changes if row["measure"] == "cv18")
        d = [at["de-biasing loss", seed] - at["biased labels", seed] for seed in range(4)]
        assert change["difference"] == pytest.approx(np.mean(d))
        assert change["truth"] == pytest.approx(np.mean([at["the truth", s] for s in range(4)]))
        if shift:
            t = stats.ttest_1samp(d, 0).statistic / np.sqrt(1 + 4 * ratio)
            assert change["p"] == pytest.approx(2 * stats.t.sf(abs(t), 3), rel=1e-6)
        p = [row["p"] for row in changes if row["p"] is not None]
        corrected = [row["p_holm"] for row in changes if row["p"] is not None]
        assert corrected == pytest.approx(multipletests(p, method="holm")[1])
        assert ("no change is shown" in first) == ((change["p_holm"] or 1) >= 0.05)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"intrinsic": ["label"]}, "'label' of .* does not hold numbers"),
        ({"intrinsic": ["nope"]}, "no column 'nope', asked for as intrinsic"),
        ({"debias": VALUES["debias"] | {"disk": "S"}}, "disk 'S' is none of two classes"),
    ],
)
def test_what_would_fail_late_is_refused_before_training(survey, tmp_path, changed, said):
    settings = parse(debias.Settings, VALUES | changed, "settings")
    with pytest.raises(InputError, match=said):
        lab.run("debias", tmp_path / "out", survey, settings)
    assert not (tmp_path / "out" / "steps").exists()


def test_the_simulations_theta_stands_beside_what_was_found():
    found = [{"from": "all galaxies", "theta": 7.7, "error": 0.56}]
    record = {"from": words.SIMULATED, "theta": 9.18, "error": None}
    (said,) = words._theta([*found, record])
    assert "7.7000 ± 0.5600" in said
    assert "features may say too little of the class. The simulation's is 9.1800." in said
    assert "simulation" not in words._theta(found)[0]


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
