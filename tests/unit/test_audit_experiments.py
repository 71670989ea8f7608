"""Blank-sky and sky-probe experiments beside an audit: read, tested anew, and deciding nothing."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from catalogs.annotated import names
from catalogs.audit.reading.experiments import read_experiment
from catalogs.audit.report import experiment_document
from catalogs.audit.run import AuditResult, audit, summary_lines
from catalogs.audit.settings import AuditSettings
from catalogs.errors import InputError
from experiments import blank_sky, sky_probe, writing
from experiments.patches import Geometry
from experiments.pictures import Answered
from experiments.product import Product

HOSTILE = "</script><script>alert(1)</script><b>"
SURVEY = {"path": "s.zarr", "name": HOSTILE, "uuid": "0f-1", "rows": 800, "fingerprint": "00"}


def answered(targets: np.ndarray, right: float, kinds: int, rng: np.random.Generator) -> Answered:
    """Answers of two folds, so often right; blocks of ten galaxies of one kind."""
    said = np.where(rng.random(len(targets)) < right, targets, rng.integers(0, kinds, len(targets)))
    rows = np.arange(len(targets))
    return Answered(
        rows=rows, targets=targets, answers=said, folds=rows // 10 % 2, blocks=rows // 10
    )


def write(folder: Path, name: str, product: Product, label: str = "label") -> Path:
    """Write what an experiment writes, as it does."""
    made = {"title": "", "settings": {"train": {"label": label}}, "survey": SURVEY, "again": ""}
    folder.mkdir(parents=True)
    document = writing.document(name, product, made)
    (folder / "results.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def told() -> dict[str, Answered]:
    """Corners tell nothing and random patches a little, of classes of unequal numbers."""
    rng = np.random.default_rng(80)
    targets = (rng.random(800) < 0.55).astype(np.int64)
    return {
        "corner": answered(targets, 0.0, 2, rng),
        "random": answered(targets, 0.4, 2, rng),
    }


@pytest.fixture(scope="module")
def probed() -> dict[str, Answered]:
    rng = np.random.default_rng(84)
    targets = np.repeat(rng.permutation(np.repeat(np.arange(3), 20)), 10)
    return {
        "network": answered(targets, 0.4, 3, rng),
        "features": answered(targets, 0.0, 3, rng),
    }


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory,
    told: dict[str, Answered],
    probed: dict[str, Answered],
) -> tuple[str, str]:
    where = tmp_path_factory.mktemp("experiments")
    patches = dict.fromkeys(told, Geometry(side=64, patch=16, radius=16.0))
    blank = blank_sky.product(told, [], ("a_as_b", "b"), patches, blank_sky.Settings(), True)
    probe = sky_probe.product(probed, ("tile 1", "tile 2", "as"), 600)
    return (
        str(write(where / "blank", "blank-sky", blank)),
        str(write(where / "probe", "sky-probe", probe)),
    )


@pytest.fixture(scope="module")
def audited(
    tmp_path_factory: pytest.TempPathFactory, folders: tuple[str, str]
) -> tuple[AuditResult, AuditResult]:
    """The same table with and without experiments beside it."""
    folder = tmp_path_factory.mktemp("audit")
    rng = np.random.default_rng(82)
    ra, dec = rng.uniform(0, 360, 3000), np.degrees(np.arcsin(rng.uniform(-1, 1, 3000)))
    p = 0.3 + 0.3 * (dec > 0)
    table = pa.table({"ra": ra, "dec": dec, "spiral": rng.random(3000) < p})
    pq.write_table(table, folder / "t.parquet")
    asked = AuditSettings(simulations=1000, order=0)
    beside = replace(asked, experiments=folders)
    return (
        audit(folder / "t.parquet", folder / "without", asked),
        audit(folder / "t.parquet", folder / "with", beside),
    )


def test_blank_sky_is_tested_anew(
    audited: tuple[AuditResult, AuditResult], told: dict[str, Answered]
) -> None:
    part = audited[1].document["experiments"][0]
    assert (part["experiment"], part["label"], part["level"]) == ("blank-sky", "label", 0.01)
    for row in part["told"]:
        own = told[row["what"]]
        right, n = int(np.sum(own.targets == own.answers)), len(own.targets)
        chance = np.bincount(own.targets).max() / n
        assert (row["right"], row["n"]) == (right, n)
        assert row["p"] == row["p_binomial"]
        assert row["p"] == pytest.approx(stats.binom.sf(right - 1, n, chance), rel=1e-8)
        assert row["interval"] == pytest.approx(proportion_confint(right, n, method="beta"))
    assert [row["tells"] for row in part["told"]] == [row["p"] < 0.01 for row in part["told"]]
    assert {row["tells"] for row in part["told"]} == {False, True}


def test_a_sky_probe_is_judged_by_its_blocks(
    audited: tuple[AuditResult, AuditResult], probed: dict[str, Answered]
) -> None:
    part = audited[1].document["experiments"][1]
    for row in part["told"]:
        own = probed[row["what"]]
        right = int(np.sum(own.targets == own.answers))
        assert row["p_binomial"] == pytest.approx(stats.binom.sf(right - 1, 600, 1 / 3), rel=1e-8)
        assert row["p"] == row["blocks"]["p"] >= 1 / 2000
        assert row["blocks"]["number"] == 60
    assert [row["tells"] for row in part["told"]] == [True, False]


def test_experiments_decide_nothing(audited: tuple[AuditResult, AuditResult]) -> None:
    alone, beside = (copy.deepcopy(one.document) for one in audited)
    assert alone.pop("experiments") is None
    assert len(beside.pop("experiments")) == 2
    assert beside["settings"].pop("experiments") != alone["settings"].pop("experiments")
    inputs = beside["provenance"].pop("inputs")
    assert inputs[:1] == alone["provenance"].pop("inputs")
    assert [one["role"] for one in inputs] == ["audited", "experiment", "experiment"]
    assert alone == beside
    assert beside["verdict"] == "anisotropic"
    assert beside["cause"] == "undetermined"


def test_the_report_shows_them_as_support(audited: tuple[AuditResult, AuditResult]) -> None:
    said = "\n".join(summary_lines(audited[1]))
    assert "the class is told better than chance from random places beside the galaxies" in said
    assert "these networks do not show that the class is told from corners" in said
    page = audited[1].report.read_text(encoding="utf-8")
    for text in (said, page):
        assert "no part of the verdict or its cause" in text
    assert "even honest corners" in page
    assert "means that labels go with" not in page
    assert "Not checked: the audited table does not say" in page
    assert HOSTILE not in page
    assert 'id="experiments"' not in audited[0].report.read_text(encoding="utf-8")


def test_they_are_of_the_catalogs_survey(folders: tuple[str, str], tmp_path: Path) -> None:
    options = dict.fromkeys(
        ("provider", "precision", "runtime_version", "decoder", "decoder_version", "crop"), "x"
    )
    for uuid, same in (("0f-1", True), ("0f-2", False)):
        plan = {"survey_name": "n", "survey_uuid": uuid, "bundle_sha256": "b", "options": options}
        file = tmp_path / uuid / names.PLAN
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(plan))
        if same:
            found = read_experiment(folders[0], file.parents[1])
            assert found.same_survey
            assert not any("Not checked" in note for note in _notes(found))
        else:
            with pytest.raises(InputError, match=r"of survey .* \(0f-1\), .* of 'n' \(0f-2\)"):
                read_experiment(folders[0], file.parents[1])


def _notes(found: object) -> list[str]:
    return list(experiment_document.build([found])[0]["notes"])


@pytest.mark.parametrize(
    ("which", "change", "message"),
    [
        (0, lambda d: d.update(experiment="debias"), "is of the experiment 'debias'"),
        (0, lambda d: d.update(schema_version=2), "is not what .* blank-sky' writes"),
        (0, lambda d: d["tables"]["places"]["rows"][0].update(p=1e-9), "p is 1e-09, expected"),
        (0, lambda d: d["tables"]["places"]["rows"][0].update(n=3), "n is 3, expected 800"),
        (0, lambda d: d["tables"]["places"]["rows"][0].update(b_as_b=-1), "-1 is no count"),
        (0, lambda d: d["tables"]["places"]["rows"][0].update(place="<b>"), "none of corner, r"),
        (0, lambda d: d.pop("survey"), "KeyError"),
        (1, lambda d: d["tables"]["probes"]["rows"][0].update(p=-1), "-1 does not lie within"),
        (1, lambda d: d["facts"].update(tiles=["tile 1"]), "is not what .* sky-probe' writes"),
    ],
)
def test_what_is_no_result_is_refused(
    folders: tuple[str, str], tmp_path: Path, which: int, change: object, message: str
) -> None:
    document = json.loads((Path(folders[which]) / "results.json").read_text())
    change(document)
    (tmp_path / "results.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=message) as caught:
        read_experiment(str(tmp_path), tmp_path)
    assert "\n" not in str(caught.value)


def test_no_folder_and_no_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results\.json: is not there; name the folder"):
        read_experiment(str(tmp_path / "none"), tmp_path)
    for content, said in (("[1]", "is no JSON object"), ("[" * 100_000, "is no JSON")):
        (tmp_path / "results.json").write_text(content)
        with pytest.raises(InputError, match=said):
            read_experiment(str(tmp_path), tmp_path)
