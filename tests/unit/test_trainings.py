"""The page of trainings says what was run, and what was not."""

from __future__ import annotations

import csv
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def written(file: Path, p: np.ndarray, truth: np.ndarray) -> None:
    file.parent.mkdir(parents=True)
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "label", "p_spiral"])
        for i, (value, disk) in enumerate(zip(p, truth, strict=True)):
            writer.writerow([i, "spiral" if disk else "elliptical", value])


def test_the_page_holds_what_was_run_and_names_what_was_not(tmp_path: Path) -> None:
    from benchmarks.trainings.page import page
    from benchmarks.trainings.plan import plan
    from benchmarks.trainings.row import Row
    from benchmarks.trainings.surveys import Sizes
    from training.metrics import Measured

    runs = plan(Sizes())
    random = np.random.default_rng(0)
    truth = random.random(200) < 0.4
    good, better = truth + random.normal(0, 1.0, 200), truth + random.normal(0, 0.4, 200)
    written(tmp_path / "gz1-shipped" / "holdout.csv", good, truth)
    written(tmp_path / "gz1-shamir" / "network.run" / "holdout.csv", better, truth)
    metrics = {k: Measured(0.9, 0.88, 0.92, 200) for k in ("accuracy", "roc_auc")}
    for name in ("gz1-shipped", "gz1-shamir"):
        row = Row(name, "shamir", 90.0, 7, 12_000_000, 800, 8000, metrics, {"epochs": 10})
        row.write(tmp_path / name)
        assert Row.read(tmp_path / name) == row
    area = [
        mannwhitneyu(p[truth], p[~truth]).statistic / (truth.sum() * (~truth).sum())
        for p in (good, better)
    ]
    text = page(tmp_path, runs)
    line = next(line for line in text.splitlines() if line.startswith("| gz1-shamir "))
    cells = [cell.strip() for cell in line.split("|")]
    assert cells[2:8] == ["12 M", "7", "10", "1.5", "0.900 [0.880, 0.920]", "0.900 [0.880, 0.920]"]
    assert cells[8].startswith(f"{area[1] - area[0]:+.3f} [+")
    # 1.5 million images at 8,000 in 90 s; six operations for each of 12 million.
    schedule = "| shamir | 250 epochs of 6,000 images | gz1-shamir, 89/s | 0.2 | 0.108 | 0.0015 |"
    assert schedule in text
    missing = text.partition("## Not run")[2]
    assert "`sky-debiased`" in missing
    assert "`gz1-shamir`" not in missing
    assert "## A decision tree" not in text


def test_layers_are_those_of_the_paper(tmp_path: Path) -> None:
    from benchmarks.trainings.page import layers
    from benchmarks.trainings.runs import Shapes
    from benchmarks.trainings.surveys import Sizes, Surveys

    row = Shapes("dieleman", 37).measure("x", tmp_path, Surveys(tmp_path, tmp_path, Sizes()))
    assert row.parameters == 42_377_125
    assert layers(row.facts["layers"]) == (
        "UntiedConv 32x40x40, UntiedConv 64x16x16, UntiedConv 128x6x6, UntiedConv 128x4x4, "
        "2 Linear 4096, Linear 37"
    )


def test_two_commands_share_the_runs(tmp_path: Path) -> None:
    from benchmarks.trainings.__main__ import taken

    with ExitStack() as one, ExitStack() as two:
        assert taken(tmp_path, one)
        assert not taken(tmp_path, two)
        one.close()
        assert taken(tmp_path, two)


def test_turned_images_are_counted_whose_label_changes() -> None:
    from benchmarks.trainings.runs import _turned

    # Bright in one corner, or all over: the first changes when it is turned.
    images = np.zeros((4, 6, 6, 3), np.uint8)
    images[0, :2, :2] = 200
    images[1] = 200
    found = _turned(lambda x: x[:, 0, 0, 0] / 255.0, images)
    assert found["labels"] == 0.25
    assert found["n"] == 4
