"""CSV files, streamed twice: once for the types that hold every value, once for the values."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from catalogs.errors import InputError
from catalogs.survey.table_source import Source

_BLOCK = 8 << 20
# Ordered from the narrowest; a column takes the first type that holds all of its values exactly.
_TYPES = (pa.int64(), pa.uint64(), pa.float64(), pa.bool_(), pa.string())
# No value among numbers; words like any other in a column of text.
_MISSING = pa.array(["", "NA", "N/A", "n/a", "#N/A", "<NA>", "null", "NULL"])


class CsvTable(Source):
    """Comma-separated text (tabs for .tsv) with a header line.

    What reads as numbers throughout becomes numbers, unless asked for as text: ``1e5`` or
    ``1.10`` may be a name.
    """

    def names(self) -> list[str]:
        """Return the column names in the file's order."""
        opener = gzip.open if self.path.name.lower().endswith(".gz") else open
        try:
            with opener(self.path, "rt", encoding="utf-8-sig", newline="") as stream:
                header = next(csv.reader(stream, delimiter=self._delimiter()), [])
        except (OSError, UnicodeDecodeError, EOFError, csv.Error) as error:
            raise self.unreadable(error) from error
        names = [name.strip() for name in header]
        if not any(names):
            cut = self.path.name.lower().endswith(".gz") and self.path.stat().st_size == 0
            what = "is truncated to nothing" if cut else "the table is empty"
            raise InputError(f"{self.path}: {what}; expected a header line and rows")
        for other in ";\t|,":
            if len(names) == 1 and other in names[0]:
                raise InputError(
                    f"{self.path}: its delimiter looks like {other!r}; expected "
                    f"{self._delimiter()!r}, write the table again with that"
                )
        return names

    def unreadable(self, error: Exception) -> InputError:
        """Wrap a library's complaint; both of them say differently that an archive ends early."""
        if isinstance(error, EOFError) or "Truncated" in str(error):
            return InputError(f"{self.path}: is truncated; fetch or write the whole file again")
        return super().unreadable(error)

    def _delimiter(self) -> str:
        return "\t" if ".tsv" in self.path.name.lower() else ","

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield those columns in batches of at most ``rows`` rows."""
        if not columns:
            raise InputError(f"{self.path}: no column asked for")
        types = self._types(columns)
        for batch in self._stream(columns):
            typed = [_typed(batch.column(name), types[name]) for name in columns]
            converted = pa.record_batch(typed, names=columns)
            for start in range(0, batch.num_rows, rows):
                yield converted.slice(start, rows)

    def _types(self, columns: list[str]) -> dict[str, pa.DataType]:
        fitting = {name: _TYPES[-1:] if name in self.text_columns else _TYPES for name in columns}
        only_words: dict[str, bool] = {}  # of columns that are not blank
        for batch in self._stream(columns):
            for name in columns:
                column = batch.column(name)
                values = _values(column)
                fitting[name] = tuple(kind for kind in fitting[name] if _fits_type(values, kind))
                if column.null_count < len(column):
                    nothing = values.null_count == len(values)
                    only_words[name] = only_words.get(name, True) and nothing
        return {
            name: _TYPES[-1] if only_words.get(name, False) else fitting[name][0]
            for name in columns
        }

    def _stream(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield those columns as text, null where a field is empty."""
        try:
            yield from pacsv.open_csv(
                self.path,
                read_options=pacsv.ReadOptions(
                    column_names=self.names(), skip_rows=1, block_size=_BLOCK
                ),
                parse_options=pacsv.ParseOptions(delimiter=self._delimiter()),
                convert_options=pacsv.ConvertOptions(
                    column_types=pa.schema([(name, pa.string()) for name in columns]),
                    include_columns=columns,
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            )
        except (pa.ArrowException, OSError) as error:
            if "Empty CSV" in str(error):
                return
            raise self.unreadable(error) from error


def _values(column: pa.Array) -> pa.Array:
    """Return what a column of anything but text would read: trimmed, null where it says none."""
    text = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.is_in(text, _MISSING), None, text)


def _typed(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column if pa.types.is_string(kind) else _values(column).cast(kind)


def _fits_type(values: pa.Array, kind: pa.DataType) -> bool:
    # Leading zeros belong to identifiers (as numbers they would be lost), Arrow would read 0x10
    # as 16, and integers of more than 15 digits do not all survive a float.
    if pa.types.is_integer(kind) and _any_match(values, r"^[+\-]?0[\dxX]|^\+"):
        return False
    if pa.types.is_floating(kind) and _any_match(values, r"^[+\-]?\d{16,}$|^0\d+$"):
        return False
    try:
        values.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _any_match(text: pa.Array, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(text, pattern)).as_py())
