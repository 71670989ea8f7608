"""The benchmark measures what it says; how fast anything is, no test asserts."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from catalogs.cutouts.decode import open_decoder
from export.bundle import Bundle, shipped
from export.session import Session

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def run(module: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_row_is_the_median_of_its_turns_and_says_whether_it_is_reached() -> None:
    from benchmarks.table import Row, markdown

    speed = Row("speed", [0.9, 1.2, 1.0], reach=1.0, bound="the bound")
    memory = Row("memory", [80.0], 64, True, "MB")
    absent = Row("card", reach=2, missing="no card here")
    assert (speed.value, speed.reached) == (1.0, True)
    assert (memory.value, memory.reached) == (80.0, False)
    assert (absent.value, absent.reached) == (None, None)
    lines = markdown([speed, memory, absent]).splitlines()
    assert lines[2] == "| speed | 1.00 (0.90 to 1.20) | ≥ 1 | yes | the bound |"
    assert lines[3] == "| memory | 80.00 MB | ≤ 64 MB | NO |  |"
    assert lines[4] == "| card | no card here | ≥ 2 |  |  |"


def test_a_steady_rate_leaves_out_how_a_run_starts_and_ends() -> None:
    from benchmarks.measure import Timeline, slope

    # 30 s of start-up, 100 objects a second, and a straggler at the end.
    seen = [(0.0, 0), *((30 + n / 100, n) for n in range(0, 1000, 10)), (90.0, 1000)]
    assert Timeline(seen, 1000).rate == pytest.approx(100)
    assert slope([(x, 3 * x + 7) for x in range(9)]) == pytest.approx(3)


NOT_HERE = ("the plug-in offers no", "too few objects")


def test_the_whole_table_is_made(tmp_path: Path) -> None:
    sizes = ["galaxies=64", "many=1200", "planned=200000", "raw=3000"]
    shown = run(
        "bench", "--quick", "--only", "plan", "raw", "openvino",
        "--sizes", *sizes, "--to", tmp_path, "--scratch", tmp_path,
    )  # fmt: skip
    (file,) = tmp_path.glob("*.json")  # and the scratch folder is gone
    assert list(tmp_path.iterdir()) == [file]
    found = json.loads(file.read_text())
    assert found["machine"]["cores"] >= 1
    assert set(found["machine"]["versions"]) >= {"onnxruntime", "torch"}
    rows = {row["what"]: row for row in found["rows"]}
    assert "plan of 200,000 objects" in rows
    for row in rows.values():
        assert row["value"] is not None or row["missing"].startswith(NOT_HERE), row
        assert f"| {row['what']} |" in shown
    (raw,) = (row for row in rows.values() if "raw 8x8" in row["what"])
    assert raw["measured"]["rows"] == 3000


def test_the_planned_survey_is_partitioned_as_a_real_one_is() -> None:
    from benchmarks.rows_memory import partition_table

    table = partition_table(100_000)
    assert table[0, 2] == 0
    assert table[-1, 3] == 100_000
    assert np.array_equal(table[1:, 2], table[:-1, 3])
    assert (table[:, 3] - table[:, 2]).max() <= 100_000 // 16
    assert len(table) > 32  # as many as a worker of many could share


def test_torch_loops_label_as_the_bundle_does(tmp_path: Path) -> None:
    from benchmarks.inputs import SIZE, Inputs, Sizes

    inputs = Inputs(tmp_path, Sizes(galaxies=80, files=70))
    files = sorted(inputs.files.iterdir())
    assert len(files) == 70
    pixels, problems = open_decoder("reference", SIZE).decode(
        [np.fromfile(file, np.uint8) for file in files]
    )
    assert not problems
    expected = Session(Bundle.open(shipped())).run(pixels)["p_spiral"]
    for kind, tolerance in (("plain", 1e-5), ("best", 0.03)):
        to = tmp_path / f"{kind}.csv"
        given = ("--run", inputs.run, "--images", inputs.files, "--to", to, "--batch", "32")
        said = json.loads(run("baseline", kind, *given))
        assert said["images"] == 70
        assert said["rate"] > 0
        with to.open() as stream:
            rows = list(csv.DictReader(stream))
        assert [row["id"] for row in rows] == [file.stem for file in files]
        p = np.asarray([float(row["p_spiral"]) for row in rows])
        np.testing.assert_allclose(p, expected, atol=tolerance)
        labels = np.where(p >= 0.5, "spiral", "elliptical")
        sure = np.abs(p - 0.5) > 1e-6
        assert np.array_equal(labels[sure], np.asarray([row["label"] for row in rows])[sure])
