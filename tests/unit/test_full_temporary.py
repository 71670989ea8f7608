"""A full temporary folder is told in one line, and a finished run does not need it at all."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalogs.annotated import names
from catalogs.annotated.metadata import CatalogFacts, metadata
from catalogs.audit.reading.duplicates import FirstOfObject
from catalogs.cutouts.partition import Pixel
from catalogs.cutouts.spool import ColumnSpool
from catalogs.errors import SkytallyError
from catalogs.storage.disk import Disk
from engine.isolate import DecoderSettings, Sandbox

SAID = "cannot be written: No space left on device; free some space"


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Every temporary file is Linux's full device; folders cannot be made, but for this test's."""

    def on_full_device(*_: object, **__: object) -> Any:
        return open("/dev/full", "w+b", buffering=4096)  # noqa: PTH123

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", "/dev/full")
        patch.setattr(tempfile, "TemporaryFile", on_full_device)
        patch.setattr(tempfile, "NamedTemporaryFile", on_full_device)
        yield tmp_path


def test_the_metadata_of_a_catalog_need_no_temporary_folder(full):
    """What they say is tested beside the annotated catalog."""
    file = full / names.pixel_file(Pixel(3, 5))
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table({"id": [5]}), file)
    found = metadata(Disk(full), [Pixel(3, 5)], CatalogFacts("sky", 1, "uuid", "hash"))
    assert found[names.PARTITION_INFO] == b"Norder,Npix\n3,5\n"


@pytest.mark.usefixtures("full")
def test_rows_that_wait_on_disk():
    with pytest.raises(SkytallyError, match=SAID), FirstOfObject(in_memory=100) as kept:
        kept.add(np.arange(1000) << 40, np.zeros((1000, 1)))


@pytest.mark.usefixtures("full")
def test_columns_that_wait_on_disk():
    like = {"id": np.zeros(0, np.int64), "wide": np.zeros((0, 1 << 16), np.uint8)}
    spool = ColumnSpool(5000, like)
    rows = {
        key: np.zeros((spool.window, *values.shape[1:]), values.dtype)
        for key, values in like.items()
    }
    with pytest.raises(SkytallyError, match=SAID):
        spool.add(rows)
    spool.close()


@pytest.mark.usefixtures("full")
def test_images_on_trial():
    settings = DecoderSettings("reference", 8, 4, 1)
    with (
        Sandbox(settings, 60.0, lambda: None) as sandbox,
        pytest.raises(SkytallyError, match=SAID),
    ):
        sandbox.culprits([np.zeros(100_000, np.uint8)])


def test_a_full_disk_that_nobody_expected_is_one_line_too():
    code = (
        "import typer; from catalogs.terminal import run_app; app = typer.Typer()\n"
        "@app.command()\n"
        "def go(to: str) -> None: open(to, 'w', buffering=1).write('lost\\n')\n"
        "run_app(app)"
    )
    command = [sys.executable, "-c", code, "/dev/full"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 20, done.stderr
    assert done.stderr.count("\n") == 1
    assert SAID in done.stderr
