"""Engines that are broken on purpose: each check must find something to say about them.

A test chooses one by name; the product knows nothing of this. In a command line's processes the
folder ``site`` beside this file, put on ``PYTHONPATH``, does it (see sitecustomize.py there).
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from catalogs.annotated import names
from catalogs.cutouts.partition import Pixel
from catalogs.errors import SkytallyError
from catalogs.storage.disk import Disk, DiskLock
from engine.ledger import Ledger
from engine.plan import Plan, Work
from engine.receipt import Receipt

BROKEN: dict[str, Callable[[], None]] = {}


def _named(patch: Callable[[], None]) -> Callable[[], None]:
    BROKEN[patch.__name__] = patch
    return patch


@_named
def receipt_before_data() -> None:
    """Say that a pixel is done, then do it."""

    def commit(self: Ledger, work: Work, receipt: Receipt, content: bytes) -> None:
        name = names.receipt_file(work.pixel, work.parts[-1].append)
        self.catalog.create(name, receipt.to_json().encode())
        self.catalog.write(receipt.file, content)
        if work.done:
            self.catalog.remove(names.receipt_file(work.pixel, work.parts[work.done - 1].append))

    Ledger.commit = commit  # type: ignore[method-assign]


@_named
def rewritten_in_place() -> None:
    """Replace a pixel's file first, as if there were no receipt that still speaks of the old."""

    def commit(self: Ledger, work: Work, receipt: Receipt, content: bytes) -> None:
        self.catalog.write(receipt.file, content)
        name = names.receipt_file(work.pixel, work.parts[-1].append)
        self.catalog.create(name, receipt.to_json().encode())
        if work.done:
            self.catalog.remove(names.receipt_file(work.pixel, work.parts[work.done - 1].append))

    Ledger.commit = commit  # type: ignore[method-assign]


@_named
def short_file() -> None:
    """Lose a file's last bytes after its receipt was made."""
    honest = Ledger.commit

    def commit(self: Ledger, work: Work, receipt: Receipt, content: bytes) -> None:
        honest(self, work, receipt, content[:-100])

    Ledger.commit = commit  # type: ignore[method-assign]


@_named
def no_fsync() -> None:
    """Rename files whose bytes, and whose new names, are still in memory only."""

    def write(self: Disk, name: str, content: bytes | memoryview) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(6)}.partial")
        temporary.write_bytes(content)
        temporary.replace(path)

    Disk.write = write  # type: ignore[method-assign]
    Disk.create = write  # type: ignore[method-assign]


@_named
def no_rename() -> None:
    """Write under the final name."""

    def write(self: Disk, name: str, content: bytes | memoryview) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    Disk.write = write  # type: ignore[method-assign]
    Disk.create = write  # type: ignore[method-assign]


@_named
def trusts_files() -> None:
    """Take every file that is there for a pixel that is done."""
    honest = Ledger.receipts

    def receipts(self: Ledger, plan: Plan) -> dict[Pixel, Receipt]:
        found = honest(self, plan)
        for work in plan.work():
            if self.catalog.size(names.pixel_file(work.pixel)) is not None:
                made_up = Receipt(str(work.pixel), plan.recipe_id, "", 0, "", (), {})
                known = found.get(work.pixel, made_up)
                missing = work.parts[len(known.parts) :]
                parts = (*known.parts, *(_part(p.append, p.fingerprint, p.rows) for p in missing))
                found[work.pixel] = replace(known, parts=parts)
        return found

    def _part(append: str, fingerprint: str, rows: int) -> object:
        from engine.receipt import Part

        return Part(append, fingerprint, rows, {"ok": rows}, "")

    Ledger.receipts = receipts  # type: ignore[method-assign]


@_named
def hasty_recovery() -> None:
    """Move a waiting file to its place although its receipt may not be durable yet."""
    honest = Ledger.recover

    def recover(self: Ledger) -> None:
        create, self.catalog.create = self.catalog.create, lambda *_: None
        honest(self)
        self.catalog.create = create

    Ledger.recover = recover  # type: ignore[method-assign]


@_named
def forgetful() -> None:
    """Begin anew, whatever is done already."""
    Ledger.receipts = lambda *_, **__: {}  # type: ignore[method-assign]


@_named
def orphans() -> None:
    """Leave a process behind."""
    from engine.clusters import deploy

    honest = deploy._start_local

    def start(workers: int) -> object:
        subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        return honest(workers)

    deploy._start_local = start


@_named
def early_success() -> None:
    """End as if all were done when the last file is still to be written."""
    import engine.run

    engine.run.write_metadata = lambda *_: None


@_named
def no_lock() -> None:
    """Let every driver in."""

    @contextmanager
    def hold(*_: object) -> Iterator[DiskLock]:
        yield DiskLock()

    Disk.hold = hold  # type: ignore[method-assign]


@_named
def deaf() -> None:
    """Take a failed write for one that succeeded."""

    def deafened(honest: Callable[..., None]) -> Callable[..., None]:
        def write(*given: object) -> None:
            with suppress(SkytallyError):
                honest(*given)

        return write

    for name in ("write", "create", "note", "remove"):
        setattr(Disk, name, deafened(getattr(Disk, name)))
