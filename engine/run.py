"""Annotate a survey: plan, hand out the partitions that are missing, and close the catalog."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from catalogs.annotated.metadata import CatalogFacts, is_described, write_metadata
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError, TooManyBadError
from catalogs.progress import Reporter, Silent
from catalogs.schema import OK
from catalogs.storage.place import open_place
from engine.infer import StageTimes
from engine.ledger import Ledger, Receipt
from engine.placement import Placement, place
from engine.plan import Options, Plan
from engine.task import Job, annotate_pixel
from engine.write import catalog_name
from export.bundle import Bundle, shipped
from export.session import Precision, Session

BATCH = 64
LARGEST_CROP = 8192


@dataclass(frozen=True, slots=True)
class AnnotateSettings:
    """How a survey is annotated.

    Attributes
    ----------
    cluster : str
        ``local``, or the address of a Dask scheduler.
    device, provider, precision, decoder, workers
        See :func:`engine.placement.place`.
    crop : int, optional
        Pixels around the centre that the network sees; by default the survey's own number, else
        the bundle's; cutouts smaller than that are given whole.
    columns : tuple of str, optional
        Columns of the survey that travel into the catalog; all by default.
    max_bad : float
        Largest fraction of objects whose cutout may be unusable.
    """

    cluster: str = "local"
    device: str = "auto"
    provider: str | None = None
    precision: Precision = "fp32"
    decoder: str | None = None
    workers: int | None = None
    crop: int | None = None
    columns: tuple[str, ...] | None = None
    max_bad: float = 0.05


@dataclass(frozen=True, slots=True)
class AnnotateResult:
    """What a run of `annotate` found and did.

    Attributes
    ----------
    rows : int
        Objects in the catalog.
    annotated : int
        Objects annotated by this command; 0 when the catalog was complete.
    statuses : dict of str to int
        How many rows have which status.
    labels_at : Path
        The catalog.
    seconds : float
        Wall-clock time of this command.
    stages : StageTimes
        Seconds by stage, summed over the workers.
    placement : Placement
        Where it ran.
    """

    rows: int
    annotated: int
    statuses: dict[str, int]
    labels_at: Path
    seconds: float
    stages: StageTimes
    placement: Placement

    @property
    def rate(self) -> float:
        """Objects per second of this command, start-up included; 0 when nothing was to do."""
        return self.annotated / self.seconds if self.annotated else 0.0


def annotate(
    survey: Path,
    to: Path,
    model: Path | None = None,
    settings: AnnotateSettings | None = None,
    reporter: Reporter | None = None,
) -> AnnotateResult:
    """Annotate every object of a survey exactly once; run again, it goes on where it stopped.

    Parameters
    ----------
    survey : Path
        A survey store, ``NAME.zarr``.
    to : Path
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
    reporter = reporter or Silent()
    store = Survey.open(survey)
    bundle = Bundle.open(model or shipped())
    placement = place(
        settings.device, settings.provider, settings.precision, settings.decoder, settings.workers
    )
    asked = make_plan(store, bundle, placement, settings)
    catalog = open_place(to)
    ledger = Ledger(catalog)
    with ledger.hold():
        ledger.refuse_strangers()
        plan = ledger.begin(asked)
        ledger.recover()
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
        tally = _Tally(plan, receipts.values(), settings.max_bad)
        tally.check()
        stages = StageTimes()
        annotated = 0
        if missing:
            # Opened here first, so that a provider that cannot run fails before workers start.
            Session(bundle, placement.provider, placement.precision, placement.threads)
            job = Job(
                survey=str(survey.resolve()),
                bundle=str(bundle.path.resolve()),
                bundle_sha256=bundle.sha256,
                catalog=catalog.url,
                recipe=plan.recipe_id,
                options=plan.options,
            )
            from engine.cluster import connect, run_everywhere

            with connect(settings.cluster, placement.workers) as client:
                for outcome in run_everywhere(client, annotate_pixel, job, missing):
                    tally.replace(outcome.receipt)
                    annotated += outcome.work.rows
                    _add(stages, outcome.times)
                    reporter.progress("annotate", tally.rows, plan.rows, "objects")
                    tally.check()
            catalog.remove_leftovers()
        if missing or not is_described(catalog, plan.rows):
            name = catalog.url.rstrip("/").rpartition("/")[2]
            facts = CatalogFacts(name, plan.rows, plan.survey_uuid, plan.bundle_sha256)
            write_metadata(catalog, [work.pixel for work in plan.work()], facts)
        result = AnnotateResult(
            rows=tally.rows,
            annotated=annotated,
            statuses=tally.statuses,
            labels_at=to,
            seconds=time.perf_counter() - started,
            stages=stages,
            placement=placement,
        )
        if missing or ledger.summary() is None:
            ledger.write_summary(_summary(result))
    return result


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
            f"{store.path} has no column {unknown[0]!r}; it has {', '.join(store.column_names)}"
        )
    names_in_catalog = [catalog_name(name) for name in columns]
    for name in names_in_catalog:
        if names_in_catalog.count(name) > 1:
            raise InputError(
                f"two columns of {store.path} would both be called {name!r} in the catalog; "
                "choose with --columns, or rename one"
            )
    size = store.attributes.image_size
    # Cutouts smaller than the bundle's crop are framed tightly already: they are given whole.
    usual = bundle.manifest.input.crop if size is None else min(bundle.manifest.input.crop, *size)
    crop = settings.crop or store.attributes.crop or usual
    if crop > LARGEST_CROP or (size is not None and crop > min(size)):
        have = "of several sizes" if size is None else f"{size[1]}x{size[0]} px"
        raise InputError(
            f"the cutouts of {store.path} are {have}, the network would look at {crop} px around "
            "the centre; give --crop with the pixels that show the framing it was trained on"
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
        ),
        partitions=store.partitions,
    )


