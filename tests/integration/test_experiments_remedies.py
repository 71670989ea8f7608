"""Remedies for the sky swap, on a survey where brightness goes with the class in one region."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from ppi_py import ppi_mean_pointestimate
from scipy import stats
from sklearn.metrics import confusion_matrix
from statsmodels.stats.contingency_tables import mcnemar
from surveys import encode

from catalogs.config import parse
from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.errors import InputError
from catalogs.sky import Region
from experiments import lab, remedies, remedy_shifts, remedy_words
from experiments.swaps import Answered, Training
from training.records import read_holdout

REGIONS = {"a": "0..90,-30..30", "b": "90..180,-30..30"}
VALUES = {
    "regions": REGIONS,
    "seeds": 1,
    "order": 3,
    "labels": 60,
    "remedies": ["none", "reversal", "labels"],
    "adversary": {"regions": REGIONS, "hidden": 16, "strength": 1.0},
    "background": {"background": 100.0, "gain": 0.0, "noise": 0.0, "blur": 0.0},
    "train": {
        "epochs": 6,
        "batch": 16,
        "warmup": 2,
        "average": 0.5,
        "learning_rate": 0.01,
        "shape": {"size": 16, "widths": [4, 4, 4, 4, 4], "dense": 8, "dropout": 0.0},
        "split": {"test": 0.4},
    },
}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red over blue tells the class, with noise; region b is brighter as a whole."""
    random = np.random.default_rng(6)
    rows = 900
    ra, dec = random.uniform(0, 180, rows), random.uniform(-30, 30, rows)
    spiral = random.random(rows) < 0.5
    hue = np.where(spiral, -25, 25) + random.normal(0, 18, rows)
    level = 90 + 50 * (ra >= 90)

    def images(chunks):
        for chunk in chunks:
            pictures = np.repeat(level[chunk], 16 * 16 * 3).reshape(-1, 16, 16, 3).astype(float)
            pictures[..., 0] += hue[chunk][:, None, None]
            pictures[..., 2] -= hue[chunk][:, None, None]
            yield [encode(p) for p in np.clip(pictures, 0, 255).astype(np.uint8)]

    to = tmp_path_factory.mktemp("swap") / "swap.zarr"
    labels = np.where(spiral, "spiral", "elliptical").astype(object)
    human = np.where(random.random(rows) < 0.3, "elliptical", labels).astype(object)
    truth = np.where(random.random(rows) < 0.1, "irregular", labels).astype(object)
    kind = np.where(spiral, "S", "E").astype(object)
    columns = {"label": labels, "human": human, "truth": truth, "kind": kind}
    columns["known"] = np.where(ra < 90, labels, "").astype(object)
    table = SurveyTable(np.arange(rows), ra, dec, columns)
    write_survey(to, table, images, SurveyInfo(name="swap"))
    return to


def test_what_is_left_is_that_of_the_confusion_matrices(survey, tmp_path):
    out = tmp_path / "out"
    product = lab.run("remedies", out, survey, parse(remedies.Settings, VALUES, "settings"))
    rows = {row["remedy"]: row for row in product.facts["remedies"]}
    matrices = pq.read_table(out / "matrices.parquet").to_pandas()
    assert len(matrices) == 2 * 2 * 2
    own = matrices[matrices["remedy"] == "none"].set_index(["training", "region"])
    said = (own["es"] + own["ss"]) / own[["ee", "es", "se", "ss"]].sum(axis=1)
    a, b = (said["a/b", r] - said["b/a", r] for r in "ab")
    none = rows["none"]
    assert none["shift"] == pytest.approx((a + b) / 2, abs=1e-12)
    assert none["anisotropy"] == pytest.approx((a - b) / 2, abs=1e-12)
    tpr, tnr = own["ss"] / (own["ss"] + own["se"]), own["ee"] / (own["ee"] + own["es"])
    assert none["accuracy"] == pytest.approx(((tpr + tnr) / 2).mean(), abs=1e-12)
    # One training calls b, which is bright, elliptical, and the other one spiral.
    assert none["anisotropy"] > 0.5
    change = rows["reversal"]["anisotropy"] - none["anisotropy"]
    assert rows["reversal"]["anisotropy_change"] == pytest.approx(change, abs=1e-12)
    assert "fewer than 3 splits do not tell" in product.headline
    assert rows["reversal"]["anisotropy"] < 0.5 * none["anisotropy"]
    assert abs(rows["labels"]["anisotropy"]) < 0.2
    assert rows["labels"]["accuracy"] is None


