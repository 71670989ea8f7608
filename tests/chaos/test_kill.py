"""Killed at any moment and run again, annotate gives the catalog of an uninterrupted run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from surveys import tree

from engine.run import AnnotateSettings, annotate

SURVEY_PARTITIONS = 12


def start(survey: Path, model: Path, to: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "skytally", "annotate", str(survey)]
    options = ["--model", str(model), "--to", str(to), "--workers", "2"]
    return subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def receipts(catalog: Path) -> int:
    return len(list((catalog / "run/receipts").glob("*.json")))


def wait_for_receipts(process: subprocess.Popen[bytes], catalog: Path, wanted: int) -> bool:
    """Wait until so many partitions are done; False when the process ended before."""
    while receipts(catalog) < wanted:
        try:
            process.wait(timeout=0.005)
        except subprocess.TimeoutExpired:
            continue
        return False
    return True


def children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


@pytest.fixture(scope="module")
def uninterrupted(small_survey, brightness, tmp_path_factory) -> Path:
    to = tmp_path_factory.mktemp("whole") / "catalog"
    annotate(small_survey, to, brightness.path, AnnotateSettings(workers=2))
    return to


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(4))
def test_a_killed_driver_is_resumed_to_the_same_bytes(
    seed, small_survey, brightness, uninterrupted, tmp_path
):
    rng = random.Random(seed)
    to = tmp_path / "catalog"
    done = 0
    for _ in range(2):
        process = start(small_survey, brightness.path, to)
        wanted = min(done + rng.randint(0, 5), SURVEY_PARTITIONS - 1)
        assert wait_for_receipts(process, to, wanted), process.stderr.read().decode()
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        done = receipts(to)
        assert not (to / "hats.properties").exists()
    result = annotate(small_survey, to, brightness.path, AnnotateSettings(workers=2))
    assert result.rows == 2000
    assert tree(to) == tree(uninterrupted)


@pytest.mark.chaos
def test_a_killed_worker_costs_only_what_it_had_in_hand(
    small_survey, brightness, uninterrupted, tmp_path
):
    to = tmp_path / "catalog"
    process = start(small_survey, brightness.path, to)
    assert wait_for_receipts(process, to, 1)
    workers = [pid for pid in children(process.pid) if b"spawn_main" in _command(pid)]
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    assert tree(to) == tree(uninterrupted)


def _command(pid: int) -> bytes:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""
