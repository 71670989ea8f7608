"""Surveys and catalogs in a bucket: the objects of a run on a disk, whatever the network does.

The oracle is a run on the local disk; the objects are fetched by boto3.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import healpy
import numpy as np
import pytest
from numpy.typing import NDArray
from s3 import BUCKET, Faults, client, environment, fault_proxy, objects, s3_server
from surveys import encode, scattered, small_image, tree, write_small_survey

from catalogs.annotated.convert import convert
from catalogs.audit.run import audit
from catalogs.audit.settings import AuditSettings
from catalogs.cutouts.writer import SurveyTable, append_survey
from catalogs.errors import BusyError, InputError, IntegrityError
from catalogs.survey.tables import column_names, read_table, row_count
from engine.run import AnnotateSettings, annotate

ROWS = 600
NIGHT_ROWS = 30
SURVEY = f"s3://{BUCKET}/small.zarr"
TWO = AnnotateSettings(workers=2)
NOT_COMPARED = ("run/timings/", "run/run.json", "run/lock", "run/turn", "run/progress.json")
PATIENCE = {"request": 1, "total": 120, "lease": 20}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(scope="module")
def local_survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bucket") / "small.zarr"
    write_small_survey(path, ROWS)
    return path


@pytest.fixture(scope="module")
def expected(local_survey, brightness, tmp_path_factory) -> dict[str, str]:
    catalog = tmp_path_factory.mktemp("bucket") / "catalog"
    annotate(local_survey, catalog, brightness.path, TWO)
    return {k: v for k, v in tree(catalog).items() if not k.startswith(NOT_COMPARED)}


@pytest.fixture(scope="module", autouse=True)
def _uploaded(endpoint: str, local_survey: Path) -> None:
    s3 = client(endpoint)
    for path in local_survey.rglob("*"):
        if path.is_file():
            key = f"small.zarr/{path.relative_to(local_survey).as_posix()}"
            s3.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())


@pytest.fixture(autouse=True)
def _surroundings(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(endpoint, **PATIENCE).items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def catalog(endpoint, brightness, _uploaded) -> str:
    """A catalog made from bucket to bucket, with nothing in between."""
    to = f"s3://{BUCKET}/catalog"
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment(endpoint, **PATIENCE).items():
            patched.setenv(name, value)
        annotate(SURVEY, to, brightness.path, TWO)
    return to


def digests(endpoint: str, prefix: str) -> dict[str, str]:
    return {
        name: hashlib.sha256(content).hexdigest()
        for name, content in objects(endpoint, prefix).items()
        if not name.startswith(NOT_COMPARED)
    }


def run_command(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    """The command line as a process, the leader of a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "skytally", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | more,
    )


# ---------------------------------------------------------------------------- whole runs


def test_from_bucket_to_bucket(endpoint, catalog, expected):
    assert digests(endpoint, catalog.rpartition("/")[2]) == expected


@pytest.mark.parametrize(
    "chances",
    [
        {"slow_down": 0.5},
        {"reset_before": 0.3},
        {"reset_after": 0.3},
        {"stall": 0.04},
        {"cut": 0.3},
        {"slow_down": 0.1, "reset_before": 0.1, "reset_after": 0.1, "stall": 0.02, "cut": 0.1},
    ],
    ids=lambda chances: "all" if len(chances) > 1 else next(iter(chances)),
)
def test_through_faults(chances, endpoint, brightness, expected, monkeypatch, request):
    prefix = f"faults-{request.node.callspec.id}/catalog"
    faults = Faults(seed=11, **chances)
    with fault_proxy(endpoint, faults) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        annotate(SURVEY, f"s3://{BUCKET}/{prefix}", brightness.path, TWO)
    assert digests(endpoint, prefix) == expected
    assert all(faults.done[name] > 0 for name in chances), faults.done


def test_the_answer_to_every_put_is_lost_once(endpoint, brightness, expected, monkeypatch):
    """Whatever is put is put again, and found to be there already."""
    faults = _FirstAnswers()
    with fault_proxy(endpoint, faults) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        to = f"s3://{BUCKET}/lost/catalog"
        annotate(SURVEY, to, brightness.path, AnnotateSettings(workers=1))
    assert digests(endpoint, "lost/catalog") == expected
    assert set(expected) <= {path.rpartition("lost/catalog/")[2] for path in faults.lost}


