"""How fast is annotation, and how far from its bound? Prints ratios; run it by hand or nightly.

The bound is the slowest stage measured alone in the same number of processes: reading and
verifying images, decoding them with DALI, or ONNX Runtime on cutouts decoded in memory. Whole
commands include starting the cluster and writing the metadata; steady rates leave out what comes
before the first partition is done. The machine is noisy: only ratios of one run mean anything.

    python benchmarks/throughput.py [--galaxies 8000] [--workers 2] [--repeats 3]
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from surveys import brightness_bundle

from catalogs.cutouts.decode import open_decoder
from catalogs.cutouts.store import Survey
from catalogs.synthetic.simulate import SimulationSettings, simulate
from engine.run import BATCH, AnnotateSettings, annotate
from export.bundle import Bundle, shipped
from export.session import Session

Stage = Callable[[Path, Path, int, int], tuple[int, float]]


def _files(survey: Path, part: int, parts: int) -> list[np.ndarray]:
    store = Survey.open(survey)
    files: list[np.ndarray] = []
    for partition in store.partitions[part::parts]:
        rows = store.read_rows(partition)
        for block in store.read_images(partition, rows):
            files += block.files
    return files


def read_alone(survey: Path, _bundle: Path, part: int, parts: int) -> tuple[int, float]:
    start = time.perf_counter()
    return len(_files(survey, part, parts)), time.perf_counter() - start


def decode_alone(survey: Path, _bundle: Path, part: int, parts: int) -> tuple[int, float]:
    files = _files(survey, part, parts)
    decoder = open_decoder("dali", 120, BATCH)
    decoder.decode(files[:BATCH])
    start = time.perf_counter()
    for first in range(0, len(files), BATCH):
        decoder.decode(files[first : first + BATCH])
    return len(files), time.perf_counter() - start


def infer_alone(survey: Path, bundle: Path, part: int, parts: int) -> tuple[int, float]:
    files = _files(survey, part, parts)[: 8 * BATCH]
    pixels, _ = open_decoder("dali", 120, BATCH).decode(files)
    session = Session(Bundle.open(bundle))
    session.run(pixels[:BATCH])
    start = time.perf_counter()
    for first in range(0, len(pixels), BATCH):
        session.run(pixels[first : first + BATCH])
    return len(pixels), time.perf_counter() - start


def rate_of(stage: Stage, survey: Path, bundle: Path, workers: int) -> float:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        tasks = [pool.submit(stage, survey, bundle, part, workers) for part in range(workers)]
        done = [task.result() for task in tasks]
    return sum(n / seconds for n, seconds in done)


class Clock:
    """Notes when partitions were done."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, int]] = []

    def event(self, name: str, **fields: object) -> None:
        pass

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        self.seen.append((time.perf_counter(), done))

    @property
    def rate(self) -> float:
        (t0, n0), (t1, n1) = self.seen[0], self.seen[-1]
        return (n1 - n0) / (t1 - t0)


def annotated(survey: Path, bundle: Path, workers: int) -> tuple[float, float]:
    """Return objects per second of the whole command, and between partitions."""
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        settings = AnnotateSettings(workers=workers)
        result = annotate(survey, Path(folder) / "catalog", bundle, settings, clock)
        return result.rate, clock.rate


def measure(name: str, survey: Path, bundle: Path, workers: int, repeats: int) -> None:
    stages = {"read": read_alone, "decode": decode_alone, "infer": infer_alone}
    ratios, whole, one = [], [], []
    for _ in range(repeats):
        alone = {k: rate_of(stage, survey, bundle, workers) for k, stage in stages.items()}
        bound = min(alone, key=lambda k: alone[k])
        command, steady = annotated(survey, bundle, workers)
        _, single = annotated(survey, bundle, 1)
        ratios.append(steady / alone[bound])
        whole.append(command / alone[bound])
        one.append(steady / single)
        shown = ", ".join(f"{k} {v:,.0f}/s" for k, v in alone.items())
        print(f"{name}: alone {shown}; steady {steady:,.0f}/s, command {command:,.0f}/s")
    print(
        f"{name}: bound is {bound}; steady {statistics.median(ratios):.2f} x bound "
        f"({min(ratios):.2f} to {max(ratios):.2f}), whole command "
        f"{statistics.median(whole):.2f} x bound, {workers} workers "
        f"{statistics.median(one):.2f} x one worker",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--galaxies", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        survey = folder / "survey.zarr"
        settings = SimulationSettings(galaxies=chosen.galaxies, workers=chosen.workers)
        made = simulate(survey, settings)
        print(f"simulate: {made.galaxies / made.seconds:,.0f} galaxies/s")
        nothing = brightness_bundle(folder / "nothing.bundle").path
        measure("negligible network", survey, nothing, chosen.workers, chosen.repeats)
        measure("shipped network", survey, shipped(), chosen.workers, chosen.repeats)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
