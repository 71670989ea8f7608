"""The chain from real galaxies to a bundle: ingest, train, export, answer."""

from __future__ import annotations

import csv
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from catalogs.cutouts.chosen import read_cutouts
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Silent
from catalogs.schema import ClassMap
from catalogs.survey.ingest import IngestSettings, ingest
from export.bundle import Bundle
from export.commands import check
from export.convert import export
from export.parity.gate import Gate
from export.parity.told import told_apart
from export.session import Session
from training.averaging import annotator_of
from training.checkpoint import Run
from training.experts import read_levels
from training.look.run import look
from training.models.shamir import ShamirShape
from training.presets import read_settings
from training.run import train
from training.settings import SplitSettings, TrainSettings

pytestmark = pytest.mark.shared

CLASSES = "spiral=spiral_clockwise|spiral_anticlockwise|edge_on,elliptical=elliptical"
TINY = TrainSettings(
    epochs=3,
    warmup=2,
    average=0.9,
    split=SplitSettings(order=5, validation=0.2, test=0.3),
    shape=ShamirShape(widths=(4, 4, 8, 8, 8), dense=16),
)
FEW = Gate(cutouts=128)


class Interrupt(Silent):
    """Stops a training after some epochs, as Ctrl-C would."""

    def __init__(self, after: int) -> None:
        self.after = after

    def event(self, name: str, **fields: object) -> None:
        if name == "epoch" and fields["epoch"] == self.after:
            raise KeyboardInterrupt


