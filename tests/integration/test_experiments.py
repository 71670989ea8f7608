"""The experiments' frame: steps that are kept, settings, what is written, and one run of each."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import browser, executable
from matplotlib.figure import Figure
from scipy import stats
from surveys import encode, scattered, small_image
from typer.testing import CliRunner

from catalogs.config import parse
from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.errors import BusyError, InputError, IntegrityError
from catalogs.progress import Silent
from catalogs.sky import unit_vectors
from catalogs.storage.disk import Disk
from experiments import lab, listing, sky_swap, training_size, worlds, writing
from experiments.product import Drawing, Product, Table, shown
from experiments.steps import RECORD, UNFINISHED, Step, Steps
from skytally import app
from training.labels import read_labels
from training.models.shamir import ShamirShape
from training.network import Classifier
from training.records import read_holdout
from training.settings import SplitSettings, TrainSettings
from training.splits import TEST, TRAIN, VALIDATION, at_most, sky_blocked


def noted(kind: str, needs: tuple[Step, ...] = (), value: object = 1, stop: bool = False) -> Step:
    """A step that writes what it was given, after what was there: each making shows."""

    def make(folder: Path, given: list[Path], _: Silent) -> None:
        with (folder / "made").open("a") as stream:
            stream.write(f"{kind} {[path.name for path in given]}\n")
        if stop:
            raise KeyboardInterrupt

    return Step(kind, kind, {"value": value}, make, needs)


def test_a_step_is_made_once_after_what_it_needs(tmp_path):
    first = noted("first")
    second = noted("second", (first,))
    steps = Steps(tmp_path, Silent())
    (folder,) = steps.make([second])
    made = (folder / "made").read_text()
    assert made == f"second {[first.name]}\n"
    assert list(steps.records) == [first.name, second.name]
    again = Steps(tmp_path, Silent())
    assert again.make([second, first]) == [folder, tmp_path / first.name]
    assert (folder / "made").read_text() == made


def test_a_digest_follows_what_decides_a_step():
    steps = [
        noted("a"),
        noted("b"),
        noted("a", value=2),
        noted("a", (noted("b"),)),
        noted("a", (noted("b", value=2),)),
        replace(noted("a"), code=("catalogs/synthetic",)),
        replace(noted("a"), code=("catalogs/audit",)),
        replace(noted("a"), code=("experiments/steps.py",)),
        replace(noted("a"), packages=("scikit-learn",)),
    ]
    assert len({step.digest for step in steps}) == len(steps)
    assert replace(noted("a"), title="another").digest == noted("a").digest


def test_an_interrupted_step_gets_its_folder_back(tmp_path):
    steps = Steps(tmp_path, Silent())
    with pytest.raises(KeyboardInterrupt):
        steps.make([noted("a", stop=True)])
    assert [path.suffix for path in tmp_path.iterdir()] == [UNFINISHED]
    (folder,) = steps.make([noted("a")])
    assert (folder / "made").read_text() == "a []\n" * 2
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_the_record_of_another_step_is_refused(tmp_path):
    (folder,) = Steps(tmp_path, Silent()).make([noted("a")])
    (folder / RECORD).write_text('{"digest": "of another"}')
    with pytest.raises(IntegrityError, match="remove its folder"):
        Steps(tmp_path, Silent()).make([noted("a")])


def test_folds_share_no_test_tile_and_draws_are_nested():
    ra, dec = scattered(3000)
    folds = [sky_blocked(ra, dec, SplitSettings(order=3, test=0.25, fold=f)) for f in range(4)]
    assert np.array_equal(sum((roles == TEST).astype(int) for roles in folds), np.ones(3000))
    classes = np.where(np.arange(3000) % 3 == 0, "spiral", "elliptical").astype(object)
    rows = np.arange(3000)
    small, large = (at_most(folds[0], classes, rows, most, 5) for most in (20, 50))
    for role in (TRAIN, VALIDATION):
        assert set(rows[small == role]) <= set(rows[large == role])
        counts = [np.sum(classes[small == role] == name) for name in ("spiral", "elliptical")]
        assert counts == [20, 20]
    assert np.array_equal(large == TEST, folds[0] == TEST)
    with pytest.raises(InputError, match="fold 4"):
        parse(TrainSettings, {"split": {"test": 0.25, "fold": 4}}, "settings")


def hostile() -> Product:
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, 1])
    evil = "</style><script>alert(1)</script>"
    rows = [{"name": evil, "value": float("nan")}, {"name": "b", "value": -0.5}]
    rows.append({"name": "c", "value": None})
    return Product(
        evil,
        [evil],
        [Table("numbers", evil, {"name": evil, "value": "a number"}, rows)],
        [Drawing("line", evil, f'"{evil}', evil, figure)],
        [evil],
        {"x": float("inf")},
    )


def test_the_page_escapes_everything_and_loads_nothing(tmp_path):
    made = {"title": "<b>", "settings": {"a": "<i>"}, "survey": None, "again": "a < b"}
    writing.write(tmp_path, "<name>", hostile(), made | {"steps": {}})
    page = (tmp_path / writing.PAGE).read_text()
    assert "<script" not in page
    assert page.count("</style>") == 1
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)
    document = json.loads((tmp_path / writing.RESULTS).read_text())
    assert document["tables"]["numbers"]["rows"][0]["value"] is None
    assert document["facts"] == {"x": None}
    table = pq.read_table(tmp_path / "numbers.parquet")
    assert table.schema.field("value").metadata[b"description"] == b"a number"
    assert table["value"].to_pylist() == [None, -0.5, None]
    # A dash stands under the numbers of its column.
    assert re.findall(r'<td class="n">(.+?)</td>', page) == ["–", "−0.5000", "–"]
    first = (tmp_path / "line.svg").read_bytes()
    writing.write(tmp_path, "<name>", hostile(), made | {"steps": {}})
    assert (tmp_path / "line.svg").read_bytes() == first


def wide(columns: int) -> Table:
    """A table like those of the sky swap: two columns of text, then numbers."""
    names = ["training", "region", *(f"balanced_difference_{k}" for k in range(columns))]
    rows = [
        {name: "north/south" if k < 2 else -0.0125 * k for k, name in enumerate(names)}
        for _ in range(3)
    ]
    return Table("wide", "A wide table", dict.fromkeys(names, "a number"), rows)


def test_a_wide_table_is_shown_in_parts_that_name_their_rows():
    table = wide(17)
    first, *others = writing.bands(table)
    assert others
    assert {tuple(part[:2]) for part in (first, *others)} == {("training", "region")}
    shown_once = [name for part in (first, *others) for name in part[2:]]
    assert [*first[:2], *shown_once] == list(table.columns)
    assert max(map(len, (first, *others))) - min(map(len, (first, *others))) <= 3
    assert writing.bands(wide(4)) == [list(wide(4).columns)]
    nothing = Table("t", "No rows", {"a": "x", "b": "y"}, [])
    assert writing.bands(nothing) == [["a", "b"]]


@pytest.mark.skipif(executable() is None, reason="no Chromium here")
def test_no_column_of_a_wide_table_lies_beyond_the_edge_or_the_sheet(tmp_path):
    made = {"title": "t", "settings": {}, "survey": None, "again": "a", "steps": {}}
    writing.write(tmp_path, "sky-swap", Product("h", [], [wide(17)]), made)
    inside = """[...document.querySelectorAll('th, td')].every(
        cell => cell.getBoundingClientRect().right <= document.documentElement.clientWidth)"""
    with browser(tmp_path / "profile") as page:
        page.open(tmp_path / writing.PAGE, width=1000)
        assert page.run("document.querySelectorAll('thead th').length") > 19
        assert page.run(inside)
        page.media(media="print")
        page.size(688, 900)  # of A4 between its margins
        assert page.run(inside)
        page.media()
        page.size(400, 900)
        assert not page.run(inside)
        name = page.run(
            "document.querySelector('.scroll').scrollLeft = 200,"
            "document.querySelector('tbody th').getBoundingClientRect().left"
        )
        assert name >= 0  # a row keeps its name
        assert page.troubles == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(832.0, "832"), (831.5, "831.5"), (0.0, "0"), (-0.25, "−0.2500"), (3e-9, "3e−09"), (7, "7")],
)
def test_numbers_are_shown_as_they_are_read(value, text):
    assert shown(value) == text


def test_help_lists_every_experiment_and_each_one_loads():
    shown = CliRunner().invoke(app, ["experiment", "--help"]).stdout
    for name, entry in listing.LISTED.items():
        assert re.search(rf"^\s+{name}\s+{re.escape(entry.summary[:20])}", shown, re.MULTILINE)
        assert lab.load(name).settings().seeds >= 1


def write_bright_survey(to: Path, rows: int) -> Path:
    """A survey of two classes, of which one is brighter."""
    ra, dec = scattered(rows)
    labels = np.asarray(["elliptical", "spiral"] * (rows // 2), dtype=object)

    def images(chunks):
        for chunk in chunks:
            pictures = [small_image(row, 16) // 2 + 100 * (row % 2) for row in chunk.tolist()]
            yield [encode(picture.astype(np.uint8)) for picture in pictures]

    table = SurveyTable(np.arange(rows), ra, dec, {"label": labels})
    write_survey(to, table, images, SurveyInfo(name="bright <b>"))
    return to


@pytest.fixture(scope="module")
def bright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bright_survey(tmp_path_factory.mktemp("bright") / "bright.zarr", 600)


SMALL = {
    "epochs": 4,
    "batch": 16,
    "warmup": 2,
    "average": 0.5,
    "learning_rate": 0.01,
    "shape": {"size": 16, "widths": [4, 4, 4, 4, 4], "dense": 8, "dropout": 0.0},
}


@pytest.fixture(scope="module")
def sizes(bright: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Product]:
    out = tmp_path_factory.mktemp("sizes") / "out"
    values = {"sizes": [8, 100], "seeds": 2, "train": SMALL}
    settings = parse(training_size.Settings, values, "settings")
    return out, lab.run("training-size", out, bright, settings)


def test_training_size_says_what_its_networks_measured(sizes, bright):
    out, product = sizes
    document = json.loads((out / "results.json").read_text())
    assert document["settings"]["train"]["epochs"] == 4
    assert document["survey"]["uuid"] == Survey.open(bright).attributes.uuid
    networks = document["tables"]["networks"]["rows"]
    assert [(row["size"], row["seed"]) for row in networks] == [(8, 0), (100, 0), (8, 1), (100, 1)]
    assert len(document["steps"]) == 4
    by_result = {}
    for name, record in document["steps"].items():
        settings = record["decides"]["settings"]
        answers = read_holdout(out / "steps" / name / "network.run")
        right = (answers.p >= 0.5) == (answers.label == "spiral")
        recalls = [right[answers.label == kind].mean() for kind in ("elliptical", "spiral")]
        by_result[settings["split"]["most"], settings["seed"]] = np.mean(recalls)
    for row in networks:
        assert row["trained_spiral"] == row["trained_elliptical"] == row["size"]
        expected = by_result[row["size"], row["seed"]]
        assert row["balanced_accuracy"] == pytest.approx(expected, abs=1e-12)
    assert product.facts["sizes"][1]["balanced_accuracy"] > 0.9
    page = (out / "report.html").read_text()
    assert "bright &lt;b&gt;" in page
    assert not list((out / "steps").glob("*/network.run/state.safetensors"))


def test_a_size_is_what_was_trained_on(sizes, bright, tmp_path):
    """Two sizes that the survey cannot give are one, the same of each class in every seed."""
    labels = read_labels(Survey.open(bright), TrainSettings())
    asked = parse(training_size.Settings, {"sizes": [8, 2000, 5000], "seeds": 3}, "settings")
    counts = [
        int(np.sum((sky_blocked(labels.ra, labels.dec, SplitSettings(seed=s)) == TRAIN) & here))
        for s in range(3)
        for here in (labels.classes == "spiral", labels.classes == "elliptical")
    ]
    there = training_size.available(labels, asked)
    assert there == min(counts) < 300
    out = tmp_path / "out"
    shutil.copytree(sizes[0], out)
    values = {"sizes": [8, 2000, 5000], "seeds": 1, "train": SMALL}
    settings = parse(training_size.Settings, values, "settings")
    product = lab.run("training-size", out, bright, settings)
    most = min(counts[:2])
    assert [row["size"] for row in product.facts["sizes"]] == [8, most]
    said = "Asked for 2,000 and 5,000 galaxies of each class; the training tiles of every seed hold"
    assert f"{said} {most}, which is the largest size." in product.findings
    assert f"with {most}." in product.headline
    (row,) = [r for r in product.tables[1].rows if r["size"] == most]
    assert row["trained_spiral"] == row["trained_elliptical"] == most


def test_more_seeds_keep_the_steps_that_are_there(sizes, bright):
    out, _ = sizes
    before = {path: path.stat().st_mtime_ns for path in (out / "steps").rglob("*.safetensors")}
    values = {"sizes": [8, 100], "seeds": 2, "train": SMALL}
    settings = parse(training_size.Settings, values, "settings")
    lab.run("training-size", out, bright, replace(settings, sizes=(8,)))
    after = {path: path.stat().st_mtime_ns for path in (out / "steps").rglob("*.safetensors")}
    assert before == after


TOML = """seeds = 1
sizes = [100]
[train]
epochs = 4
batch = 16
warmup = 2
average = 0.5
learning_rate = 0.01
shape = {size = 16, widths = [4, 4, 4, 4, 4], dense = 8, dropout = 0.0}
"""


def made_by(out: Path) -> dict[str, object]:
    """All data of an experiment: files whole, but for how long steps took, and the command."""
    document = json.loads((out / "results.json").read_text())
    del document["again"]
    files = [*out.glob("*.parquet"), *out.glob("*.svg"), *out.glob("*.png")]
    for step, record in document["steps"].items():
        del record["seconds"]
        run = out / "steps" / step / "network.run"
        files += [path for path in run.iterdir() if path.is_file()]
    found = {str(path.relative_to(out)): path.read_bytes() for path in files}
    return {**found, "results.json": document}


def test_killed_in_the_middle_and_run_again_it_writes_the_same(sizes, bright, tmp_path):
    """SIGKILL while a network learns; the same network, not interrupted, is among those above."""
    out, whole, config = (tmp_path / name for name in ("out", "whole", "sizes.toml"))
    config.write_text(TOML)
    shutil.copytree(sizes[0], whole)
    settings = parse(training_size.Settings, tomllib.loads(TOML), "settings")
    lab.run("training-size", whole, bright, settings)
    said = ["experiment", "training-size", "--survey", str(bright), "--to", str(out)]
    said += ["--config", str(config)]
    command = [sys.executable, "-m", "skytally", *said]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        events = (json.loads(line) for line in running.stderr if line.startswith("{"))
        epochs = (event for event in events if event["event"] == "epoch")
        assert [next(epochs)["epoch"] for _ in range(2)] == [1, 2]
        running.kill()
    assert running.returncode == -signal.SIGKILL
    assert [path.suffix for path in (out / "steps").iterdir()] == [UNFINISHED]
    assert not (out / "results.json").exists()
    again = CliRunner().invoke(app, said)
    assert again.exit_code == 0, again.output
    assert '"resumed": true' in again.stderr
    assert made_by(out) == made_by(whole)


WORLD = {
    "seeds": 1,
    "galaxies": 1200,
    "training_galaxies": 900,
    "labels": 600,
    "compared_from": "",
    "seeing": 2.0,
    "difference": 1.2,
    "imitation": 0.4,
    "dipole": 0.25,
    "effect": 0.15,
    "train": {
        "epochs": 6,
        "warmup": 10,
        "average": 0.9,
        "shape": {"widths": [8, 16, 16, 16, 16], "dense": 32},
        "split": {"most": 150},
    },
}


def answers_of(catalog: Path) -> dict[str, np.ndarray]:
    """Columns of an annotated catalog, read without our own reader."""
    files = sorted(catalog.glob("dataset/**/Npix=*.parquet"))
    names = ["ra", "dec", "truth", "label"]
    table = pa.concat_tables([pq.ParquetFile(file).read(names) for file in files])
    return {name: np.asarray(table[name].to_pylist()) for name in names}


def contingency(yes: np.ndarray, side: np.ndarray) -> float:
    """p that a fraction is the same on both sides."""
    counts = np.bincount(2 * yes.astype(int) + side, minlength=4).reshape(2, 2)
    return float(stats.chi2_contingency(counts).pvalue)


@pytest.mark.train
def test_the_verdict_is_right_in_each_of_four_worlds(tmp_path):
    """Images whose truth varies or not, networks that learnt where seeing goes with the class."""
    settings = parse(worlds.Settings, WORLD, "settings")
    out = tmp_path / "worlds"
    product = lab.run("four-worlds", out, settings=settings, workers=1)
    said = {row["world"]: (row["verdict"], row["cause"]) for row in product.tables[1].rows}
    assert said == {
        "null": ("uniform", None),
        "sky": ("anisotropic", "sky"),
        "classifier": ("anisotropic", "classifier"),
        "both": ("anisotropic", "both"),
    }
    steps = json.loads((out / "results.json").read_text())["steps"]
    audits = {
        step["title"].split()[1].strip(","): name
        for name, step in steps.items()
        if "audit-" in name
    }
    for world, name in audits.items():
        # The same test of either half of the sky, on the truth of all galaxies and on the answers.
        table = answers_of(out / "steps" / steps[name]["needs"][0] / "catalog")
        side = unit_vectors(table["ra"], table["dec"]) @ unit_vectors(*worlds.AXIS)[0] > 0
        spiral, called = table["truth"] == "spiral", table["label"] == "spiral"
        assert (contingency(spiral, side) < 1e-3) == (world in ("sky", "both")), world
        assert (contingency(called, side) < 1e-3) == (world != "null"), world
    written = {name: (out / "steps" / name / "audit" / "audit.json") for name in audits.values()}
    before = {name: file.stat().st_mtime_ns for name, file in written.items()}
    assert lab.run("four-worlds", out, settings=settings, workers=1).facts == product.facts
    assert {name: file.stat().st_mtime_ns for name, file in written.items()} == before


@pytest.mark.parametrize("damage", ["missing", "cut", "garbled", "swapped"])
def test_a_damaged_file_of_a_finished_step_is_named_with_its_remedy(tmp_path, damage):
    made, later = noted("made"), noted("later", (noted("made"),))
    (folder,) = Steps(tmp_path, Silent()).make([made])
    file = folder / "made"
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        changed = {"cut": whole[:-2], "garbled": b"\xff" + whole[1:], "swapped": whole[::-1]}
        file.write_bytes(changed[damage])
    state = "missing" if damage == "missing" else "damaged"
    with pytest.raises(
        IntegrityError, match=f"/made of a finished step is {state}; delete"
    ) as said:
        Steps(tmp_path, Silent()).make([later])
    assert "\n" not in str(said.value)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]  # nothing else was made
    shutil.rmtree(folder)
    Steps(tmp_path, Silent()).make([later])
    assert file.read_bytes() == whole


def test_what_cannot_be_is_refused_in_one_line(tmp_path, bright):
    with pytest.raises(InputError, match="'nonsense' is none of"):
        listing.entry("nonsense")
    with pytest.raises(InputError, match=r"sizes.*train|extra.*Unexpected"):
        parse(training_size.Settings, {"extra": 1, "sizes": [0]}, "x.toml")
    with pytest.raises(InputError, match="sizes"):
        parse(training_size.Settings, {"sizes": []}, "x.toml")
    with pytest.raises(InputError, match=r"\[train\]: epochs"):
        parse(training_size.Settings, {"train": {"epochs": 0}}, "x.toml")
    with pytest.raises(InputError, match="needs --survey"):
        lab.run("training-size", tmp_path / "out")
    with pytest.raises(InputError, match="has elliptical and spiral; name them"):
        lab.run("sky-swap", tmp_path / "swap", bright, sky_swap.Settings(spiral="disk"))
    nameless = parse(sky_swap.Settings, {"train": {"label": "kind"}}, "settings")
    with pytest.raises(InputError, match=r"has no column 'kind'; it has .*name the labels"):
        lab.run("sky-swap", tmp_path / "swap", bright, nameless)
    with pytest.raises(InputError, match="seeds = 100,000: at most 1,000"):
        lab.run("sky-swap", tmp_path / "swap", bright, sky_swap.Settings(seeds=100_000))
    with pytest.raises(InputError, match="seeds_of 1/2 = 5,000: at most"):
        lab.run("sky-swap", tmp_path / "swap", bright, sky_swap.Settings(seeds_of={"1/2": 5000}))
    empty = sky_swap.Settings(regions={"a": "200..200,0..20", "b": "180..210,0..20"})
    with pytest.raises(InputError, match=r"'200..200,0..20' is empty: from RA 200 to 200"):
        lab.run("sky-swap", tmp_path / "swap", bright, empty)
    thin = {"regions": {"a": "0..180,-90..90", "b": "200..230,0..40"}, "folds": 0}
    with pytest.raises(InputError, match=r"region b has \d+ test galaxies .* nothing was trained"):
        lab.run("sky-swap", tmp_path / "thin", bright, parse(sky_swap.Settings, thin, "settings"))
    assert not (tmp_path / "thin" / "steps").exists()
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no experiment"):
        lab.run("training-size", tmp_path, bright)
    out = tmp_path / "out"
    Disk(out).write(lab.MARK, b'{"experiment": "other"}')
    with pytest.raises(InputError, match="holds the experiment 'other'"):
        lab.run("training-size", out, bright)
    Disk(out).write(lab.MARK, b'{"experiment": "training-size"}')
    with Disk(out).hold(lab.LOCK), pytest.raises(BusyError):
        lab.run("training-size", out, bright)


def test_the_network_takes_cutouts_of_other_sizes():
    shape = ShamirShape(size=32, widths=(4, 4, 4, 4, 4), dense=8)
    assert Classifier(TrainSettings(shape=shape)).size == 32
