"""What every kind of table file offers: its column names, and Arrow batches of some of them."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from catalogs.errors import InputError
from catalogs.storage import digest
from catalogs.storage.digest import Digest
from catalogs.storage.place import open_place

_SHOWN_COLUMNS = 20


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


class Source(ABC):
    """A table that can name its columns and yield batches of some of them.

    Parameters
    ----------
    where : str or Path
        Where the table lies; a URL for those kinds that read from buckets.
    text_columns : sequence of str
        Columns to give exactly as written, where the format stores no types.
    """

    def __init__(self, where: str | Path, text_columns: Sequence[str] = ()) -> None:
        self.where = str(where)
        self.text_columns = text_columns

    @property
    def path(self) -> Path:
        """The file of a table on a disk of this machine."""
        return Path(self.where)

    @abstractmethod
    def names(self) -> list[str]:
        """Return the column names in the file's order."""

    def skipped(self) -> list[str]:
        """Return the columns left out of the names, as they hold what is not read."""
        return []

    @abstractmethod
    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield those existing columns in batches of at most ``rows`` rows."""

    def row_count(self) -> int | None:
        """Return the number of rows, or None when only reading all of them would tell."""
        return None

    def digest(self) -> Digest:
        """Return what identifies the table's content."""
        return digest.of_file(open_place(self.path.parent), self.path.name)

    def unreadable(self, error: Exception) -> InputError:
        """Wrap a library's complaint into one line that names the file."""
        return InputError(f"{self.where}: cannot be read: {' '.join(str(error).split())}")
