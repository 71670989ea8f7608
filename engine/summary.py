"""What a run has done so far, how fast, and which stage limits it. Pure, but for the clock."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from catalogs.errors import TooManyBadError
from catalogs.schema import CHECKSUM_ERROR, OK
from engine.infer import StageTimes
from engine.placement import Placement
from engine.receipt import Receipt
from engine.task import Outcome

MOSTLY = 0.5  # a stage limits only workers that are at work for more than this share of the time
STAGES = ("wait", "decode", "infer")  # what a worker does in turn; the rest runs beside them


@dataclass(frozen=True, slots=True)
class Limit:
    """Which stage limits a run, and what a faster one could gain.

    Attributes
    ----------
    stage : str
        The stage that takes most of the workers' time: ``wait`` (for images being read),
        ``decode`` or ``infer``.
    bound : float
        Objects per second if the workers did nothing but this stage, as measured in this run.
    reached : float
        The run's own rate, from the first pixel begun to the last one done.
    shares : dict of str to float
        Each stage's share of the time in which a worker decoded, inferred or waited.
    busy : float
        How much of the workers' time these stages took; the rest is start-up, reading ahead and
        writing.
    """

    stage: str
    bound: float
    reached: float
    shares: dict[str, float]
    busy: float

    def __str__(self) -> str:
        called = "read" if self.stage == "wait" else self.stage
        if self.busy < MOSTLY:
            return (
                f"limited by start-up and writing: {self.reached:,.0f} objects/s; the workers "
                f"read, decoded or inferred {self.busy:.0%} of the time, and the slowest of these, "
                f"{called}, allows {self.bound:,.0f}/s"
            )
        others = {name: share for name, share in self.shares.items() if name != self.stage}
        second = max(others, key=lambda name: others[name])
        return (
            f"limited by {called}: {self.reached:,.0f} objects/s is "
            f"{self.reached / self.bound:.0%} of its bound, {self.bound:,.0f}/s; a faster "
            f"{'read' if second == 'wait' else second} would gain "
            f"{self.busy * others[second]:.0%} at most"
        )


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
    labels_at : Path or str
        The catalog.
    seconds : float
        Wall-clock time of this command.
    stages : StageTimes
        Seconds by stage, summed over the workers.
    placement : Placement
        Where it ran.
    workers : int
        Processes that did some of it.
    limit : Limit or None
        What limited it; None when there was nothing to do.
    damaged : tuple of str
        Chunks of the survey store that are not what was written. Rows whose images are not are
        ``checksum_error``; a chunk may be damaged where none is.
    """

    rows: int
    annotated: int
    statuses: dict[str, int]
    labels_at: Path | str
    seconds: float
    stages: StageTimes
    placement: Placement
    workers: int
    limit: Limit | None
    damaged: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Objects per second of this command, start-up included; 0 when nothing was to do."""
        return self.annotated / self.seconds if self.annotated else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return what ``run/run.json`` says of the latest command."""
        return {
            "rows": self.rows,
            "annotated": self.annotated,
            "statuses": dict(sorted(self.statuses.items())),
            "seconds": round(self.seconds, 3),
            "objects_per_second": round(self.rate, 1),
            "stage_seconds": {k: round(v, 3) for k, v in asdict(self.stages).items()},
            "limit": None if self.limit is None else asdict(self.limit) | {"said": str(self.limit)},
            "placement": asdict(self.placement),
            "workers": self.workers,
            "damaged": list(self.damaged),
            "python": sys.version.split()[0],
        }


@dataclass(slots=True)
class Tally:
    """Rows and statuses so far, of receipts and of the pixels under way.

    Parameters
    ----------
    objects : int
        In the whole plan.
    max_bad : float
        Largest fraction of them that may be unusable.
    """

    objects: int
    max_bad: float
    rows: int = 0
    annotated: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    stages: StageTimes = field(default_factory=StageTimes)
    workers: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)
    under_way: dict[str, tuple[int, int]] = field(default_factory=dict)

    def resume(self, receipts: Iterable[Receipt]) -> None:
        """Count what earlier commands did."""
        for receipt in receipts:
            for part in receipt.parts:
                self.rows += part.rows
                self.statuses.update(part.statuses)

    def tick(self, pixel: str, rows: int, bad: int) -> None:
        """Note how far a pixel under way is."""
        self.under_way[pixel] = (rows, bad)

    def add(self, outcome: Outcome) -> None:
        """Count a pixel that is done."""
        self.under_way.pop(str(outcome.work.pixel), None)
        for part in outcome.receipt.parts[outcome.work.done :]:
            self.rows += part.rows
            self.annotated += part.rows
            self.statuses.update(part.statuses)
        for stage in fields(StageTimes):
            so_far = getattr(self.stages, stage.name)
            setattr(self.stages, stage.name, so_far + getattr(outcome.times, stage.name))
        self.workers.add(outcome.worker)
        self.damaged.update(outcome.damaged)

    @property
    def seen(self) -> int:
        """Objects of receipts and, so far, of the pixels under way."""
        return self.rows + sum(rows for rows, _ in self.under_way.values())

    @property
    def bad(self) -> int:
        """Objects among them whose status is not ``ok``."""
        under_way = sum(bad for _, bad in self.under_way.values())
        return self.statuses.total() - self.statuses[OK] + under_way

    def shares(self) -> dict[str, float]:
        """Return each stage's share of the workers' time in turn; empty before the first pixel."""
        seconds = {stage: getattr(self.stages, stage) for stage in STAGES}
        total = sum(seconds.values())
        return {stage: value / total for stage, value in seconds.items()} if total else {}

    def limit(self, seconds: float) -> Limit | None:
        """Return what limited the run, whose pixels took ``seconds`` of wall-clock time in all."""
        shares = self.shares()
        if not self.annotated or not shares:
            return None
        stage = max(shares, key=lambda name: shares[name])
        bound = self.annotated / getattr(self.stages, stage) * len(self.workers)
        total = sum(getattr(self.stages, name) for name in STAGES)
        busy = min(total / (seconds * len(self.workers)), 1.0)
        return Limit(stage, bound, self.annotated / seconds, shares, busy)

    def check(self) -> None:
        """Stop the run when more are bad than allowed.

        Raises
        ------
        TooManyBadError
            They are; pixels under way do not count yet.
        """
        bad = {status: count for status, count in self.statuses.items() if status != OK}
        if sum(bad.values()) > self.max_bad * self.objects:
            why = ", ".join(f"{count} {status}" for status, count in sorted(bad.items()))
            mended = (
                "; once the store is mended, --redo checksum_error does its pixels again"
                if CHECKSUM_ERROR in bad
                else ""
            )
            raise TooManyBadError(
                f"{sum(bad.values())} of the first {self.rows} cutouts are unusable ({why}), more "
                f"than --max-bad {self.max_bad:g} of the survey; see to the images, or go on "
                f"with a larger --max-bad{mended}"
            )
