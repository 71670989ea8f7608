"""How long things take: whole commands and their steady rates, single stages alone, memory."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from catalogs.cutouts.decode import Decoder, open_decoder
from catalogs.cutouts.store import Survey
from engine.clusters.deploy import WORKER_ENVIRONMENT
from engine.run import BATCH, AnnotateSettings, annotate
from engine.summary import AnnotateResult
from export.bundle import Bundle
from export.session import Precision, Session

SAMPLES_A_SECOND = 10
MEGABYTE = 1 << 20
SECONDS_ALONE = 5.0  # at least, of each stage alone


@dataclass
class Timeline:
    """How many objects were done when, from a tenth of the way to 95%: no start, no end."""

    seen: list[tuple[float, int]] = field(default_factory=list)
    total: int = 0

    def event(self, name: str, **fields: object) -> None:
        pass

    def progress(self, stage: str, done: int, total: int, unit: str, **extra: object) -> None:
        self.total = total
        self.seen.append((time.perf_counter(), done))

    @property
    def rate(self) -> float:
        steady = [(t, n) for t, n in self.seen if 0.1 * self.total <= n <= 0.95 * self.total]
        if len(steady) < 2 or steady[-1][0] == steady[0][0]:
            steady = self.seen
        (t0, n0), (t1, n1) = steady[0], steady[-1]
        return (n1 - n0) / (t1 - t0)


@dataclass
class Memory:
    """Resident memory of this process and of its busiest child, sampled."""

    driver: list[tuple[float, float]] = field(default_factory=list)
    worker: list[tuple[float, float]] = field(default_factory=list)

    @contextmanager
    def sampled(self) -> Iterator[Memory]:
        done = threading.Event()
        thread = threading.Thread(target=self._sample, args=(done,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join()

    def _sample(self, done: threading.Event) -> None:
        this = psutil.Process()
        while not done.wait(1 / SAMPLES_A_SECOND):
            now = time.perf_counter()
            children = []
            for child in this.children(recursive=True):
                try:
                    children.append(child.memory_info().rss / MEGABYTE)
                except psutil.Error:
                    continue
            self.driver.append((now, this.memory_info().rss / MEGABYTE))
            if children:
                self.worker.append((now, max(children)))


@dataclass
class Annotated:
    """One run of `annotate`, its memory if that was sampled."""

    result: AnnotateResult
    timeline: Timeline
    memory: Memory

    @property
    def rate(self) -> float:
        """Objects per second without start and end."""
        return self.timeline.rate

    @property
    def start_up(self) -> float:
        """Seconds of the command that the steady rate does not explain."""
        return self.result.seconds - self.result.annotated / self.rate


def annotated(
    survey: Path,
    bundle: Path,
    settings: AnnotateSettings,
    keep: Path | None = None,
    *,
    remember: bool = False,
) -> Annotated:
    """Annotate a survey; ``remember`` samples memory, which costs 1% of two cores."""
    folder = Path(tempfile.mkdtemp(dir=survey.parent))
    timeline, memory = Timeline(), Memory()
    try:
        with memory.sampled() if remember else nullcontext():
            result = annotate(survey, keep or folder / "catalog", bundle, settings, timeline)
        return Annotated(result, timeline, memory)
    finally:
        shutil.rmtree(folder)


class Part:
    """One process's share of a survey, with what the stages need."""

    def __init__(
        self, survey: Path, bundle: Path, precision: Precision = "fp32", part: int = 0, of: int = 1
    ) -> None:
        self.store = Survey.open(survey)
        self.partitions = self.store.partitions[part::of]
        self.bundle = bundle
        self.precision = precision

    def blocks(self) -> Iterator[Sequence[Any]]:
        for partition in self.partitions:
            rows = self.store.read_rows(partition)
            for block in self.store.read_images(partition, rows):
                yield block.files

    @cached_property
    def files(self) -> list[Any]:
        """A few thousand encoded images, in memory."""
        found: list[Any] = []
        for block in self.blocks():
            found += list(block)
            if len(found) >= 8192:
                break
        return found

    @cached_property
    def decoder(self) -> Decoder:
        decoder = open_decoder("dali", self.store.attributes.crop or 120, BATCH)
        decoder.decode(self.files[:BATCH])
        return decoder

    @cached_property
    def pipeline(self) -> Any:  # noqa: ANN401  (DALI has no types)
        """DALI and nothing around it."""
        from nvidia.dali import fn, pipeline_def, types

        size = self.store.attributes.crop or 120

        @pipeline_def(batch_size=BATCH, num_threads=1, device_id=None, prefetch_queue_depth=1)
        def cutouts() -> Any:  # noqa: ANN401
            files = fn.external_source(name="files", no_copy=True)
            images = fn.decoders.image(files, device="cpu", output_type=types.DALIImageType.RGB)
            return fn.crop(images, crop=(size, size))

        pipeline = cutouts()
        pipeline.build()
        return pipeline

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """Some hundred decoded images."""
        return self.decoder.decode(self.files[: 8 * BATCH])[0]

    @cached_property
    def session(self) -> Session:
        return Session(Bundle.open(self.bundle), precision=self.precision)


