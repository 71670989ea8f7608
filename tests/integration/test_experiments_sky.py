"""What the sky around and behind galaxies tells, on a survey whose sky gives everything away."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy_healpix import HEALPix
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from surveys import encode, scattered

from catalogs.audit.reading.experiments import read_experiment
from catalogs.config import parse
from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.errors import InputError
from catalogs.sky import Region
from experiments import blank_sky, lab, sky_probe
from training.labels import Labels
from training.splits import tile_of

NAMES = ("elliptical", "spiral")
REGIONS = {"east": "0..180,-90..90", "west": "180..360,-90..90"}
LEARN = {
    "epochs": 4,
    "batch": 16,
    "warmup": 2,
    "average": 0.5,
    "learning_rate": 0.01,
    "shape": {"size": 16, "widths": [4, 4, 4, 4, 4], "dense": 8, "dropout": 0.0},
}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sky that is brighter around spirals, and in the eastern half bluer behind everything."""
    rows = 500
    ra, dec = scattered(rows)
    labels = np.asarray(["elliptical", "spiral"] * (rows // 2), dtype=object)

    def images(chunks):
        for chunk in chunks:
            pictures = []
            for row in chunk.tolist():
                picture = np.random.default_rng(row).integers(0, 30, (64, 64, 3))
                picture[:24, :24] += 25 * (row % 2)
                picture[40:, :24] += 25 * (row % 2)
                picture[:24, 40:] += 25 * (row % 2)
                picture[40:, 40:] += 25 * (row % 2)
                picture[..., 2] += 30 * bool(ra[row] < 180)
                pictures.append(encode(picture.astype(np.uint8)))
            yield pictures

    to = tmp_path_factory.mktemp("telling") / "telling.zarr"
    table = SurveyTable(np.arange(rows), ra, dec, {"label": labels})
    write_survey(to, table, images, SurveyInfo(name="telling"))
    return to


@pytest.fixture(scope="module")
def blank(survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("blank") / "out"
    settings = parse(blank_sky.Settings, {"seeds": 2, "train": LEARN}, "settings")
    lab.run("blank-sky", out, survey, settings)
    return out


def test_blank_sky_says_what_its_networks_told(blank, survey):
    document = json.loads((blank / "results.json").read_text())
    answers = pq.read_table(blank / "answers.parquet").to_pydict()
    (whole,) = document["tables"]["places"]["rows"]
    table = confusion_matrix(answers["label"], answers["answer"], labels=NAMES)
    assert [[whole[f"{a}_as_{b}"] for b in NAMES] for a in NAMES] == table.tolist()
    right, n, chance = int(np.trace(table)), int(table.sum()), table.sum(axis=1).max() / table.sum()
    test = stats.binomtest(right, n, chance, alternative="greater")
    assert (whole["right"], whole["n"]) == (right, n)
    assert whole["p"] == pytest.approx(test.pvalue, rel=1e-9)
    assert whole["accuracy"] > 0.9
    assert "corner patches" in document["headline"]
    assert document["settings"]["train"]["augment"]["noise"] == 0
    assert any("only corners" in finding for finding in document["findings"])
    (told,) = read_experiment(str(blank), survey).told  # as an audit reads it
    assert (told.what, told.test.right, told.tells) == ("corner", right, True)
    # Each galaxy is tested once, and its label is the survey's.
    store = Survey.open(survey)
    assert len(set(answers["row"])) == n
    assert store.column("label")[answers["row"]].tolist() == answers["label"]
    order = 3
    tiles = tile_of(store.column("ra"), store.column("dec"), order)[answers["row"]]
    first, second = (set(tiles[np.asarray(answers["fold"]) == fold]) for fold in (0, 1))
    assert not first & second


def test_patches_are_those_of_the_images(blank):
    """The corners of a spiral are brighter; patches that show its middle would be darker."""
    (folder,) = (blank / "steps").glob("patches-*")
    pictures = blank_sky.Pictures.read(folder)
    level = pictures.cutouts[..., :2].float().mean(dim=(1, 2, 3)).numpy()
    spiral = pictures.targets.numpy() == 1
    assert pictures.cutouts.shape[1:] == (16, 16, 3)
    assert level[spiral].min() > 35 > 20 > level[~spiral].max()


def test_the_probes_tell_the_half_of_the_sky(survey, tmp_path):
    values = {"seeds": 1, "regions": REGIONS, "fewest": 50, "most": 100, "train": LEARN}
    settings = parse(sky_probe.Settings, values, "settings")
    lab.run("sky-probe", tmp_path / "out", survey, settings)
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    answers = pq.read_table(tmp_path / "out" / "answers.parquet").to_pandas()
    store = Survey.open(survey)
    rows = answers["row"].to_numpy()
    east = Region.parse(REGIONS["east"]).contains(store.column("ra"), store.column("dec"))
    assert np.array_equal(east[rows], answers["tile"] == "east")
    for row in document["tables"]["probes"]["rows"]:
        own = answers[answers["probe"] == row["probe"]]
        by_fold = [
            balanced_accuracy_score(one["tile"], one["answer"]) for _, one in own.groupby("fold")
        ]
        assert row["balanced_accuracy"] == pytest.approx(np.mean(by_fold), abs=1e-12)
        assert row["p"] >= 1 / 2000
        assert own.groupby("block")["fold"].nunique().max() == 1
    found = read_experiment(str(tmp_path / "out"), survey)  # as an audit reads it
    assert (found.survey_name, found.label) == ("telling", "label")
    assert found.told[0].tells
    network = document["tables"]["probes"]["rows"][0]
    assert network["balanced_accuracy"] > 0.9
    assert network["p"] < 0.01
    # As many of each class from each half.
    (folder,) = (tmp_path / "out" / "steps").glob("cutouts-*")
    pictures = sky_probe.Pictures.read(folder)
    labels = store.column("label")[pictures.rows.numpy()]
    counts = np.unique(list(zip(pictures.targets.tolist(), labels, strict=True)), axis=0)
    assert len(counts) == 4
    assert len(pictures.rows) == 400


def test_every_region_has_blocks_enough_for_every_role():
    regions = {"a": "0..20,0..20", "b": "180..220,0..20"}
    settings = parse(sky_probe.Settings, {"regions": regions, "fewest": 10}, "settings")
    ra, dec = np.random.default_rng(3).uniform(0, 20, (2, 4000))
    ra[::2] = 180 + 2 * ra[::2]
    classes = np.array(NAMES)[np.arange(4000) // 2 % 2]
    labels = Labels(np.arange(4000), classes, NAMES, ra, dec, "")
    drawn = sky_probe.draw(labels, settings)
    healpix = HEALPix(2 ** settings.blocks(labels, drawn), order="nested")
    for tile in range(2):
        here = drawn.chosen[drawn.tiles == tile]
        assert len(np.unique(healpix.lonlat_to_healpix(ra[here] * u.deg, dec[here] * u.deg))) >= 64
    assert sky_probe.Settings().blocks(labels, drawn) == 3


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("sky-probe", {"fewest": 400}, "two are needed"),
        ("sky-probe", {"regions": {"a": "0..200,-90..90", "b": "100..300,-9..9"}}, "overlap"),
        ("blank-sky", {"patch": 32, "train": LEARN}, "smaller patch"),
        ("blank-sky", {"places": ["random"], "train": LEARN}, "ask for corners"),
    ],
)
def test_what_cannot_be_probed_is_refused(survey, tmp_path, name, values, said):
    settings = parse(lab.load(name).settings, values, "settings")
    with pytest.raises(InputError, match=said):
        lab.run(name, tmp_path / "out", survey, settings)
