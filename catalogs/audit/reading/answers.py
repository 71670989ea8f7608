"""Which column answers the question, and a stream of clean positions and answers from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalogs import sky
from catalogs.audit.reading.identifiers import NO_ID, keys_of
from catalogs.audit.settings import DEFAULT_ANSWER, NO_VALUE, AuditSettings
from catalogs.errors import InputError
from catalogs.survey import tables

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_LABEL = "label"
_NUMBER_OF = {"0": 0, "false": 0, "1": 1, "true": 1}
_MOST_VALUES = 50
_STATUS, _PIXEL = "status", "_healpix_29"


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table that the audit reads; ``status`` only of skytally's catalogs."""

    ra: str
    dec: str
    answer: str
    status: str | None

    def names(self) -> list[str]:
        """Return each column once."""
        wanted = (self.ra, self.dec, self.answer, self.status)
        return list(dict.fromkeys(name for name in wanted if name is not None))


class Beside(Protocol):
    """Numbers that are read beside each answer, such as covariates."""

    @property
    def columns(self) -> Sequence[str]:
        """The columns of the table that they need."""
        ...

    def values(self, batch: pa.RecordBatch, ra: FloatArray, dec: FloatArray) -> FloatArray:
        """Return one number or more for each row, shape (m, width); NaN where missing.

        Positions [deg] are NaN, or impossible, in rows that will not be used.
        """
        ...


@dataclass(slots=True)
class Tally:
    """What became of the rows; all counts together make ``rows``."""

    rows: int = 0
    not_ok: int = 0
    no_position: int = 0
    no_answer: int = 0
    other_answer: int = 0
    no_weight: int = 0
    same_id: int = 0
    same_place: int = 0
    used: int = 0
    counted: str = ""  # which answers the fraction is of, in words
    values_seen: Counter[str] = field(default_factory=Counter)  # the most frequent of each batch


def find_columns(source: str | Path, settings: AuditSettings) -> Columns:
    """Choose the columns to read.

    Raises
    ------
    InputError
        A named column does not exist, or none or several could hold the answer.
    """
    names = tables.column_names(source)
    skytally_catalog = _PIXEL in names and _STATUS in names
    return Columns(
        _position_column(names, settings.ra, "ra", str(source)),
        _position_column(names, settings.dec, "dec", str(source)),
        _answer_column(names, settings, str(source)),
        _STATUS if skytally_catalog else None,
    )


def _position_column(names: list[str], given: str | None, usual: str, where: str) -> str:
    if given is not None:
        tables.require_column(given, names, where)
        return given
    found = [name for name in names if name.lower() == usual]
    if len(found) > 1:
        raise InputError(f"{where}: columns {', '.join(found)}; name the {usual} column to use")
    if not found:
        tables.require_column(usual, names, where)
    return found[0]


def _answer_column(names: list[str], settings: AuditSettings, where: str) -> str:
    probability = f"p_{settings.answer}"
    if settings.label is not None:
        tables.require_column(settings.label, names, where)
        return settings.label
    if settings.probabilities:
        tables.require_column(probability, names, where)
        return probability
    found = [name for name in (_LABEL, settings.answer) if name in names]
    if len(found) > 1:
        raise InputError(
            f"{where}: both {found[0]!r} and {found[1]!r} could hold the answer "
            f"{settings.answer!r}; name the answer column to use"
        )
    if found:
        return found[0]
    if probability in names:
        return probability
    shown = ", ".join(names[:20])
    raise InputError(
        f"{where}: no column {_LABEL!r}, {settings.answer!r} or {probability!r} holds the answer; "
        f"name the answer column, one of {shown}"
    )


def iter_answers(
    source: str | Path,
    columns: Columns,
    settings: AuditSettings,
    tally: Tally,
    beside: Sequence[Beside] = (),
    ids: str | None = None,
    *,
    unanswered: bool = False,
) -> Iterator[tuple[IntArray, FloatArray, IntArray]]:
    """Yield (healpix_29, values, keys) of the usable rows, counting the others in ``tally``.

    With ``unanswered`` all rows that have a position, the answer being NaN where there is none.

    Yields
    ------
    healpix_29 : ndarray of int64, shape (m,)
        Nested pixels of order 29.
    values : ndarray of float64, shape (m, width)
        First the answer: 1 or 0, or a probability when these are asked for. Then what is read
        ``beside`` it, in its order.
    keys : ndarray of int64, shape (m,)
        Of the column ``ids``, see `keys_of`; `NO_ID` without one.

    Raises
    ------
    InputError
        The answer column holds values that are neither labels nor within [0, 1].
    """
    reader = AnswerReader(columns.answer, settings)
    names = [*columns.names(), *(name for more in beside for name in more.columns)]
    names += [] if ids is None else [ids]
    for batch in tables.iter_batches(source, list(dict.fromkeys(names))):
        answer = reader.values(batch.column(columns.answer), tally)
        ra, dec = tables.positions(batch, columns.ra, columns.dec)
        ok = np.ones(batch.num_rows, np.bool_)
        if columns.status is not None:
            ok = status_ok(batch.column(columns.status))
        placed = np.isfinite(ra) & (np.abs(dec) <= 90) & (np.abs(ra) <= 360)
        answered = ~np.isnan(answer)
        other = reader.not_counted(batch.column(columns.answer))
        tally.rows += batch.num_rows
        tally.not_ok += int(np.sum(~ok))
        tally.no_position += int(np.sum(ok & ~placed))
        tally.no_answer += int(np.sum(ok & placed & ~answered & ~other))
        tally.other_answer += int(np.sum(ok & placed & other))
        answer = np.where(ok, answer, np.nan)
        use = placed & (unanswered | ~np.isnan(answer))
        values = [answer[:, None], *(more.values(batch, ra, dec) for more in beside)]
        rows = np.full(batch.num_rows, NO_ID) if ids is None else keys_of(batch.column(ids))
        yield sky.tile_of(ra[use], dec[use], sky.FINEST_ORDER), np.hstack(values)[use], rows[use]


