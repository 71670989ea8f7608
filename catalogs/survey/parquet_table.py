"""Parquet files, folders of them, and HATS catalogs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from catalogs.errors import InputError, IntegrityError
from catalogs.survey.table_source import Source, require_column

PARQUET_ENDINGS = (".parquet", ".pq")


class ParquetTable(Source):
    """A Parquet file, or every Parquet file below a folder, in order of their paths."""

    def files(self) -> list[Path]:
        """Return the files, in the order in which they are read."""
        if self.path.is_file():
            return [self.path]
        found = sorted(
            file
            for ending in PARQUET_ENDINGS
            for file in self.path.rglob(f"*{ending}")
            if file.is_file() and not file.name.startswith(("_", "."))
        )
        if not found:
            raise InputError(f"{self.path}: the folder holds no .parquet file and no HATS catalog")
        return found

    def names(self) -> list[str]:
        """Return the column names in the file's order."""
        return list(self.schema(self.files()[0]).names)

    def schema(self, file: Path) -> pa.Schema:
        """Return the schema of one of the files."""
        try:
            return pq.read_schema(file)
        except (pa.ArrowException, OSError) as error:
            raise self.unreadable(error) from error

    def row_count(self) -> int | None:
        """Return the number of rows that the file states."""
        try:
            return sum(int(pq.read_metadata(file).num_rows) for file in self.files())
        except (pa.ArrowException, OSError) as error:
            raise self.unreadable(error) from error

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield those columns in batches of at most ``rows`` rows."""
        schema: pa.Schema | None = None
        for file in self.files():
            for name in columns:
                require_column(name, self.schema(file).names, str(file))
            try:
                with pq.ParquetFile(file) as parquet:
                    for raw in parquet.iter_batches(rows, columns=columns):
                        batch = raw.select(columns).replace_schema_metadata(None)
                        schema = batch.schema if schema is None else schema
                        yield batch if batch.schema.equals(schema) else batch.cast(schema)
            except (pa.ArrowException, OSError) as error:
                raise self.unreadable(error) from error


class HatsCatalog(ParquetTable):
    """A HATS catalog: only its pixels' files, and as many rows as its properties say."""

    def require_finished(self) -> None:
        """Refuse a catalog without its properties, which are written last."""
        if not (self.path / "hats.properties").exists():
            raise InputError(
                f"{self.path}: a catalog without hats.properties is not finished; "
                "run the command that writes it again"
            )

    def files(self) -> list[Path]:
        """Return the pixels' files, by pixel number."""
        self.require_finished()
        pixels = sorted((self.path / "dataset").glob("Norder=*/Dir=*/Npix=*"), key=_pixel_key)
        found = [
            file
            for pixel in pixels
            for file in (sorted(pixel.glob("*.parquet")) if pixel.is_dir() else [pixel])
            if file.suffix == ".parquet"
        ]
        if not found:
            raise InputError(f"{self.path}: the HATS catalog has no pixel files under dataset/")
        return found

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield those columns in batches of at most ``rows`` rows."""
        expected = self._stated_rows()
        seen = 0
        for batch in super().batches(columns, rows):
            seen += batch.num_rows
            yield batch
        if expected is not None and seen != expected:
            raise IntegrityError(
                f"{self.path}: holds {seen} rows but hats.properties says {expected}; "
                "the catalog is incomplete, write it again"
            )

    def _stated_rows(self) -> int | None:
        stated = _properties(self.path / "hats.properties").get("hats_nrows", "")
        return int(stated) if stated.isdigit() else None


def _properties(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if not line.startswith("#"))
    return {key.strip(): value.strip() for key, _, value in pairs}


def primary_table(collection: Path) -> Path:
    """Return the main catalog of a HATS collection (catalog with margins and indexes)."""
    name = _properties(collection / "collection.properties").get("hats_primary_table_url", "")
    if not name or Path(name).name != name or not (collection / name / "hats.properties").exists():
        raise InputError(f"{collection}: the HATS collection's primary table {name!r} is not in it")
    return collection / name


def _pixel_key(path: Path) -> tuple[int, ...]:
    """Order pixels by number, not by text: Npix=10 comes after Npix=9."""
    order, number = path.parent.parent.name, path.name
    digits = ["".join(c for c in part.split("=")[1] if c.isdigit()) for part in (order, number)]
    return tuple(int(d) for d in digits if d)
