"""FITS and VOTable files: one shape of columns, which astropy gives as numpy arrays."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any
from xml.parsers import expat

import numpy as np
import pyarrow as pa
from astropy.io import fits, votable
from numpy.typing import NDArray

from catalogs.errors import InputError, SkytallyError
from catalogs.survey.table_source import Source

_FITS_TABLES = (fits.BinTableHDU, fits.TableHDU)


@contextmanager
def heeded() -> Iterator[None]:
    """Make astropy's warning of a file that ends early an error: its rows would be garbage.

    The others are about how headers are written; the keywords that are used are checked.

    Raises
    ------
    ValueError
        The file ends early.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    cut = next((str(w.message) for w in caught if "truncated" in str(w.message)), None)
    if cut is not None:
        raise ValueError(cut)


def complaint(error: Exception) -> str:
    """Return what astropy says of a file, without what it tells programmers to call."""
    said = " ".join(str(error).split())
    return said.split(", fix it first")[0].split(". If this is really")[0]


class FitsTable(Source):
    """The first table extension of a FITS file."""

    def _table(self) -> tuple[fits.HDUList, Any]:
        memmap = not self.path.name.lower().endswith(".gz")
        try:
            with ExitStack() as stack:
                with heeded():
                    hdus = stack.enter_context(fits.open(self.path, memmap=memmap))
                    found = next((hdu for hdu in hdus if isinstance(hdu, _FITS_TABLES)), None)
                    _ = None if found is None else found.columns  # parsed now, and kept
                if found is None:
                    raise InputError(f"{self.path}: the FITS file holds no table extension")
                stack.pop_all()
        except (OSError, ValueError, TypeError, fits.VerifyError) as error:
            raise self.unreadable(error) from error
        return hdus, found

    def unreadable(self, error: Exception) -> InputError:
        """Wrap astropy's complaint into one line that names the file."""
        return super().unreadable(ValueError(complaint(error)))

    def names(self) -> list[str]:
        """Return the column names in the file's order."""
        hdus, table = self._table()
        with hdus:
            return [column.name for column in table.columns if _is_read(column)]

    def skipped(self) -> list[str]:
        """Return the columns of complex numbers, varying lengths or several dimensions."""
        hdus, table = self._table()
        with hdus:
            return [column.name for column in table.columns if not _is_read(column)]

    def row_count(self) -> int | None:
        """Return the number of rows that the file states."""
        hdus, table = self._table()
        with hdus:
            return int(table.header["NAXIS2"])

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield those columns in batches of at most ``rows`` rows."""
        hdus, table = self._table()
        with hdus:
            length = int(table.header["NAXIS2"])
            for start in range(0, length, rows):
                try:
                    with heeded():
                        part = table.data[start : start + rows]
                        arrays = [self._column(part, table, name) for name in columns]
                except SkytallyError:
                    raise
                except (OSError, ValueError, TypeError, KeyError, fits.VerifyError) as error:
                    raise self.unreadable(error) from error
                yield pa.record_batch(arrays, names=columns)

    def _column(self, part: fits.FITS_rec, table: Any, name: str) -> pa.Array:  # noqa: ANN401
        values, column = np.asarray(part.field(name)), table.columns[name]
        mask = None
        # The standard knows TNULL of whole numbers only, and so does astropy; its writers mean it.
        null = table.header.get(f"TNULL{table.columns.names.index(name) + 1}", "")
        if null != "" and values.dtype.kind in "iuf":
            scale, zero = column.bscale or 1, column.bzero or 0
            mask = values == _number(null) * scale + zero
        return self._arrow(name, values, mask)

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


def _number(null: object) -> float:
    """Return what TNULL says; a whole number stays one, as it may have more than 53 bits."""
    return null if isinstance(null, int | float) else int(str(null))


def _is_read(column: fits.Column) -> bool:
    """Say whether a cell is one value or text, or a row of numbers (FITS 4.0, section 7.3)."""
    code = str(column.format).lstrip("0123456789")[:1]
    return code not in "PQCM" and "," not in str(column.dim or "")


class VoTable(FitsTable):
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
        """Return the column names in the file's order."""
        return self._fields(read=True)

    def skipped(self) -> list[str]:
        """Return the columns of complex numbers, varying lengths or several dimensions."""
        return self._fields(read=False)

    def _fields(self, *, read: bool) -> list[str]:
        table = self._parsed
        return [_name(field) for field in table.fields if _is_read_field(table, field) == read]

    def row_count(self) -> int | None:
        """Return the number of rows that the file states."""
        return len(self._parsed.array)

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield those columns in batches of at most ``rows`` rows."""
        fields = {_name(field): field.ID for field in self._parsed.fields}
        data = self._parsed.array
        for start in range(0, len(data), rows):
            arrays = []
            for name in columns:
                part = data[fields[name]][start : start + rows]
                mask = np.ma.getmaskarray(part)
                arrays.append(self._arrow(name, np.ma.getdata(part), mask if mask.any() else None))
            yield pa.record_batch(arrays, names=columns)


def _name(field: votable.tree.Field) -> str:
    return str(field.name or field.ID)


def _is_read_field(table: votable.tree.TableElement, field: votable.tree.Field) -> bool:
    kind = table.array.dtype[field.ID]
    if kind == np.object_:
        return field.datatype in ("char", "unicodeChar")  # else an array of varying length
    numbers = kind.base.kind in "iufb"
    return kind.kind == "U" or (numbers and len(kind.shape) < 2)
