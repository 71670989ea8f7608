"""What goes into one append: a table that is sorted here, or rows that come in sky order.

Nothing names the group yet; committing it is the writer's.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from catalogs.cutouts import layout
from catalogs.cutouts.blob import SourceImages
from catalogs.cutouts.columns import kind_of, stored_column, stored_identifiers
from catalogs.cutouts.group import AppendWriter, ends
from catalogs.cutouts.partition import Pixel, Span, rows_per_partition, split_sky
from catalogs.progress import Reporter
from catalogs.sky import FINEST_ORDER, FloatArray, IntArray, tile_of
from catalogs.storage.disk import TEMPORARY_SUFFIX
from catalogs.storage.place import Place

if TYPE_CHECKING:
    pass

IMAGES_AT_ONCE = 256

ImageSource = Callable[[Sequence[IntArray]], Iterator[SourceImages]]
"""Given chunks of row numbers of the table, in sky order, yield each chunk's images.

Encoded images come as a list of ``bytes``, one file each. Raw ones come as a list of arrays
(height, width, channels), or as one array (n, height, width, channels).
"""


@dataclass(frozen=True, slots=True)
class SurveyTable:
    """The rows that go into a store, in the user's order.

    Attributes
    ----------
    ids : ndarray of int64, or of str, shape (n,)
        Unique identifiers.
    ra, dec : ndarray of float64, shape (n,)
        ICRS, degrees, all finite and possible.
    columns : mapping of str to ndarray, shape (n,)
        Further columns; text as object or str arrays with None for null.
    input_row : ndarray of int64, shape (n,), optional
        Row numbers in the user's table; 0 to n - 1 by default.
    quarantine : pyarrow.Table, optional
        The rows that cannot be stored, with their reasons.
    """

    ids: NDArray[Any]
    ra: FloatArray
    dec: FloatArray
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    input_row: IntArray | None = None
    quarantine: pa.Table | None = None


@dataclass(frozen=True, slots=True)
class SortedPart:
    """All rows of one partition, in sky order, with their images.

    Attributes
    ----------
    table : SurveyTable
        As for any survey; rows ascend by ``healpix_29``, and every part has the same columns.
    images : iterable
        Batches of images, one for each row in the same order; see `ImageSource`.
    """

    table: SurveyTable
    images: Iterable[SourceImages]


@dataclass(frozen=True, slots=True)
class SortedSurvey:
    """The rows of a survey that is too large to be held: partition by partition, in sky order.

    Attributes
    ----------
    spans : list of Span
        The partitions, from `split_sky`.
    parts : iterable of SortedPart
        One for each span.
    categories : mapping of str to list of str
        All values that each text column can have.
    """

    spans: list[Span]
    parts: Iterable[SortedPart]
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)


def write_append(
    place: Place,
    name: str,
    night: str,
    table: SurveyTable,
    images: ImageSource,
    raw: layout.RawPixels | None,
    reporter: Reporter,
    used: Collection[Pixel],
    survey_rows: int,
) -> layout.Append:
    """Write a group that nothing names yet, and return what will name it."""
    healpix_29 = tile_of(table.ra, table.dec, FINEST_ORDER)
    input_row = table.input_row
    if input_row is None:
        input_row = np.arange(len(table.ids), dtype=np.int64)
    # Ties at one position are ordered by the input, so that the same table gives the same store.
    order = np.lexsort((input_row, healpix_29))
    spans = split_sky(healpix_29[order], rows_per_partition(survey_rows), used)
    ids = stored_identifiers(table.ids)
    further = {name: stored_column(name, values) for name, values in table.columns.items()}
    attributes = {name: column.attributes for name, column in further.items()}
    chunks = _chunks(order, spans)
    stream = images([chunk for of_span in chunks for chunk in of_span])
    writer = AppendWriter(place, name, spans, attributes, raw, reporter)
    with writer:
        for span, of_span in zip(spans, chunks, strict=True):
            for chunk in of_span:
                given = next(stream)
                if len(given) != len(chunk):
                    raise ValueError(f"image source gave {len(given)} images for {len(chunk)} rows")
                writer.add_images(given)
            rows = order[span.start : span.stop]
            position = (ids[rows], table.ra[rows], table.dec[rows], healpix_29[rows])
            writer.end_partition(
                *position, input_row[rows], {k: c.values[rows] for k, c in further.items()}
            )
        return writer.close(night, ends(table.ids), table.quarantine)


def write_sorted_append(
    place: Place,
    name: str,
    night: str,
    survey: SortedSurvey,
    raw: layout.RawPixels | None,
    reporter: Reporter,
) -> tuple[layout.Append, dict[str, str]]:
    """Write a group like `write_append`, and return its columns' kinds, too.

    Memory is that of one partition's columns and a batch of images. Identifiers are whole numbers.
    """
    kinds: dict[str, str] = {}
    writer: AppendWriter | None = None
    with ExitStack() as stack:
        for span, part in zip(survey.spans, survey.parts, strict=True):
            table = part.table
            stored = {
                key: stored_column(key, values, survey.categories.get(key))
                for key, values in table.columns.items()
            }
            if writer is None:
                kinds = {key: kind_of(values) for key, values in table.columns.items()}
                attributes = {key: column.attributes for key, column in stored.items()}
                writer = stack.enter_context(
                    AppendWriter(place, name, survey.spans, attributes, raw, reporter)
                )
            for batch in part.images:
                writer.add_images(batch)
            healpix_29 = tile_of(table.ra, table.dec, FINEST_ORDER)
            shift = 2 * (FINEST_ORDER - span.pixel.order)
            if (healpix_29 >> shift != span.pixel.number).any() or (np.diff(healpix_29) < 0).any():
                raise ValueError(f"rows of a part are not those of pixel {span.pixel}, in order")
            ids = np.asarray(table.ids, dtype=np.int64)
            input_row = ids if table.input_row is None else table.input_row
            values = {key: column.values for key, column in stored.items()}
            writer.end_partition(ids, table.ra, table.dec, healpix_29, input_row, values)
        if writer is None:
            raise ValueError("a survey without a partition")
        return writer.close(night, writer.unique_ids(), None), kinds


def _chunks(order: IntArray, spans: list[Span]) -> list[list[IntArray]]:
    """Cut the sky-sorted rows of each partition into chunks."""
    return [
        [
            order[start : min(start + IMAGES_AT_ONCE, span.stop)]
            for start in range(span.start, span.stop, IMAGES_AT_ONCE)
        ]
        for span in spans
    ]


def remove_append(place: Place, name: str) -> None:
    """Remove what a killed or failed process left of an append; nothing names it."""
    base = layout.append_path(name)
    quarantine = layout.quarantine_name(name)
    if place.path is not None:
        shutil.rmtree(place.path / base, ignore_errors=True)
        for folder in (place.path, (place.path / quarantine).parent):
            for left in folder.glob(f"*{TEMPORARY_SUFFIX}"):
                left.unlink(missing_ok=True)
    else:
        for file in place.names(base):
            place.remove(file)
    place.remove(quarantine)