def test_networks_of_biased_labels_are_judged_by_the_truth(survey, tmp_path):
    asked = {**VALUES, "remedies": ["none"], "truth": "truth"}
    asked["train"] = {**VALUES["train"], "label": "human", "epochs": 2}
    product = lab.run("remedies", tmp_path / "out", survey, parse(remedies.Settings, asked, "s"))
    table = Survey.open(survey)
    truth = dict(zip(table.column("id"), table.column("truth"), strict=True))
    matrices = pq.read_table(tmp_path / "out" / "matrices.parquet").to_pandas()
    for run in (tmp_path / "out" / "steps").glob("train-*/network.run"):
        held = read_holdout(run)
        right = np.array([truth[int(one)] for one in held.id])
        assert set(right) == {"spiral", "elliptical", "irregular"}
        here = Region.parse(REGIONS["a"]).contains(held.ra, held.dec) & (right != "irregular")
        said = np.where(held.p[here] >= 0.5, "spiral", "elliptical")
        counts = confusion_matrix(right[here], said, labels=["elliptical", "spiral"]).ravel()
        of_a = matrices[matrices["region"] == "a"][["ee", "es", "se", "ss"]].to_numpy()
        assert counts.tolist() in of_a.tolist()
    assert "right is what the column truth says" in product.method[-1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"truth": "kind"}, "truth: column 'kind' .* holds E, S; the classes"),
        ({"truth": "known"}, "region b has 0 test galaxies labelled"),
        ({"truth": "nothing"}, "no column 'nothing', asked for as truth"),
        ({"spiral": "S"}, "column 'label' has elliptical and spiral; name them with"),
        ({"train": {**VALUES["train"], "label": "truth"}}, "has 3 classes"),
        (
            {"adversary": {"regions": {"x": "200..220,0..20", "y": "230..250,0..20"}}},
            "0 parts of the sky have 50 galaxies in training tiles",
        ),
        (
            {
                "remedies": ["none", "debiased"],
                "debias": {"resolution": "ra", "theta": 9.0},
                "train": {**VALUES["train"], "split": {"test": 0.4, "most": 50}},
            },
            '"debiased" is of labels as they are',
        ),
    ],
)
def test_what_would_fail_late_is_refused_before_anything_is_trained(survey, tmp_path, change, said):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=said):
        lab.run("remedies", out, survey, parse(remedies.Settings, {**VALUES, **change}, "s"))
    assert not list(out.glob("steps/*"))


def test_labels_correct_as_prediction_powered_inference_does():
    random = np.random.default_rng(7)
    spiral = random.random(400) < 0.6
    said = np.where(random.random(400) < 0.8, spiral, True)
    one = Answered(Training("a", "b"), "a", "seed 3", spiral, said)
    known = np.zeros(400, bool)
    known[np.random.default_rng([3, 400]).permutation(400)[:150]] = True
    expected = ppi_mean_pointestimate(
        spiral[known].astype(float), said[known].astype(float), said[~known].astype(float)
    )
    found = remedy_shifts.corrected(one, 150, 3)
    assert found == pytest.approx(float(np.squeeze(expected)), abs=0.01)
    assert abs(found - spiral.mean()) < abs(said.mean() - spiral.mean())


def of_two(matrices: dict[str, list[list[int]]], split: str) -> list[Answered]:
    """Answers of a/b and b/a on both regions; truth in rows, ellipticals first."""
    found = []
    for name, matrix in matrices.items():
        training, _, region = name.partition(" on ")
        counts = np.ravel(matrix)
        spiral = np.repeat([False, False, True, True], counts)
        said = np.repeat([False, True, False, True], counts)
        found.append(Answered(Training(*training.split("/")), region, split, spiral, said))
    return found


