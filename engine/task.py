"""One pixel, start to receipt. Runs on any worker; knows nothing of what calls it.

A process has one decoder and one session, and one pixel at a time decodes and infers. Meanwhile
the next pixel, in a thread of its own, reads its first images, and the last one is written.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from catalogs.annotated import names
from catalogs.cutouts.blob import Images
from catalogs.cutouts.decode import Decoder, Problem, open_decoder
from catalogs.cutouts.store import Partition, Rows, Survey
from catalogs.errors import IntegrityError
from catalogs.schema import TOO_SMALL
from catalogs.storage.parquet import read_parquet
from catalogs.storage.place import Place, open_place
from engine.ahead import Ahead, Timed
from engine.infer import StageTimes, Tick, classify
from engine.isolate import DecoderSettings, Sandbox
from engine.ledger import Ledger
from engine.placement import check_code, check_releases
from engine.plan import Options, Work
from engine.receipt import Part, Receipt
from engine.watchdog import beat, watched
from engine.write import PartitionRows, id_digest, merge, to_parquet, to_table
from export.bundle import Bundle
from export.session import Session

BLOCKS_AHEAD = 1


@dataclass(frozen=True, slots=True)
class Job:
    """What every pixel of a run shares; small, and sent to every worker.

    ``stall_seconds`` is how long a stage may stand still before the process is given up, ``code``
    what :func:`engine.placement.code_id` says of the driver. ``turn`` is the command: workers that
    outlive it open survey and bundle anew for the next one, and no longer write for this one.
    """

    survey: str
    bundle: str
    bundle_sha256: str
    catalog: str
    recipe: str
    options: Options
    stall_seconds: float
    code: str
    turn: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A pixel that is done: its receipt, how long each stage took [s], and where.

    ``damaged`` names chunks of the survey store that are not what was written.
    """

    work: Work
    receipt: Receipt
    times: StageTimes
    worker: str
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Tools:
    catalog: Place
    survey: Survey
    bundle: Bundle
    decoder: Decoder
    session: Session
    precision: str
    computing: threading.Lock = field(default_factory=threading.Lock)

    def used(self) -> dict[str, str]:
        """Say what decodes and infers here, asking the parts themselves."""
        return {
            "decoder": self.decoder.name,
            "provider": self.session.provider,
            "precision": self.precision,
            "runtime": self.session.runtime_version,
        }


_OPENING = threading.Lock()


@lru_cache(maxsize=1)
def _opened(job: Job) -> _Tools:
    check_code(job.code)
    bundle = Bundle.open(Path(job.bundle))
    if bundle.sha256 != job.bundle_sha256:
        raise IntegrityError(f"{job.bundle} on this worker is not the bundle of the plan")
    options = job.options
    check_releases(options.decoder, options.decoder_version, options.runtime_version)
    session = Session(bundle, options.provider, options.precision, options.threads)
    survey = Survey.open(job.survey)
    pixels = survey.attributes
    decoder = open_decoder(
        options.decoder,
        options.crop,
        options.batch,
        options.threads,
        pixels.channels,
        pixels.dtype,
    )
    catalog = open_place(job.catalog)
    return _Tools(catalog, survey, bundle, decoder, session, options.precision)


def _tools(job: Job) -> _Tools:
    """Open survey, bundle and decoder once per process."""
    with _OPENING:
        return _opened(job)


def annotate_pixel(job: Job, work: Work, tick: Tick | None = None) -> Outcome:
    """Read, decode, classify and write one pixel's new objects, then its receipt.

    Doing it twice, even at once, writes the same bytes under the same name.

    Parameters
    ----------
    job : Job
        What all pixels share.
    work : Work
        The pixel, and how much of it the catalog holds.
    tick : callable, optional
        Told of the rows done so far, and of the bad ones among them.

    Raises
    ------
    BusyError
        Another command has begun since this one handed out the pixel.
    SkytallyError
        The survey is damaged, or the catalog cannot be written.
    """
    return _annotate(job, work, tick, careful=False)


def annotate_carefully(job: Job, work: Work, tick: Tick | None = None) -> Outcome:
    """Do as `annotate_pixel` does, after finding the cutouts that crash or hang the decoder.

    For a pixel over which a worker process died. Such a cutout gets the status ``decode_error``
    and is not decoded; the rest of the pixel comes out as it would have without it.
    """
    return _annotate(job, work, tick, careful=True)