class AnswerReader:
    """Turns a column of any kind into answers between 0 and 1, NaN for null."""

    def __init__(self, name: str, settings: AuditSettings) -> None:
        self.name = name
        self.settings = settings
        self.thresholded = False

    def values(self, column: pa.Array, tally: Tally) -> FloatArray:
        """Return the answers of a column, shape (m,), and note in ``tally`` what was counted."""
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        kind = column.type
        if pa.types.is_null(kind):
            return np.full(len(column), np.nan)
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return self._text(column, tally)
        if self.settings.denominator is not None and not pa.types.is_string(kind):
            raise InputError(
                f"among {self.settings.among!r}: answer column {self.name!r} holds {kind}; only of "
                "labels some can be left out"
            )
        if pa.types.is_boolean(kind):
            column = column.cast(pa.int8())
        elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise InputError(
                f"answer column {self.name!r} holds {kind}; expected labels, 0/1 or probabilities"
            )
        numbers = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return self._numbers(np.asarray(numbers, np.float64), tally)

    def not_counted(self, column: pa.Array) -> BoolArray:
        """Say which labels are in no denominator, such as mergers where nobody asked for them."""
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            return np.zeros(len(column), np.bool_)
        counted = self.settings.denominator
        if counted is not None:
            return ~self._missing(column) & ~_is_one_of(column, counted)
        return _is_one_of(pc.utf8_lower(column), self.settings.left_out)

    def _missing(self, column: pa.Array) -> BoolArray:
        """Say where a column of text is null, or has a word for it that nobody asked for."""
        named = {*self.settings.values, *(self.settings.denominator or ())}
        word = _is_one_of(pc.utf8_trim_whitespace(column), list(NO_VALUE))
        return ~np.asarray(column.is_valid()) | (word & ~_is_one_of(column, sorted(named)))

    def _text(self, column: pa.Array, tally: Tally) -> FloatArray:
        if self.settings.probabilities:
            raise InputError(
                f"answer column {self.name!r} holds text; summing probabilities needs numbers"
            )
        among = "" if self.settings.among is None else f", among {self.settings.among}"
        tally.counted = f"labels: {self.name} is {self.settings.answer}{among}"
        chosen = _is_one_of(column, self.settings.values)
        self._note_values(column, tally)
        counted = ~self._missing(column) & ~self.not_counted(column)
        return np.where(counted, chosen.astype(np.float64), np.nan)

    def _note_values(self, column: pa.Array, tally: Tally) -> None:
        """Count the most frequent values of a batch, and those asked for."""
        found = pc.value_counts(column.drop_null())
        often = np.argsort(-found.field("counts").to_numpy(), kind="stable")[:_MOST_VALUES]
        asked = np.flatnonzero(_is_one_of(found.field("values"), self.settings.values))
        for one in found.take(pa.array(np.union1d(often, asked))).to_pylist():
            tally.values_seen[one["values"]] += one["counts"]

    def _counts_zeros(self) -> bool:
        """Say whether 0 is asked for and not 1, which the name of a column of 0/1 stands for."""
        asked = {_NUMBER_OF.get(value.lower()) for value in self.settings.values}
        names = (self.name, self.name.removeprefix("p_"), DEFAULT_ANSWER)
        if asked in ({0}, {1}):
            return asked == {0}
        if self.settings.answer.strip() in names:
            return False
        raise InputError(
            f"answer {self.settings.answer!r}: column {self.name!r} holds numbers; expected 0, 1, "
            f"false, true or the column's name"
        )

    def _numbers(self, numbers: FloatArray, tally: Tally) -> FloatArray:
        zeros = self._counts_zeros()
        bad = (numbers < 0) | (numbers > 1)
        if bad.any():
            raise InputError(
                f"answer column {self.name!r} holds {numbers[bad][0]:g}; expected labels, 0/1 or "
                "probabilities within 0 to 1"
            )
        if self.settings.probabilities:
            one = "one minus the probabilities" if zeros else "probabilities"
            tally.counted = f"{one} of {self.name}, summed; variance from their scatter"
        else:
            self.thresholded |= bool(np.any((numbers > 0) & (numbers < 1)))
            numbers = np.where(np.isnan(numbers), np.nan, (numbers >= 0.5).astype(np.float64))
            if self.thresholded:
                what = "values below 0.5" if zeros else "values of at least 0.5"
            else:
                what = "0" if zeros else "1"
            tally.counted = f"fraction of {what} in column {self.name}"
        return 1 - numbers if zeros else numbers


def check_answer_occurs(tally: Tally, columns: Columns, settings: AuditSettings) -> None:
    """Refuse a misspelt answer: one that a text column never says.

    Only a column of a single value may lack the one that was asked for: its fraction is 0.

    Raises
    ------
    InputError
    """
    missing = [value for value in settings.values if value not in tally.values_seen]
    text = bool(tally.values_seen)
    if text and missing and (len(tally.values_seen) > 1 or len(missing) < len(settings.values)):
        seen = ", ".join(sorted(tally.values_seen)[:20])
        raise InputError(f"column {columns.answer!r} never says {missing[0]!r}; it says {seen}")


def status_ok(column: pa.Array) -> BoolArray:
    """Say in which rows of a skytally catalog there is an answer."""
    return _is_one_of(column, ["ok"])


def _is_one_of(column: pa.Array, values: list[str]) -> BoolArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    found = pc.is_in(column, pa.array(values, column.type))
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), np.bool_)
