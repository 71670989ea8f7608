"""Nights run by the script of docs/nightly.md, one of them killed twice, end as if nothing was."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from surveys import encode, small_image, tree

from catalogs.cutouts.store import Survey
from catalogs.survey.ingest import IngestSettings, ingest
from catalogs.survey.tables import read_table
from engine.run import AnnotateSettings, annotate

ROOT = Path(__file__).resolve().parents[2]
NIGHTS = {"2026-11-20": 1200, "2026-11-21": 500, "2026-11-22": 60}
FIRST, SECOND, THIRD = NIGHTS
KILLED = -signal.SIGKILL


def blocks(language: str) -> list[str]:
    """The code of one language in docs/nightly.md."""
    text = (ROOT / "docs/nightly.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def write_night(sky: Path, night: str, first_id: int, rows: int) -> None:
    """Objects all over the sky, on half of it, or in one corner; one of an earlier night."""
    folder = sky / "nights" / night
    (folder / "cutouts").mkdir(parents=True)
    rng = np.random.default_rng(first_id)
    ra = rng.uniform(0, {FIRST: 360, SECOND: 180, THIRD: 5}[night], rows)
    dec = np.degrees(np.arcsin(rng.uniform(-1 if night == FIRST else 0, 1, rows)))
    ids = np.arange(first_id, first_id + rows)
    if night != FIRST:
        ids[7] = 3
    columns = rng.normal(size=(rows, 40))
    lines = [",".join(["objid", "ra", "dec", *(f"flux_{i}" for i in range(40))])]
    for row in range(rows):
        (folder / f"cutouts/{ids[row]}.png").write_bytes(encode(small_image(first_id + row)))
        values = [ids[row], repr(float(ra[row])), repr(float(dec[row])), *columns[row].tolist()]
        lines.append(",".join(map(str, values)))
    (folder / "objects.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def nights(tmp_path_factory) -> Path:
    """The nights' tables and cutouts, as they come from the telescope."""
    sky = tmp_path_factory.mktemp("nights")
    first_id = 0
    for night, rows in NIGHTS.items():
        write_night(sky, night, first_id, rows)
        first_id += rows
    return sky / "nights"


@pytest.fixture(scope="module")
def undisturbed(nights, brightness, tmp_path_factory) -> tuple[Path, Path]:
    """A catalog annotated night by night without failures, and one annotated once at the end."""
    folder = tmp_path_factory.mktemp("undisturbed")
    survey, nightly, once = (folder / name for name in ("survey.zarr", "catalog", "once/catalog"))
    settings = AnnotateSettings(workers=1)
    for i, night in enumerate(NIGHTS):
        chosen = IngestSettings(id_column="objid", append=i > 0, night=night)
        ingest(nights / night / "objects.csv", str(nights / night / "cutouts"), survey, chosen)
        result = annotate(survey, nightly, brightness.path, settings)
        assert result.annotated == NIGHTS[night] - (i > 0)
    annotate(survey, once, brightness.path, settings)
    return nightly, once


def test_annotating_by_night_and_once_give_the_same_bytes(undisturbed):
    nightly, once = undisturbed
    assert tree(nightly) == tree(once)


class Sky:
    """The folder of docs/nightly.md, and its script as a cron job would run it."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        (folder / "nights").mkdir(parents=True)
        (script,) = blocks("bash")
        (folder / "nightly.sh").write_text(script)
        (folder / "nightly.sh").chmod(0o755)
        ingest_toml, _ = blocks("toml")
        (folder / "ingest.toml").write_text(ingest_toml)
        (folder / "annotate.toml").write_text(f'model = "{model}"\nworkers = 2\n')

    def receive(self, nights: Path, night: str) -> None:
        (self.folder / "nights" / night).mkdir()
        for name in ("cutouts", "objects.csv"):
            (self.folder / "nights" / night / name).symlink_to(nights / night / name)

    def start(self) -> subprocess.Popen[str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.Popen(
            [self.folder / "nightly.sh"],
            env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self) -> str:
        process = self.start()
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        return output

    def kill_when_there_is(self, pattern: str) -> None:
        process = self.start()
        while not any(self.folder.glob(pattern)):
            try:
                process.wait(timeout=0.002)
            except subprocess.TimeoutExpired:
                continue
            _, errors = process.communicate()
            pytest.fail(f"ended before there was {pattern}: {errors}")
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == KILLED

    def annotated(self, pattern: str) -> int:
        return len(list((self.folder / "catalog/run/receipts").glob(pattern)))

    def modified(self) -> dict[str, int]:
        files = (self.folder / "catalog/dataset").rglob("Npix=*.parquet")
        return {path.name: path.stat().st_mtime_ns for path in files}


@pytest.mark.chaos
def test_a_night_killed_in_ingest_and_in_annotate_is_as_if_it_were_not(
    nights, undisturbed, brightness, tmp_path
):
    sky = Sky(tmp_path / "sky", brightness.path)
    clouds = sky.folder / "nights/2026-11-19"
    clouds.mkdir()
    header, _, _ = (nights / FIRST / "objects.csv").read_text().partition("\n")
    (clouds / "objects.csv").write_text(header + "\n")
    (clouds / "cutouts").mkdir()
    for said in ("no objects: nothing to do\nno night has brought objects", "no night has brought"):
        assert said in sky.run()
    assert not (sky.folder / "survey.zarr").exists()

    sky.receive(nights, FIRST)
    output = sky.run()
    assert "1200 objects stored, 0 quarantined" in output
    assert "annotated 1200 in" in output

    sky.receive(nights, SECOND)
    before = (sky.folder / "survey.zarr/zarr.json").read_bytes()
    sky.kill_when_there_is("survey.zarr/appends/00001/blob")
    assert (sky.folder / "survey.zarr/zarr.json").read_bytes() == before
    sky.kill_when_there_is("catalog/run/receipts/*.00001.json")
    done = sky.annotated("*.00001.json")
    pixels = sum(p.append == "00001" for p in Survey.open(sky.folder / "survey.zarr").partitions)
    assert 0 < done < pixels
    output = sky.run()
    rest = int(re.search(r"annotated (\d+) in", output)[1])
    assert 0 < rest < NIGHTS[SECOND] - 1

    modified = sky.modified()
    sky.receive(nights, THIRD)
    output = sky.run()
    assert "59 objects stored, 1 quarantined\n  quarantined: 1 already_stored" in output
    assert "annotated 59 in" in output
    survey = Survey.open(sky.folder / "survey.zarr")
    touched = {f"Npix={p.pixel.number}.parquet" for p in survey.partitions if p.append == "00002"}
    now = sky.modified()
    assert {name for name in now if now[name] != modified.get(name)} == touched
    assert 0 < len(touched) < len(now)

    assert (sky.folder / "catalog.audit/audit.json").is_file()
    assert "nothing to do" in sky.run()
    assert sky.modified() == now
    catalog = sky.folder / "catalog"
    assert tree(catalog) == tree(undisturbed[0])
    table = read_table(catalog, ["id", "night"])
    ends = np.cumsum(list(NIGHTS.values()))
    ids = table.column("id").to_numpy()
    expected = np.asarray(list(NIGHTS))[np.searchsorted(ends, ids, side="right")]
    assert table.column("night").to_pylist() == expected.tolist()
    repeated = {int(end) + 7 for end in ends[:-1]}
    assert sorted(ids.tolist()) == sorted(set(range(ends[-1])) - repeated)
