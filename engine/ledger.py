"""What is done is on disk, and only that: plan, receipts, and the one driver's lock.

A pixel's first file is put in its place, then its receipt. When a later append adds objects to the
pixel, the new file waits under ``run/next/`` until its receipt is written, and then replaces the
old one; a crash in between is mended by :meth:`Ledger.recover`, forwards or backwards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from catalogs.annotated import names
from catalogs.cutouts.partition import Pixel
from catalogs.errors import BusyError, InputError, IntegrityError, SkytallyError
from catalogs.storage.place import Lock, Place, above, each
from engine.notes import Progress, Summary
from engine.plan import Plan, Work, check_resumable
from engine.receipt import Receipt
from export.manifest import MANIFEST

# Folders that are what they are by all that they hold: a catalog in one of them would break it.
HOLDERS = {
    "zarr.json": "a Zarr store",
    MANIFEST: "a model bundle",
    names.PLAN: "an annotated catalog",
}


Note = TypeVar("Note", Progress, Summary)


@dataclass(frozen=True, slots=True)
class Held:
    """A pixel's receipt and its file."""

    receipt: Receipt
    content: bytes


class Ledger:
    """The ``run`` folder of one catalog."""

    def __init__(self, catalog: Place) -> None:
        self.catalog = catalog

    def refuse_strangers(self) -> None:
        """Refuse a folder that holds other things than a catalog, or lies in such a one.

        Raises
        ------
        InputError
            It does.
        """
        if self.is_begun():
            return
        for folder in above(self.catalog):
            what = next((what for mark, what in HOLDERS.items() if _has(folder, mark)), None)
            if what is not None:
                raise InputError(
                    f"{self.catalog.url} lies in {folder.url}, {what}; name a folder outside of it "
                    "for the catalog"
                )
        inside = self.catalog.names()
        strangers = [name for name in inside if not name.startswith(f"{names.RUN}/")]
        if strangers and not self.is_begun():  # an equal driver may have begun a moment ago
            raise InputError(
                f"{self.catalog.url} holds other things ({', '.join(strangers[:3])}); "
                "name a new or empty folder for the catalog"
            )

    def hold(self) -> AbstractContextManager[Lock]:
        """Be the one driver of this catalog; see :meth:`catalogs.storage.place.Place.hold`."""
        return self.catalog.hold(names.LOCK)

    def begin(self, asked: Plan) -> Plan:
        """Write the plan, or go on with the one that is there, if it is the same or has grown.

        Raises
        ------
        InputError
            The catalog was begun with something else.
        """
        content = json.dumps(asked.to_json(), indent=0).encode()
        try:
            there = self.catalog.read(names.PLAN)
        except FileNotFoundError:
            self.catalog.create(names.PLAN, content)
            return asked
        check_resumable(self.plan(), asked)
        if there != content:
            self.catalog.write(names.PLAN, content)
        return asked

    def begin_turn(self, turn: str) -> None:
        """Say that from now on only this command's workers may write; the lock must be held."""
        self.catalog.write(names.TURN, turn.encode())

    def check_turn(self, turn: str) -> None:
        """Stop a worker that outlived its driver, before it writes.

        A worker that was suspended, on a cluster that went on without its driver, would otherwise
        put an older file beside the newer receipt of a later command.

        Raises
        ------
        BusyError
            Another command has begun.
        """
        try:
            now = self.catalog.read(names.TURN).decode()
        except FileNotFoundError:
            now = None
        if now != turn:
            raise BusyError(
                f"{self.catalog.url}: another command is at work on this catalog; this worker "
                "leaves its pixel to it"
            )

    def is_begun(self) -> bool:
        """Say whether there is a plan."""
        return self.catalog.size(names.PLAN) is not None

    def plan(self) -> Plan:
        """Read the plan.

        Raises
        ------
        InputError
            There is none: the folder is no annotated catalog.
        """
        where = f"{self.catalog.url}/{names.PLAN}"
        try:
            content = self.catalog.read(names.PLAN)
        except FileNotFoundError:
            raise InputError(
                f"{self.catalog.url} is no annotated catalog (no {names.PLAN}); "
                "make one with `skytally annotate`"
            ) from None
        return Plan.from_json(content, where)

    def recover(self) -> None:
        """Finish or undo what a killed process left half done; the lock must be held."""
        newest = self._newest()
        for name in self.catalog.names(names.NEXT):
            pixel = names.pixel_of(name)
            if pixel is None:
                continue  # not ours
            receipt = newest.get(pixel)
            digest = hashlib.sha256(self.catalog.read(name)).hexdigest()
            if receipt is not None and self._read(receipt).sha256 == digest:
                # Its writer may have been killed before it was durable; it must be, before a
                # machine's crash could bring the old receipt back to the new file.
                self.catalog.create(receipt, self.catalog.read(receipt))
                self.catalog.move(name, names.pixel_file(pixel))
            else:
                self.catalog.remove(name)
        for name in self.catalog.names(names.RECEIPTS):
            pixel = names.pixel_of(name)
            if pixel is not None and newest[pixel] != name:
                self.catalog.remove(name)
        self.catalog.remove_leftovers()

    def receipts(self, plan: Plan, *, compare_files: bool = True) -> dict[Pixel, Receipt]:
        """Return the newest receipt of each of the plan's pixels, compared with plan and file.

        Parameters
        ----------
        plan : Plan
            What the receipts must be about.
        compare_files : bool
            Whether to compare sizes, too; not while a driver replaces files.

        Raises
        ------
        IntegrityError
            A receipt speaks of another recipe, or its file is missing or of another size.
        """
        newest = self._newest()
        recipe = plan.recipe_id

        def read(work: Work) -> Receipt | None:
            try:
                receipt = self._read(newest[work.pixel])
            except FileNotFoundError:
                return None  # a later one takes its place at this moment
            self._check_plan(receipt, work, recipe)
            if compare_files:
                self._check_file(receipt, newest[work.pixel])
            return receipt

        works = [work for work in plan.work() if work.pixel in newest]
        if len(works) < len(newest):
            lost = sorted(newest.keys() - {work.pixel for work in works}, key=str)
            raise IntegrityError(
                f"{self.catalog.url}: {len(lost)} receipts are of pixels that {names.PLAN} does "
                f"not name ({lost[0]}); annotate again to mend the plan"
            )
        found = zip(works, each(self.catalog, read, works), strict=True)
        return {work.pixel: receipt for work, receipt in found if receipt is not None}

    def forget(self, receipts: Iterable[Receipt]) -> None:
        """Take back that these pixels are done; a catalog without them is not whole."""
        newest = self._newest()
        self.catalog.remove(names.PROPERTIES)
        for receipt in receipts:
            order, number = receipt.pixel.split("-")
            self.catalog.remove(newest[Pixel(int(order), int(number))])

    def held(self, work: Work) -> Held:
        """Return what the catalog holds of a pixel already, verified.

        Raises
        ------
        IntegrityError
            The file is not the one of its receipt.
        """
        name = names.receipt_file(work.pixel, work.parts[work.done - 1].append)
        receipt = self._read(name)
        content = self.catalog.read(receipt.file)
        if hashlib.sha256(content).hexdigest() != receipt.sha256:
            raise IntegrityError(
                f"{self.catalog.url}/{receipt.file} is not the file of its receipt; restore it "
                f"from a copy, or remove {name} and annotate again to redo its pixel"
            )
        return Held(receipt, content)

    def commit(self, work: Work, receipt: Receipt, content: bytes) -> None:
        """Put a pixel's file in place, and its receipt: the one way in which work becomes done."""
        if work.done == 0:
            self.catalog.write(receipt.file, content)
            self.catalog.create(self._name(work), receipt.to_json().encode())
            return
        waiting = names.next_file(work.pixel)
        self.catalog.write(waiting, content)
        self.catalog.create(self._name(work), receipt.to_json().encode())
        self.catalog.move(waiting, receipt.file)
        self.catalog.remove(names.receipt_file(work.pixel, work.parts[work.done - 1].append))

    def finish(self, work: Work) -> Receipt | None:
        """Return the receipt of work that is done; its process died before it could say so.

        What it left half done is finished. None when the work is still to be done.
        """
        name = self._name(work)
        try:
            receipt = self._read(name)
        except FileNotFoundError:
            return None
        if work.done:
            waiting = names.next_file(work.pixel)
            if self.catalog.size(waiting) is not None:
                self.catalog.create(name, receipt.to_json().encode())  # durable, see `recover`
                self.catalog.move(waiting, receipt.file)
            self.catalog.remove(names.receipt_file(work.pixel, work.parts[work.done - 1].append))
        return receipt

    def write_timings(self, work: Work, timings: dict[str, Any]) -> None:
        """Record how long the stages of a pixel took."""
        name = names.timing_file(work.pixel, work.parts[-1].append)
        self.catalog.note(name, json.dumps(timings).encode())

    def write_progress(self, progress: Progress) -> None:
        """Tell other processes how far the driver is."""
        self.catalog.note(names.PROGRESS, json.dumps(asdict(progress)).encode())

    def end_progress(self) -> None:
        """Take back what `write_progress` told: the driver is at its end."""
        self.catalog.remove(names.PROGRESS)

    def progress(self) -> Progress | None:
        """Return what the driver last told; None when it ended in order, or none has begun."""
        return self._note(names.PROGRESS, Progress)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Record the latest command."""
        self.catalog.write(names.SUMMARY, json.dumps(summary, indent=1).encode())

    def summary(self) -> Summary | None:
        """Return what the latest command that ended in order says, None when there is none."""
        return self._note(names.SUMMARY, Summary)

    def _note(self, name: str, kind: type[Note]) -> Note | None:
        """Read what only people look at; None when there is none, or it is damaged."""
        try:
            return TypeAdapter(kind).validate_json(self.catalog.read(name))
        except (FileNotFoundError, ValidationError):  # a power cut may have left anything
            return None

    def _newest(self) -> dict[Pixel, str]:
        """Return each pixel's newest receipt by name. One that is missed is only done again."""
        found: dict[Pixel, str] = {}
        for name in self.catalog.names(names.RECEIPTS):
            if (pixel := names.pixel_of(name)) is not None:
                found[pixel] = name  # sorted: later appends come later
        return found

    def _read(self, name: str) -> Receipt:
        return Receipt.from_json(self.catalog.read(name), f"{self.catalog.url}/{name}")

    def _name(self, work: Work) -> str:
        return names.receipt_file(work.pixel, work.parts[-1].append)

    def _check_plan(self, receipt: Receipt, work: Work, recipe: str) -> None:
        held = [(part.append, part.fingerprint, part.rows) for part in receipt.parts]
        if receipt.recipe != recipe or held != [
            (part.append, part.fingerprint, part.rows) for part in work.parts[: len(held)]
        ]:
            raise IntegrityError(
                f"{self.catalog.url}: the receipt of pixel {work.pixel} belongs to another run; "
                "annotate into another catalog"
            )

    def _check_file(self, receipt: Receipt, name: str) -> None:
        size = self.catalog.size(receipt.file)
        if size != receipt.bytes:
            raise IntegrityError(
                f"{self.catalog.url}/{receipt.file} is "
                f"{'missing' if size is None else f'{size} bytes long'}, its receipt "
                f"says {receipt.bytes} bytes; remove {name} and annotate again to redo it"
            )


def _has(folder: Place, name: str) -> bool:
    try:
        return folder.size(name) is not None
    except SkytallyError:  # whoever may write below a folder need not be allowed to look into it
        return False
