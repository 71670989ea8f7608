"""The demonstration, small: both surveys through every part, and again from what is on disk."""

import json
from dataclasses import replace
from pathlib import Path

import hats
import numpy as np
import pyarrow.dataset as ds
import pytest

from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from experiments.demo import DemoResult, DemoSettings, demo_lines, run_demo

SETTINGS = DemoSettings(galaxies=800, seed=3, workers=2, effect=0.2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoResult]:
    out = tmp_path_factory.mktemp("demo")
    return out, run_demo(out, SETTINGS)


def test_both_surveys_are_annotated_whole(made):
    out, result = made
    assert [outcome.conditions for outcome in result.surveys] == ["even", "uneven"]
    truth = []
    for outcome in result.surveys:
        catalog = hats.read_hats(out / outcome.conditions)
        assert catalog.catalog_info.total_rows == SETTINGS.galaxies
        table = ds.dataset(out / outcome.conditions / "dataset", format="parquet").to_table(
            columns=["id", "label", "truth", "status", "seeing"]
        )
        table = table.sort_by("id")
        assert table["id"].to_pylist() == list(range(SETTINGS.galaxies))
        assert set(table["status"].to_pylist()) == {"ok"}
        label = np.array(table["label"].to_pylist())
        truth.append(np.array(table["truth"].to_pylist()))
        known = np.isin(truth[-1], ["spiral", "elliptical"])
        # .81 and .77 when written, on 4,000; one class alone would give .51.
        assert (label == truth[-1])[known].mean() > 0.7
        assert outcome.fraction == pytest.approx((label == "spiral").mean(), abs=1e-9)
        spread = np.ptp(table["seeing"].to_numpy())
        assert spread == 0 if outcome.conditions == "even" else spread > 0.5
        assert outcome.verdict in ("uniform", "anisotropic")
        assert (out / f"{outcome.conditions}.audit" / "report.html").stat().st_size > 10_000
    assert np.array_equal(*truth)


def test_a_second_run_keeps_everything(made):
    out, first = made
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    again = run_demo(out, SETTINGS)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    for one, two in zip(first.surveys, again.surveys, strict=True):
        assert one.simulate_seconds > 0
        assert one.annotate_seconds > 0
        assert one.audit_seconds > 0
        idle = replace(one, simulate_seconds=0.0, annotate_seconds=0.0, audit_seconds=0.0)
        assert two == idle
    assert again.seconds < first.seconds / 2


def test_an_outdated_audit_is_made_again(made):
    out, first = made
    file = out / "even.audit" / "audit.json"
    document = json.loads(file.read_text())
    document["settings"]["effect"] = 0.5
    document["verdict"] = "nonsense"
    file.write_text(json.dumps(document))
    again = run_demo(out, SETTINGS)
    assert again.surveys[0].audit_seconds > 0
    assert again.surveys[1].audit_seconds == 0
    assert again.verdicts == first.verdicts


def test_another_demonstration_in_the_same_folder_is_refused(made):
    out, _ = made
    with pytest.raises(InputError, match="seed = 3, not 4"):
        run_demo(out, replace(SETTINGS, seed=4))
    assert Survey.open(out / "even.zarr").rows == SETTINGS.galaxies


def test_the_table_names_verdicts_and_reports(made):
    _, result = made
    text = "\n".join(demo_lines(result))
    for outcome in result.surveys:
        assert outcome.verdict in text
        assert outcome.report in text
