"""Parquet files, folders of them, and HATS catalogs, on a disk or in a bucket."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalogs.errors import InputError, IntegrityError
from catalogs.storage import digest
from catalogs.storage.digest import Digest
from catalogs.storage.place import Place, is_remote, open_place
from catalogs.survey.table_source import Source, require_column

PARQUET_ENDINGS = (".parquet", ".pq")
HATS_PROPERTIES = "hats.properties"
COLLECTION_PROPERTIES = "collection.properties"
HATS_DATASET = "dataset"

_PIXEL_FILE = re.compile(
    rf"{HATS_DATASET}/Norder=(\d+)/Dir=\d+/Npix=(\d+)(\.parquet|/[^/]+\.parquet)"
)


class ParquetTable(Source):
    """A Parquet file, or every Parquet file below a folder, in order of their names."""

    def __init__(self, where: str | Path, text_columns: Sequence[str] = ()) -> None:
        super().__init__(where, text_columns)
        single = single_file(where)
        self.place = open_place(where) if single is None else single[0]
        self._single = None if single is None else single[1]

    def files(self) -> list[str]:
        """Return the files' names in their place, in the order in which they are read."""
        if self._single is not None:
            return [self._single]
        found = [
            name
            for name in self.place.names()
            if name.endswith(PARQUET_ENDINGS) and not name.rpartition("/")[2].startswith(("_", "."))
        ]
        if not found:
            raise InputError(f"{self.where}: the folder holds no .parquet file and no HATS catalog")
        return found

    def names(self) -> list[str]:
        """Return the column names in the file's order."""
        try:
            with self.open(self.files()[0]) as parquet:
                return list(parquet.schema_arrow.names)
        except (pa.ArrowException, OSError) as error:
            raise self.unreadable(error) from error

    def row_count(self) -> int | None:
        """Return the number of rows that the files state."""
        rows = 0
        try:
            for file in self.files():
                with self.open(file) as parquet:
                    rows += int(parquet.metadata.num_rows)
        except (pa.ArrowException, OSError) as error:
            raise self.unreadable(error) from error
        return rows

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield those columns in batches of at most ``rows`` rows."""
        schema: pa.Schema | None = None
        for file in self.files():
            try:
                with self.open(file) as parquet:
                    for name in columns:
                        require_column(name, parquet.schema_arrow.names, self.told(file))
                    for raw in parquet.iter_batches(rows, columns=columns):
                        batch = raw.select(columns).replace_schema_metadata(None)
                        schema = batch.schema if schema is None else schema
                        yield batch if batch.schema.equals(schema) else batch.cast(schema)
            except (pa.ArrowException, OSError) as error:
                raise self.unreadable(error) from error

    def digest(self) -> Digest:
        """Return what identifies the table's content."""
        if self._single is not None:
            return digest.of_file(self.place, self._single)
        return digest.of_files(self.place, self.files())

    def open(self, file: str) -> Any:  # noqa: ANN401  (pyarrow has no types)
        """Return one of the files, opened by pyarrow; only what is asked for is read."""
        if self.place.path is not None:
            return pq.ParquetFile(self.place.path / file)
        return pq.ParquetFile(self.place.open(file), pre_buffer=True)

    def told(self, file: str) -> str:
        """Return how messages call one of the files."""
        return f"{self.place.url}/{file}"


class HatsCatalog(ParquetTable):
    """A HATS catalog: only its pixels' files, and as many rows as its properties say."""

    def require_finished(self) -> None:
        """Refuse a catalog without its properties, which are written last."""
        if self.place.size(HATS_PROPERTIES) is None:
            raise InputError(
                f"{self.where}: a catalog without hats.properties is not finished; "
                "run the command that writes it again"
            )

    def files(self) -> list[str]:
        """Return the pixels' files, by order and number of their pixels."""
        self.require_finished()
        return list(self._pixel_files)

    @cached_property
    def _pixel_files(self) -> list[str]:
        matches = map(_PIXEL_FILE.fullmatch, self.place.names(HATS_DATASET))
        # Pixels by number, not by text: Npix=10 comes after Npix=9.
        found = sorted((int(m[1]), int(m[2]), m[0]) for m in matches if m is not None)
        if not found:
            raise InputError(f"{self.where}: the HATS catalog has no pixel files under dataset/")
        return [name for *_, name in found]

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield those columns in batches of at most ``rows`` rows."""
        expected = self._stated_rows()
        seen = 0
        for batch in super().batches(columns, rows):
            seen += batch.num_rows
            yield batch
        if expected is not None and seen != expected:
            raise IntegrityError(
                f"{self.where}: holds {seen} rows but hats.properties says {expected}; "
                "the catalog is incomplete, write it again"
            )

    def _stated_rows(self) -> int | None:
        self.require_finished()
        stated = _properties(self.place, HATS_PROPERTIES).get("hats_nrows", "")
        return int(stated) if stated.isdigit() else None


def single_file(where: str | Path) -> tuple[Place, str] | None:
    """Return folder and name of a table that is one file; None when it is a folder, or nothing."""
    if is_remote(where):
        head, _, name = str(where).rstrip("/").rpartition("/")
        if head.endswith(":/"):
            return None  # a whole bucket
        folder = open_place(head)
    else:
        folder, name = open_place(Path(where).parent), Path(where).name
    return (folder, name) if name and folder.size(name) is not None else None


def primary_table(collection: Place) -> str:
    """Return the main catalog of a HATS collection (catalog with margins and indexes)."""
    name = _properties(collection, COLLECTION_PROPERTIES).get("hats_primary_table_url", "")
    if not name or Path(name).name != name or collection.size(f"{name}/{HATS_PROPERTIES}") is None:
        raise InputError(
            f"{collection.url}: the HATS collection's primary table {name!r} is not in it"
        )
    return f"{collection.url}/{name}"


def _properties(place: Place, name: str) -> dict[str, str]:
    try:
        lines = place.read(name).decode().splitlines()
    except UnicodeDecodeError as error:
        raise IntegrityError(
            f"{place.url}/{name} is damaged ({error}); write the catalog again"
        ) from error
    pairs = (line.partition("=") for line in lines if not line.startswith("#"))
    return {key.strip(): value.strip() for key, _, value in pairs}
