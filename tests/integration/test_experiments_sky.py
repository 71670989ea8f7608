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
from catalogs.cutouts.chosen import decoded
from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.errors import InputError
from catalogs.progress import Silent
from catalogs.sky import Region
from experiments import blank_sky, blank_words, lab, patches, sky_draw
from experiments.networks import Store
from experiments.pictures import Pictures
from experiments.steps import Steps
from training.labels import Labels
from training.settings import TrainSettings
from training.splits import tile_of

NAMES = ("elliptical", "spiral")
ORDER = 2
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
    values = {"seeds": 2, "train": LEARN | {"split": {"order": ORDER}}}
    values["places"] = ["corner", "elsewhere"]
    settings = parse(blank_sky.Settings, values, "settings")
    lab.run("blank-sky", out, survey, settings)
    return out


def test_blank_sky_says_what_its_networks_told(blank, survey):
    document = json.loads((blank / "results.json").read_text())
    every = pq.read_table(blank / "answers.parquet").to_pandas()
    rows = {row["place"]: row for row in document["tables"]["places"]["rows"]}
    assert list(rows) == ["corner", "elsewhere"]
    for place, row in rows.items():
        of = every[every["place"] == place]
        table = confusion_matrix(of["label"], of["answer"], labels=NAMES)
        assert [[row[f"{a}_as_{b}"] for b in NAMES] for a in NAMES] == table.tolist()
        right, n, chance = np.trace(table), table.sum(), table.sum(axis=1).max() / table.sum()
        test = stats.binomtest(int(right), int(n), chance, alternative="greater")
        assert (row["right"], row["n"]) == (right, n)
        assert row["p"] == pytest.approx(test.pvalue, rel=1e-9)
    assert rows["corner"]["accuracy"] > 0.9
    # What goes with the single galaxy is not told from another's patch.
    assert rows["elsewhere"]["p"] > 0.01
    assert document["headline"] == "Corner patches tell the class."
    said = " ".join(document["findings"])
    assert "(1) the galaxy's own outskirts" in said
    assert "is not shown to tell the class: what tells it goes with the single" in said
    assert document["settings"]["train"]["augment"]["noise"] == 0
    told = read_experiment(str(blank), survey).told  # as an audit reads it
    assert [(one.what, one.test.right) for one in told] == [(p, rows[p]["right"]) for p in rows]
    assert told[0].tells
    answers = every[every["place"] == "corner"].to_dict("list")
    n = len(answers["row"])
    # Each galaxy is tested once, and its label is the survey's.
    store = Survey.open(survey)
    assert len(set(answers["row"])) == n
    assert store.column("label")[answers["row"]].tolist() == answers["label"]
    tiles = tile_of(store.column("ra"), store.column("dec"), ORDER)[answers["row"]]
    first, second = (set(tiles[np.asarray(answers["fold"]) == fold]) for fold in (0, 1))
    assert not first & second


def pictures_of(blank: Path, place: str) -> Pictures:
    steps = json.loads((blank / "results.json").read_text())["steps"]
    (name,) = [name for name, one in steps.items() if one["decides"].get("place") == place]
    return Pictures.read(blank / "steps" / name)


def test_patches_are_those_of_the_images(blank, survey, tmp_path):
    """The corners of a spiral are brighter; patches that show its middle would be darker."""
    pictures = pictures_of(blank, "corner")
    level = pictures.cutouts[..., :2].float().mean(dim=(1, 2, 3)).numpy()
    spiral = pictures.targets.numpy() == 1
    assert pictures.cutouts.shape[1:] == (16, 16, 3)
    assert level[spiral].min() > 35 > 20 > level[~spiral].max()
    # Smaller ones at random places beside the galaxy, each pixel twice.
    where = patches.Geometry(64, 16, 22.2).of_place("random")
    step = patches.patches_step(Store(survey), "random", where, 40, TrainSettings(), ORDER)
    found = Pictures.read(*Steps(tmp_path, Silent()).make([step]))
    beside = found.cutouts.numpy()
    assert beside.shape == (80, 18, 18, 3)
    assert np.array_equal(beside[:, ::2, ::2], beside[:, 1::2, 1::2])
    whole = next(decoded(Survey.open(survey), found.rows[:1].numpy(), 64)).pixels[0]
    small = beside[0, ::2, ::2]
    squares = [whole[y : y + 9, x : x + 9] for x, y in where.places("random")]
    assert any(np.array_equal(small, square) for square in squares)
    # Elsewhere: another one's patch, of the same tile.
    dealt = pictures_of(blank, "elsewhere")
    tiles = dict(
        zip(pictures.rows.tolist(), tile_of(pictures.ra, pictures.dec, ORDER), strict=True)
    )
    seen = pictures.cutouts.flatten(1).numpy()
    row_of = {bytes(one): row for one, row in zip(seen, tiles, strict=True)}
    given = [row_of[bytes(one)] for one in dealt.cutouts.flatten(1).numpy()]
    own = dealt.rows.tolist()
    assert len(set(given)) == len(own) > 300
    assert all(a != b and tiles[a] == tiles[b] for a, b in zip(given, own, strict=True))
    alone = set(tiles) - set(own)
    assert all(list(tiles.values()).count(tiles[row]) == 1 for row in alone)


