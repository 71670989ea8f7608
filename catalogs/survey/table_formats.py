"""The kinds of table files: each names its columns and yields Arrow batches of some of them.

Errors of the libraries below become one line that names the file.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from astropy.io import fits, votable
from numpy.typing import NDArray

from catalogs.errors import InputError, IntegrityError, SkytallyError

_CSV_BLOCK = 8 << 20
_SHOWN_COLUMNS = 20
_KINDS = {
    "csv": (".csv", ".csv.gz", ".tsv", ".tsv.gz"),
    "parquet": (".parquet", ".pq"),
    "fits": (".fits", ".fit", ".fts", ".fits.gz"),
    "votable": (".vot", ".votable", ".xml"),
}


def require_column(name: str, existing: Sequence[str], where: str) -> None:
    """Raise an `InputError` that lists what exists unless ``name`` is among ``existing``."""
    if name in existing:
        return
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in existing], n=1, cutoff=0.6)
    guess = next((n for n in existing if close and n.lower() == close[0]), None)
    more = len(existing) - _SHOWN_COLUMNS
    listed = ", ".join(existing[:_SHOWN_COLUMNS]) + (f" and {more} more" if more > 0 else "")
    hint = f"; did you mean {guess!r}?" if guess else ";"
    raise InputError(f"{where}: no column {name!r}{hint} it has {listed}")


class Source:
    """A table that can name its columns and yield batches of some of them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Return the column names in the file's order."""
        raise NotImplementedError

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield those existing columns in batches of at most ``rows`` rows."""
        raise NotImplementedError

    def row_count(self) -> int | None:
        """Return the number of rows, or None when only reading all of them would tell."""
        return None

    def unreadable(self, error: Exception) -> InputError:
        """Wrap a library's complaint into one line that names the file."""
        return InputError(f"{self.path}: cannot be read: {' '.join(str(error).split())}")


def open_table(path: Path) -> Source:
    """Return the reader for what lies at ``path``, judged by its name.

    Raises
    ------
    InputError
        Nothing is there, or its ending is unknown.
    """
    name = path.name.lower()
    if not path.exists():
        raise InputError(f"{path}: no such table; give a file or a catalog folder")
    if path.is_dir():
        if (path / "collection.properties").exists():
            return _Hats(_primary_table(path))
        if (path / "dataset").is_dir() or (path / "hats.properties").exists():
            return _Hats(path)
        return _Parquet(path)
    for kind, endings in _KINDS.items():
        if name.endswith(endings):
            return {"csv": _Csv, "parquet": _Parquet, "fits": _Fits, "votable": _VoTable}[kind](
                path
            )
    known = ", ".join(ending for endings in _KINDS.values() for ending in endings)
    raise InputError(f"{path}: unknown kind of table; its name must end in one of {known}")


