"""`skytally status` tells the truth before, during and after a run, and after its death."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from catalogs.annotated.convert import convert
from catalogs.errors import InputError, IntegrityError
from engine import status
from engine.run import AnnotateSettings, annotate

ROWS = 2000


def test_there_is_nothing_to_say_of_a_folder(tmp_path):
    with pytest.raises(InputError, match="no annotated catalog"):
        status.catalog_status(tmp_path)


def test_a_complete_catalog_says_so_and_what_limited_it(small_survey, brightness, tmp_path):
    annotate(small_survey, tmp_path / "c", brightness.path, AnnotateSettings(workers=1))
    found = status.catalog_status(tmp_path / "c")
    assert (found.rows, found.done, found.statuses) == (ROWS, ROWS, {"ok": ROWS})
    assert found.complete
    assert not found.running
    lines = "\n".join(found.lines())
    assert "limited by decode" in lines
    assert lines.endswith("complete")
    summary = json.loads((tmp_path / "c/run/run.json").read_text())
    assert sum(summary["limit"]["shares"].values()) == pytest.approx(1)
    assert summary["limit"]["reached"] <= summary["limit"]["bound"]
    (tmp_path / "c/run/run.json").write_bytes(b"{")  # a note for people: nothing depends on it
    assert status.catalog_status(tmp_path / "c").complete
    assert status.catalog_status(tmp_path / "c").limit is None
    properties = tmp_path / "c/hats.properties"
    good = properties.read_bytes()
    properties.write_bytes(b"\xff" + good.replace(b"hats_nrows", b"\xfe"))
    assert not status.catalog_status(tmp_path / "c").complete
    with pytest.raises(IntegrityError, match="properties is damaged"):
        convert(tmp_path / "c", tmp_path / "c.csv")
    annotate(small_survey, tmp_path / "c", brightness.path, AnnotateSettings(workers=1))
    assert properties.read_bytes() == good
    properties.unlink()
    assert not status.catalog_status(tmp_path / "c").complete


def test_another_shell_sees_a_run_at_work_and_after_it_died(
    small_survey, brightness, tmp_path, monkeypatch
):
    to = tmp_path / "c"
    command = [sys.executable, "-m", "skytally", "annotate", str(small_survey)]
    options = ["--model", str(brightness.path), "--to", str(to), "--workers", "1"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE) as process:
        while not (to / "run/progress.json").exists():
            assert process.poll() is None, process.stderr.read().decode()
        process.kill()
        process.stderr.read()
    at_work = status.catalog_status(to)
    assert at_work.running
    assert at_work.progress["process"] == process.pid
    assert 0 < at_work.progress["seen"] <= ROWS
    assert f"running: process {process.pid}" in "\n".join(at_work.lines())
    monkeypatch.setattr(status, "SILENT_SECONDS", 0.0)
    dead = status.catalog_status(to)
    assert not dead.running
    assert not dead.complete
    assert dead.done == sum(dead.statuses.values()) < ROWS
    assert "has been silent" in "\n".join(dead.lines())
    assert "run the same annotate command" in "\n".join(dead.lines())
    annotate(small_survey, to, brightness.path, AnnotateSettings(workers=1))
    assert status.catalog_status(to).complete
    assert status.catalog_status(to).progress is None