def test_patches_of_others_say_nothing_of_a_class():
    """Over many deals a galaxy's class and its patch's are independent, however small tiles."""
    random = np.random.default_rng(6)
    tiles, alike = np.repeat(np.arange(300), [1, 2, 3] * 100), []
    for seed in range(40):
        classes, whose = random.integers(0, 2, 600), patches.dealt(tiles, seed)
        here = whose >= 0
        assert here.sum() == 500
        alike.append(np.mean(classes[whose[here]] == classes[here]))
    assert abs(np.mean(alike) - 0.5) < 4 * 0.5 / np.sqrt(40 * 250)


def test_sky_that_goes_with_the_class_of_a_place_is_told_from_others(tmp_path):
    """Half of the tiles have more spirals and brighter sky: any galaxy's patch there tells."""
    rows, random = 400, np.random.default_rng(9)
    ra, dec = scattered(rows)
    bright = tile_of(ra, dec, ORDER) % 2 == 0
    names = np.array(NAMES, dtype=object)
    labels = names[(random.random(rows) < np.where(bright, 0.85, 0.15)).astype(int)]

    def images(chunks):
        for chunk in chunks:
            noise = random.integers(0, 20, (len(chunk), 64, 64, 3))
            pictures = noise + 25 * bright[chunk][:, None, None, None]
            yield [encode(one) for one in pictures.astype(np.uint8)]

    table = SurveyTable(np.arange(rows), ra, dec, {"label": labels})
    write_survey(tmp_path / "s.zarr", table, images, SurveyInfo(name="places"))
    values = {"seeds": 1, "places": ["elsewhere"], "train": LEARN | {"split": {"order": ORDER}}}
    settings = parse(blank_sky.Settings, values, "settings")
    product = lab.run("blank-sky", tmp_path / "out", tmp_path / "s.zarr", settings)
    (row,) = product.facts["places"]
    assert row["p"] < 0.01
    assert any("something of that part of the sky" in finding for finding in product.findings)


def test_what_follows_the_galaxy_comes_first():
    row = {"place": "corner", "p": 1e-9}
    level = {"place": "corner", "of_pixels": "mean", "elliptical": 6.09, "spiral": 5.68, "p": 1e-9}
    fixed = " ".join(blank_words.reasons([row], [], NAMES, follow=False))
    assert "(1) how galaxies were observed" in fixed
    for levels, follow in (([], True), ([level], False), ([level], True)):
        said = " ".join(blank_words.reasons([row], levels, NAMES, follow=follow))
        assert "(1) the galaxy's own outskirts" in said
        assert ("mean of corner patches 6.0900 and 5.6800" in said) == bool(levels)
    assert not blank_words.reasons([row | {"p": 0.5}], [], NAMES, follow=True)


def test_the_probes_tell_the_half_of_the_sky(survey, tmp_path):
    values = {"seeds": 1, "regions": REGIONS, "fewest": 50, "most": 100, "train": LEARN}
    settings = parse(sky_draw.Settings, values, "settings")
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
    pictures = Pictures.read(folder)
    labels = store.column("label")[pictures.rows.numpy()]
    counts = np.unique(list(zip(pictures.targets.tolist(), labels, strict=True)), axis=0)
    assert len(counts) == 4
    assert len(pictures.rows) == 400


def test_every_region_has_blocks_enough_for_every_role():
    regions = {"a": "0..20,0..20", "b": "180..220,0..20"}
    settings = parse(sky_draw.Settings, {"regions": regions, "fewest": 10}, "settings")
    ra, dec = np.random.default_rng(3).uniform(0, 20, (2, 4000))
    ra[::2] = 180 + 2 * ra[::2]
    classes = np.array(NAMES)[np.arange(4000) // 2 % 2]
    labels = Labels(np.arange(4000), classes, NAMES, ra, dec, "")
    drawn = sky_draw.draw(labels, settings)
    healpix = HEALPix(2 ** settings.blocks(labels, drawn), order="nested")
    for tile in range(2):
        here = drawn.chosen[drawn.tiles == tile]
        assert len(np.unique(healpix.lonlat_to_healpix(ra[here] * u.deg, dec[here] * u.deg))) >= 64
    assert sky_draw.Settings().blocks(labels, drawn) == 3


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("sky-probe", {"fewest": 400}, "two are needed"),
        ("sky-probe", {"regions": {"a": "0..200,-90..90", "b": "100..300,-9..9"}}, "overlap"),
        ("blank-sky", {"patch": 32, "train": LEARN}, "smaller patch"),
        ("blank-sky", {"train": LEARN | {"split": {"test": 0.3}}}, "there are 3 folds"),
        ("sky-probe", {"fewest": 10, "train": LEARN | {"split": {"test": 0.3}}}, "there are 3 fol"),
    ],
)
def test_what_cannot_be_probed_is_refused(survey, tmp_path, name, values, said):
    settings = parse(lab.load(name).settings, values, "settings")
    with pytest.raises(InputError, match=said):
        lab.run(name, tmp_path / "out", survey, settings)


def test_a_place_is_named_once():
    with pytest.raises(InputError, match=r"places: .*corner, corner: name each place once"):
        parse(blank_sky.Settings, {"places": ["corner", "corner"]}, "settings")