def read(part: Part) -> int:
    return sum(len(block) for block in part.blocks())


def decode(part: Part) -> int:
    for first in range(0, len(part.files), BATCH):
        part.decoder.decode(part.files[first : first + BATCH])
    return len(part.files)


def infer(part: Part) -> int:
    for first in range(0, len(part.pixels), BATCH):
        part.session.run(part.pixels[first : first + BATCH])
    return len(part.pixels)


def dali(part: Part) -> int:
    for first in range(0, len(part.files) - BATCH + 1, BATCH):
        part.pipeline.run(files=part.files[first : first + BATCH])
    return len(part.files) // BATCH * BATCH


Stage = Callable[[Part], int]
STAGES: dict[str, Stage] = {"read": read, "decode": decode, "infer": infer, "dali": dali}
_together: Barrier


def _meet(barrier: Barrier) -> None:
    global _together  # one a process, set as it starts
    _together = barrier


def _alone(stage: str, survey: Path, bundle: Path, precision: Precision, at: int, of: int) -> float:
    part, run = Part(survey, bundle, precision, at, of), STAGES[stage]
    run(part)  # opens, reads and fills caches
    _together.wait()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS_ALONE:
        done += run(part)
    return done / (time.perf_counter() - start)


def alone(
    stage: str, survey: Path, bundle: Path, workers: int, precision: Precision = "fp32"
) -> float:
    """Objects per second of one stage and nothing else, in so many processes at once."""
    context = multiprocessing.get_context("spawn")
    with (
        as_workers_are(),
        ProcessPoolExecutor(workers, context, _meet, (context.Barrier(workers),)) as pool,
    ):
        tasks = [
            pool.submit(_alone, stage, survey, bundle, precision, at, workers)
            for at in range(workers)
        ]
        return sum(task.result() for task in tasks)


def bound(
    survey: Path, bundle: Path, workers: int, precision: Precision = "fp32"
) -> tuple[str, dict[str, float]]:
    """The slowest stage alone, and the rate of each."""
    stages = ("read", "decode", "infer")
    rates = {stage: alone(stage, survey, bundle, workers, precision) for stage in stages}
    return min(rates, key=lambda name: rates[name]), rates


@contextmanager
def as_workers_are() -> Iterator[None]:
    """Start processes with the environment that the engine gives its workers."""
    before = {name: os.environ.get(name) for name in WORKER_ENVIRONMENT}
    os.environ.update(WORKER_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def slope(samples: list[tuple[float, float]]) -> float:
    """Least-squares slope of y over x."""
    x, y = np.asarray(samples).T
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())


def session_rate(survey: Path, bundle: Path, provider: str, precision: Precision) -> float:
    """Cutouts per second of one session with two threads, in this process."""
    pixels = Part(survey, bundle).pixels[:BATCH]
    session = Session(Bundle.open(bundle), provider, precision, threads=2)
    session.run(pixels)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS_ALONE:
        session.run(pixels)
        done += len(pixels)
    return done / (time.perf_counter() - start)
