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
from export.answers import NOT_ASKED, OTHER, agreement, choices, conditional, spiralness
from export.manifest import SPIRAL, Manifest, Question

ROWS_PER_GROUP = 65_536
CONFIDENCE_COLUMN = "confidence"
CATALOG_COLUMNS = frozenset(
    [
        "id",
        "ra",
        "dec",
        HEALPIX_COLUMN,
        "input_row",
        NIGHT_COLUMN,
        LABEL_COLUMN,
        CONFIDENCE_COLUMN,
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


def catalog_name(column: str, manifest: Manifest) -> str:
    """Return the name in the catalog of a survey's column: its own, unless that is taken."""
    ours = {
        f"{kind}_{question.name}"
        for question in manifest.questions
        for kind in (LABEL_COLUMN, CONFIDENCE_COLUMN)
    }
    taken = column in CATALOG_COLUMNS | ours or column.startswith(PROBABILITY_PREFIX)
    return f"survey_{column}" if taken else column


def to_table(part: PartitionRows, manifest: Manifest) -> pa.Table:
    """Return a partition's rows of the catalog.

    Columns: ``id``, ``ra``, ``dec``, ``_healpix_29``, ``input_row``, ``night``, one ``p_…`` per
    answer, ``p_spiral``, a tree's ``label_…`` and ``confidence_…`` of each question, ``label``,
    ``confidence``, ``status``, ``reason``, then the survey's own.
    """
    masked = part.status != OK
    answers = np.stack([part.probabilities[name] for name in manifest.answers], axis=1)
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
    if manifest.spiral is not None and SPIRAL not in arrays:
        arrays[SPIRAL] = arrays[manifest.spiral]
    for question in manifest.questions:
        arrays |= _labelled(answers, question, manifest, masked)
    p = spiralness(answers, manifest)
    if manifest.tree is not None and p is not None:
        arrays |= _spiral_or_not(p, manifest.threshold, masked)
    arrays["status"] = pa.array(part.status.tolist(), pa.string())
    arrays["reason"] = pa.array(part.reason.tolist(), pa.string())
    for name, values in part.columns.items():
        kind = pa.string() if values.dtype == object else None
        arrays[catalog_name(name, manifest)] = pa.array(
            values.tolist() if values.dtype == object else values, kind
        )
    return pa.table(arrays)


def _labelled(
    answers: NDArray[np.float32], question: Question, manifest: Manifest, masked: NDArray[np.bool_]
) -> dict[str, pa.Array]:
    """Return a question's label and how sure the network is; null where nobody is asked it."""
    suffix = f"_{question.name}" if question.name else ""
    chosen = choices(answers, question, manifest)
    names: NDArray[Any] = np.asarray([*question.labels, None], dtype=object)
    label = names[chosen]  # -1, not asked, is the None at the end
    label[masked] = None
    # Shares of those who are asked; of plain classes they are the answers themselves.
    shares = answers if manifest.tree is None else conditional(answers, question)
    sure = agreement(shares[:, : len(question.labels)])
    return {
        f"{LABEL_COLUMN}{suffix}": pa.array(label.tolist(), pa.string()),
        f"{CONFIDENCE_COLUMN}{suffix}": pa.array(sure, mask=masked | (chosen == NOT_ASKED)),
    }


def _spiral_or_not(
    p: NDArray[np.float32], threshold: float, masked: NDArray[np.bool_]
) -> dict[str, pa.Array]:
    """Return the label that a tree gives a galaxy as a whole: spiral, or not."""
    label = np.where(p >= threshold, SPIRAL.removeprefix(PROBABILITY_PREFIX), OTHER)
    both = np.stack([p, 1.0 - p.astype(np.float64)], axis=1)
    return {
        LABEL_COLUMN: pa.array(label.astype(object), pa.string(), mask=masked),
        CONFIDENCE_COLUMN: pa.array(agreement(both), mask=masked),
    }


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


def id_digest(rows: Rows) -> str:
    """Return the sha256 of the identifiers, in order."""
    return hashlib.sha256(np.ascontiguousarray(rows.id).tobytes()).hexdigest()


def _identifiers(ids: NDArray[Any]) -> NDArray[Any]:
    return as_text(ids) if ids.ndim == 2 else ids