class _Parquet(Source):
    """A Parquet file, or every Parquet file below a folder, in order of their paths."""

    def files(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        found = sorted(
            file
            for ending in _KINDS["parquet"]
            for file in self.path.rglob(f"*{ending}")
            if file.is_file() and not file.name.startswith(("_", "."))
        )
        if not found:
            raise InputError(f"{self.path}: the folder holds no .parquet file and no HATS catalog")
        return found

    def names(self) -> list[str]:
        return list(self._schema(self.files()[0]).names)

    def _schema(self, file: Path) -> pa.Schema:
        try:
            return pq.read_schema(file)
        except (pa.ArrowException, OSError) as error:
            raise self.unreadable(error) from error

    def row_count(self) -> int | None:
        try:
            return sum(int(pq.read_metadata(file).num_rows) for file in self.files())
        except (pa.ArrowException, OSError) as error:
            raise self.unreadable(error) from error

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        schema: pa.Schema | None = None
        for file in self.files():
            for name in columns:
                require_column(name, self._schema(file).names, str(file))
            try:
                with pq.ParquetFile(file) as parquet:
                    for raw in parquet.iter_batches(rows, columns=columns):
                        batch = raw.select(columns).replace_schema_metadata(None)
                        schema = batch.schema if schema is None else schema
                        yield batch if batch.schema.equals(schema) else batch.cast(schema)
            except (pa.ArrowException, OSError) as error:
                raise self.unreadable(error) from error


class _Hats(_Parquet):
    """A HATS catalog: only its pixels' files, and as many rows as its properties say."""

    def files(self) -> list[Path]:
        if not (self.path / "hats.properties").exists():
            raise InputError(
                f"{self.path}: a catalog without hats.properties is not finished; "
                "run the command that writes it again"
            )
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


def _primary_table(collection: Path) -> Path:
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


class _Csv(Source):
    """Comma-separated text (tabs for .tsv) with a header line."""

    def names(self) -> list[str]:
        opener = gzip.open if self.path.name.lower().endswith(".gz") else open
        try:
            with opener(self.path, "rt", encoding="utf-8-sig", newline="") as stream:
                header = next(csv.reader(stream, delimiter=self._delimiter()), [])
        except (OSError, UnicodeDecodeError, EOFError, csv.Error) as error:
            raise self.unreadable(error) from error
        names = [name.strip() for name in header]
        if not any(names):
            raise InputError(f"{self.path}: the table is empty; expected a header line and rows")
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise InputError(f"{self.path}: column {twice[0]!r} occurs twice in the header")
        return names

    def _delimiter(self) -> str:
        return "\t" if ".tsv" in self.path.name.lower() else ","

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        if not columns:
            raise InputError(f"{self.path}: no column asked for")
        as_text = pa.schema([(name, pa.string()) for name in columns])
        fitting = dict.fromkeys(columns, _CSV_TYPES)
        for batch in self._stream(as_text):
            for name in columns:
                fitting[name] = _fitting_types(batch.column(name), fitting[name])
        typed = pa.schema([(name, fitting[name][0]) for name in columns])
        for batch in self._stream(typed):
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)

    def _stream(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        try:
            reader = pacsv.open_csv(
                self.path,
                read_options=pacsv.ReadOptions(
                    column_names=self.names(), skip_rows=1, block_size=_CSV_BLOCK
                ),
                parse_options=pacsv.ParseOptions(delimiter=self._delimiter()),
                convert_options=pacsv.ConvertOptions(
                    column_types=schema, include_columns=schema.names, strings_can_be_null=True
                ),
            )
            yield from reader
        except (pa.ArrowException, OSError) as error:
            if "Empty CSV" in str(error):
                return
            raise self.unreadable(error) from error


# Ordered from the narrowest; a column takes the first type that holds all of its values exactly.
_CSV_TYPES = (pa.int64(), pa.uint64(), pa.float64(), pa.bool_(), pa.string())


def _fitting_types(column: pa.Array, among: tuple[pa.DataType, ...]) -> tuple[pa.DataType, ...]:
    """Return those types, in order, that hold every value of the text column exactly."""
    text = pc.utf8_trim_whitespace(column)
    return tuple(kind for kind in among if _fits_type(text, kind))


def _fits_type(text: pa.Array, kind: pa.DataType) -> bool:
    # Leading zeros belong to identifiers (as numbers they would be lost), and integers of
    # more than 15 digits do not all survive a float.
    if pa.types.is_integer(kind) and _any_match(text, r"^[+\-]?0\d+$|^\+"):
        return False
    if pa.types.is_floating(kind) and _any_match(text, r"^[+\-]?\d{16,}$|^0\d+$"):
        return False
    try:
        text.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _any_match(text: pa.Array, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(text, pattern)).as_py())


_FITS_TABLES = (fits.BinTableHDU, fits.TableHDU)


