"""Which rows of a table cannot be stored, each with its reason: the quarantine."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalogs.cutouts.columns import WIDEST_TEXT
from catalogs.errors import InputError, TooManyBadError
from catalogs.sky import BoolArray, FloatArray
from catalogs.survey.columns import quarantine_names

ALREADY_STORED = "already_stored"


@dataclass(frozen=True, slots=True)
class BadRows:
    """The rows of a table that cannot be stored.

    Attributes
    ----------
    reasons : ndarray of object, shape (n,)
        Why a row cannot be stored; None where it can.
    """

    reasons: NDArray[Any]

    @property
    def good(self) -> BoolArray:
        """Which rows can be stored, shape (n,)."""
        return np.asarray([reason is None for reason in self.reasons], dtype=np.bool_)

    @property
    def counts(self) -> dict[str, int]:
        """How many rows have which reason."""
        found = Counter(reason for reason in self.reasons.tolist() if reason is not None)
        return dict(sorted(found.items()))

    @property
    def all_stored(self) -> bool:
        """Whether the survey has every row already."""
        return set(self.counts) == {ALREADY_STORED} and not self.good.any()

    def check(self, max_bad: float) -> None:
        """Refuse to go on with too many.

        Raises
        ------
        InputError
            No row can be stored.
        TooManyBadError
            They are more than the fraction ``max_bad``.
        """
        rows, counts = len(self.reasons), self.counts
        why = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        # Objects that were observed before are no fault of the table.
        bad = sum(count for reason, count in counts.items() if reason != ALREADY_STORED)
        if not self.good.any():
            raise InputError(
                f"none of the {rows} rows can be stored ({why}); check table and images"
            )
        if bad > max_bad * rows:
            raise TooManyBadError(
                f"{bad} of {rows} rows cannot be stored ({why}), more than --max-bad {max_bad:g}; "
                f"mend the table, or allow it with --max-bad {np.ceil(1000 * bad / rows) / 1000:g}"
            )

    def table(self, rows: pa.Table, ids: pa.ChunkedArray, id_column: str) -> pa.Table:
        """Return the quarantine: the bad rows as they are, with row number and reason."""
        bad = ~self.good
        rows = rows.set_column(rows.column_names.index(id_column), id_column, ids)
        return (
            rows.filter(pa.array(bad))
            .rename_columns(quarantine_names(rows.column_names))
            .append_column("input_row", pa.array(np.flatnonzero(bad), pa.int64()))
            .append_column("quarantine_reason", pa.array(self.reasons[bad].tolist(), pa.string()))
        )


def find_bad_rows(
    ids: pa.ChunkedArray, ra: FloatArray, dec: FloatArray, images: NDArray[Any], known: BoolArray
) -> BadRows:
    """Say which rows cannot be stored.

    Parameters
    ----------
    ids : pyarrow.ChunkedArray
        Identifiers, int64 or text; null where there is none.
    ra, dec : ndarray of float64, shape (n,)
        Positions, degrees; NaN where there is none.
    images : ndarray of object, shape (n,)
        Why a row has no image; None where it has one.
    known : ndarray of bool, shape (n,)
        Which identifiers the survey has already.
    """
    reasons = images.copy()
    possible = (dec >= -90) & (dec <= 90) & (ra >= -360) & (ra <= 360)
    reasons[~possible] = "impossible_position"
    reasons[~(np.isfinite(ra) & np.isfinite(dec))] = "no_position"
    reasons[known] = ALREADY_STORED
    reasons[_mask(pc.is_null(ids))] = "no_id"
    if pa.types.is_string(ids.type):
        reasons[_mask(pc.greater(pc.binary_length(ids), WIDEST_TEXT))] = "id_too_long"
    # Only a row that is stored makes a later one its duplicate.
    rest = np.flatnonzero(BadRows(reasons).good)
    codes = ids.take(pa.array(rest)).combine_chunks().dictionary_encode().indices.to_numpy()
    first = np.unique(codes, return_index=True)[1]
    repeated = np.ones(len(rest), dtype=np.bool_)
    repeated[first] = False
    reasons[rest[repeated]] = "duplicate_id"
    return BadRows(reasons)


def _mask(values: pa.ChunkedArray) -> BoolArray:
    return np.asarray(pc.fill_null(values, False).to_numpy(), dtype=np.bool_)
