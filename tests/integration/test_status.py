"""`skytally status` tells the truth before, during and after a run, and after its death."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import pytest

from catalogs.annotated import names
from catalogs.annotated.convert import convert
from catalogs.cutouts.partition import Pixel
from catalogs.errors import InputError, IntegrityError
from engine import status
from engine.infer import StageTimes
from engine.receipt import Receipt
from engine.run import AnnotateSettings, annotate
from engine.summary import Tally

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
    assert "limited by start-up" in lines  # so few objects, and a network of nothing
    assert lines.endswith("complete")
    summary = json.loads((tmp_path / "c/run/run.json").read_text())
    assert sum(summary["limit"]["shares"].values()) == pytest.approx(1)
    assert summary["limit"]["reached"] <= summary["limit"]["bound"]
    for damage in (b"{", b"[]", b'{"limit": 3}', b'{"limit": {"sad": 1}}'):
        # Notes for people: nothing depends on them.
        (tmp_path / "c/run/run.json").write_bytes(damage)
        (tmp_path / "c/run/progress.json").write_bytes(damage)
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


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (10.0, "limited by infer: 100 objects/s is 80% of its bound, 125/s; a faster decode would"),
        (100.0, "limited by start-up and writing: 10 objects/s; the workers read, decoded or "),
    ],
)
def test_a_stage_limits_only_workers_that_are_at_work(seconds, said):
    tally = Tally(1000, 1.0)
    tally.annotated, tally.workers = 1000, {"a", "b"}
    tally.stages = StageTimes(decode=2.0, infer=16.0)
    found = str(tally.limit(seconds))
    assert found.startswith(said)
    assert ("gain 10% at most" in found) == (seconds == 10.0)  # 2 of the workers' 20 seconds


def told(to):
    """What status says; None before there is a plan, and while nothing was told."""
    try:
        found = status.catalog_status(to)
    except InputError:
        return None
    return found if found.progress else None


def test_another_shell_sees_a_run_at_work_and_after_it_died(small_survey, brightness, tmp_path):
    to = tmp_path / "c"
    command = [sys.executable, "-m", "skytally", "annotate", str(small_survey)]
    options = ["--model", str(brightness.path), "--to", str(to), "--workers", "1"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE) as process:
        while not (told(to) and told(to).progress.seen):
            assert process.poll() is None, process.stderr.read().decode()
        process.kill()
        process.stderr.read()
        at_work = status.catalog_status(to)
    assert at_work.running
    assert at_work.progress.process == process.pid
    assert 0 < at_work.progress.seen <= ROWS
    assert f"running: process {process.pid}" in "\n".join(at_work.lines())
    dead = status.catalog_status(to)
    assert not dead.running
    assert not dead.complete
    assert dead.done == sum(dead.statuses.values()) < ROWS
    assert "is silent; last heard" in "\n".join(dead.lines())
    assert "run the same annotate command" in "\n".join(dead.lines())
    annotate(small_survey, to, brightness.path, AnnotateSettings(workers=1))
    assert status.catalog_status(to).complete
    assert status.catalog_status(to).progress is None


def test_a_driver_that_was_overtaken_or_has_another_clock(small_survey, brightness, tmp_path):
    to = tmp_path / "c"
    annotate(small_survey, to, brightness.path, AnnotateSettings(workers=1))
    usual = status.catalog_status(to).lines()
    told = {"host": "elsewhere", "process": 7, "began": 1, "seen": 5, "rows": ROWS, "bad": 0}
    told |= {"objects_per_second": 1.0, "seconds_left": None, "shares": {}}
    properties = (to / "hats.properties").read_bytes()
    for ended in ("", "the lock was lost"):
        for ahead, said in ((90_000.5, r"90,000 s in the future"), (-90_000.5, r"90,00\d s ago")):
            note = json.dumps(told | {"ended": ended, "time": time.time() + ahead})
            (to / "run/progress.json").write_text(note)
            assert status.catalog_status(to).lines() == usual
            (to / "hats.properties").unlink()
            lines = "\n".join(status.catalog_status(to).lines())
            assert re.search(said, lines)
            assert (ended or "is silent") in lines
            assert "-" not in lines
            (to / "hats.properties").write_bytes(properties)


def test_every_byte_of_a_complete_catalog_is_verified(small_survey, brightness, tmp_path):
    to = tmp_path / "c"
    annotate(small_survey, to, brightness.path, AnnotateSettings(workers=1))
    files = [p for p in to.rglob("*") if p.is_file() and p.relative_to(to).parts[0] != "run"]
    assert status.verify_catalog(to) == len(files)
    for path in files:
        good = path.read_bytes()
        damaged = bytearray(good)
        damaged[len(good) // 2] ^= 1
        for bad in (bytes(damaged), good[:-1], None):
            if bad is None:
                path.unlink()
            else:
                path.write_bytes(bad)
            if path.name == "hats.properties" and not status.catalog_status(to).complete:
                continue  # that is what status says without being asked
            with pytest.raises(IntegrityError, match=path.name):
                status.verify_catalog(to)
        path.write_bytes(good)
    assert status.verify_catalog(to) == len(files)
    renamed = to.rename(tmp_path / "release-1")
    assert status.verify_catalog(renamed) == len(files)
    stranger = next((renamed / "dataset").rglob("Npix=*.parquet")).with_name("copy.parquet")
    stranger.write_bytes(b"PAR1")
    with pytest.raises(IntegrityError, match="1 files under dataset are not of this catalog"):
        status.verify_catalog(renamed)
    stranger.unlink()
    receipt = next((renamed / "run/receipts").iterdir())
    receipt.unlink()
    with pytest.raises(IntegrityError, match="1 receipts are missing"):
        status.verify_catalog(renamed)


@pytest.mark.parametrize(
    "change", [{"file": "../elsewhere"}, {"sha256": None}, {"bytes": "9"}, {"parts": [1]}]
)
def test_a_receipt_that_nobody_wrote_is_refused(change):
    receipt = Receipt("0-1", "r", names.pixel_file(Pixel(0, 1)), 9, "d", (), {})
    name = names.receipt_file(Pixel(0, 1), "00000")
    assert Receipt.from_json(receipt.to_json(), name) == receipt
    with pytest.raises(IntegrityError, match=f"is damaged .{next(iter(change))}"):
        Receipt.from_json(json.dumps(json.loads(receipt.to_json()) | change), name)