def _annotate(job: Job, work: Work, tick: Tick | None, *, careful: bool) -> Outcome:
    with watched(job.stall_seconds):
        tools = _tools(job)
        times = StageTimes()
        ledger = Ledger(tools.catalog)
        worker = f"{socket.gethostname()}:{os.getpid()}"
        ledger.check_turn(job.turn)
        before = ledger.finish(work)
        if before is not None:
            return Outcome(work, before, times, worker)
        tables: list[pa.Table] = []
        parts: list[Part] = []
        if work.done:
            held = ledger.held(work)
            tables.append(read_parquet(held.content))
            parts += held.receipt.parts
        progress = _Progress(tick)
        damaged: set[str] = set()
        for partition in work.parts[work.done :]:
            culprits = _culprits(tools, job, partition) if careful else {}
            table, part = _annotate_part(tools, job, partition, culprits, times, progress, damaged)
            tables.append(table)
            parts.append(part)
            progress.next_part(part)
        clock = time.perf_counter()
        content = to_parquet(merge(tables))
        receipt = Receipt(
            pixel=str(work.pixel),
            recipe=job.recipe,
            file=names.pixel_file(work.pixel),
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            parts=tuple(parts),
            used=tools.used(),
        )
        ledger.check_turn(job.turn)
        ledger.commit(work, receipt, content)
        times.write += time.perf_counter() - clock
        ledger.write_timings(work, {"worker": worker, **asdict(times)})
        return Outcome(work, receipt, times, worker, tuple(sorted(damaged)))


class _Progress:
    """Adds up the parts of a pixel for whoever listens, and keeps the watchdog content."""

    def __init__(self, tick: Tick | None) -> None:
        self._tick = tick
        self._rows = self._bad = 0

    def __call__(self, rows: int, bad: int) -> None:
        beat()
        if self._tick is not None:
            self._tick(self._rows + rows, self._bad + bad)

    def next_part(self, part: Part) -> None:
        self._rows += part.rows
        self._bad += part.rows - part.statuses.get("ok", 0)


def _annotate_part(
    tools: _Tools,
    job: Job,
    partition: Partition,
    culprits: Mapping[int, Problem],
    times: StageTimes,
    progress: _Progress,
    damaged: set[str],
) -> tuple[pa.Table, Part]:
    survey = tools.survey
    clock = time.perf_counter()
    rows = survey.read_rows(partition)
    columns = survey.read_columns(partition, job.options.columns)
    known = {**_too_small(rows, job.options.crop), **culprits}
    times.read += time.perf_counter() - clock
    blocks = Timed(_noting(survey.read_images(partition, rows), damaged))
    with Ahead(blocks, BLOCKS_AHEAD) as ahead, tools.computing:
        answers = classify(
            ahead,
            partition.rows,
            tools.decoder,
            tools.session,
            job.options.batch,
            times,
            known,
            progress,
        )
    times.read += blocks.seconds
    clock = time.perf_counter()
    night = survey.night(partition.append)
    part = PartitionRows(
        rows, night, answers.probabilities, answers.status, answers.reason, columns
    )
    table = to_table(part, tools.bundle.manifest)
    times.write += time.perf_counter() - clock
    return table, Part(
        append=partition.append,
        fingerprint=partition.fingerprint,
        rows=len(rows.ra),
        statuses=dict(sorted(Counter(answers.status.tolist()).items())),
        id_digest=id_digest(rows),
    )


def _noting(blocks: Iterable[Images], damaged: set[str]) -> Iterator[Images]:
    """Note the damaged chunks of blocks on their way, even if no image in them is."""
    for block in blocks:
        damaged.update(block.damaged)
        yield block


def _too_small(rows: Rows, crop: int) -> dict[int, Problem]:
    """Return the cutouts that would be padded: a framing on which the network was not trained.

    A size of 0 is that of a file whose header tells none; the decoder says why.
    """
    side = np.minimum(rows.height, rows.width)
    return {
        i: Problem(
            TOO_SMALL, f"{rows.width[i]}x{rows.height[i]} px, the network looks at {crop} px"
        )
        for i in np.flatnonzero((side > 0) & (side < crop)).tolist()
    }


def _culprits(tools: _Tools, job: Job, partition: Partition) -> dict[int, Problem]:
    if tools.survey.attributes.raw is not None:
        return {}  # nothing is decoded
    options = job.options
    settings = DecoderSettings(options.decoder, options.crop, options.batch, options.threads)
    found: dict[int, Problem] = {}
    rows = tools.survey.read_rows(partition)
    with Sandbox(settings, job.stall_seconds, beat) as sandbox:
        for block in tools.survey.read_images(partition, rows):
            files = [
                data[:0] if i in block.problems else data for i, data in enumerate(block.files)
            ]
            for i, problem in sandbox.culprits(files).items():
                found[block.start + i] = problem
    return found