class _Tally:
    """Rows and statuses of all receipts so far, and the limit on bad ones."""

    def __init__(self, plan: Plan, receipts: Iterable[Receipt], max_bad: float) -> None:
        self._receipts = {receipt.pixel: receipt for receipt in receipts}
        self._limit = max_bad * plan.rows
        self._max_bad = max_bad

    @property
    def rows(self) -> int:
        return sum(receipt.rows for receipt in self._receipts.values())

    @property
    def statuses(self) -> dict[str, int]:
        found: Counter[str] = Counter()
        for receipt in self._receipts.values():
            for part in receipt.parts:
                found.update(part.statuses)
        return dict(found)

    def replace(self, receipt: Receipt) -> None:
        self._receipts[receipt.pixel] = receipt

    def check(self) -> None:
        bad = {status: count for status, count in self.statuses.items() if status != OK}
        if sum(bad.values()) > self._limit:
            why = ", ".join(f"{count} {status}" for status, count in sorted(bad.items()))
            raise TooManyBadError(
                f"{sum(bad.values())} of the first {self.rows} cutouts are unusable ({why}), more "
                f"than --max-bad {self._max_bad:g} of the survey; see to the images, or go on "
                "with a larger --max-bad"
            )


def _add(total: StageTimes, part: StageTimes) -> None:
    for field in fields(StageTimes):
        setattr(total, field.name, getattr(total, field.name) + getattr(part, field.name))


def _summary(result: AnnotateResult) -> dict[str, Any]:
    return {
        "rows": result.rows,
        "annotated": result.annotated,
        "statuses": dict(sorted(result.statuses.items())),
        "seconds": round(result.seconds, 3),
        "objects_per_second": round(result.rate, 1),
        "stage_seconds": {k: round(v, 3) for k, v in asdict(result.stages).items()},
        "placement": asdict(result.placement),
        "python": sys.version.split()[0],
    }