def make_survey(to: Path, data: Path, per_class: int) -> Path:
    """Ingest the first labelled galaxies of Galaxy Zoo 1, balanced, and some others."""
    wanted = {"elliptical": per_class, "edge_on": per_class // 2, "merger": 3}
    wanted |= dict.fromkeys(("spiral_clockwise", "spiral_anticlockwise"), per_class // 4)
    with (data / "gz1" / "objects.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["ra"]]
    chosen = []
    for row in rows:
        if wanted.get(row["gz1_class"], 0) > 0:
            wanted[row["gz1_class"]] -= 1
            chosen.append(row)
    table = to.with_suffix(".csv")
    with table.open("w") as stream:
        writer = csv.DictWriter(stream, list(chosen[0]))
        writer.writeheader()
        writer.writerows(chosen)
    settings = IngestSettings(id_column="objid", classes=ClassMap.parse(CLASSES))
    ingest(table, str(data / "gz1" / "images"), to, settings)
    return to


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    return make_survey(tmp_path_factory.mktemp("few") / "few.zarr", shared_data, 60)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, survey: Path) -> Run:
    path = tmp_path_factory.mktemp("runs") / "whole.run"
    result = train(survey, path, TINY)
    assert not result.resumed
    return Run.open(path)


def test_an_interrupted_training_ends_like_an_uninterrupted_one(
    run: Run, survey: Path, tmp_path: Path
) -> None:
    to = tmp_path / "halted.run"
    with pytest.raises(KeyboardInterrupt):
        train(survey, to, TINY, Interrupt(after=1))
    with pytest.raises(InputError, match="not complete"):
        Run.open(to)
    assert train(survey, to, TINY).resumed
    again = Run.open(to)
    for name, weights in run.weights.items():
        assert torch.equal(weights, again.weights[name]), name
    assert again.result == run.result
    for file in ("log.csv", "holdout.csv", "weights.safetensors", "training_sky.moc.fits"):
        assert (to / file).read_bytes() == (run.path / file).read_bytes(), file


def test_a_complete_run_is_not_trained_again(run: Run, survey: Path) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in run.path.iterdir()}
    assert train(survey, run.path, TINY, Interrupt(after=1)).metrics == run.result.metrics
    assert {file.name: file.stat().st_mtime_ns for file in run.path.iterdir()} == before
    with pytest.raises(InputError, match="another seed"):
        train(survey, run.path, replace(TINY, seed=1))


def test_the_holdout_shares_no_tile_with_training(run: Run, survey: Path) -> None:
    from mocpy import MOC

    with (run.path / "holdout.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    ra, dec = (np.asarray([float(row[name]) for row in rows]) for name in ("ra", "dec"))
    from astropy import units as u
    from astropy.coordinates import Latitude, Longitude

    sky = MOC.from_fits(run.path / "training_sky.moc.fits").degrade_to_order(5)
    assert not sky.contains_lonlat(Longitude(ra, u.deg), Latitude(dec, u.deg)).any()
    counts = run.data.counts["test"]
    assert {name: [r["label"] for r in rows].count(name) for name in counts} == counts
    store = Survey.open(survey)
    labels = dict(zip(store.column("id"), store.column("label"), strict=True))
    assert all(labels[int(row["id"])] == row["label"] for row in rows)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Bundle:
    return export(run.path, tmp_path_factory.mktemp("bundles") / "tiny.bundle", gate=FEW)


def test_the_bundle_answers_what_torch_answers(bundle: Bundle, run: Run, survey: Path) -> None:
    cutouts = read_cutouts(Survey.open(survey), np.arange(0, 120, 2), run.data.crop)
    got = Session(bundle).run(cutouts)
    with torch.inference_mode():
        expected = annotator_of(run)(torch.from_numpy(cutouts))
    for name, values in zip(bundle.manifest.answers, expected, strict=True):
        np.testing.assert_allclose(got[name], values.numpy(), atol=1e-5)


def test_the_bundle_says_what_the_run_measured(bundle: Bundle, run: Run) -> None:
    manifest = bundle.manifest
    (found,) = manifest.parity
    assert found.difference < 1e-4
    assert (found.cutouts, found.source) == (128, run.data.survey)
    assert found.galaxies == sum(
        sum(run.data.counts[role].values()) for role in ("validation", "test")
    )
    assert manifest.provenance.counts == run.data.counts
    card = (bundle.path / "card.md").read_text()
    for name, measured in run.result.metrics.items():
        assert manifest.metrics[name].model_dump() == asdict(measured)
        assert f"{measured.value:.3f} ({measured.low:.3f} to {measured.high:.3f})" in card


def test_the_holdout_answers_are_the_bundles(bundle: Bundle, run: Run, survey: Path) -> None:
    store = Survey.open(survey)
    with (run.path / "holdout.csv").open() as stream:
        rows = {int(row["id"]): float(row["p_spiral"]) for row in csv.DictReader(stream)}
    chosen = np.flatnonzero(np.isin(store.column("id"), list(rows)))
    expected = np.asarray([rows[int(i)] for i in store.column("id")[chosen]])
    # Training keeps cutouts at the network's scale, in whole grey levels.
    cutouts = torch.from_numpy(read_cutouts(store, chosen, run.data.crop)).permute(0, 3, 1, 2)
    small = functional.interpolate(cutouts.float(), (120, 120), mode="bilinear", antialias=True)
    grey = small.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    got = Session(bundle).run(grey)["p_spiral"]
    np.testing.assert_allclose(got, expected, atol=2e-5)
    answer = (got >= bundle.manifest.threshold) == (store.column("label")[chosen] == "spiral")
    assert answer.mean() == pytest.approx(bundle.manifest.metrics["accuracy"].value, abs=1 / 30)


def test_triage_counts_the_holdout(run: Run) -> None:
    with (run.path / "holdout.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    p = np.asarray([float(row["p_spiral"]) for row in rows])
    right = (p >= 0.5) == np.asarray([row["label"] == "spiral" for row in rows])
    levels, question = read_levels(run.path)
    assert question is None
    for level in levels:
        # Confidence grows with the distance from a half.
        chosen = np.argsort(-np.abs(p - 0.5), kind="stable")[: level.accuracy.n]
        assert level.accuracy.value == pytest.approx(right[chosen].mean())
    assert levels[-1].accuracy.n == len(rows)
    assert (run.path / "triage.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="answers no tree"):
        read_levels(run.path, "q01")


def test_the_page_shows_the_hardest_galaxies_and_loads_nothing(
    run: Run, survey: Path, tmp_path: Path
) -> None:
    with (run.path / "holdout.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    wrong = {
        row["id"]: abs((row["label"] == "spiral") - float(row["p_spiral"]))
        for row in rows
        if row["label"] == "spiral"
    }
    named = tmp_path / "<b>.run"
    named.symlink_to(run.path)
    assert look(named, survey, tmp_path / "x.html") == len(rows)
    text = (tmp_path / "x.html").read_text()
    assert len(text) < 2_000_000
    assert "<b>.run" not in text
    assert "Inside &lt;b&gt;.run" in text
    assert not re.search(r"<script|https?://|url\((?![\"']?#)", text)
    hardest = text.partition("Hardest spiral")[2]
    shown = re.findall(r">(\d+): spiral, p ([\d.]+)", hardest)
    expected = sorted(wrong, key=lambda name: -wrong[name])[:8]
    assert [name for name, _ in shown] == expected
    for name, p in shown:
        assert float(p) == pytest.approx(1 - wrong[name], abs=0.011)
    with pytest.raises(InputError, match="exists already"):
        look(run.path, survey, tmp_path / "x.html")


def test_a_region_without_galaxies_is_refused(survey: Path, tmp_path: Path) -> None:
    settings = replace(TINY, regions={"spiral": "300..301,-80..-79"})
    with pytest.raises(InputError, match="0 galaxies labelled 'spiral'"):
        train(survey, tmp_path / "x.run", settings)
    assert not (tmp_path / "x.run").exists()


def test_a_bundle_is_compared_again_with_its_run(bundle: Bundle, run: Run, survey: Path) -> None:
    checked = check(bundle.path, run.path, None, survey, FEW.cutouts, Silent())
    (found,) = checked.compared
    assert checked.not_compared == told_apart(bundle.manifest.not_compared)
    assert found.reference.startswith("torch")
    assert found.source == run.data.survey
    assert found.difference < 1e-5
    own = check(bundle.path, None, None, survey, FEW.cutouts, Silent())
    assert own.compared[0].reference.startswith("the fp32 model")
    assert "its run is not given" in own.not_compared[0]


NETWORKS = {
    "dieleman": {"widths": (4, 4, 4, 4), "dense": 8},
    "resnet50": {"blocks": (1, 1, 1, 1), "width": 4, "dense": 8, "size": 64},
    "equivariant": {"fields": (2, 2, 4), "blocks": (0, 1, 1), "features": 8, "size": 60},
}


@pytest.mark.parametrize(
    "model", [pytest.param("dieleman", marks=pytest.mark.train), "resnet50", "equivariant"]
)
def test_every_network_goes_from_galaxies_to_a_bundle(
    model: str, survey: Path, tmp_path: Path
) -> None:
    changed = {"model": model, "shape": NETWORKS[model], "epochs": 1, "warmup": 2}
    split = {"order": 5, "validation": 0.2, "test": 0.3}
    settings = read_settings("default", None, {**changed, "split": split})
    train(survey, tmp_path / "a.run", settings)
    run = Run.open(tmp_path / "a.run")
    bundle = export(run.path, tmp_path / "a.bundle", gate=FEW)
    contract = bundle.manifest.input
    assert contract.crop == (294 if model == "dieleman" else 240)
    assert contract.trained_size == {"dieleman": 294, "resnet50": 64, "equivariant": 60}[model]
    assert bundle.manifest.provenance.settings["model"] == model
    words = {"dieleman": "Dieleman, Willett", "resnet50": "ResNet-50", "equivariant": "eight"}
    assert words[model] in (bundle.path / "card.md").read_text()
    cutouts = read_cutouts(Survey.open(survey), np.arange(8), run.data.crop)
    got = Session(bundle).run(cutouts)
    with torch.inference_mode():
        expected = annotator_of(run)(torch.from_numpy(cutouts))
    for name, values in zip(bundle.manifest.answers, expected, strict=True):
        np.testing.assert_allclose(got[name], values.numpy(), atol=1e-5)


@pytest.mark.train
def test_a_short_training_learns_to_tell_real_galaxies_apart(
    tmp_path: Path, shared_data: Path
) -> None:
    survey = make_survey(tmp_path / "more.zarr", shared_data, 400)
    settings = TrainSettings(
        epochs=5,
        batch=32,
        warmup=20,
        average=0.95,
        split=SplitSettings(validation=0.1, test=0.35),
        shape=ShamirShape(widths=(8, 16, 24, 32, 48), dropout=0.1),
    )
    result = train(survey, tmp_path / "more.run", settings)
    area = result.metrics["roc_auc"]
    assert area.n > 200
    assert area.low > 0.75
