"""The sky swap of a table classifier, on columns of which one is shifted in one region."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from catalogs.config import parse
from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.errors import InputError
from catalogs.sky import Region
from experiments import forests, lab, photometry
from experiments.home import ALIKE, against_home
from experiments.swaps import Answered, Training
from training.splits import tile_of

REGIONS = {"a": "0..60,-30..30", "b": "60..120,-30..30", "c": "120..180,-30..30"}
VALUES = {"regions": REGIONS, "columns": ["colour", "size"], "trees": 10, "order": 3, "seeds": 4}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour tells the class; in region c spirals are measured as red as ellipticals nearly."""
    random = np.random.default_rng(4)
    rows = 2200
    ra, dec = random.uniform(0, 180, rows), random.uniform(-30, 30, rows)
    spiral = random.random(rows) < 0.5
    colour = np.where(spiral, -1.0, 1.0) + random.normal(0, 0.7, rows)
    colour[spiral & (ra >= 120)] += 1.2
    size = random.normal(0, 1, rows)
    size[::97] = np.nan

    def images(chunks):
        for chunk in chunks:
            yield np.zeros((len(chunk), 8, 8, 3), np.uint8)

    labels = np.where(spiral, "spiral", "elliptical").astype(object)
    columns = {"label": labels, "colour": colour, "size": size}
    to = tmp_path_factory.mktemp("table") / "table.zarr"
    info = SurveyInfo(name="table", encoding="raw", dtype="uint8", channels=3)
    write_survey(to, SurveyTable(np.arange(rows), ra, dec, columns), images, info)
    return to


@pytest.fixture(scope="module")
def out(survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("photometry") / "out"
    lab.run("photometry", to, survey, parse(photometry.Settings, VALUES, "settings"))
    return to


def test_every_p_is_that_of_the_confusion_matrices(out):
    matrices = pq.read_table(out / "matrices.parquet").to_pandas()
    tests = pq.read_table(out / "tests.parquet").to_pandas()
    assert len(matrices) == 9 * 3 * 4
    assert len(tests) == 48 * 4
    at = matrices.set_index(["split", "training", "region"])
    for _, row in tests[tests["split"] == "seed 0"].iterrows():
        one = at.loc[row["split"], row["training"], row["region"]]
        home = at.loc[row["split"], f"{row['region']}/{row['region']}", row["region"]]
        right, wrong = ("ss", "se") if row["class"] == "spiral" else ("ee", "es")
        share = home[right] / (home[right] + home[wrong])
        n = int(one[right] + one[wrong])
        assert (row["found"], row["n"], row["found_home"]) == (one[right], n, home[right])
        expected = stats.binomtest(int(one[right]), n, share).pvalue
        assert row["p"] == pytest.approx(expected, rel=1e-9)
    for _, of_split in tests.groupby("split"):
        for name in ("p", "mcnemar_p"):
            for how, method in (("holm", "holm"), ("bh", "fdr_bh")):
                adjusted = multipletests(of_split[name], method=method)[1]
                np.testing.assert_allclose(of_split[f"{name}_{how}"], adjusted, rtol=1e-9)


def test_mcnemar_is_that_of_the_pairs():
    random = np.random.default_rng(5)
    spiral = random.random(200) < 0.5
    said = [np.where(random.random(200) < q, spiral, ~spiral) for q in (0.9, 0.7, 0.8, 0.85)]
    kinds = [Training(s, e) for s in "xy" for e in "xy"]
    answered = [
        Answered(k, r, "seed 0", spiral, a) for k, a in zip(kinds, said, strict=True) for r in "xy"
    ]
    rows = against_home(answered)
    assert len(rows) == 12
    for row in rows:
        members = spiral if row["class"] == "spiral" else ~spiral
        one = next(a for a in answered if str(a.training) == row["training"])
        home = next(a for a in answered if str(a.training) == "{0}/{0}".format(row["region"]))
        r, h = (x.said[members] == spiral[members] for x in (one, home))
        table = [[np.sum(r & h), np.sum(r & ~h)], [np.sum(~r & h), np.sum(~r & ~h)]]
        assert row["mcnemar_p"] == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9)


def test_differences_over_splits_are_those_of_the_confusion_matrices(out):
    at = pq.read_table(out / "matrices.parquet").to_pandas().set_index(["training", "region"])
    over = pq.read_table(out / "over-splits.parquet").to_pandas()
    column = {"spirals found": "tpr", "ellipticals found": "tnr", ALIKE: "p_balanced"}
    for _, row in over.iterrows():
        name = column[row["what"]]
        one = at.loc[row["training"], row["region"]].set_index("split")[name]
        own = at.loc["{0}/{0}".format(row["region"]), row["region"]].set_index("split")[name]
        differences = one - own
        assert row["difference"] == pytest.approx(differences.mean(), abs=1e-12)
        # The t test of scipy, its error widened by the galaxies that splits share.
        wider = np.sqrt(1 + 4 * 0.4 / 0.6)
        t = stats.ttest_1samp(differences, 0).statistic / wider
        assert row["p"] == pytest.approx(2 * stats.t.sf(abs(t), 3), rel=1e-6)
    np.testing.assert_allclose(over["p_holm"], multipletests(over["p"], method="holm")[1])