class _Fits(Source):
    """The first table extension of a FITS file."""

    def _table(self) -> tuple[fits.HDUList, Any]:
        # Astropy only warns of a file that ends early; its rows would be garbage.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                memmap = not self.path.name.lower().endswith(".gz")
                hdus = fits.open(self.path, memmap=memmap)
                found = [hdu for hdu in hdus if isinstance(hdu, _FITS_TABLES)]
            except (OSError, ValueError, TypeError) as error:
                raise self.unreadable(error) from error
        cut = next((str(w.message) for w in caught if "truncated" in str(w.message)), None)
        if found and cut is None:
            return hdus, found[0]
        hdus.close()
        if cut is not None:
            raise self.unreadable(ValueError(cut))
        raise InputError(f"{self.path}: the FITS file holds no table extension")

    def names(self) -> list[str]:
        hdus, table = self._table()
        with hdus:
            return list(table.columns.names)

    def row_count(self) -> int | None:
        hdus, table = self._table()
        with hdus:
            return int(table.header["NAXIS2"])

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        hdus, table = self._table()
        with hdus:
            length = int(table.header["NAXIS2"])
            for start in range(0, length, rows):
                try:
                    part = table.data[start : start + rows]
                    arrays = [self._column(part, table.columns[name]) for name in columns]
                except SkytallyError:
                    raise
                except (OSError, ValueError, TypeError, KeyError) as error:
                    raise self.unreadable(error) from error
                yield pa.record_batch(arrays, names=columns)

    def _column(self, part: fits.FITS_rec, column: fits.Column) -> pa.Array:
        values = np.asarray(part.field(column.name))
        mask = None
        if column.null not in (None, "") and values.dtype.kind in "iuf":
            scale, zero = column.bscale or 1, column.bzero or 0
            mask = values == int(column.null) * scale + zero
        return self._arrow(column.name, values, mask)

    def _arrow(
        self, name: str, values: NDArray[Any], mask: NDArray[np.bool_] | None = None
    ) -> pa.Array:
        """Copy a numpy column into Arrow: native byte order, text without padding."""
        kind = values.dtype.kind
        if kind == "O" and all(isinstance(value, str) for value in values):
            values, kind = values.astype(np.str_), "U"
        if kind == "S":
            values, kind = np.char.decode(values, "utf-8", "replace"), "U"
        if kind not in "iufbU" or values.ndim > 2 or (values.ndim == 2 and kind == "U"):
            raise InputError(
                f"{self.path}: column {name!r} holds {values.dtype} arrays, which are not read; "
                "leave it out"
            )
        if kind == "U":
            stripped = np.char.rstrip(values, "\x00 ")
            empty = stripped == ""
            return pa.array(stripped, pa.string(), mask=empty if mask is None else mask | empty)
        native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
        if native.ndim == 1:
            return pa.array(native, mask=mask)
        flat = pa.array(native.ravel(), mask=None if mask is None else mask.ravel())
        return pa.FixedSizeListArray.from_arrays(flat, native.shape[1])


class _VoTable(_Fits):
    """The first table of a VOTable; streams that point elsewhere are refused."""

    @cached_property
    def _parsed(self) -> votable.tree.TableElement:
        self._refuse_remote_streams()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the standard is broken by most of its writers
                return votable.parse(self.path, verify="ignore").get_first_table()
        except (OSError, ValueError, TypeError, IndexError) as error:
            raise self.unreadable(error) from error

    def _refuse_remote_streams(self) -> None:
        """Astropy fetches ``<STREAM href=...>`` from the network or the disk; data may not."""

        def start(tag: str, attributes: dict[str, str]) -> None:
            if tag.rpartition(":")[2].upper() == "STREAM" and "href" in attributes:
                raise InputError(
                    f"{self.path}: its data lie in another file ({attributes['href']!r}); "
                    "only self-contained VOTables are read"
                )

        parser = expat.ParserCreate()
        parser.StartElementHandler = start
        try:
            with self.path.open("rb") as stream:
                parser.ParseFile(stream)
        except (expat.ExpatError, OSError) as error:
            raise self.unreadable(error) from error

    def names(self) -> list[str]:
        return [field.name or field.ID for field in self._parsed.fields]

    def row_count(self) -> int | None:
        return len(self._parsed.array)

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        fields = {field.name or field.ID: field.ID for field in self._parsed.fields}
        data = self._parsed.array
        for start in range(0, len(data), rows):
            arrays = []
            for name in columns:
                part = data[fields[name]][start : start + rows]
                mask = np.ma.getmaskarray(part)
                arrays.append(self._arrow(name, np.ma.getdata(part), mask if mask.any() else None))
            yield pa.record_batch(arrays, names=columns)
