"""A run that is killed and run again: what is done twice, and what it costs to come back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.inputs import Inputs
from benchmarks.measure import annotated
from benchmarks.table import Row
from catalogs.storage.place import open_place
from engine.ledger import Ledger
from engine.run import AnnotateSettings

PATIENCE = 600
SHARE = 0.4


def resume(inputs: Inputs) -> list[Row]:
    """Kill driver and workers at some point in the middle, then run the same command."""
    row = Row(
        "resume: seconds beyond the missing objects' own, against start-up and one partition",
        reach=1.5,
        at_most=True,
    )
    twice = Row("objects annotated twice after a kill", reach=0, at_most=True, unit="objects")
    for _ in range(inputs.sizes.turns):
        settings = AnnotateSettings(workers=inputs.sizes.workers)
        whole = annotated(inputs.survey, inputs.network, settings)
        with tempfile.TemporaryDirectory(dir=inputs.folder) as folder:
            catalog = Path(folder) / "catalog"
            done = _kill_midway(inputs, catalog)
            before = _receipt_times(catalog)
            again = annotated(inputs.survey, inputs.network, settings, catalog)
            after = _receipt_times(catalog)
        rewritten = sum(after[name] != when for name, when in before.items())
        missing = again.result.rows - done
        partition = max(whole.result.rows / len(after), 1) / whole.rate * inputs.sizes.workers
        overhead = again.result.seconds - missing / whole.rate
        row.turns.append(overhead / (whole.start_up + partition))
        twice.turns.append(float(rewritten + again.result.annotated - missing))
        row.bound = f"start-up {whole.start_up:.1f} s, one partition {partition:.1f} s"
        row.measured.setdefault("turns", []).append(
            {"done_before": done, "seconds": again.result.seconds, "overhead": overhead}
        )
    return [row, twice]


def _kill_midway(inputs: Inputs, catalog: Path) -> int:
    """Return how many objects have a receipt after the kill."""
    command = [sys.executable, "-m", "skytally", "annotate", str(inputs.survey)]
    command += ["--model", str(inputs.network), "--to", str(catalog)]
    command += ["--workers", str(inputs.sizes.workers)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=Path(__file__).resolve().parent.parent,
    )
    began, done, rows = time.monotonic(), 0, 1
    while done < SHARE * rows and process.poll() is None:
        time.sleep(0.2)
        if time.monotonic() - began > PATIENCE:
            break
        if (catalog / "run" / "plan.json").exists():
            done, rows = _receipts(catalog)
    if process.poll() is not None:
        raise RuntimeError("the run was over before it could be killed; take more galaxies")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return _receipts(catalog)[0]


def _receipts(catalog: Path) -> tuple[int, int]:
    ledger = Ledger(open_place(catalog))
    plan = ledger.plan()
    receipts = ledger.receipts(plan, compare_files=False)
    return sum(receipt.rows for receipt in receipts.values()), plan.rows


def _receipt_times(catalog: Path) -> dict[str, int]:
    folder = catalog / "run" / "receipts"
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("*.json")}
