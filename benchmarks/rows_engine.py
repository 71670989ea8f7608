"""The whole engine: against its slowest stage, against itself without Dask, one worker or two."""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
import time
from multiprocessing.queues import Queue
from pathlib import Path

from benchmarks.inputs import Inputs
from benchmarks.measure import Timeline, alone, annotated, as_workers_are, bound
from benchmarks.table import Row
from catalogs.cutouts.store import Survey
from catalogs.storage.place import open_place
from engine.ledger import Ledger
from engine.placement import code_id, place
from engine.plan import Plan, Work
from engine.run import AnnotateSettings, make_plan
from engine.task import Job, annotate_pixel
from export.bundle import Bundle

THREADS_PER_WORKER = 2


def compute_bound(inputs: Inputs) -> list[Row]:
    """A network that costs more than all else."""
    row = Row("end to end, compute-bound network, fp32", reach=0.95)
    eight = Row("the same in int8", reach=0.95)
    workers = inputs.sizes.workers
    for _ in range(inputs.sizes.turns):
        for mine, precision in ((row, "fp32"), (eight, "int8")):
            stage, rates = bound(inputs.steady, inputs.network, workers, precision)
            settings = AnnotateSettings(workers=workers, precision=precision)
            ours = annotated(inputs.steady, inputs.network, settings)
            # Neighbours on the machine come and go: the bound is that of before and after.
            again = alone(stage, inputs.steady, inputs.network, workers, precision)
            rates[stage] = (rates[stage] + again) / 2
            mine.turns.append(ours.rate / rates[stage])
            mine.bound = f"{stage} alone, {rates[stage]:,.0f}/s"
            note(mine, alone=rates, steady=ours.rate, start_up=ours.start_up)
    return [row, eight]


def decode_bound(inputs: Inputs) -> list[Row]:
    """A network that costs nothing: DALI is what there is to wait for."""
    row = Row("end to end, negligible network", reach=0.85)
    two = Row("two workers against one, negligible network", reach=1.8)
    workers = inputs.sizes.workers
    for _ in range(inputs.sizes.turns):
        dali = alone("dali", inputs.many, inputs.nothing, workers)
        ours = annotated(inputs.many, inputs.nothing, AnnotateSettings(workers=workers))
        single = annotated(inputs.many, inputs.nothing, AnnotateSettings(workers=1))
        row.turns.append(ours.rate / dali)
        two.turns.append(ours.rate / single.rate)
        row.bound = f"DALI decoding alone, {dali:,.0f}/s"
        two.bound = f"one worker, {single.rate:,.0f}/s"
        note(row, decode_alone=dali, steady=ours.rate, start_up=ours.start_up)
        note(two, one=single.rate, two=ours.rate)
    return [row, two]


def dask(inputs: Inputs) -> list[Row]:
    """Dask's share: the same tasks in processes that take them from a queue."""
    row = Row("Dask against plain processes, negligible network", reach=0.9)
    workers = inputs.sizes.workers
    for _ in range(inputs.sizes.turns):
        ours = annotated(inputs.many, inputs.nothing, AnnotateSettings(workers=workers))
        plain = without_dask(inputs.many, inputs.nothing, workers)
        row.turns.append(ours.rate / plain)
        row.bound = f"{workers} processes x {THREADS_PER_WORKER} threads, {plain:,.0f}/s"
        note(row, dask=ours.rate, plain=plain)
    return [row]


def without_dask(survey: Path, bundle: Path, workers: int) -> float:
    """Objects per second of `annotate_pixel` in processes of our own."""
    with tempfile.TemporaryDirectory(dir=survey.parent) as folder:
        job, plan = _begun(survey, bundle, Path(folder) / "catalog", workers)
        context = multiprocessing.get_context("spawn")
        todo: Queue[Work | None] = context.Queue()
        done: Queue[int] = context.Queue()
        for work in plan.work():
            todo.put(work)
        for _ in range(workers * THREADS_PER_WORKER):
            todo.put(None)
        with as_workers_are():
            processes = [
                context.Process(target=_take, args=(job, todo, done)) for _ in range(workers)
            ]
            for process in processes:
                process.start()
        timeline, finished = Timeline(total=plan.rows), 0
        while finished < plan.rows:
            finished += done.get(timeout=600)
            timeline.seen.append((time.perf_counter(), finished))
        for process in processes:
            process.join()
        return timeline.rate


def _begun(survey: Path, bundle: Path, to: Path, workers: int) -> tuple[Job, Plan]:
    store, opened = Survey.open(survey), Bundle.open(bundle)
    plan = make_plan(store, opened, place(workers=workers), AnnotateSettings(workers=workers))
    catalog = open_place(to)
    Ledger(catalog).begin(plan)
    job = Job(
        survey=open_place(survey).url,
        bundle=str(opened.path.resolve()),
        bundle_sha256=opened.sha256,
        catalog=catalog.url,
        recipe=plan.recipe_id,
        options=plan.options,
        stall_seconds=600,
        code=code_id(),
        turn="benchmark",
    )
    Ledger(catalog).begin_turn(job.turn)
    return job, plan


def _take(job: Job, todo: Queue[Work | None], done: Queue[int]) -> None:
    def work() -> None:
        item: Work | None
        while (item := todo.get()) is not None:
            annotate_pixel(job, item)
            done.put(item.rows)

    threads = [threading.Thread(target=work) for _ in range(THREADS_PER_WORKER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def note(row: Row, **values: object) -> None:
    """Keep what was measured in this turn."""
    row.measured.setdefault("turns", []).append(values)
