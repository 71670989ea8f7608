"""Votes and resolutions as a survey store has them; the whole way from them to a judged run."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from surveys import encode, scattered
from typer.testing import CliRunner

from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.errors import InputError
from catalogs.trees.tree import read_tree
from training import averaging
from training.averaging import annotator_of
from training.checkpoint import Run
from training.ensemble import average
from training.labels import read_labels
from training.network import Annotator, Classifier
from training.presets import read_settings
from training.run import train

ROWS, SIDE = 240, 32
TREE = """
name = "odd"
[[questions]]
name = "a"
answers = [{ name = "round", next = "b", column = "first" }, { name = "flat", column = "second" }]
[[questions]]
name = "b"
answers = [{ name = "red", column = "third" }, { name = "blue", column = "fourth" }]
"""
SPLIT = {"order": 2, "validation": 0.25, "test": 0.25}
SMALL = {
    "model": "equivariant",
    "shape": {"fields": [2, 2, 4], "blocks": [0, 0, 1], "features": 8, "size": SIDE},
    "epochs": 2,
    "warmup": 2,
    "split": SPLIT,
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small images: on a shared machine, two threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def image(row: int) -> NDArray[np.uint8]:
    """A round or a flat galaxy, red or blue."""
    flat, blue = row % 2, row // 2 % 2
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    light = 200 * np.exp(-(x**2) / 72 - y**2 / (8 if flat else 72))
    colours = (0.3, 0.5, 1.0) if blue else (1.0, 0.5, 0.3)
    return (light[:, :, None] * np.asarray(colours)).astype(np.uint8)


def columns() -> dict[str, NDArray]:
    """Whole votes of 40 volunteers for each galaxy, and the same as fractions."""
    random = np.random.default_rng(0)
    flat = np.where(np.arange(ROWS) % 2, 34, 5) + random.integers(-3, 4, ROWS)
    asked = 40 - flat
    blue = np.rint(asked * np.where(np.arange(ROWS) // 2 % 2, 0.9, 0.1)).astype(int)
    counts = {"first": asked, "second": flat, "third": asked - blue, "fourth": blue}
    shares = {
        "first": asked / 40, "second": flat / 40, "third": (asked - blue) / asked,
        "fourth": blue / asked,
    }  # fmt: skip
    found: dict[str, NDArray] = {f"{name}_count": v for name, v in counts.items()}
    found |= {f"{name}_fraction": v for name, v in shares.items()}
    found["first_fraction"][5] = np.nan
    found["second_fraction"][5] = np.nan
    found["people"] = np.full(ROWS, 40)
    kinds = ["merger" if i % 8 == 3 else ("round", "flat")[i % 2] for i in range(ROWS)]
    found["kind"] = np.asarray(kinds, dtype=object)
    found["two"] = np.asarray([("round", "flat")[i % 2] for i in range(ROWS)], dtype=object)
    for name, flat in (("long", "f" * 65), ("odd", "flat\x1b[2J"), ("just", "f" * 64)):
        found[name] = np.where(np.arange(ROWS) % 2, flat, "round").astype(object)
    found["sure"] = np.where(np.arange(ROWS) < 200, 0.95, 0.6)
    found["radius"] = random.uniform(3, 20, ROWS)
    found["fwhm"] = np.full(ROWS, 1.3)
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def images(chunks: Sequence[NDArray[np.int64]]) -> Iterator[list[bytes]]:
        for chunk in chunks:
            yield [encode(image(row)) for row in chunk.tolist()]

    ra, dec = scattered(ROWS)
    table = SurveyTable(ids=np.arange(ROWS), ra=ra, dec=dec, columns=columns())
    path = tmp_path_factory.mktemp("votes") / "votes.zarr"
    write_survey(path, table, images, SurveyInfo(name="votes"))
    return path


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("trees") / "odd.toml"
    file.write_text(TREE)
    return str(file)


def settings(tree: str, **given: object):
    return read_settings("default", None, {**SMALL, "tree": tree, **given})


def test_a_class_that_no_bundle_can_name_is_refused_before_training(store: Path) -> None:
    survey = Survey.open(store)
    for column in ("long", "odd"):
        with pytest.raises(
            InputError, match="a class is of 1 to 64 printable characters"
        ) as caught:
            read_labels(survey, read_settings("default", None, {**SMALL, "label": column}))
        assert "\x1b" not in str(caught.value)
    fits = read_labels(survey, read_settings("default", None, {**SMALL, "label": "just"}))
    assert fits.names == ("f" * 64, "round")


def test_counts_fractions_and_totals_say_the_same(store: Path, tree: str) -> None:
    survey = Survey.open(store)
    counted = read_labels(survey, settings(tree, votes={"ending": "_count", "counted": True}))
    votes = {"ending": "_fraction", "total": "people"}
    shared = read_labels(survey, settings(tree, votes=votes))
    assert counted.votes is not None
    assert shared.votes is not None
    assert (counted.votes.origin, shared.votes.origin) == ("counts", "fractions and totals")
    # One galaxy has no fractions of the first question: nothing is known of it.
    assert len(counted.rows) == ROWS
    known = np.isin(counted.rows, shared.rows)
    assert known.sum() == len(shared.rows) == ROWS - 1
    input_row = survey.column("input_row")
    truth = columns()
    expected = np.stack([truth[f"{c}_count"] for c in ("first", "second", "third", "fourth")], 1)
    np.testing.assert_allclose(counted.votes.counts, expected[input_row], atol=1e-9)
    np.testing.assert_allclose(shared.votes.counts, counted.votes.counts[known], atol=1e-9)
    np.testing.assert_allclose(shared.votes.cumulative, expected[input_row][known] / 40, atol=1e-9)
    assert counted.fingerprint != shared.fingerprint


def test_unscaled_questions_change_the_target_and_not_the_votes(store: Path, tree: str) -> None:
    votes = {"ending": "_count", "counted": True}
    found = read_labels(Survey.open(store), settings(tree, votes=votes, unscaled=["b"])).votes
    assert found is not None
    np.testing.assert_allclose(found.cumulative[:, 2:].sum(axis=1), 1)
    np.testing.assert_allclose(found.counts[:, 2:].sum(axis=1), found.counts[:, 0])


def test_what_is_missing_is_named(store: Path, tree: str) -> None:
    survey = Survey.open(store)
    with pytest.raises(InputError, match="no column 'first_debiased'"):
        read_labels(survey, settings(tree))
    with pytest.raises(InputError, match=r"'kind' .* does not hold numbers"):
        read_labels(survey, settings(tree, votes={"ending": "_fraction", "total": "kind"}))
    with pytest.raises(InputError, match=r"votes\.total"):
        settings(tree, loss="dirichlet")
    with pytest.raises(InputError, match="debiased is not for a tree"):
        settings(tree, loss="debiased")
    with pytest.raises(InputError, match="go together"):
        read_settings("default", None, {"loss": "debiased"})


def test_only_certain_labels_are_used(store: Path) -> None:
    chosen = read_settings("default", None, {"label": "two", "certainty": "sure"})
    survey = Survey.open(store)
    labels = read_labels(survey, chosen)
    assert set(survey.column("input_row")[labels.rows]) == set(range(200))


def test_resolution_is_the_radius_over_the_point_spreads_deviation(store: Path) -> None:
    survey = Survey.open(store)
    for fwhm in ("fwhm", 1.3):
        debias = {"disk": "flat", "radius": "radius", "fwhm": fwhm, "theta": 9.18}
        chosen = {"label": "two", "loss": "debiased", "debias": debias}
        labels = read_labels(survey, read_settings("default", None, chosen))
        # 2 sqrt(2 ln 2) = 2.3548
        expected = 2.3548200450309493 * survey.column("radius")[labels.rows] / 1.3
        np.testing.assert_allclose(labels.resolution, expected)


@pytest.mark.parametrize(
    "given",
    [
        {"votes": {"ending": "_fraction"}},
        {"votes": {"ending": "_count", "counted": True}, "loss": "dirichlet"},
    ],
)
def test_a_tree_is_trained_judged_and_read_back(
    store: Path, tree: str, tmp_path: Path, given: dict[str, object]
) -> None:
    chosen = settings(tree, batch=16, epochs=5, average=0.9, learning_rate=0.01, **given)
    result = train(store, tmp_path / "a.run", chosen)
    rmse = result.metrics["rmse"].value
    assert rmse < 0.9 * result.metrics["rmse_mean_answer"].value
    run = Run.open(tmp_path / "a.run")
    assert run.data.questions == read_tree(tree)
    assert run.data.names == ("a_round", "a_flat", "b_red", "b_blue")
    classifier = Classifier(run.settings, run.answers)
    classifier.load_state_dict(run.weights)
    annotator = Annotator(classifier, run.result.calibration).eval()
    with (tmp_path / "a.run" / "holdout.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    # Images are as large as the network's: the hold-out's answers are those of the images.
    cutouts = torch.from_numpy(np.stack([image(int(row["id"])) for row in rows]))
    with torch.inference_mode():
        got = torch.stack(annotator(cutouts), dim=1).numpy()
    told = np.asarray([[float(row[f"p_{name}"]) for name in run.data.names] for row in rows])
    # JPEG, and six digits.
    np.testing.assert_allclose(got, told, atol=0.1)
    truth = np.asarray([[float(row[f"f_{name}"]) for name in run.data.names] for row in rows])
    assert np.sqrt(np.mean((told - truth) ** 2)) == pytest.approx(rmse, abs=1e-5)
    metrics = json.loads((tmp_path / "a.run" / "metrics.json").read_text())
    assert metrics["metrics"]["rmse"]["value"] == rmse
    assert metrics["questions"]["a"]["galaxies"] == len(rows)
    assert sum(t["n"] for t in metrics["tiles"]["accuracy"]) == len(rows)


def test_three_classes_are_trained_calibrated_and_judged(store: Path, tmp_path: Path) -> None:
    given = {**SMALL, "label": "kind", "epochs": 1, "sampling": "sky"}
    result = train(store, tmp_path / "a.run", read_settings("default", None, given))
    run = Run.open(tmp_path / "a.run")
    assert run.data.names == ("flat", "merger", "round")
    assert {"accuracy", "recall_merger", "roc_auc_merger"} <= set(result.metrics)
    assert run.result.calibration.bias == 0
    metrics = json.loads((tmp_path / "a.run" / "metrics.json").read_text())
    assert np.sum(metrics["confusion"]) == result.metrics["accuracy"].n
    header = (tmp_path / "a.run" / "holdout.csv").read_text().splitlines()[0]
    assert header == "id,ra,dec,label,p_flat,p_merger,p_round"


def test_debiasing_says_its_theta_and_is_not_calibrated_back(store: Path, tmp_path: Path) -> None:
    debias = {"disk": "flat", "radius": "radius", "fwhm": 1.3, "theta": 9.18}
    given = {**SMALL, "label": "two", "loss": "debiased", "debias": debias, "epochs": 1}
    train(store, tmp_path / "a.run", read_settings("default", None, given))
    result = Run.open(tmp_path / "a.run").result
    assert result.theta is not None
    assert (result.theta.value, result.theta.error) == (9.18, None)
    assert (result.calibration.scale, result.calibration.bias) == (1.0, 0.0)


def test_runs_are_averaged_to_a_run_that_answers_with_their_mean(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**SMALL, "label": "kind", "epochs": 1}
    paths = [tmp_path / f"{seed}.run" for seed in (0, 1)]
    for seed, path in enumerate(paths):
        train(store, path, read_settings("default", None, {**given, "seed": seed}))
    result = average(store, paths, tmp_path / "mean.run")
    mean = Run.open(tmp_path / "mean.run")
    assert mean.data.averaged is not None
    assert [m.name for m in mean.data.averaged.members] == ["0.run", "1.run"]
    rows = [
        np.loadtxt(path / "holdout.csv", delimiter=",", skiprows=1, usecols=(0, 4, 5, 6))
        for path in (*paths, mean.path)
    ]
    np.testing.assert_allclose(rows[2], (rows[0] + rows[1]) / 2, atol=2e-6)
    cutouts = torch.from_numpy(np.stack([image(row) for row in range(4)]))
    with torch.inference_mode():
        alone = [torch.stack(annotator_of(Run.open(path))(cutouts)) for path in paths]
        got = torch.stack(annotator_of(mean)(cutouts))
    torch.testing.assert_close(got, (alone[0] + alone[1]) / 2)
    assert average(store, paths, tmp_path / "mean.run").resumed
    few = averaging.transformations(1)
    monkeypatch.setattr(averaging, "transformations", lambda: few)
    turned = average(store, paths[:1], tmp_path / "turned.run", turned=True)
    assert turned.metrics["accuracy"].n == result.metrics["accuracy"].n
    shutil.copytree(paths[1], tmp_path / "other.run")
    other = json.loads((paths[1] / "settings.json").read_text())
    other["split"]["seed"] = 5
    (tmp_path / "other.run" / "settings.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match="differ in split"):
        average(store, [paths[0], tmp_path / "other.run"], tmp_path / "x.run")
    with pytest.raises(InputError, match="a mean already"):
        average(store, [mean.path], tmp_path / "x.run")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--turned",), "--turned needs --average"),
        (("--average", "a.run", "--epochs", "3", "--preset", "paper"), "leave out epochs, preset"),
        (("--average", "a.run"), "a.run is no training run"),
        (("--from", "spiral"), "is not CLASS=RA0"),
    ],
)
def test_what_does_not_go_together_is_told_by_the_command(
    store: Path, tmp_path: Path, given: tuple[str, ...], message: str
) -> None:
    from skytally import app

    found = CliRunner().invoke(app, ["train", str(store), "--to", str(tmp_path / "x.run"), *given])
    assert isinstance(found.exception, InputError)
    assert message in str(found.exception)
    assert not (tmp_path / "x.run").exists()
