"""A night that is killed while it is ingested, at any operation on a file, is as if it were not."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chaos import shim
from chaos.shim import Shim
from surveys import scattered

from catalogs.cutouts.store import Survey
from catalogs.survey.ingest import IngestSettings, ingest

ROOT = Path(__file__).resolve().parents[2]
ROWS = 30
SPREAD = 8  # kills spread over the whole of it, beside those around its end
LAST = 4  # Zarr's threads make the number of operations differ by a few

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(sys.platform != "linux", reason="preloads a library of Linux calls"),
]


class Telescope:
    """A survey of one night, a second night to add, and processes that add it."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.folder, self.library = folder, library
        for night in range(2):
            ra, dec = scattered(ROWS, seed=night)
            ids = np.arange(night * ROWS, (night + 1) * ROWS)
            if night:
                ids[3] = 3  # stored already
            columns = {"id": ids, "ra": ra, "dec": dec, "mag": ra / 20, "name": ids.astype(str)}
            pq.write_table(pa.table(columns), folder / f"{night}.parquet")
            rng = np.random.default_rng(night)
            np.save(folder / f"{night}.npy", rng.integers(0, 255, (ROWS, 8, 8), np.uint8))
        self.first = folder / "first.zarr"
        ingest(folder / "0.parquet", str(folder / "0.npy"), self.first, IngestSettings(night="0"))

    def new(self) -> Path:
        """Return a survey of the first night, in a folder of its own."""
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        survey = self.folder / "run/survey.zarr"
        shutil.copytree(self.first, survey)
        return survey

    def add(self, survey: Path) -> bool:
        """Add the second night here; say whether there was anything to do."""
        settings = IngestSettings(append=True, night="1")
        images = str(self.folder / "1.npy")
        return ingest(self.folder / "1.parquet", images, survey, settings).written

    def add_killed(self, survey: Path, do: str | None = None, at: int = 0) -> tuple[int, Shim]:
        """Add it in a process that is killed at an operation; return its status."""
        seen = Shim(self.library, survey.parent, self.folder / "notes")
        command = [sys.executable, "-m", "skytally", "ingest", self.folder / "1.parquet"]
        options = ["--images", self.folder / "1.npy", "--to", survey, "--append", "--night", "1"]
        ended = subprocess.run(
            [*command, *options],
            env=seen.started(do=do, at=at) | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
        )
        assert ended.returncode in (0, -signal.SIGKILL), ended.stderr.decode()
        return ended.returncode, seen


def files(survey: Path) -> dict[str, bytes]:
    """Everything but the lock, and the root's document, which says when it was written."""
    return {
        str(path.relative_to(survey)): path.read_bytes()
        for path in survey.rglob("*")
        if path.is_file() and path not in (survey / "zarr.json", survey / ".lock")
    }


@pytest.fixture(scope="module")
def telescope(tmp_path_factory, in_memory) -> Telescope:
    return Telescope(in_memory("ingest"), shim.library(tmp_path_factory))


def test_killed_at_any_operation_and_run_again_a_night_is_added_once(telescope):
    survey = telescope.new()
    status, seen = telescope.add_killed(survey)
    assert status == 0
    operations, whole = seen.count, files(survey)
    undone = 0
    spread = np.linspace(1, operations, SPREAD + 1, dtype=int)[:-1].tolist()
    for at in [*spread, *range(operations - LAST + 1, operations + 1)]:
        survey = telescope.new()
        before = files(survey)
        status, _ = telescope.add_killed(survey, do="after" if at % 2 else "half", at=at)
        done = len(Survey.open(survey).attributes.appends) == 2
        undone += not done
        assert done or status == -signal.SIGKILL
        assert {name: files(survey)[name] for name in before} == before
        assert telescope.add(survey) is not done
        assert files(survey) == whole
        again = Survey.open(survey)
        assert [again.night(append.name) for append in again.attributes.appends] == ["0", "1"]
        assert again.rows == 2 * ROWS - 1
        assert list(survey.parent.iterdir()) == [survey]
    assert undone >= SPREAD
