"""What is done is on disk, and only that: plan, receipts, and the one driver's lock."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from catalogs.annotated import names
from catalogs.annotated.atomic import disk_error, write_file
from catalogs.cutouts.partition import Pixel
from catalogs.cutouts.store import Partition
from catalogs.errors import BusyError, InputError, IntegrityError
from engine.plan import Plan, check_resumable


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a partition's file is whole. Holds nothing that differs between two runs.

    Attributes
    ----------
    pixel : str
        The partition, ``order-number``.
    fingerprint : str
        The partition's content in the survey.
    recipe : str
        Digest of all that an answer depends on beside its object.
    file, bytes, sha256
        The Parquet file, relative to the catalog, its size and digest.
    rows : int
        Rows in the file, one per object.
    statuses : dict of str to int
        How many rows have which status.
    id_digest : str
        Digest of the identifiers, in order.
    """

    pixel: str
    fingerprint: str
    recipe: str
    file: str
    bytes: int
    sha256: str
    rows: int
    statuses: dict[str, int]
    id_digest: str


class Ledger:
    """The ``run`` folder of one catalog."""

    def __init__(self, catalog: Path) -> None:
        self.catalog = catalog

    def make_folder(self) -> None:
        """Make the catalog's folder, unless it holds other things.

        Raises
        ------
        InputError
            It does, or it cannot be made there.
        """
        try:
            self.catalog.mkdir(parents=True, exist_ok=True)
            inside = sorted(entry.name for entry in self.catalog.iterdir())
        except OSError as error:
            raise disk_error(self.catalog, error) from error
        strangers = [name for name in inside if name != names.RUN]
        if strangers and not (self.catalog / names.PLAN).is_file():
            raise InputError(
                f"{self.catalog} holds other things ({', '.join(strangers[:3])}); "
                "name a new or empty folder for the catalog"
            )

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the one driver of this catalog until the block ends, or the process does.

        Raises
        ------
        BusyError
            Another process is.
        """
        lock = self.catalog / names.LOCK
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise disk_error(lock, error) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(
                    f"another process annotates into {self.catalog}; wait for it, or stop it"
                ) from None
            yield
        finally:
            os.close(descriptor)

    def begin(self, asked: Plan) -> Plan:
        """Write the plan, or go on with the one that is there, if it is the same or has grown.

        Raises
        ------
        InputError
            The catalog was begun with something else.
        """
        path = self.catalog / names.PLAN
        if path.is_file():
            check_resumable(self.plan(), asked)
        content = json.dumps(asked.to_json(), indent=0).encode()
        if not path.is_file() or path.read_bytes() != content:
            write_file(path, content)
        return asked

    def plan(self) -> Plan:
        """Read the plan.

        Raises
        ------
        InputError
            There is none: the folder is no annotated catalog.
        """
        path = self.catalog / names.PLAN
        if not path.is_file():
            raise InputError(
                f"{self.catalog} is no annotated catalog (no {names.PLAN}); "
                "make one with `skytally annotate`"
            )
        values = _read_json(path)
        try:
            return Plan.from_json(values)
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(
                f"{path} is damaged ({error!r}); restore it from a copy"
            ) from error

    def receipts(self, plan: Plan) -> dict[Pixel, Receipt]:
        """Return the receipts of the plan's partitions, each compared with plan and file.

        Raises
        ------
        IntegrityError
            A receipt speaks of another recipe, or its file is missing or of another size.
        """
        found = {}
        recipe = plan.recipe_id
        for partition in plan.partitions:
            path = self.catalog / names.receipt_file(partition.pixel)
            if path.is_file():
                values = _read_json(path)
                try:
                    receipt = Receipt(**values)
                except TypeError as error:
                    raise IntegrityError(
                        f"{path} is damaged ({error}); remove it and annotate again to redo "
                        f"pixel {partition.pixel}"
                    ) from error
                self._check(receipt, partition, recipe)
                found[partition.pixel] = receipt
        return found

    def _check(self, receipt: Receipt, partition: Partition, recipe: str) -> None:
        path = self.catalog / receipt.file
        if receipt.recipe != recipe or receipt.fingerprint != partition.fingerprint:
            raise IntegrityError(
                f"{self.catalog}: the receipt of pixel {partition.pixel} belongs to another run; "
                "annotate into another catalog"
            )
        size = path.stat().st_size if path.is_file() else None
        if size != receipt.bytes:
            raise IntegrityError(
                f"{path} is {'missing' if size is None else f'{size} bytes long'}, its receipt "
                f"says {receipt.bytes} bytes; remove {names.receipt_file(partition.pixel)} and "
                "annotate again to redo it"
            )

    def write_receipt(self, partition: Partition, receipt: Receipt) -> None:
        """Record that a partition is done; its file is already durable."""
        content = json.dumps(asdict(receipt), indent=1, sort_keys=True).encode()
        write_file(self.catalog / names.receipt_file(partition.pixel), content)

    def write_timings(self, partition: Partition, timings: dict[str, Any]) -> None:
        """Record how long the stages of a partition took; of no consequence when lost."""
        path = self.catalog / names.timing_file(partition.pixel)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(timings))
        except OSError as error:
            raise disk_error(path, error) from error

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Record the latest command."""
        content = json.dumps(summary, indent=1).encode()
        write_file(self.catalog / names.SUMMARY, content)

    def summary(self) -> dict[str, Any] | None:
        """Return the latest command's summary, None when no command has ended yet."""
        path = self.catalog / names.SUMMARY
        return _read_json(path) if path.is_file() else None

    def remove_leftovers(self) -> None:
        """Remove temporary files of processes that were killed; the lock must be held."""
        for path in self.catalog.rglob(f"*{names.TEMPORARY_SUFFIX}"):
            path.unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} cannot be read ({error}); restore it from a copy") from error
    if not isinstance(values, dict):
        raise IntegrityError(f"{path} is not what skytally wrote; restore it from a copy")
    return values
