"""Writing one append's group: sky-sorted rows, whole objects in a shard, everything checksummed.

Nothing names the group yet; committing it is the writer's.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from catalogs.cutouts import layout
from catalogs.cutouts.blob import BlobWriter, ImagePlaces, SourceImages, pack
from catalogs.cutouts.columns import StoredColumn, stored_column, stored_identifiers
from catalogs.cutouts.partition import Pixel, Span, rows_per_partition, split_sky
from catalogs.progress import Reporter
from catalogs.sky import FINEST_ORDER, FloatArray, IntArray, tile_of
from catalogs.storage.disk import TEMPORARY_SUFFIX, sync_folder
from catalogs.storage.place import Place, open_place

if TYPE_CHECKING:
    from zarr.abc.store import Store

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
    group = open_place(f"{place.url}/{layout.append_path(name)}")
    store = group.zarr(read_only=False)
    places = _write_images(store, order, spans, images, raw, reporter)
    core = {
        "id": stored_identifiers(table.ids)[order],
        "ra": np.asarray(table.ra, dtype=np.float64)[order],
        "dec": np.asarray(table.dec, dtype=np.float64)[order],
        "healpix_29": healpix_29[order],
        "input_row": np.asarray(input_row, dtype=np.int64)[order],
        "offset": places.offset,
        "length": places.length.astype(np.uint32),
        "height": places.height,
        "width": places.width,
        "checksum": places.checksum,
    }
    columns = {key: StoredColumn(values, {}) for key, values in core.items()}
    for column, values in table.columns.items():
        columns[f"columns/{column}"] = stored_column(column, values[order])
    fingerprints = _write_columns(store, columns, spans)
    metadata = _write_groups(group, columns, spans, fingerprints)
    if place.path is not None:
        sync_tree(place.path / layout.append_path(name))
        sync_folder(place.path / layout.APPENDS)
    quarantine = _write_quarantine(place, name, table.quarantine)
    return layout.Append(
        name=name,
        night=night,
        rows=len(order),
        quarantined=0 if table.quarantine is None else table.quarantine.num_rows,
        ids=_ends(table.ids),
        image_size=_one_size(places),
        fingerprint=layout.survey_fingerprint(fingerprints),
        metadata=metadata,
        quarantine=quarantine,
        written=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _ends(ids: NDArray[Any]) -> tuple[int, int] | tuple[str, str]:
    if np.issubdtype(ids.dtype, np.integer):
        return int(ids.min()), int(ids.max())
    return min(ids.tolist()), max(ids.tolist())


def _one_size(places: ImagePlaces) -> layout.Size | None:
    """Return height and width of all images that say theirs; None when they differ."""
    pairs = np.unique(np.stack([places.height, places.width], axis=1), axis=0)
    sizes = [(int(h), int(w)) for h, w in pairs if h or w]
    return sizes[0] if len(sizes) == 1 else None


def _write_images(
    store: Store,
    order: IntArray,
    spans: list[Span],
    images: ImageSource,
    raw: layout.RawPixels | None,
    reporter: Reporter,
) -> ImagePlaces:
    blob = BlobWriter(store)
    chunks, starts_partition = _chunks(order, spans)
    stream = images(chunks)
    done = 0
    for chunk, starts in zip(chunks, starts_partition, strict=True):
        if starts:
            blob.start_partition()
        given = next(stream)
        if len(given) != len(chunk):
            raise ValueError(f"image source gave {len(given)} images for {len(chunk)} rows")
        blob.add(pack(given, raw))
        done += len(chunk)
        reporter.progress("write images", done, len(order), "images")
    return blob.finish()


def _chunks(order: IntArray, spans: list[Span]) -> tuple[list[IntArray], list[bool]]:
    """Cut the sky-sorted rows into chunks that never cross a partition."""
    chunks, starts = [], []
    for span in spans:
        for start in range(span.start, span.stop, IMAGES_AT_ONCE):
            chunks.append(order[start : min(start + IMAGES_AT_ONCE, span.stop)])
            starts.append(start == span.start)
    return chunks, starts


def _write_columns(store: Store, columns: dict[str, StoredColumn], spans: list[Span]) -> list[str]:
    """Write every column and its digests; return each partition's fingerprint."""
    row_bytes = sum(column.values[:1].nbytes for column in columns.values())
    keys = sorted(columns, key=layout.column_keys(_further(columns)).index)
    digests = np.zeros((len(spans), len(keys), 32), dtype=np.uint8)
    for at, key in enumerate(keys):
        column = columns[key]
        _write_array(store, key, column, layout.rows_per_chunk(row_bytes))
        digest = layout.ColumnDigest(key, column.attributes)
        of_spans = b"".join(digest.of(column.values[s.start : s.stop]) for s in spans)
        digests[:, at] = np.frombuffer(of_spans, dtype=np.uint8).reshape(-1, 32)
    per_chunk = layout.rows_per_chunk(digests[:1].nbytes)
    _write_array(store, "digest", StoredColumn(digests, {}), per_chunk)
    return [layout.partition_fingerprint(found) for found in digests]


def _write_array(store: Store, name: str, column: StoredColumn, per_chunk: int) -> None:
    rows, rest = column.values.shape[0], column.values.shape[1:]
    whole = rows <= per_chunk
    zarr.create_array(
        store,
        name=name,
        data=column.values,
        chunks=(rows if whole else per_chunk, *rest),
        shards=None if whole else (layout.CHUNKS_PER_SHARD * per_chunk, *rest),
        compressors=[ZstdCodec(level=3), Crc32cCodec()],
        attributes=column.attributes,
        overwrite=True,
    )


def _write_groups(
    group: Place, columns: dict[str, StoredColumn], spans: list[Span], fingerprints: list[str]
) -> str:
    """Write the groups' documents, each with the digests of those below it; return the top's."""
    below = {name: _metadata_digest(group, f"columns/{name}") for name in _further(columns)}
    document = layout.ColumnsAttributes(nodes=below).model_dump(mode="json")
    group.write(f"columns/{layout.METADATA}", layout.group_document({"skytally": document}))
    nodes = [*layout.CORE_COLUMNS, "blob", "digest", "columns"]
    own = layout.AppendAttributes(
        partitions=tuple(
            (span.pixel.order, span.pixel.number, span.start, span.stop, fingerprint)
            for span, fingerprint in zip(spans, fingerprints, strict=True)
        ),
        nodes={name: _metadata_digest(group, name) for name in nodes},
    )
    document = {"skytally": own.model_dump(mode="json")}
    group.write(layout.METADATA, layout.group_document(document))
    return _metadata_digest(group, "")


def _further(columns: dict[str, StoredColumn]) -> list[str]:
    return [key.removeprefix("columns/") for key in columns if key.startswith("columns/")]


def _metadata_digest(group: Place, name: str) -> str:
    path = f"{name}/{layout.METADATA}" if name else layout.METADATA
    return hashlib.sha256(group.read(path)).hexdigest()


def _write_quarantine(place: Place, append: str, table: pa.Table | None) -> str | None:
    if table is None:
        return None
    sink = io.BytesIO()
    pq.write_table(table, sink)
    place.write(layout.quarantine_name(append), sink.getvalue())
    return hashlib.sha256(sink.getvalue()).hexdigest()


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


def sync_tree(folder: Path) -> None:
    """Make every file below a folder durable, so that a commit never precedes its content."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
