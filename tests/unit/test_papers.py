"""The papers' numbers beside ours: those of the runs, and what was not run is said to be so."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import papers

PAGE = (
    "before\n<!-- glance --><!-- /glance --><!-- runs -->of before<!-- /runs -->\n"
    "<!-- fields --><!-- /fields --><!-- papers --><!-- /papers -->\nafter\n"
)


def document(**tables: list[dict]) -> dict:
    return {
        "headline": "It grows.",
        "findings": ["By so much."],
        "settings": {"seeds": 2},
        "survey": {"rows": 5849},
        "versions": {"sources": "2bd2e7"},
        "steps": {"train-1": {"seconds": 90.0}, "train-2": {"seconds": 30.0}},
        "facts": {"changed_back": 7},
        "tables": {
            name: {"columns": dict.fromkeys(rows[0], "") if rows else {}, "rows": rows}
            for name, rows in tables.items()
        },
    }


SIZES = document(
    sizes=[
        {"size": 30, "balanced_accuracy": 0.7004},
        {"size": 1000, "balanced_accuracy": 0.85},
    ]
)
SWAP = document(
    **{
        "same-galaxies": [
            {"training": "a/b", "region": "a", "splits": 6, "balanced_difference": 0.01,
             "balanced_p": 0.5, "detectable": 0.2},
            {"training": "b/a", "region": "a", "splits": 6, "balanced_difference": -0.034,
             "balanced_p": 0.012, "detectable": 0.05},
        ],
        "distances": [
            {"first": "a", "second": "b", "splits": 6, "shift": -0.07, "shift_p": 0.0161,
             "anisotropy": 0.01, "anisotropy_p": 0.4, "rates_p": 0.3, "level": 0.0167},
            {"first": "a", "second": "c", "splits": 6, "shift": 0.02, "shift_p": 0.02,
             "anisotropy": 0.01, "anisotropy_p": 0.4, "rates_p": 0.3, "level": 0.0167},
        ],
        "fields": [
            {"quantity": "seeing", "mean a": 1.26019, "sd a": 0.504, "mean b": 1.4, "sd b": 0.09},
            {"quantity": "votes", "mean a": 3, "sd a": 1, "mean b": 3, "sd b": 1},
            {"quantity": "galaxies per square degree", "mean a": 8.7771, "sd a": None,
             "mean b": 9.0, "sd b": None},
        ],
        "two-regions": [
            {"training": "a/a", "first": "a", "second": "b", "balanced_difference": 0.02,
             "balanced_p": None}
        ],
        "spread": [
            {"over": "seeds", "splits": 6, "accuracy_sd": 0.012, "training": "a/a", "region": "a",
             "es_mean": 7, "es_sd": 2, "es_most": 9, "se_mean": 8, "se_sd": 2, "se_most": 9},
            {"over": "seeds", "splits": 16, "accuracy_sd": 0.02, "training": "a/b", "region": "b",
             "es_mean": 31.5, "es_sd": 4, "es_most": 44, "se_mean": 22, "se_sd": 8, "se_most": 40},
            {"over": "seeds", "splits": 100, "accuracy_sd": 0.015, "training": "b/b",
             "region": "b", "es_mean": 1, "es_sd": 1, "es_most": 1, "se_mean": 1, "se_sd": 1,
             "se_most": 1},
            {"over": "folds", "splits": 50, "accuracy_sd": 0.9},
        ],
    }
)  # fmt: skip


PHOTOMETRY = document(
    **{
        "counts": [
            {"test": "p", "of": 48, "mean": 33.5},
            {"test": "p_holm", "of": 48, "mean": 29.5},
            {"test": "p_bh", "of": 48, "mean": 32.25},
        ],
        "over-splits": [
            {"splits": 20, "p_holm": 0.04},
            {"splits": 20, "p_holm": 0.3},
            {"splits": 20, "p_holm": None},
        ],
    }
)
DEBIAS = document(
    theta=[{"theta": 8.5, "error": 0.2}],
    changed=[],
    means=[
        {"who": "biased labels", "cv14": 0.45, "cv18": None, "label_accuracy": 0.9,
         "label_precision": 0.9, "label_recall": 0.9, "label_f1": None,
         **{f"corrected_{name}": 0.8 for name in ("accuracy", "precision", "recall", "f1")}}
    ],
    differences=[
        {"who": "de-biasing loss", "measure": "cv14", "difference": -0.111, "seeds": 6, "p": 0.021,
         "p_holm": 0.06},
        {"who": "de-biasing loss", "measure": "true_f1", "difference": 1, "seeds": 6, "p": 1},
        {"who": "de-biased labels", "measure": "cv14", "difference": 1, "seeds": 6, "p": 1},
    ],
)  # fmt: skip
RAN = {
    "gz1-size": SIZES,
    "gz1-swap": SWAP,
    "large-photometry": PHOTOMETRY,
    "gz1-debias": DEBIAS,
}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, made in RAN.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "results.json").write_text(json.dumps(made))
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    said = ["--from", tmp_path / "runs", "--page", page]
    monkeypatch.setattr(sys, "argv", ["papers", *map(str, said)])
    assert papers.main() == 0
    first = page.read_text()
    papers.main()
    assert page.read_text() == first
    return first


def test_numbers_are_those_of_the_runs_and_the_rest_is_not_run(written: str) -> None:
    assert written.startswith("before\n")
    assert written.endswith("\nafter\n")
    assert "of before" not in written
    assert "(`gz1-size`: 5,849 galaxies, 2 seeds, 2 steps, 2.0 minutes on a" in written
    assert "machine; sources 2bd2e7.)" in written
    rows = [line.split(" | ") for line in written.splitlines() if line.startswith("| ")]
    ours = {row[1]: row[3] for row in rows if len(row) > 4}
    assert ours["accuracy against training size"] == (
        "gz1-size: balanced accuracy [%] by galaxies of a class: 30: 70.0, 1,000: 85.0"
        "<br>large-size: not run"
    )
    same = ours["same galaxies, two trainings"]
    assert same.startswith("gz1-swap: −3.4 points at most (b/a on a, p over 6 splits 0.01")
    assert "5.0 would have been found" in same
    assert "p over splits –" in ours["one network, two regions"]
    assert ours["spread over random splits"].startswith(
        "gz1-swap: a/b on b, 16 splits: 31.5 ± 1.0 ellipticals wrong, 44 at most; 22.0 ± 2.0 "
        "spirals, 40; standard deviation of a split's accuracy 1.2 to 2.0 points"
    )
    assert ours["same galaxies, both classes swapped"].startswith(
        "gz1-swap: 1 of 2 beyond chance over 6 splits (p below 0.017): a and b −7.0 points "
        "(p 0.016), between the regions +1.0 points (p 0.4), rates p 0.3; a and c +2.0 points"
    )
    assert (
        "| `gz1-swap`: mean ± standard deviation | a | b |\n|---|---|---|\n"
        "| galaxies per square degree | 8.777 | 9 |\n"
        "| seeing [arcsec] | 1.26 ± 0.5 | 1.4 ± 0.09 |\n\n<!-- /fields -->"
    ) in written
    assert ours["accuracy, precision, recall, F1"].startswith(
        "gz1-debias: against the biased labels: biased labels 0.900 0.900 0.900 –. against the "
        "de-biased labels: biased labels 0.800 0.800 0.800 0.800<br>"
    )
    assert ours["smooth to disk"].startswith(
        "gz1-debias: 0 test galaxies; 7 labelled disks called smooth<br>"
    )
    assert ours["theta"] == "gz1-debias: 8.50 ± 0.20<br>large-debias: not run"
    assert ours["bias L of the answers, ResNet50"].startswith(
        "gz1-debias: biased labels: CV14 0.450; the loss changes CV14 by −0.111 (p over 6 seeds "
        "0.021, after Holm 0.06)<br>"
    )
    assert ours["photometry, three regions, nine trainings"].startswith(
        "large-photometry: 33.5 of 48 below .05; after Holm 29.5, after Benjamini and Hochberg "
        "32.2 (means over splits; forests differ, whatever the region). Over 20 splits 1 of 3 "
        "differences stand after Holm<br>"
    )
    assert "| `gz1-blank` | Blank sky | Galaxy Zoo 1 | not known | not run |" in written
    assert "| `gz1-size` | Training size | Galaxy Zoo 1 | not known | It grows. |" in written
    assert "### Training size: Galaxy Zoo 1\n\n**It grows.** " in written


def test_every_run_of_the_table_is_one_of_the_runs() -> None:
    assert {name for line in papers.LINES for name in line.runs} <= set(papers.RUNS)


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(SystemExit, match="put them in"):
        papers.marked("no marks", "runs", "")
