"""Annotate a survey: plan, hand out the partitions that are missing, and close the catalog."""

from __future__ import annotations

import importlib.metadata
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from catalogs.annotated.metadata import is_described, write_metadata
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter, Silent
from catalogs.schema import STATUSES
from catalogs.storage.place import Lock, open_place
from engine.clusters.spec import read_cluster
from engine.heard import Heard
from engine.ledger import Ledger
from engine.placement import GPU_PROVIDERS, Placement, code_id, place
from engine.plan import Options, Plan, Work
from engine.summary import AnnotateResult, Limit, Tally
from engine.task import Job, annotate_carefully, annotate_pixel
from engine.write import catalog_name
from export.bundle import Bundle, shipped
from export.session import Precision, Session

BATCH = 64
LARGEST_CROP = 8192
STALL_MARGIN = 30.0  # [s] after which a worker that did not end itself is killed
LONGEST_STALL = 86_400.0  # [s]; clocks of the system take no more than some years


@dataclass(frozen=True, slots=True)
class AnnotateSettings:
    """How a survey is annotated.

    Attributes
    ----------
    cluster : str
        ``local``, ``cuda``, a scheduler's address, or a TOML file; see
        :func:`engine.clusters.spec.read_cluster`.
    insecure : bool
        A cluster that talks in plain text to other machines is wanted.
    device, provider, precision, decoder, workers
        See :func:`engine.placement.place`.
    crop : int, optional
        Pixels around the centre that the network sees; by default the survey's own number, else
        the bundle's; cutouts smaller than that are given whole.
    columns : tuple of str, optional
        Columns of the survey that travel into the catalog; all by default.
    max_bad : float
        Largest fraction of objects whose cutout may be unusable.
    redo : tuple of str
        Pixels with a row of one of these statuses are annotated again, as after a survey store
        was mended.
    stall_seconds : float
        A worker in which nothing moves for so long is given up, and its pixel examined; at most
        a day.
    """

    cluster: str = "local"
    insecure: bool = False
    device: str = "auto"
    provider: str | None = None
    precision: Precision = "fp32"
    decoder: str | None = None
    workers: int | None = None
    crop: int | None = None
    columns: tuple[str, ...] | None = None
    max_bad: float = 0.05
    redo: tuple[str, ...] = ()
    stall_seconds: float = 300.0


def annotate(
    survey: str | Path,
    to: str | Path,
    model: Path | None = None,
    settings: AnnotateSettings | None = None,
    reporter: Reporter | None = None,
) -> AnnotateResult:
    """Annotate every object of a survey exactly once; run again, it goes on where it stopped.

    Parameters
    ----------
    survey : str or Path
        A survey store, ``NAME.zarr``: a path, or a URL such as ``s3://bucket/NAME.zarr``.
    to : str or Path
        The catalog to make or to go on with.
    model : Path, optional
        A model bundle; the one that ships with skytally by default.
    settings : AnnotateSettings, optional
        How.
    reporter : Reporter, optional
        Receives events and progress.

    Raises
    ------
    InputError
        Survey, bundle or settings cannot be used, or differ from those the catalog was begun with.
    BusyError
        Another process annotates into this catalog.
    TooManyBadError
        More cutouts than ``max_bad`` allows are unusable.
    """
    started = time.perf_counter()
    settings = settings or AnnotateSettings()
    for status in set(settings.redo) - set(STATUSES):
        raise InputError(f"redo {status!r} is no status; use some of {', '.join(STATUSES)}")
    if not 0 < settings.stall_seconds <= LONGEST_STALL:  # not a number, either
        raise InputError(
            f"stall_seconds {settings.stall_seconds:g} is not above 0 and at most "
            f"{LONGEST_STALL:.0f}; give a number of seconds"
        )
    reporter = reporter or Silent()
    store = Survey.open(survey)
    bundle = Bundle.open(model or shipped())
    read_cluster(settings.cluster, insecure=settings.insecure)
    placement = place(
        settings.device,
        settings.provider,
        settings.precision,
        settings.decoder,
        settings.workers,
        raw=store.attributes.raw is not None,
        cluster=settings.cluster,
    )
    catalog = open_place(to)
    ledger = Ledger(catalog)
    asked = make_plan(store, bundle, placement, _as_begun(ledger, settings))
    ledger.refuse_strangers()  # before the lock, which would be one more stranger there
    with ledger.hold() as lock:
        if placement.workers or placement.provider not in GPU_PROVIDERS:
            # Opened here first: what cannot run must fail before workers start, and before a plan
            # binds the catalog to it.
            Session(bundle, placement.provider, placement.precision, placement.threads)
        plan = ledger.begin(asked)
        ledger.recover()
        receipts = ledger.receipts(plan)
        again = [r for r in receipts.values() if r.statuses & set(settings.redo)]
        if again:
            ledger.forget(again)
            receipts = ledger.receipts(plan)
        missing = [
            replace(work, done=len(receipts[work.pixel].parts)) if work.pixel in receipts else work
            for work in plan.work()
        ]
        missing = [work for work in missing if work.done < len(work.parts)]
        reporter.event(
            "plan",
            survey=store.attributes.name,
            objects=plan.rows,
            pixels=len(plan.work()),
            missing=len(missing),
            crop=plan.options.crop,
            placement=str(placement),
        )
        tally = Tally(plan.rows, settings.max_bad)
        tally.resume(receipts.values())
        tally.check()
        heard = Heard(tally, ledger, reporter)
        limit = None
        if missing:
            job = Job(
                survey=open_place(survey).url,
                bundle=str(bundle.path.resolve()),
                bundle_sha256=bundle.sha256,
                catalog=catalog.url,
                recipe=plan.recipe_id,
                options=plan.options,
                stall_seconds=settings.stall_seconds,
                code=code_id(),
                turn=uuid.uuid4().hex,
            )
            ledger.begin_turn(job.turn)
            try:
                limit = _work(job, missing, tally, settings, placement, heard, lock)
            except BaseException as error:
                heard.stop(str(error) or "interrupted")
                raise
            catalog.remove_leftovers()
        if missing or not is_described(catalog, plan.rows):
            lock.check()
            write_metadata(catalog, *plan.description(catalog.url))
        result = AnnotateResult(
            rows=tally.rows,
            annotated=tally.annotated,
            statuses=dict(tally.statuses),
            labels_at=to,
            seconds=time.perf_counter() - started,
            stages=tally.stages,
            placement=placement,
            workers=len(tally.workers),
            limit=limit,
            damaged=tuple(sorted(tally.damaged)),
        )
        last = ledger.summary()
        if missing or last is None or last.rows != tally.rows:
            ledger.write_summary(result.to_json())
        ledger.end_progress()
    return result


