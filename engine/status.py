"""How far a catalog is, for other shells: while a driver is at work, and after it died."""

from __future__ import annotations

import hashlib
import socket
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from catalogs.annotated import names
from catalogs.annotated.metadata import is_described, metadata, name_of
from catalogs.errors import BusyError, IntegrityError
from catalogs.storage.place import Place, each, open_place
from engine.ledger import Ledger
from engine.machine import began
from engine.notes import Progress

SILENT_SECONDS = 15.0  # a driver that is at work tells of itself far more often


@dataclass(frozen=True, slots=True)
class CatalogStatus:
    """What is done of a catalog.

    Attributes
    ----------
    rows, done : int
        Objects to annotate, and those of them with a receipt.
    pixels, pixels_done : int
        The same in pixels, the units of work.
    statuses : dict of str to int
        How many rows have which status.
    complete : bool
        Everything is done, and the catalog's metadata say so.
    running : bool
        A driver is at work: its process is there; on another machine, it told so a moment ago.
    progress : Progress or None
        What the driver told last: rate, time left, bad rows, why it stopped; None when the catalog
        came to its end, whoever brought it there.
    limit : str or None
        What limited the latest command that ended in order.
    """

    rows: int
    done: int
    pixels: int
    pixels_done: int
    statuses: dict[str, int]
    complete: bool
    running: bool
    progress: Progress | None
    limit: str | None

    def lines(self) -> list[str]:
        """Return the same for people."""
        statuses = ", ".join(f"{count} {status}" for status, count in self.statuses.items())
        said = f" ({statuses})" if statuses else ""
        pixels = f"{self.pixels_done} of {self.pixels} pixels"
        lines = [f"{self.done} of {self.rows} objects done{said}, {pixels}"]
        told = self.progress
        if told is not None:
            left = "" if told.seconds_left is None else f", {told.seconds_left} s left"
            who = f"process {told.process} on {told.host}"
            if self.running:
                lines.append(
                    f"  running: {who} has seen {told.seen} objects, {told.bad} bad, "
                    f"{told.objects_per_second:,.0f} a second{left}"
                )
            elif told.ended:
                lines.append(f"  stopped {_when(told.time)}: {told.ended}")
            else:
                lines.append(f"  {who} was at work and is silent; last heard {_when(told.time)}")
        if self.limit and told is None:
            lines.append(f"  {self.limit}")
        if self.complete:
            lines.append("  complete")
        elif not self.running:
            lines.append("  not complete: run the same annotate command to go on")
        return lines


def catalog_status(where: str | Path) -> CatalogStatus:
    """Return how far a catalog is.

    Raises
    ------
    InputError
        There is no catalog.
    IntegrityError
        Plan or receipts are damaged, or do not agree. Files are not compared: a driver may be
        replacing them; `annotate` compares their sizes, `verify_catalog`, audit and convert their
        digests.
    """
    catalog = open_place(where)
    ledger = Ledger(catalog)
    plan = ledger.plan()
    work = plan.work()
    receipts = ledger.receipts(plan, compare_files=False)
    progress = ledger.progress()
    summary = ledger.summary()
    statuses: Counter[str] = Counter()
    for receipt in receipts.values():
        for part in receipt.parts:
            statuses.update(part.statuses)
    done = statuses.total()
    complete = done == plan.rows and is_described(catalog, plan.rows)
    running = progress is not None and _at_work(progress)
    return CatalogStatus(
        rows=plan.rows,
        done=done,
        pixels=len(work),
        pixels_done=sum(
            w.pixel in receipts and len(receipts[w.pixel].parts) == len(w.parts) for w in work
        ),
        statuses=dict(sorted(statuses.items())),
        complete=complete,
        running=running,
        # A driver that was overtaken may tell so after the other one's end.
        progress=None if complete and not running else progress,
        limit=summary.limit.said if summary and summary.limit else None,
    )


def verify_catalog(where: str | Path) -> int:
    """Read every file of a catalog and compare it with its receipt, the metadata with the files.

    Returns
    -------
    int
        How many files were compared.

    Raises
    ------
    InputError
        There is no catalog.
    BusyError
        A driver is replacing files at this moment.
    IntegrityError
        Files are missing or not what was written, or a complete catalog holds others beside
        them; the message names the first ones.
    """
    catalog = open_place(where)
    ledger = Ledger(catalog)
    plan = ledger.plan()
    progress = ledger.progress()
    if progress is not None and _at_work(progress):
        raise BusyError(f"{catalog.url}: process {progress.process} is at work; wait for its end")
    receipts = ledger.receipts(plan, compare_files=False)
    expected = {receipt.file: receipt.sha256 for receipt in receipts.values()}
    waiting = {receipt.file: names.next_file(pixel) for pixel, receipt in receipts.items()}
    # A killed run may have left a file beside its place: the next one puts it there.
    wrong = [
        file
        for file in _others(catalog, expected)
        if _others(catalog, {waiting[file]: expected[file]})
    ]
    if not wrong and is_described(catalog, plan.rows):
        pixels, facts = plan.description(catalog.url)
        lost = [str(pixel) for pixel in pixels if pixel not in receipts]
        if lost:
            raise IntegrityError(
                f"{catalog.url}: {len(lost)} receipts are missing (of pixel "
                f"{', '.join(lost[:3])}); annotate again to redo these pixels"
            )
        # A catalog may be renamed or copied elsewhere: its own name is what was written.
        described = metadata(catalog, pixels, replace(facts, name=name_of(catalog)))
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in described.items()}
        expected |= digests
        wrong = _others(catalog, digests)
        # Readers of a folder of Parquet files would take a stranger's rows for the catalog's.
        strange = sorted(set(catalog.names(names.DATASET)) - set(expected))
        if strange and not wrong:
            raise IntegrityError(
                f"{catalog.url}: {len(strange)} files under {names.DATASET} are not of this "
                f"catalog ({', '.join(strange[:3])}); move them elsewhere"
            )
    if wrong:
        raise IntegrityError(
            f"{catalog.url}: {len(wrong)} of {len(expected)} files are not what was written "
            f"({', '.join(wrong[:3])}); restore them from a copy, or remove their receipts from "
            f"{names.RECEIPTS} and {names.PROPERTIES}, and annotate again to redo them"
        )
    return len(expected)


def _others(catalog: Place, expected: dict[str, str]) -> list[str]:
    """Return the names whose bytes do not have the digest expected."""

    def differs(name: str) -> bool:
        try:
            return hashlib.sha256(catalog.read(name)).hexdigest() != expected[name]
        except FileNotFoundError:
            return True

    found = zip(expected, each(catalog, differs, expected), strict=True)
    return [name for name, differs_ in found if differs_]


def _when(then: float) -> str:
    """Say when something was told; the clock that told so may be ahead of this one."""
    age = time.time() - then
    if age > -0.5:
        return f"{max(age, 0.0):,.0f} s ago"
    return f"{-age:,.0f} s in the future of this machine's clock"


def _at_work(progress: Progress) -> bool:
    if progress.ended:
        return False
    if progress.host == socket.gethostname():
        return began(progress.process) == progress.began
    return abs(time.time() - progress.time) < SILENT_SECONDS
