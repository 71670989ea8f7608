"""A killed simulation leaves no process and no store, and is gone on with."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from catalogs.cutouts.store import Survey
from catalogs.synthetic.simulate import SimulationSettings, simulate

SETTINGS = SimulationSettings(galaxies=1_500, workers=2, size=32)
SCRIPT = """
import sys
from pathlib import Path
from catalogs.synthetic.simulate import SimulationSettings
from engine.simulate import simulate

if __name__ == "__main__":
    simulate(Path(sys.argv[1]), SimulationSettings(galaxies=1_500, workers=2, size=32))
"""

HIDDEN = ".s.zarr.simulation"


def descendants(pid: int) -> set[int]:
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found |= {int(child)} | descendants(int(child))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline, "nothing happened in two minutes"
        time.sleep(0.05)


def files(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}


@pytest.mark.chaos
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_simulation_is_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    script, store = tmp_path / "run.py", tmp_path / "s.zarr"
    script.write_text(SCRIPT)
    driver = subprocess.Popen([sys.executable, script, store])

    def made() -> list[Path]:
        return list(tmp_path.glob(f"{HIDDEN}/parts/*/*.part"))

    wait_until(lambda: driver.poll() is not None or len(made()) >= 2)
    assert driver.poll() is None
    started = descendants(driver.pid)
    assert len(started) >= 2
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    wait_until(lambda: not any(alive(pid) for pid in started))
    assert not store.exists()
    before = {path: path.stat().st_mtime_ns for path in made()}
    kept = []

    def hand(task, job, items):
        for item in items:
            kept.append({path: path.stat().st_mtime_ns for path in made() if path in before})
            yield task(job, item)

    simulate(store, SETTINGS, hand=hand)
    assert kept
    assert all(found == before for found in kept)  # none of them is made again
    assert Survey.open(store).rows == SETTINGS.galaxies
    assert not (tmp_path / HIDDEN).exists()
    simulate(tmp_path / "whole.zarr", SETTINGS)
    assert files(store) == files(tmp_path / "whole.zarr")


def test_another_simulation_of_that_name_starts_afresh(tmp_path):
    store = tmp_path / "s.zarr"

    def die(task, job, items):
        for item in items[:2]:
            yield task(job, item)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(store, SimulationSettings(galaxies=300, size=32), hand=die)
    assert (tmp_path / HIDDEN).is_dir()
    simulate(store, SimulationSettings(galaxies=100, size=32))
    assert Survey.open(store).rows == 100
    assert not (tmp_path / HIDDEN).exists()
