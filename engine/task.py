"""One partition, start to receipt. Runs on any worker; knows nothing of what calls it."""

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

from catalogs.annotated import names
from catalogs.annotated.atomic import write_file
from catalogs.cutouts.decode import Decoder, open_decoder
from catalogs.cutouts.store import Partition, Survey
from catalogs.errors import IntegrityError
from engine.infer import StageTimes, classify
from engine.ledger import Ledger, Receipt
from engine.plan import Options
from engine.write import PartitionRows, id_digest, to_parquet
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
    """A partition that is done: its receipt, and how long each stage took [s]."""

    partition: Partition
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


def annotate_partition(job: Job, partition: Partition) -> Outcome:
    """Read, decode, classify and write one partition, then its receipt.

    Doing it twice, even at once, writes the same bytes under the same name.

    Raises
    ------
    SkytallyError
        The survey is damaged, or the catalog cannot be written.
    """
    tools = _tools(job)
    times = StageTimes()
    clock = time.perf_counter()
    rows = tools.survey.read_rows(partition)
    columns = {
        name: tools.survey.column_slice(partition.append, name, partition.start, partition.stop)
        for name in job.options.columns
    }
    times.read += time.perf_counter() - clock
    answers = classify(
        tools.survey.read_images(partition, rows),
        partition.rows,
        tools.decoder,
        tools.session,
        job.options.batch,
        times,
        # Images of one size were compared with the crop when the plan was made.
        smallest=0 if tools.survey.attributes.image_size else job.options.crop,
    )
    clock = time.perf_counter()
    part = PartitionRows(rows, answers.probabilities, answers.status, answers.reason, columns)
    content = to_parquet(part, tools.session.bundle.manifest)
    ledger = Ledger(Path(job.catalog))
    file = names.pixel_file(partition.pixel)
    write_file(ledger.catalog / file, content)
    receipt = Receipt(
        pixel=str(partition.pixel),
        fingerprint=partition.fingerprint,
        recipe=job.recipe,
        file=file,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        rows=len(rows.ra),
        statuses=dict(sorted(Counter(np.asarray(answers.status).tolist()).items())),
        id_digest=id_digest(rows),
    )
    ledger.write_receipt(partition, receipt)
    times.write += time.perf_counter() - clock
    ledger.write_timings(
        partition, {"host": socket.gethostname(), "process": os.getpid(), **asdict(times)}
    )
    return Outcome(partition, receipt, times)
