"""The same objects in another catalog, paired by id.

HATS catalogs (skytally's own, too) are paired pixel by pixel: memory holds two of their pixels,
and an object is looked for in the pixel of its own position. Any other table is held in memory,
some 40 bytes a row, up to 50 million rows (5 million with ids of text).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from catalogs import sky
from catalogs.audit.reading.answers import AnswerReader, Tally, find_columns, status_ok
from catalogs.audit.reading.identifiers import Identifiers, shared_id
from catalogs.audit.settings import AuditSettings
from catalogs.errors import InputError
from catalogs.survey import tables
from catalogs.survey.parquet_table import HatsCatalog
from catalogs.survey.table_formats import open_table

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOST_ROWS = 50_000_000
MOST_TEXT = 5_000_000
_PIXELS_HELD = 2
_PIXEL = re.compile(r"Norder=(\d+)/.*Npix=(\d+)")


class Lookup:
    """Answers by identifier; the first of an identifier counts.

    Parameters
    ----------
    ids : pyarrow.Array
    answers : ndarray of float64, shape (m,)
    """

    def __init__(self, ids: pa.Array, answers: FloatArray) -> None:
        self.ids = Identifiers(ids, "id")
        self._answers = np.append(answers, np.nan)  # what row -1 says

    def find(self, ids: pa.Array) -> FloatArray:
        """Return the answers of some identifiers, NaN where there is none."""
        return self._answers[self.ids.find(ids)]


class Other:
    """Another catalog's answers, read beside those of the audited one.

    Parameters
    ----------
    path : str
        The other catalog or table.
    source : str or Path
        The audited one.
    settings : AuditSettings
        Which answer, and in which column, as in the audited one.

    Raises
    ------
    InputError
        It cannot be read, has no answer or no id as the audited one has.
    """

    def __init__(self, path: str, source: str | Path, settings: AuditSettings) -> None:
        self.path = path
        self.columns: Sequence[str]
        theirs = tables.column_names(path)
        pair = shared_id(tables.column_names(source), theirs)
        if pair is None:
            raise InputError(
                f"{path}: no id column of a name that {source} has too; pairs are made by id"
            )
        self.columns = (pair[0],)
        self._ours, self._theirs = pair
        self._where = find_columns(path, settings)
        self._reader = AnswerReader(self._where.answer, settings)
        self._tally = Tally()
        self._held: OrderedDict[int, Lookup] = OrderedDict()
        self._pixels: list[str] = []
        self._first = np.empty(0, np.int64)
        self._source = open_table(path)
        if isinstance(self._source, HatsCatalog):
            self._list_pixels(self._source.files())
        else:
            self._held[0] = self._whole()

    def values(self, batch: pa.RecordBatch, ra: FloatArray, dec: FloatArray) -> FloatArray:
        """Return the other catalog's answers, shape (m, 1); NaN where it has none."""
        ids = batch.column(self._ours)
        try:
            if not self._pixels:
                return self._held[0].find(ids)[:, None]
            found = np.full(len(ids), np.nan)
            rows = np.flatnonzero(np.isfinite(ra) & (np.abs(dec) <= 90) & (np.abs(ra) <= 360))
            tiles = sky.tile_of(ra[rows], dec[rows], sky.FINEST_ORDER)
            pixel = np.searchsorted(self._first, tiles, side="right") - 1
            for number in np.unique(pixel[pixel >= 0]).tolist():
                here = rows[pixel == number]
                found[here] = self._pixel(number).find(ids.take(pa.array(here)))
        except pa.ArrowException as error:
            raise InputError(f"{self.path}: ids of another kind: {error}") from error
        return found[:, None]

    def _list_pixels(self, files: list[str]) -> None:
        """Sort the pixels along the sky."""
        matches = [_PIXEL.search(file) for file in files]
        order = [int(match[1]) if match else 0 for match in matches]
        number = [int(match[2]) if match else 0 for match in matches]
        first = np.array(
            [n << (2 * (sky.FINEST_ORDER - o)) for o, n in zip(order, number, strict=True)],
            np.int64,
        )
        along = np.argsort(first)
        self._first = first[along]
        self._pixels = [files[i] for i in along]

    def _pixel(self, number: int) -> Lookup:
        if number in self._held:
            self._held.move_to_end(number)
            return self._held[number]
        source: Any = self._source
        names = [*self._where.names(), self._theirs]
        try:
            with source.open(self._pixels[number]) as parquet:
                table = parquet.read(columns=list(dict.fromkeys(names)))
        except (pa.ArrowException, OSError) as error:
            raise source.unreadable(error) from error
        lookup = Lookup(*self._answers([table.combine_chunks()]))
        while len(self._held) >= _PIXELS_HELD:
            self._held.popitem(last=False)
        self._held[number] = lookup
        return lookup

    def _whole(self) -> Lookup:
        batches, rows = [], 0
        names = list(dict.fromkeys([*self._where.names(), self._theirs]))
        for batch in tables.iter_batches(self.path, names):
            rows += batch.num_rows
            if rows > MOST_ROWS:
                raise InputError(
                    f"{self.path}: more than {MOST_ROWS:,} rows of a single table cannot be paired "
                    "in memory; make it a HATS catalog"
                )
            batches.append(pa.Table.from_batches([batch]))
        lookup = Lookup(*self._answers(batches))
        if rows > MOST_TEXT and not lookup.ids.whole_numbers:
            raise InputError(
                f"{self.path}: more than {MOST_TEXT:,} rows of a single table with ids of text "
                "cannot be paired; make it a HATS catalog"
            )
        return lookup

    def _answers(self, parts: list[pa.Table]) -> tuple[pa.Array, FloatArray]:
        """Return identifiers and answers; NaN where the status is not ok."""
        ids, answers = [], []
        for part in parts:
            column = part.column(self._where.answer).combine_chunks()
            values = self._reader.values(column, self._tally)
            if self._where.status is not None:
                status = part.column(self._where.status).combine_chunks()
                values = np.where(status_ok(status), values, np.nan)
            ids.append(part.column(self._theirs).combine_chunks())
            answers.append(values)
        return pa.concat_arrays(ids), np.concatenate(answers)
