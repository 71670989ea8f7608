"""From answers to a partition's Parquet file: columns, order and bytes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalogs.cutouts.columns import as_text
from catalogs.cutouts.store import Rows
from catalogs.errors import InputError
from catalogs.schema import HEALPIX_COLUMN, LABEL_COLUMN, NIGHT_COLUMN, OK, PROBABILITY_PREFIX
from export.bundle import Manifest

ROWS_PER_GROUP = 65_536
CATALOG_COLUMNS = frozenset(
    [
        "id",
        "ra",
        "dec",
        HEALPIX_COLUMN,
        "input_row",
        NIGHT_COLUMN,
        LABEL_COLUMN,
        "confidence",
        "status",
        "reason",
    ]
)


@dataclass(frozen=True, slots=True)
class PartitionRows:
    """Everything that becomes the rows of one file; arrays share the first dimension."""

    rows: Rows
    night: str
    probabilities: dict[str, NDArray[np.float32]]
    status: NDArray[Any]
    reason: NDArray[Any]
    columns: dict[str, NDArray[Any]]


def catalog_name(column: str) -> str:
    """Return the name in the catalog of a survey's column: its own, unless that is taken."""
    taken = column in CATALOG_COLUMNS or column.startswith(PROBABILITY_PREFIX)
    return f"survey_{column}" if taken else column


def to_table(part: PartitionRows, manifest: Manifest) -> pa.Table:
    """Return a partition's rows of the catalog.

    Columns: ``id``, ``ra``, ``dec``, ``_healpix_29``, ``input_row``, ``night``, one ``p_…`` per
    answer, ``label``, ``confidence``, ``status``, ``reason``, then the survey's own.
    """
    ok = part.status == OK
    masked = ~ok
    answers = np.stack([part.probabilities[name] for name in manifest.answers], axis=1)
    label = labels(answers, manifest)
    label[masked] = None
    arrays: dict[str, pa.Array] = {
        "id": pa.array(_identifiers(part.rows.id)),
        "ra": pa.array(part.rows.ra),
        "dec": pa.array(part.rows.dec),
        HEALPIX_COLUMN: pa.array(part.rows.healpix_29),
        "input_row": pa.array(part.rows.input_row),
        NIGHT_COLUMN: pa.array([part.night] * len(part.rows.ra), pa.string()),
    }
    for name in manifest.answers:
        arrays[name] = pa.array(part.probabilities[name], mask=masked)
    if f"{PROBABILITY_PREFIX}spiral" not in arrays:
        arrays[f"{PROBABILITY_PREFIX}spiral"] = arrays[manifest.spiral]
    arrays[LABEL_COLUMN] = pa.array(label.tolist(), pa.string())
    arrays["confidence"] = pa.array(agreement(answers), mask=masked)
    arrays["status"] = pa.array(part.status.tolist(), pa.string())
    arrays["reason"] = pa.array(part.reason.tolist(), pa.string())
    for name, values in part.columns.items():
        kind = pa.string() if values.dtype == object else None
        arrays[catalog_name(name)] = pa.array(
            values.tolist() if values.dtype == object else values, kind
        )
    return pa.table(arrays)


def merge(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of several appends in one pixel, by position; earlier appends first in ties.

    Raises
    ------
    InputError
        The appends do not have the same columns.
    """
    if len(tables) == 1:
        return tables[0]
    try:
        whole = pa.concat_tables(tables)
    except pa.ArrowInvalid as error:
        raise InputError(
            f"the appends of the survey differ in their columns ({error}); "
            "choose columns that all have with --columns"
        ) from error
    position = np.asarray(whole.column(HEALPIX_COLUMN))
    return whole.take(pa.array(np.argsort(position, kind="stable"))).combine_chunks()


def to_parquet(table: pa.Table) -> bytes:
    """Return a pixel's file; the same rows give the same bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=ROWS_PER_GROUP, compression="zstd")
    return sink.getvalue()


def labels(answers: NDArray[np.float32], manifest: Manifest) -> NDArray[Any]:
    """Return the label of each row, object array of ``str``, shape (n,).

    ``spiral`` where its probability reaches the bundle's threshold, else the likeliest other.
    """
    spiral = manifest.answers.index(manifest.spiral)
    others = np.where(np.arange(answers.shape[1]) == spiral, -1.0, np.nan_to_num(answers))
    chosen = np.where(answers[:, spiral] >= manifest.threshold, spiral, np.argmax(others, axis=1))
    names: NDArray[Any] = np.asarray(manifest.labels, dtype=object)
    return np.asarray(names[chosen], dtype=object)


def agreement(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how sure the network is, 0 to 1: a(p) = 1 - H(p) / log n.

    Parameters
    ----------
    answers : ndarray of float32, shape (n, answers)
        Probabilities that sum to 1 in each row.

    References
    ----------
    Dieleman, Willett & Dambre 2015, MNRAS 450, 1441, equations 6 and 7.
    """
    p = answers.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(p > 0, p * np.log(p), 0.0).sum(axis=1)
    share = np.clip(1.0 - entropy / np.log(p.shape[1]), 0.0, 1.0)
    return np.asarray(share, dtype=np.float32)


def id_digest(rows: Rows) -> str:
    """Return the sha256 of the identifiers, in order."""
    return hashlib.sha256(np.ascontiguousarray(rows.id).tobytes()).hexdigest()


def _identifiers(ids: NDArray[Any]) -> NDArray[Any]:
    return as_text(ids) if ids.ndim == 2 else ids
