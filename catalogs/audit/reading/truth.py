"""Labels of a few objects: a column of the catalog, or a table matched by id or position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from catalogs import sky
from catalogs.audit.labels.census import NO_SHAPE
from catalogs.audit.reading.answers import AnswerReader, Columns, Tally, find_columns
from catalogs.audit.reading.identifiers import Identifiers, as_text, shared_id
from catalogs.audit.settings import DEFAULT_ANSWER, AuditSettings
from catalogs.errors import InputError
from catalogs.storage.place import is_remote
from catalogs.survey import tables

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MATCH_ARCSEC = 2.0
APART_ARCSEC = 60.0  # the same id so far apart is not the same object
_FEW = 0.01
_SHOWN = 10
# Of so many labels a classifier of any use mistakes some, so none means a copy of the answers.
_SURELY_MISTAKEN = 1_000
MOST_LABELS = 20_000_000  # of a table, which is held in memory, some 40 bytes a label
_TRUTH_NAMES = ("truth", "label")
_BY_COLUMN, _BY_ID, _BY_POSITION = "column", "id", "position"


@dataclass(slots=True)
class Matched:
    """What became of the labels of a table."""

    source: str
    how: str
    labels: int | None = None  # None for a column of the catalog
    matched: int | None = None
    contradicting: int = 0
    no_shape: int = 0  # objects whose label is none of those counted
    counted: str = ""
    values: list[tuple[str, int]] = field(default_factory=list)  # what text says, most often first


class _LabelReader:
    """Reads labels: text as answers are read; of numbers 1 is the answer, whatever its name."""

    def __init__(self, name: str, settings: AuditSettings) -> None:
        self._text = AnswerReader(name, settings)
        counted = settings.values[0].lower() in ("0", "1", "false", "true")
        asked = replace(settings, among=None, answer=settings.answer if counted else DEFAULT_ANSWER)
        self._numbers = AnswerReader(name, asked)

    def values(self, column: pa.Array, tally: Tally) -> FloatArray:
        """Return 1, 0, `NO_SHAPE` where a label is none of those counted, or NaN without one."""
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if not text:
            return self._numbers.values(column, tally)
        found = self._text.values(column, tally)
        return np.where(self._text.not_counted(column), NO_SHAPE, found)


class Truth:
    """Reads 1 for true members, 0 for others, `NO_SHAPE` or NaN for objects without label.

    It is read beside the answers (`reading.answers.Beside`), once, from the first row.

    Parameters
    ----------
    source : str or Path
        The catalog.
    columns : Columns
        Of the catalog.
    settings : AuditSettings
        ``truth`` names the labels: a column of the catalog, or ``TABLE[:COLUMN]``.

    Raises
    ------
    InputError
        No such column or table, no label says the answer, or none matches an object.
    """

    def __init__(self, source: str | Path, columns: Columns, settings: AuditSettings) -> None:
        assert settings.truth is not None
        names = tables.column_names(source)
        self._settings = replace(settings, probabilities=False, label=None)
        self._row = 0
        self._places: tuple[FloatArray, FloatArray] | None = None
        self._compared = self._far = 0
        self._tally = Tally()
        if settings.truth in names:
            if settings.truth == columns.answer:
                raise InputError(
                    f"truth {settings.truth!r}: is the column of the answers that are audited; "
                    "name a column or table of labels made without them"
                )
            self.matched = Matched(settings.truth, _BY_COLUMN)
            self._column = settings.truth
            self._reader = _LabelReader(settings.truth, self._settings)
            self.columns: Sequence[str] = (settings.truth,)
            return
        table, column = _table_and_column(settings.truth, names, str(source))
        theirs = tables.column_names(table)
        ids = shared_id(names, theirs)
        self.matched = Matched(f"{table}:{column}", _BY_POSITION if ids is None else _BY_ID)
        placed = {"ra", "dec"} <= {name.lower() for name in theirs}
        where: tuple[str, ...] = ()
        if ids is None or placed:
            found = find_columns(table, replace(self._settings, label=column))
            where = (found.ra, found.dec)
        if ids is not None:
            self._column = ids[0]
            self.columns = (ids[0],)
            keys, truth = self._read(table, column, (ids[1], *where), text=(ids[1],))
            self._by_id(keys, truth)
        else:
            self.columns = ()
            keys, truth = self._read(table, column, where)
            self._by_position(source, columns, keys, truth)

    def values(self, batch: pa.RecordBatch, ra: FloatArray, dec: FloatArray) -> FloatArray:
        """Return the labels of a batch, shape (m, 1)."""
        how = self.matched.how
        if how == _BY_COLUMN:
            found = self._reader.values(batch.column(self._column), self._tally)
        elif how == _BY_ID:
            at = self._ids.find(batch.column(self._column))
            found = np.where(at >= 0, self._truth[at], np.nan)
            self._compare(at, ra, dec)
        else:
            rows = np.arange(self._row, self._row + batch.num_rows)
            at = np.minimum(np.searchsorted(self._rows, rows), len(self._rows) - 1)
            found = np.where(self._rows[at] == rows, self._truth[at], np.nan)
        self._row += batch.num_rows
        return found[:, None]

    def finish(self, labels: int, mistakes: int, no_shape: int) -> Matched:
        """Return what became of the labels, after the last batch.

        Parameters
        ----------
        labels : int
            Usable objects with a label.
        mistakes : int
            Those of them whose answer is another than their label.
        no_shape : int
            Objects whose label tells no shape.

        Raises
        ------
        InputError
            No label was matched, a column of text never says the answer, or the labels are the
            answers themselves.
        """
        wanted = [v for v in self._settings.values if v not in self._tally.values_seen]
        if self._tally.values_seen and wanted:
            seen = ", ".join(sorted(self._tally.values_seen)[:20])
            raise InputError(
                f"truth {self.matched.source!r} never says {wanted[0]!r}; it says {seen}"
            )
        if labels == 0:
            how = f" within {MATCH_ARCSEC:g} arcsec" if self.matched.how == _BY_POSITION else ""
            raise InputError(
                f"truth {self.matched.source!r}: no object of the catalog has a label{how}, "
                f"matched by {self.matched.how}; name another column or table"
            )
        if labels >= _SURELY_MISTAKEN and mistakes == 0:
            raise InputError(
                f"truth {self.matched.source!r}: all {labels:,} labels equal the answers that are "
                "audited, so they are a copy of them; name labels made without the answers"
            )
        if self._far > _FEW * self._compared:
            raise InputError(
                f"truth {self.matched.source!r}: {self._far:,} of {self._compared:,} objects of "
                f"the same id lie more than {APART_ARCSEC:g} arcsec apart, so the ids are not of "
                "the same objects; remove the id column to match by position"
            )
        self.matched.matched = labels
        self.matched.counted = self._tally.counted
        self.matched.no_shape = no_shape
        self.matched.values = self._tally.values_seen.most_common(_SHOWN)
        return self.matched

    def _read(
        self, table: str, column: str, keys: tuple[str, ...], text: tuple[str, ...] = ()
    ) -> tuple[list[pa.Array], FloatArray]:
        """Return the key columns and labels of the rows that have one."""
        reader = _LabelReader(column, self._settings)
        parts: list[pa.RecordBatch] = []
        truth: list[FloatArray] = []
        held = told = 0
        for batch in tables.iter_batches(table, [*keys, column], text_columns=text):
            values = reader.values(batch.column(column), self._tally)
            use = ~np.isnan(values)
            parts.append(batch.select(keys).filter(pa.array(use)))
            truth.append(values[use])
            held += int(use.sum())
            told += int(np.sum(values[use] >= 0))
            if held > MOST_LABELS:
                raise InputError(
                    f"{table}: holds more than {MOST_LABELS:,} labels; put them into a column of "
                    "the catalog"
                )
        self.matched.labels = told
        whole = pa.Table.from_batches(parts)
        return [whole.column(key).combine_chunks() for key in keys], np.concatenate(truth)

    def _by_id(self, keys: list[pa.Array], truth: FloatArray) -> None:
        """Keep each id once, with the place of its first row; those that disagree go.

        A label that tells no shape yields to one that does.
        """
        row = np.arange(len(truth))
        told = pa.array(truth, mask=truth == NO_SHAPE)
        table = pa.table({"id": as_text(keys[0], self._column), "truth": told, "row": row})
        both = table.group_by("id", use_threads=False).aggregate(
            [("truth", "min"), ("truth", "max"), ("row", "min")]
        )
        low, high, first = (
            pc.fill_null(both.column(name), NO_SHAPE).to_numpy()
            for name in ("truth_min", "truth_max", "row_min")
        )
        agreed = low == high
        self.matched.contradicting = int(np.sum(~agreed))
        known = both.column("id").combine_chunks().filter(pa.array(agreed))
        self._ids = Identifiers(known, self._column)
        self._truth = low[agreed]
        if not len(self._truth):
            raise InputError(f"truth {self.matched.source!r}: holds no label; name another column")
        if len(keys) == 3:
            ra, dec = tables.positions(pa.table(keys[1:], ["ra", "dec"]), "ra", "dec")
            self._places = ra[first[agreed]], dec[first[agreed]]

    def _compare(self, at: IntArray, ra: FloatArray, dec: FloatArray) -> None:
        """Count objects whose label lies elsewhere on the sky."""
        if self._places is None:
            return
        there = self._places[0][at], self._places[1][at]
        both = (at >= 0) & _placed(ra, dec) & _placed(*there)
        a = sky.unit_vectors(ra[both], dec[both])
        b = sky.unit_vectors(there[0][both], there[1][both])
        self._compared += int(both.sum())
        self._far += int(np.sum(np.linalg.norm(a - b, axis=1) > np.radians(APART_ARCSEC / 3600)))

    def _by_position(
        self,
        source: str | Path,
        columns: Columns,
        keys: list[pa.Array],
        truth: FloatArray,
    ) -> None:
        """Pair each label with the nearest object, and each object with the nearest label."""
        ra, dec = tables.positions(pa.table(keys, ["ra", "dec"]), "ra", "dec")
        placed = _placed(ra, dec)
        truth = truth[placed]
        if not len(truth):
            raise InputError(f"truth {self.matched.source!r}: no label has a valid position")
        where = sky.unit_vectors(ra[placed], dec[placed])
        kinds = [_Nearest(where[kind], truth[kind]) for kind in (truth >= 0, truth < 0)]
        first = 0
        for batch in tables.iter_batches(source, [columns.ra, columns.dec]):
            ra, dec = tables.positions(batch, columns.ra, columns.dec)
            rows = np.flatnonzero(_placed(ra, dec))
            vectors = sky.unit_vectors(ra[rows], dec[rows])
            for kind in kinds:
                kind.look(vectors, first + rows)
            first += batch.num_rows
        # A label that tells no shape yields to one that does.
        found, known = (
            np.concatenate(both) for both in zip(*(k.pairs() for k in kinds), strict=True)
        )
        self._rows, at = np.unique(found, return_index=True)
        self._truth = known[at]
        if not len(found):
            self._rows, self._truth = np.array([-1]), np.array([np.nan])


class _Nearest:
    """Pairs each label with the nearest object within reach, and each object with one label."""

    def __init__(self, vectors: FloatArray, truth: FloatArray) -> None:
        self._tree = cKDTree(vectors)
        self._truth = truth
        self._nearest = np.full(len(truth), np.inf)
        self._row_of = np.full(len(truth), -1, np.int64)

    def look(self, vectors: FloatArray, rows: IntArray) -> None:
        """Look among some more objects, rows of the catalog in order."""
        if not len(self._truth):
            return
        reach = 2 * np.sin(np.radians(MATCH_ARCSEC / 3600) / 2)
        distance, label = self._tree.query(vectors, distance_upper_bound=reach)
        hit = np.isfinite(distance)
        # The last assignment wins, so the nearest goes last; among equals the first row.
        order = np.lexsort((-rows[hit], -distance[hit]))
        distance, label, rows = distance[hit][order], label[hit][order], rows[hit][order]
        closer = distance < self._nearest[label]
        self._nearest[label[closer]] = distance[closer]
        self._row_of[label[closer]] = rows[closer]

    def pairs(self) -> tuple[IntArray, FloatArray]:
        """Return the objects with a label, and what it says."""
        found = np.flatnonzero(self._row_of >= 0)
        return self._row_of[found], self._truth[found]


def truth_table(source: str | Path, settings: AuditSettings) -> str | None:
    """Return the table that holds the labels; None for a column of the catalog, or no labels."""
    names = tables.column_names(source)
    if settings.truth is None or settings.truth in names:
        return None
    return _table_and_column(settings.truth, names, str(source))[0]


def _table_and_column(spec: str, names: list[str], where: str) -> tuple[str, str]:
    """Split ``TABLE[:COLUMN]``, and find the column where none is named.

    Both may have colons in their names: of what could be the table, the longest that is there.
    """
    table = spec
    if is_remote(spec):
        folder, slash, last = spec.rpartition("/")
        table = folder + slash + last.partition(":")[0]
    while not _exists(table) and ":" in table:
        table = table.rpartition(":")[0]
    column = spec[len(table) + 1 :]
    if not _exists(table):
        shown = ", ".join(names[:20])
        raise InputError(
            f"truth {spec!r} is neither a column of {where} nor a table; its columns are {shown}"
        )
    theirs = tables.column_names(table)
    if column:
        tables.require_column(column, theirs, table)
        return table, column
    found = [name for name in _TRUTH_NAMES if name in theirs]
    if len(found) != 1:
        raise InputError(
            f"truth {spec!r}: which column holds the labels? write {spec}:COLUMN, one of "
            f"{', '.join(theirs[:20])}"
        )
    return table, found[0]


def _exists(path: str) -> bool:
    return is_remote(path) or (bool(path) and Path(path).exists())


def _placed(ra: FloatArray, dec: FloatArray) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(ra) & (np.abs(dec) <= 90) & (np.abs(ra) <= 360))