def test_a_remedy_is_compared_with_none_split_by_split():
    random = np.random.default_rng(2)
    answered: dict[str, list[Answered]] = {"none": [], "background": [], "debiased": []}
    for seed in range(6):
        noise = int(random.integers(-8, 9))  # the split's own
        for remedy, bias in (("none", 30), ("background", 8)):
            moved = bias + noise + int(random.integers(-2, 3))
            matrices = {
                f"{training} on {region}": [[180 - sign * moved // 2, 20 + sign * moved // 2], se]
                for training, sign in (("a/b", 1), ("b/a", -1))
                for region, se in (("a", [30, 170]), ("b", [40, 160 + seed]))
            }
            answered[remedy] += of_two(matrices, f"seed {seed}")
        nothing = {name: [[200, 0], [200, 0]] for name in matrices}
        answered["debiased"] += of_two(nothing, f"seed {seed}")
    settings = parse(
        remedies.Settings,
        VALUES | {"remedies": list(answered), "train": {"split": {"test": 0.3}}},
        "settings",
    )
    product = remedies.product(answered, settings)
    rows = {row["remedy"]: row for row in product.facts["remedies"]}
    assert (rows["none"]["learnt"], rows["background"]["learnt"]) == (True, True)
    moves = {
        remedy: [
            np.mean(
                [
                    by["a/b", r].matrix.spiral_fraction - by["b/a", r].matrix.spiral_fraction
                    for r in "ab"
                ]
            )
            for k in range(6)
            for by in [{(str(o.training), o.region): o for o in all_ if o.split == f"seed {k}"}]
        ]
        for remedy, all_ in answered.items()
    }
    change = np.subtract(moves["background"], moves["none"])
    error = np.sqrt((1 / 6 + 0.5) * np.var(change, ddof=1))
    p = 2 * stats.t(5).sf(abs(change.mean()) / error)
    assert rows["background"]["shift_change_p"] == pytest.approx(p)
    assert rows["background"]["shift_change"] == pytest.approx(change.mean())
    # Split by split it is surer than both shifts are by themselves.
    assert p < 0.05 / 4
    none = rows["none"]
    error = np.sqrt((1 / 6 + 0.5) * np.var(moves["none"], ddof=1))
    ends = stats.t(5, np.mean(moves["none"]), error).interval(0.95)
    assert (none["shift_low"], none["shift_high"]) == pytest.approx(ends)
    skill = np.mean([o.matrix.tpr + o.matrix.tnr - 1 for o in answered["none"]])
    assert none["shift_over_skill"] == pytest.approx(np.mean(moves["none"]) / skill)
    # McNemar's test of a class, split by split.
    pair = next(row for row in product.tables[1].rows if row["remedy"] == "none")
    one, other = (o for o in answered["none"] if (o.region, o.split) == ("a", "seed 0"))
    table = [
        [np.sum((one.said == x) & (other.said == y) & ~one.spiral) for y in (True, False)]
        for x in (True, False)
    ]
    assert pair["es_mcnemar_p"] == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert pair["tnr_difference"] == pytest.approx(one.matrix.tnr - other.matrix.tnr)
    # Nothing learnt moves nothing, and is no cure.
    lost = rows["debiased"]
    assert (lost["learnt"], lost["shift"], lost["shift_over_skill"]) == (False, 0, None)
    assert "with debiased networks have not learnt" in product.headline
    assert "1 of 1 remedies changes this beyond chance (background:" in product.headline
    (said,) = (one for one in product.findings if one.startswith("debiased"))
    assert "Balanced accuracy 50.0%" in said
    assert said.endswith("shows nothing.")


def test_networks_of_no_skill_are_told_as_such():
    nothing = {f"{t} on {r}": [[100, 0], [100, 0]] for t in ("a/b", "b/a") for r in "ab"}
    answered = of_two(nothing, "seed 0")
    measured = {"none": remedy_shifts.measure(remedy_shifts.swaps_of(answered), answered)}
    (row,) = remedy_shifts.summaries(measured, 0.5)
    assert "hardly better than chance" in remedy_words.headline([row], ["a", "b"])
    assert row["shift_over_skill"] is None


def test_each_remedy_is_a_training(survey, tmp_path):
    settings = parse(remedies.Settings, VALUES | {"debias": {"theta": 9, "resolution": "x"}}, "s")
    made = {name: remedies.remedied(settings, name) for name in remedies.TRAINED}
    assert made["none"].augment.background == 0
    assert made["background"].augment.background == 100
    assert made["reversal"].adversary.hidden == 16
    unsaid = replace(settings, adversary=None)
    assert remedies.remedied(unsaid, "reversal").adversary.regions == REGIONS
    assert made["sky-balanced"].sampling == "sky"
    assert (made["equivariant"].model, made["equivariant"].shape.size) == ("equivariant", 16)
    other = parse(remedies.Settings, {"train": {"model": "dieleman"}}, "settings")
    assert remedies.remedied(other, "equivariant").model == "equivariant"
    assert made["debiased"].objective == "debiased"
    weighted = replace(settings, train=replace(settings.train, balanced=True))
    assert remedies.remedied(weighted, "equivariant").weighted
    assert not remedies.remedied(weighted, "debiased").weighted
    for changed, said in (
        ({"remedies": ["labels"]}, "nothing to compare"),
        ({"remedies": ["none", "debiased"]}, "needs the table"),
        ({"regions": {"a": "0..90,-30..30", "b": "80..180,-30..30"}}, "a and b overlap"),
        ({"regions": {"a": "0..179,-30..30", "b": "179..180,0..1"}}, "nothing was trained"),
    ):
        settings = parse(remedies.Settings, VALUES | changed, "settings")
        with pytest.raises(InputError, match=said):
            lab.run("remedies", tmp_path / said, survey, settings)
