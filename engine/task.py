"""One pixel, start to receipt. Runs on any worker; knows nothing of what calls it."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from catalogs.annotated import names
from catalogs.cutouts.decode import Decoder, open_decoder
from catalogs.cutouts.store import Partition, Survey
from catalogs.errors import IntegrityError
from catalogs.storage.place import open_place
from engine.infer import StageTimes, classify
from engine.ledger import Ledger, Part, Receipt
from engine.plan import Options, Work
from engine.write import PartitionRows, from_parquet, id_digest, merge, to_parquet, to_table
from export.bundle import Bundle
from export.session import Session


@dataclass(frozen=True, slots=True)
class Job:
    """What every partition of a run shares; small, and sent to every worker."""

    survey: str
    bundle: str
    bundle_sha256: str
    catalog: str
    recipe: str
    options: Options


@dataclass(frozen=True, slots=True)
class Outcome:
    """A pixel that is done: its receipt, and how long each stage took [s]."""

    work: Work
    receipt: Receipt
    times: StageTimes


@dataclass(frozen=True, slots=True)
class _Tools:
    survey: Survey
    decoder: Decoder
    session: Session


@lru_cache(maxsize=1)
def _tools(job: Job) -> _Tools:
    """Open survey, bundle and decoder once per process."""
    bundle = Bundle.open(Path(job.bundle))
    if bundle.sha256 != job.bundle_sha256:
        raise IntegrityError(f"{job.bundle} on this worker is not the bundle of the plan")
    options = job.options
    session = Session(bundle, options.provider, options.precision, options.threads)
    if session.runtime_version != options.runtime_version:
        raise IntegrityError(
            f"this worker has ONNX Runtime {session.runtime_version}, the plan says "
            f"{options.runtime_version}; install the same on every worker"
        )
    decoder = open_decoder(options.decoder, options.crop, options.batch, options.threads)
    return _Tools(Survey.open(Path(job.survey)), decoder, session)


def annotate_pixel(job: Job, work: Work) -> Outcome:
    """Read, decode, classify and write one pixel's new objects, then its receipt.

    Doing it twice, even at once, writes the same bytes under the same name.

    Raises
    ------
    SkytallyError
        The survey is damaged, or the catalog cannot be written.
    """
    tools = _tools(job)
    times = StageTimes()
    ledger = Ledger(open_place(job.catalog))
    tables: list[pa.Table] = []
    parts: list[Part] = []
    if work.done:
        held = ledger.held(work)
        tables.append(from_parquet(held.content))
        parts += held.receipt.parts
    for partition in work.parts[work.done :]:
        table, part = _annotate_part(tools, job, partition, times)
        tables.append(table)
        parts.append(part)
    clock = time.perf_counter()
    content = to_parquet(merge(tables))
    receipt = Receipt(
        pixel=str(work.pixel),
        recipe=job.recipe,
        file=names.pixel_file(work.pixel),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        parts=tuple(parts),
    )
    ledger.commit(work, receipt, content)
    times.write += time.perf_counter() - clock
    ledger.write_timings(
        work, {"host": socket.gethostname(), "process": os.getpid(), **asdict(times)}
    )
    return Outcome(work, receipt, times)


def _annotate_part(
    tools: _Tools, job: Job, partition: Partition, times: StageTimes
) -> tuple[pa.Table, Part]:
    clock = time.perf_counter()
    survey = tools.survey
    rows = survey.read_rows(partition)
    columns = {
        name: survey.column_slice(partition.append, name, partition.start, partition.stop)
        for name in job.options.columns
    }
    times.read += time.perf_counter() - clock
    answers = classify(
        survey.read_images(partition, rows),
        partition.rows,
        tools.decoder,
        tools.session,
        job.options.batch,
        times,
        # Images of one size were compared with the crop when the plan was made.
        smallest=0 if survey.attributes.image_size else job.options.crop,
    )
    night = survey.night(partition.append)
    part = PartitionRows(
        rows, night, answers.probabilities, answers.status, answers.reason, columns
    )
    return to_table(part, tools.session.bundle.manifest), Part(
        append=partition.append,
        fingerprint=partition.fingerprint,
        rows=len(rows.ra),
        statuses=dict(sorted(Counter(np.asarray(answers.status).tolist()).items())),
        id_digest=id_digest(rows),
    )