def _work(
    job: Job,
    missing: Sequence[Work],
    tally: Tally,
    settings: AnnotateSettings,
    placement: Placement,
    heard: Heard,
    lock: Lock,
) -> Limit | None:
    """Hand out what is missing, and keep the tally, until all of it is done."""
    from engine.clusters.crew import connect

    heard.show()  # starting workers takes a while
    with connect(
        settings.cluster,
        placement.workers,
        insecure=settings.insecure,
        silent_seconds=settings.stall_seconds + STALL_MARGIN,
    ) as crew:
        began = time.perf_counter()
        for outcome in crew.run(
            annotate_pixel, annotate_carefully, job, missing, _name_of, heard.tick
        ):
            new = set(outcome.damaged) - tally.damaged
            tally.add(outcome)
            for chunk in sorted(new):
                heard.damage(chunk, job.survey)
            heard.show()
            tally.check()
            lock.check()
        return tally.limit(time.perf_counter() - began)


def _as_begun(ledger: Ledger, settings: AnnotateSettings) -> AnnotateSettings:
    """Take from a catalog that was begun what is not asked for, and hangs on the survey's images.

    A night with cutouts of another size would otherwise change the crop of a whole survey.
    """
    if settings.crop is not None or not ledger.is_begun():
        return settings
    return replace(settings, crop=ledger.plan().options.crop)


def _name_of(work: Work) -> str:
    return str(work.pixel)


def make_plan(
    store: Survey, bundle: Bundle, placement: Placement, settings: AnnotateSettings
) -> Plan:
    """Return what is to be done; reads the survey's partitions and nothing else.

    Raises
    ------
    InputError
        A column does not exist, or the survey's images are not what the bundle takes.
    """
    columns = store.column_names if settings.columns is None else settings.columns
    unknown = [name for name in columns if name not in store.column_names]
    if unknown:
        raise InputError(
            f"{store.url} has no column {unknown[0]!r}; it has {', '.join(store.column_names)}"
        )
    if len(set(columns)) < len(columns):
        raise InputError(f"columns {', '.join(columns)}: one is named twice; name each once")
    names_in_catalog = [catalog_name(name, bundle.manifest) for name in columns]
    for name in names_in_catalog:
        if names_in_catalog.count(name) > 1:
            raise InputError(
                f"two columns of {store.url} would both be called {name!r} in the catalog; "
                "choose with --columns, or rename one"
            )
    size = store.attributes.image_size
    # Cutouts smaller than the bundle's crop are framed tightly already: they are given whole.
    usual = bundle.manifest.input.crop if size is None else min(bundle.manifest.input.crop, *size)
    crop = settings.crop or store.attributes.crop or usual
    if crop > LARGEST_CROP or (size is not None and crop > min(size)):
        have = "of several sizes" if size is None else f"{size[1]}x{size[0]} px"
        raise InputError(
            f"the cutouts of {store.url} are {have}, the network would look at {crop} px around "
            "the centre; give --crop with the pixels that show the framing it was trained on"
        )
    contract, pixels = bundle.manifest.input, store.attributes
    if (contract.dtype, contract.channels) != (pixels.dtype, pixels.channels):
        raise InputError(
            f"the images of {store.url} are {pixels.dtype} of {pixels.channels} channels, the "
            f"bundle takes {contract.dtype} of {contract.channels}; use a bundle that was trained "
            "on such images"
        )
    return Plan(
        survey_uuid=store.attributes.uuid,
        survey_name=store.attributes.name,
        bundle_sha256=bundle.sha256,
        options=Options(
            crop=crop,
            batch=BATCH,
            decoder=placement.decoder,
            decoder_version=placement.decoder_version,
            provider=placement.provider,
            precision=placement.precision,
            runtime_version=placement.runtime_version,
            threads=placement.threads,
            columns=tuple(columns),
            skytally_version=importlib.metadata.version("skytally"),
        ),
        partitions=store.partitions,
    )
