"""Catalogs that skytally annotated: exactly the files of their receipts, checked before use."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalogs.annotated import names
from catalogs.cutouts.partition import Pixel
from catalogs.errors import InputError, IntegrityError
from catalogs.storage import digest
from catalogs.storage.digest import Digest
from catalogs.storage.place import Place, each
from catalogs.survey.parquet_table import HatsCatalog


@dataclass(frozen=True, slots=True)
class _Written:
    """What a receipt says of its file."""

    bytes: int
    sha256: str
    rows: int


def is_annotated(catalog: Place) -> bool:
    """Say whether a catalog has a plan or receipts, which its files must then agree with."""
    return catalog.size(names.PLAN) is not None or bool(catalog.names(names.RECEIPTS))


class AnnotatedCatalog(HatsCatalog):
    """A HATS catalog with receipts; a file without one is not part of it.

    Each file is read whole, and its size and digest are compared with its receipt before anything
    is decoded, so that a changed file is an `IntegrityError` and never an answer.
    """

    @cached_property
    def _receipts(self) -> dict[str, _Written]:
        """The files of the plan's partitions, in the plan's order, which is that of the sky."""
        plan = self._read_json(names.PLAN)
        try:
            newest = {Pixel(order, n): append for append, order, n, *_ in plan["partitions"]}
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(
                f"{self.told(names.PLAN)} is damaged ({error!r}); restore it from a copy"
            ) from error
        receipts = [names.receipt_file(pixel, append) for pixel, append in newest.items()]
        return dict(each(self.place, self._read_receipt, receipts))

    def _read_receipt(self, name: str) -> tuple[str, _Written]:
        content = self._read_json(name)
        try:
            file = PurePosixPath(content["file"])
            rows = sum(int(part["rows"]) for part in content["parts"])
            written = _Written(int(content["bytes"]), str(content["sha256"]), rows)
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(
                f"{self.told(name)} is damaged ({error!r}); remove it and annotate again"
            ) from error
        if file.is_absolute() or ".." in file.parts:
            raise IntegrityError(f"{self.told(name)} names a file outside of the catalog: {file}")
        return str(file), written

    def files(self) -> list[str]:
        """Return the files that the receipts name."""
        self.require_finished()
        if not self._receipts:
            raise InputError(f"{self.where}: the catalog holds no object")
        return list(self._receipts)

    def row_count(self) -> int | None:
        """Return the number of rows of all receipts."""
        return sum(receipt.rows for receipt in self._receipts.values())

    def digest(self) -> Digest:
        """Return what identifies the catalog's content, by its receipts."""
        return digest.of_list((file, receipt.sha256) for file, receipt in self._receipts.items())

    def open(self, file: str) -> Any:  # noqa: ANN401  (pyarrow has no types)
        """Return one of the files, opened by pyarrow: the very bytes that were compared."""
        receipt = self._receipts[file]
        try:
            content = self.place.read(file)
        except FileNotFoundError:
            raise IntegrityError(
                f"{self.told(file)} has a receipt but is not there; restore it from a copy, or "
                "remove its receipt and annotate again"
            ) from None
        digest = hashlib.sha256(content).hexdigest()
        if (len(content), digest) != (receipt.bytes, receipt.sha256):
            raise IntegrityError(
                f"{self.told(file)} ({len(content)} bytes) is not the file of its receipt "
                f"({receipt.bytes} bytes, sha256 {receipt.sha256[:12]}); restore it from a copy, "
                "or remove its receipt and annotate again"
            )
        return pq.ParquetFile(pa.BufferReader(content))

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(self.place.read(name))
        except FileNotFoundError:
            raise IntegrityError(
                f"{self.told(name)} is missing, so the catalog is incomplete; "
                "annotate again, or restore it from a copy"
            ) from None
        except ValueError as error:
            raise IntegrityError(
                f"{self.told(name)} is damaged ({error}); restore it from a copy"
            ) from error
        return content
