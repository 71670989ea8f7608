"""Memory that must not grow with the survey: of workers, and of the driver."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.inputs import Inputs
from benchmarks.measure import Annotated, annotated, slope
from benchmarks.table import Row
from catalogs.cutouts.partition import Pixel, rows_per_partition, split_sky
from catalogs.cutouts.store import Partition
from catalogs.sky import FINEST_ORDER, tile_of
from catalogs.storage.place import open_place
from engine.ledger import Ledger
from engine.placement import place
from engine.plan import Options, Plan
from engine.run import BATCH, AnnotateSettings
from engine.summary import Tally

SETTLED = 16_000
AT_ONCE = 1_000_000
TOO_FEW = "too few objects: done before memory was sampled twice"


def workers(inputs: Inputs) -> list[Row]:
    """One worker over many objects: its resident memory after the first 16,000."""
    ours = annotated(inputs.remembered, inputs.nothing, AnnotateSettings(workers=1), remember=True)
    growth = Row(
        "worker memory, growth after the first 16,000 objects", reach=64, at_most=True, unit="MB"
    )
    per = Row("the same, per 100,000 objects after that", reach=1, at_most=True, unit="MB")
    samples = _over_objects(ours, ours.memory.worker)
    before = max(memory for done, memory in samples if done <= SETTLED)
    after = [(done, memory) for done, memory in samples if done > SETTLED]
    growth.turns = [max(memory for _, memory in after) - before]
    growth.bound = f"{before:,.0f} MB at 16,000 of {ours.result.rows:,} objects"
    # The last half: what still grows there grows for ever.
    late = [(n, memory) for n, memory in after if n >= ours.result.rows / 2]
    per.turns = [slope(late) * 1e5]
    per.bound = f"least squares over the last {ours.result.rows // 2:,} objects"
    growth.measured = {"objects_and_mb": samples[:: max(len(samples) // 200, 1)]}
    return [growth, per]


def raw(inputs: Inputs) -> list[Row]:
    """Ten million small raw cutouts, and what the driver remembers of them."""
    began = time.perf_counter()
    survey = inputs.raw
    written = time.perf_counter() - began
    settings = AnnotateSettings(workers=inputs.sizes.workers)
    ours = annotated(survey, inputs.nothing, settings, remember=True)
    rows = ours.result.rows
    row = Row(
        f"driver memory over {rows:,} raw 8x8 cutouts, growth after a tenth of them",
        reach=64,
        at_most=True,
        unit="MB",
        bound=f"{ours.rate:,.0f} cutouts/s",
    )
    samples = _over_objects(ours, ours.memory.driver)
    start = max((memory for done, memory in samples if done <= rows / 10), default=0.0)
    after = [memory for done, memory in samples if done > rows / 10]
    if start and after:
        row.turns = [max(after) - start]
    else:
        row.missing = TOO_FEW
    row.measured = {
        "rows": rows,
        "rate": ours.rate,
        "seconds": ours.result.seconds,
        "seconds_to_write_the_store": written,
        "driver_mb": start,
        "stages": ours.result.to_json()["stage_seconds"],
    }
    workers = Row("worker memory meanwhile, per 100,000 cutouts", reach=1, at_most=True, unit="MB")
    late = [pair for pair in _over_objects(ours, ours.memory.worker) if pair[0] > rows / 2]
    if len(late) > 1:
        workers.turns = [slope(late) * 1e5]
        workers.bound = f"least squares over the last {rows // 2:,}, up to {late[-1][1]:,.0f} MB"
    else:
        workers.missing = TOO_FEW
    return [row, workers]


def _over_objects(ours: Annotated, memory: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return (objects done, MB) from samples over time."""
    times, done = np.asarray(ours.timeline.seen).T
    # Before the first objects and after the last, processes start and end.
    inside = [(t, value) for t, value in memory if times[0] <= t <= times[-1]]
    return [(float(np.interp(t, times, done)), value) for t, value in inside]


def plan(inputs: Inputs) -> list[Row]:
    """A plan of 10^8 objects, in a process of its own: seconds, and peak memory of the driver."""
    objects = inputs.sizes.planned
    with tempfile.TemporaryDirectory(dir=inputs.folder) as folder:
        table = Path(folder) / "partitions.npy"
        np.save(table, partition_table(objects))
        command = [sys.executable, "-m", "benchmarks.rows_memory", str(table), folder]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).resolve().parent.parent,
        )
        seconds, megabytes, pixels = (float(word) for word in done.stdout.split()[-3:])
    bound = f"{pixels:,.0f} pixels"
    return [
        Row(f"plan of {objects:,} objects", [seconds], 60, True, "s", bound),
        Row("driver's peak memory with it", [megabytes], 2048, True, "MB", bound),
    ]


def partition_table(objects: int) -> np.ndarray:
    """Return (order, number, start, stop) of each partition of a survey that covers the sky."""
    random = np.random.default_rng(0)
    pixels = np.empty(objects, dtype=np.int64)
    for start in range(0, objects, AT_ONCE):
        n = min(AT_ONCE, objects - start)
        ra = random.uniform(0, 360, n)
        dec = np.degrees(np.arcsin(random.uniform(-1, 1, n)))
        pixels[start : start + n] = tile_of(ra, dec, FINEST_ORDER)
    pixels.sort()
    spans = split_sky(pixels, rows_per_partition(objects))
    return np.asarray([(s.pixel.order, s.pixel.number, s.start, s.stop) for s in spans])


def _plan_and_begin(table: Path, folder: Path) -> None:
    """Do what a driver does before the first task, and print seconds, peak MB and pixels."""
    began = time.perf_counter()
    placement = place()
    partitions = tuple(
        Partition("00000", Pixel(order, number), start, stop, f"{number:064x}")
        for order, number, start, stop in np.load(table).tolist()
    )
    options = Options(
        crop=120,
        batch=BATCH,
        decoder=placement.decoder,
        decoder_version=placement.decoder_version,
        provider=placement.provider,
        precision=placement.precision,
        runtime_version=placement.runtime_version,
        threads=placement.threads,
        columns=(),
        skytally_version=importlib.metadata.version("skytally"),
    )
    whole = Plan("0" * 32, "planned", "0" * 64, options, partitions)
    ledger = Ledger(open_place(folder / "catalog"))
    with ledger.hold():
        begun = ledger.begin(whole)
        ledger.recover()
        receipts = ledger.receipts(begun)
        work = [w for w in begun.work() if w.pixel not in receipts]
        Tally(begun.rows, 0.05).resume(receipts.values())
    seconds = time.perf_counter() - began
    print(seconds, _peak_megabytes(), len(work))


def _peak_megabytes() -> float:
    """Return this process's own peak; getrusage would also tell of what it was forked from."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no VmHWM")


if __name__ == "__main__":
    _plan_and_begin(Path(sys.argv[1]), Path(sys.argv[2]))