def table_survey(to: Path, rows: int, seed: int) -> Path:
    """A sky on which nothing but chance differs."""
    random = np.random.default_rng(seed)
    ra, dec = random.uniform(0, 180, rows), random.uniform(-30, 30, rows)
    spiral = random.random(rows) < 0.5
    labels = np.where(spiral, "spiral", "elliptical").astype(object)
    columns = {
        "label": labels,
        "colour": np.where(spiral, -1.0, 1.0) + random.normal(0, 0.9, rows),
        "size": random.normal(0, 1, rows) + 0.5 * spiral,
    }

    def images(chunks):
        for chunk in chunks:
            yield np.zeros((len(chunk), 4, 4, 3), np.uint8)

    info = SurveyInfo(name="honest", encoding="raw", dtype="uint8", channels=3)
    write_survey(to, SurveyTable(np.arange(rows), ra, dec, columns), images, info)
    return to


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table_survey(tmp_path_factory.mktemp("honest") / "honest.zarr", 13_500, 3)


def test_on_an_honest_sky_forests_differ_but_no_region_is_blamed(honest, tmp_path):
    settings = parse(photometry.Settings, VALUES | {"seeds": 3}, "settings")
    product = lab.run("photometry", tmp_path, honest, settings)
    assert product.facts["trained"] >= 1000  # of a class
    counts = {row["test"]: row["mean"] for row in product.facts["counts"]}
    assert counts["mcnemar_p_holm"] > 0  # forest against forest, alarms there are
    assert product.headline == "Nothing shows over 3 splits that the training region matters."
    said = " ".join(product.findings)
    assert "These forests differ; that says nothing of the region." in said
    assert re.search(
        r"The largest of 72 differences: .*, after Holm p = \S+: it does not sta", said
    )
    assert "stand, by size" not in said
    alone = [{"p": None, "p_holm": None}]
    assert photometry._headline(alone, 1).startswith("No p over splits with 1:")


def test_the_shift_is_found_where_it_is(out, survey):
    document = json.loads((out / "results.json").read_text())
    over = document["tables"]["over-splits"]["rows"]
    assert len(over) == 8 * 3 * 3
    shifts = {
        (row["training"], row["region"]): row["difference"] for row in over if row["what"] == ALIKE
    }
    # A classifier that learnt c's red spirals calls more galaxies of a and b spiral.
    assert min(shifts["c/a", "a"], shifts["c/b", "b"]) > 0.03
    assert abs(shifts["b/a", "a"]) < 0.03
    assert "The training region matters" in document["headline"]
    standing = sorted(
        (row for row in over if row["p_holm"] is not None and row["p_holm"] < 0.05),
        key=lambda row: -abs(row["difference"]),
    )
    named, largest = document["findings"][:2]
    assert f"These {len(standing)} of 72 stand, by size: " in named
    parts = named.partition(": ")[2].split("; ")
    for row, part in zip(standing, parts, strict=True):
        assert f"trained on {row['training']} " in part
        assert f"{row['what']}, {100 * row['difference']:+.1f} points in {row['region']} " in part
    first = max(over, key=lambda row: abs(row["difference"]))
    assert ("it stands" in largest) == (first in standing)
    poster = document["tables"]["poster"]["rows"]
    home = next(row for row in poster if row["trained"] == "a/a")
    assert [name for name, value in home.items() if value is None] == ["a S", "a E"]
    store = Survey.open(survey)
    for folder in (out / "steps").iterdir():
        values = forests.checkpoint.read_tensors(folder / forests.ANSWERS)
        rows = values["rows"].numpy()
        assert np.isfinite(store.column("size")[rows]).all()
        inside = [
            Region.parse(text).contains(store.column("ra")[rows], store.column("dec")[rows])
            for text in REGIONS.values()
        ]
        assert np.array_equal(np.argmax(inside, axis=0), values["region"].numpy())
        tiles = tile_of(store.column("ra"), store.column("dec"), 3)
        assert len(set(tiles[rows])) < 0.6 * len(set(tiles))


def test_no_more_than_four_differences_are_named():
    row = {"training": "b/a", "region": "a", "what": "spirals found"}
    over = [row | {"difference": k / 100, "p_holm": 1e-4} for k in range(-3, 15)]
    over.append(row | {"difference": 0.5, "p_holm": 0.2})
    (said,) = photometry._standing(over)
    assert said.startswith("These 18 of 19 stand, by size: ")
    assert re.findall(r"([+-]\S+) points in a", said) == ["+14.0", "+13.0", "+12.0", "+11.0"]
    assert said.endswith("; and 14 more.")
    assert photometry._standing(over[-1:]) == []


def test_columns_and_regions_that_are_not_there_are_refused(survey, tmp_path):
    for number, (changed, said) in enumerate(
        [
            ({"columns": ["colour", "label"]}, "no column of numbers 'label'"),
            ({"regions": REGIONS | {"c": "100..180,-30..30"}}, "overlap"),
            ({"regions": REGIONS | {"c": "200..280,-30..30"}}, "choose larger regions"),
        ]
    ):
        settings = parse(photometry.Settings, VALUES | changed, "settings")
        with pytest.raises(InputError, match=said):
            lab.run("photometry", tmp_path / str(number), survey, settings)