class _FirstAnswers(Faults):
    """Carries out the first put of each object, and loses the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: set[str] = set()

    def choose(self, request: bytes) -> str:
        method, path = request.split(b" ", 2)[:2]
        name = unquote(path.decode())
        if method != b"PUT" or name in self.lost:
            return "none"
        self.lost.add(name)
        return "reset_after"


def test_a_night_is_added(local_survey, brightness, endpoint, monkeypatch, tmp_path):
    """Pixels with new objects are rewritten: put aside, receipted, copied; the old is forgotten."""
    local = Path(shutil.copytree(local_survey, tmp_path / "small.zarr"))
    survey, catalog = f"s3://{BUCKET}/nights/small.zarr", f"s3://{BUCKET}/nights/catalog"
    s3 = client(endpoint)
    for name, content in objects(endpoint, "small.zarr").items():
        s3.put_object(Bucket=BUCKET, Key=f"nights/small.zarr/{name}", Body=content)
    annotate(survey, catalog, brightness.path, TWO)
    for where in (local, survey):
        append_night(where)
    annotate(local, tmp_path / "catalog", brightness.path, TWO)
    faults = Faults(seed=4, slow_down=0.1, reset_before=0.1, reset_after=0.2)
    with fault_proxy(endpoint, faults) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        result = annotate(survey, catalog, brightness.path, TWO)
    assert result.annotated == NIGHT_ROWS
    once = {k: v for k, v in tree(tmp_path / "catalog").items() if not k.startswith(NOT_COMPARED)}
    assert digests(endpoint, "nights/catalog") == once


def append_night(where: str | Path) -> None:
    ra, dec = scattered(NIGHT_ROWS, seed=9)
    table = SurveyTable(
        ids=2 * 10**15 + np.arange(NIGHT_ROWS),
        ra=ra,
        dec=dec,
        columns={
            "mag": np.linspace(14, 18, NIGHT_ROWS),
            "kind": np.asarray(["b"] * NIGHT_ROWS, dtype=object),
            "label": np.asarray(["y"] * NIGHT_ROWS, dtype=object),
        },
    )

    def images(chunks: Sequence[NDArray[np.int64]]) -> Iterator[list[bytes]]:
        for chunk in chunks:
            yield [encode(small_image(10_000 + row)) for row in chunk.tolist()]

    append_survey(where, table, images, "2026-11-22")


# ---------------------------------------------------------------------------- drivers


def test_a_killed_driver_is_succeeded(endpoint, brightness, expected, monkeypatch):
    monkeypatch.setenv("SKYTALLY_BUCKET_LEASE_SECONDS", "3")
    to = f"s3://{BUCKET}/killed/catalog"
    command = ("annotate", SURVEY, "--to", to, "--model", str(brightness.path), "--workers", "1")
    # The proxy holds back everything after the third receipt, so that the kill meets a run at work.
    gate = _Gate("/receipts/", 3)
    with fault_proxy(endpoint, gate) as address:
        driver = run_command(*command, AWS_ENDPOINT_URL=address)
        assert gate.shut.wait(120), "no third receipt"
        os.killpg(driver.pid, signal.SIGKILL)
        driver.communicate()
    assert driver.returncode == -signal.SIGKILL
    done = [
        name for name in objects(endpoint, "killed/catalog") if name.startswith("run/receipts/")
    ]
    assert 2 <= len(done) < len([name for name in expected if name.startswith("run/receipts/")])
    result = annotate(SURVEY, to, brightness.path, AnnotateSettings(workers=1))
    assert 0 < result.annotated < ROWS
    assert digests(endpoint, "killed/catalog") == expected


def test_of_many_drivers_one_wins(endpoint, brightness, expected, monkeypatch):
    monkeypatch.setenv("SKYTALLY_BUCKET_LEASE_SECONDS", "5")
    to = f"s3://{BUCKET}/many/catalog"
    command = ("annotate", SURVEY, "--to", to, "--model", str(brightness.path), "--workers", "1")
    drivers = [run_command(*command) for _ in range(3)]
    ends = [(driver.communicate(timeout=120), driver.returncode) for driver in drivers]
    statuses = sorted(status for _, status in ends)
    assert statuses == [0, BusyError.exit_status, BusyError.exit_status], ends
    for (_, stderr), status in ends:
        if status:
            assert "another process" in stderr.splitlines()[-1]
    assert digests(endpoint, "many/catalog") == expected


def test_a_driver_that_lost_its_lock_stops(endpoint, brightness, expected, monkeypatch):
    """Its lock is overwritten by somebody else once the first receipt is there."""
    monkeypatch.setenv("SKYTALLY_BUCKET_LEASE_SECONDS", "6")
    to = f"s3://{BUCKET}/lost-lock/catalog"
    gate = _Gate("/receipts/", 2)
    told: list[str] = []

    def run() -> None:
        with pytest.raises(BusyError, match="was lost") as error:
            annotate(SURVEY, to, brightness.path, AnnotateSettings(workers=1))
        told.append(str(error.value))

    with fault_proxy(endpoint, gate) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        running = threading.Thread(target=run)
        running.start()
        assert gate.shut.wait(120)
        lock = "lost-lock/catalog/run/lock"
        client(endpoint).put_object(Bucket=BUCKET, Key=lock, Body=b'{"seconds": 1}')
        gate.lock_read.clear()
        assert gate.lock_read.wait(60), "the holder does not look why its renewal was refused"
        gate.open.set()
        running.join(120)
    assert told
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    annotate(SURVEY, to, brightness.path, AnnotateSettings(workers=1))
    assert digests(endpoint, "lost-lock/catalog") == expected


class _Gate(Faults):
    """Lets so many requests of a kind through, and holds all later ones back until opened."""

    def __init__(self, path: str, count: int) -> None:
        super().__init__()
        self.shut, self.open, self.lock_read = (threading.Event() for _ in range(3))
        self._path, self._left = path.encode(), count

    def choose(self, request: bytes) -> str:
        method, path = request.split(b" ", 2)[:2]
        if method == b"GET" and path.endswith(b"/run/lock"):
            self.lock_read.set()
        if method == b"PUT" and self._path in path and not self.open.is_set():
            self._left -= 1
            if self._left < 0:
                self.shut.set()
                self.open.wait(60)
        return "none"


# ---------------------------------------------------------------------------- reading back


def test_everything_reads_a_catalog_in_a_bucket(catalog, tmp_path):
    table = read_table(catalog)
    assert sorted(table["input_row"].to_pylist()) == list(range(ROWS))
    assert row_count(catalog) == ROWS
    assert "p_spiral" in column_names(catalog)
    assert convert(catalog, tmp_path / "all.parquet") == ROWS
    assert read_table(tmp_path / "all.parquet").equals(table)
    found = audit(catalog, tmp_path / "sky.audit")
    assert catalog in json.dumps(found.document)
    status = run_command("status", catalog, "--json")
    stdout, stderr = status.communicate(timeout=60)
    assert status.returncode == 0, stderr
    assert json.loads(stdout)["done"] == ROWS


def test_a_changed_object_is_never_an_answer(catalog, endpoint):
    s3 = client(endpoint)
    receipt, content = next(
        (name, content)
        for name, content in objects(endpoint, "catalog").items()
        if name.startswith("run/receipts/")
    )
    file = json.loads(content)["file"]
    there = objects(endpoint, "catalog")[file]
    try:
        changed = bytearray(there)
        changed[len(changed) // 2] ^= 1
        s3.put_object(Bucket=BUCKET, Key=f"catalog/{file}", Body=bytes(changed))
        with pytest.raises(IntegrityError, match="not the file of its receipt"):
            read_table(catalog)
        s3.delete_object(Bucket=BUCKET, Key=f"catalog/{file}")
        with pytest.raises(IntegrityError, match="is not there"):
            read_table(catalog)
    finally:
        s3.put_object(Bucket=BUCKET, Key=f"catalog/{file}", Body=there)
    s3.delete_object(Bucket=BUCKET, Key=f"catalog/{receipt}")
    try:
        with pytest.raises(IntegrityError, match="is missing"):
            read_table(catalog)
    finally:
        s3.put_object(Bucket=BUCKET, Key=f"catalog/{receipt}", Body=content)
    assert read_table(catalog).num_rows == ROWS


def test_tables_of_others_in_a_bucket(catalog, endpoint, tmp_path):
    """A HATS catalog without receipts, a folder of Parquet files, one file; and what is refused."""
    s3 = client(endpoint)
    found = objects(endpoint, "catalog")
    for name, content in found.items():
        if not name.startswith("run/"):
            s3.put_object(Bucket=BUCKET, Key=f"foreign/{name}", Body=content)
    one = next(name for name in found if name.endswith(".parquet"))
    s3.put_object(Bucket=BUCKET, Key="plain/part.parquet", Body=found[one])
    s3.put_object(Bucket=BUCKET, Key="plain/table.csv", Body=b"ra,dec\n1,2\n")
    rows = read_table(catalog).num_rows
    assert read_table(f"s3://{BUCKET}/foreign").num_rows == rows
    healpy.write_map(tmp_path / "map.fits", np.arange(48.0), dtype=np.float64)
    s3.upload_file(str(tmp_path / "map.fits"), BUCKET, "plain/map.fits")
    asked = AuditSettings(
        covariates=(f"m=s3://{BUCKET}/plain/map.fits:G",),
        truth=f"s3://{BUCKET}/plain/part.parquet:label",
        compare=(catalog,),
    )
    beside = audit(f"s3://{BUCKET}/foreign", tmp_path / "foreign.audit", asked)
    assert beside.report.is_file()
    inputs = {one["role"]: one for one in beside.document["provenance"]["inputs"]}
    assert inputs["audited"]["of"].startswith("sizes and names")
    assert inputs["compared"]["of"].startswith("sha256sum of the files")
    assert inputs["truth"]["sha256"] == hashlib.sha256(found[one]).hexdigest()
    content = (tmp_path / "map.fits").read_bytes()
    assert inputs["map m"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert beside.document["nuisances"]["complete"] == rows
    assert read_table(f"s3://{BUCKET}/plain").equals(
        read_table(f"s3://{BUCKET}/plain/part.parquet")
    )
    with pytest.raises(InputError, match="only Parquet"):
        read_table(f"s3://{BUCKET}/plain/table.csv")
    with pytest.raises(InputError, match="no such table"):
        read_table(f"s3://{BUCKET}/nothing")
    with pytest.raises(InputError, match="survey store"):
        read_table(SURVEY)
    with pytest.raises(InputError, match="not a survey store"):
        annotate(f"s3://{BUCKET}/plain", f"s3://{BUCKET}/never")
    with pytest.raises(InputError, match="no such bucket"):
        annotate("s3://no-such-bucket/a.zarr", f"s3://{BUCKET}/never")
    with pytest.raises(InputError, match="no such bucket"):
        annotate(SURVEY, "s3://no-such-bucket/catalog")
