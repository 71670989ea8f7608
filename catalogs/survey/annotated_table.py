"""Catalogs that skytally annotated: exactly the files of their receipts, checked before use."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from catalogs.annotated import names
from catalogs.cutouts.partition import Pixel
from catalogs.errors import IntegrityError
from catalogs.survey.parquet_table import HatsCatalog


@dataclass(frozen=True, slots=True)
class _Written:
    """What a receipt says of its file."""

    bytes: int
    sha256: str
    rows: int


def is_annotated(catalog: Path) -> bool:
    """Say whether a catalog has a plan or receipts, which its files must then agree with."""
    return (catalog / names.PLAN).exists() or (catalog / names.RECEIPTS).exists()


class AnnotatedCatalog(HatsCatalog):
    """A HATS catalog with receipts; a file without one is not part of it.

    Each file's size and digest are compared with its receipt before anything is decoded, so
    that a changed file is an `IntegrityError` and never an answer.
    """

    @cached_property
    def _receipts(self) -> dict[Path, _Written]:
        """The files of the plan's partitions, in the plan's order, which is that of the sky."""
        found = {}
        plan = self.path / names.PLAN
        try:
            newest = {
                Pixel(order, n): append for append, order, n, *_ in _read_json(plan)["partitions"]
            }
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(
                f"{plan} is damaged ({error!r}); restore it from a copy"
            ) from error
        for pixel, append in newest.items():
            receipt = self.path / names.receipt_file(pixel, append)
            try:
                content = _read_json(receipt)
                file = PurePosixPath(content["file"])
                rows = sum(int(part["rows"]) for part in content["parts"])
                written = _Written(int(content["bytes"]), str(content["sha256"]), rows)
            except (KeyError, TypeError, ValueError) as error:
                raise IntegrityError(
                    f"{receipt} is damaged ({error!r}); remove it and annotate again"
                ) from error
            if file.is_absolute() or ".." in file.parts:
                raise IntegrityError(f"{receipt} names a file outside of the catalog: {file}")
            found[self.path / file] = written
        return found

    @cached_property
    def _verified(self) -> set[Path]:
        return set()

    def files(self) -> list[Path]:
        """Return the files that the receipts name."""
        self.require_finished()
        return list(self._receipts)

    def row_count(self) -> int | None:
        """Return the number of rows of all receipts."""
        return sum(receipt.rows for receipt in self._receipts.values())

    def schema(self, file: Path) -> pa.Schema:
        """Return a file's schema; every file passes here before it is decoded."""
        if file not in self._verified:
            _verify(file, self._receipts[file])
            self._verified.add(file)
        return super().schema(file)


def _verify(file: Path, receipt: _Written) -> None:
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise IntegrityError(
            f"{file} has a receipt but cannot be read ({error.strerror}); "
            "restore it from a copy, or annotate again"
        ) from error
    if (size, digest) != (receipt.bytes, receipt.sha256):
        raise IntegrityError(
            f"{file} ({size} bytes) is not the file of its receipt ({receipt.bytes} bytes, sha256 "
            f"{receipt.sha256[:12]}); restore it from a copy, or annotate again"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise IntegrityError(
            f"{path} cannot be read ({error.strerror}), so the catalog is incomplete; "
            "annotate again, or restore it from a copy"
        ) from error
    return content
