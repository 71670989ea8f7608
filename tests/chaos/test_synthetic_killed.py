"""A killed simulation leaves no process and no store, and can be made again."""

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

SCRIPT = """
import sys
from pathlib import Path
from catalogs.synthetic.simulate import SimulationSettings, simulate

if __name__ == "__main__":
    simulate(Path(sys.argv[1]), SimulationSettings(galaxies=50_000, workers=2, size=48))
"""


HIDDEN = ".s.zarr.*.partial"
IMAGES = "appends/00000/blob/c/*"


def children(pid: int) -> set[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child) for child in listed}


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


@pytest.mark.chaos
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_simulation_leaves_nothing_behind(tmp_path):
    script, store = tmp_path / "run.py", tmp_path / "s.zarr"
    script.write_text(SCRIPT)
    driver = subprocess.Popen([sys.executable, script, store])
    wait_until(lambda: driver.poll() is not None or any(tmp_path.glob(f"{HIDDEN}/{IMAGES}")))
    assert driver.poll() is None
    started = children(driver.pid)
    assert len(started) >= 2
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    wait_until(lambda: not any(alive(pid) for pid in started))
    assert len(list(tmp_path.glob(HIDDEN))) == 1  # harmless: nobody takes it for a store
    assert not store.exists()
    simulate(store, SimulationSettings(galaxies=100, workers=1, size=48))
    assert Survey.open(store).rows == 100
    assert len(list(tmp_path.glob(HIDDEN))) == 1
