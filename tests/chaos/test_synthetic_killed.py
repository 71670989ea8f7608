"""A killed simulation leaves no process and no store, and can be made again."""

import os
import signal
import subprocess
import sys
import time
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


def children(pid: int) -> set[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child) for child in listed}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.chaos
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_simulation_leaves_nothing_behind(tmp_path):
    script, store = tmp_path / "run.py", tmp_path / "s.zarr"
    script.write_text(SCRIPT)
    driver = subprocess.Popen([sys.executable, script, store])
    deadline = time.monotonic() + 120
    while len(children(driver.pid)) < 3 or not list(
        tmp_path.glob(HIDDEN)
    ):  # two workers, their tracker
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(2)
    started = children(driver.pid)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in started):
        assert time.monotonic() < deadline, "processes outlive their killed parent"
        time.sleep(0.1)
    assert len(list(tmp_path.glob(HIDDEN))) == 1  # harmless: nobody takes it for a store
    assert not store.exists()
    simulate(store, SimulationSettings(galaxies=100, workers=1, size=48))
    assert Survey.open(store).rows == 100
    assert len(list(tmp_path.glob(HIDDEN))) == 1
