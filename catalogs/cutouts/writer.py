"""Writing a survey store: sky-sorted rows, whole objects in a shard, everything checksummed."""

from __future__ import annotations

import datetime
import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from catalogs.cutouts import layout
from catalogs.cutouts.header import sizes_of
from catalogs.cutouts.partition import Span, rows_per_partition, split_sky
from catalogs.errors import InputError
from catalogs.progress import Reporter, Silent
from catalogs.sky import FINEST_ORDER, FloatArray, IntArray, tile_of
from catalogs.storage.disk import disk_error, sync_folder

IMAGES_AT_ONCE = 256

ImageSource = Callable[[Sequence[IntArray]], Iterator[list[bytes]]]
"""Given chunks of row numbers of the table, in sky order, yield each chunk's image files."""


@dataclass(frozen=True, slots=True)
class SurveyTable:
    """The rows that go into a store, in the user's order.

    Attributes
    ----------
    ids : ndarray of int64, or of str/bytes, shape (n,)
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
class SurveyInfo:
    """What a store says of itself; see :class:`catalogs.cutouts.layout.StoreAttributes`."""

    name: str
    provenance: dict[str, Any] = field(default_factory=dict)
    framing: str | None = None
    crop: int | None = None
    pixel_scale: float | None = None


def write_survey(
    path: Path,
    table: SurveyTable,
    images: ImageSource,
    info: SurveyInfo,
    reporter: Reporter | None = None,
) -> None:
    """Write a new survey store; it appears under its name only when whole.

    It is written in a hidden folder beside ``path``, which any failure removes. A killed process
    leaves that folder, ``.NAME.zarr.*.partial``: it harms nothing and can be deleted.

    Parameters
    ----------
    path : Path
        The store to make, ``NAME.zarr``; must not exist.
    table : SurveyTable
        Positions, identifiers and further columns.
    images : callable
        ``images(chunks)`` yields, for each chunk of row numbers of ``table``, the list of the
        encoded images' bytes; an empty ``bytes`` is stored as it is and found when decoded.
    info : SurveyInfo
        What the store says of itself.
    reporter : Reporter, optional
        Receives progress.

    Raises
    ------
    InputError
        ``path`` exists or cannot be made, the table is empty, or identifiers are not unique.
    SkytallyError
        The disk is full or failing.
    """
    _refuse_existing(path)
    if len(table.ids) == 0:
        raise InputError(f"no rows to write to {path}; check the table and its quarantine")
    partial = _hidden_folder(path)
    try:
        _write_store(partial, table, images, info, reporter or Silent())
        _sync_tree(partial)
        _refuse_existing(path)
        partial.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # after the rename there is nothing to remove


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise InputError(f"{path} exists already; name another store, or remove it first")


def _hidden_folder(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise disk_error(path, error) from error
        raise InputError(
            f"{path} cannot be written: {error.strerror}; name a store in a folder that you may "
            "write to"
        ) from None
    folder = Path(made)
    folder.chmod(0o755)
    return folder


def _sync_tree(folder: Path) -> None:
    """Make every file below a folder durable, so that a rename never precedes its content."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def _write_store(
    partial: Path, table: SurveyTable, images: ImageSource, info: SurveyInfo, reporter: Reporter
) -> None:
    root = zarr.create_group(store=str(partial), zarr_format=3)
    group = root.require_group("appends").create_group("00000")
    written = _write_append(group, table, images, reporter)
    append = layout.Append(
        name="00000",
        rows=len(table.ids),
        quarantined=0 if table.quarantine is None else table.quarantine.num_rows,
        fingerprint=written.fingerprint,
    )
    if table.quarantine is not None:
        (partial / "quarantine").mkdir()
        pq.write_table(table.quarantine, partial / layout.quarantine_name(append.name))
    attributes = layout.StoreAttributes(
        uuid=str(uuid.uuid5(uuid.NAMESPACE_OID, written.fingerprint)),
        name=info.name,
        pixel_scale=info.pixel_scale,
        image_size=written.image_size,
        framing=info.framing,
        crop=info.crop,
        columns=tuple(table.columns),
        provenance={
            **info.provenance,
            "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
        appends=(append,),
    )
    root.attrs["skytally"] = attributes.model_dump(mode="json")


@dataclass(frozen=True, slots=True)
class _Written:
    fingerprint: str
    image_size: tuple[int, int] | None


def _write_append(
    group: zarr.Group, table: SurveyTable, images: ImageSource, reporter: Reporter
) -> _Written:
    healpix_29 = tile_of(table.ra, table.dec, FINEST_ORDER)
    input_row = table.input_row
    if input_row is None:
        input_row = np.arange(len(table.ids), dtype=np.int64)
    # Ties at one position are ordered by the input, so that the same table gives the same store.
    order = np.lexsort((input_row, healpix_29))
    spans = split_sky(healpix_29[order], rows_per_partition(len(order)))
    blob = _BlobWriter(group)
    chunks, starts_partition = _chunks(order, spans)
    stream = images(chunks)
    sizes: set[tuple[int, int]] = set()
    done = 0
    for chunk, starts in zip(chunks, starts_partition, strict=True):
        if starts:
            blob.next_shard()
        files = next(stream)
        if len(files) != len(chunk):
            raise ValueError(f"image source gave {len(files)} images for {len(chunk)} rows")
        for data in files:
            blob.add(data)
        sizes |= sizes_of(files)
        done += len(chunk)
        reporter.progress("write images", done, len(order), "images")
    blob.finish()
    core: dict[str, NDArray[Any]] = {
        "id": _identifiers(table.ids)[order],
        "ra": np.asarray(table.ra, dtype=np.float64)[order],
        "dec": np.asarray(table.dec, dtype=np.float64)[order],
        "healpix_29": healpix_29[order],
        "input_row": input_row[order],
        "length": np.asarray(blob.lengths, dtype=np.uint32),
        "checksum": np.asarray(blob.checksums, dtype=np.uint32),
    }
    offset = np.asarray(blob.offsets, dtype=np.int64)
    _put(group, "offset", offset)
    for name, values in core.items():
        _put(group, name, values)
    folder = group.create_group("columns")
    columns = {name: _stored(name, values[order]) for name, values in table.columns.items()}
    for name, column in columns.items():
        _put(folder, name, column.values, column.attributes)
    fingerprints = [_fingerprints(core, offset, columns, slice(s.start, s.stop)) for s in spans]
    partition = group.create_group("partition")
    _put(partition, "order", np.asarray([s.pixel.order for s in spans], dtype=np.int32))
    _put(partition, "number", np.asarray([s.pixel.number for s in spans], dtype=np.int64))
    _put(partition, "start", np.asarray([s.start for s in spans], dtype=np.int64))
    _put(partition, "stop", np.asarray([s.stop for s in spans], dtype=np.int64))
    for name, digests in zip(
        ("fingerprint", "columns_fingerprint"), zip(*fingerprints, strict=True), strict=True
    ):
        _put(partition, name, np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32))
    return _Written(
        fingerprint=layout.survey_fingerprint(
            layout.partition_fingerprint(*both) for both in fingerprints
        ),
        image_size=sizes.pop() if len(sizes) == 1 else None,
    )


def _fingerprints(
    core: dict[str, NDArray[Any]],
    offset: IntArray,
    columns: dict[str, layout.StoredColumn],
    rows: slice,
) -> tuple[bytes, bytes]:
    """Return the digests of a partition's core columns, and of all its other columns."""
    return (
        layout.fingerprint({name: values[rows] for name, values in core.items()}),
        layout.columns_fingerprint(
            offset[rows],
            {
                name: layout.StoredColumn(column.values[rows], column.attributes)
                for name, column in columns.items()
            },
        ),
    )


def _chunks(order: IntArray, spans: list[Span]) -> tuple[list[IntArray], list[bool]]:
    """Cut the sky-sorted rows into chunks that never cross a partition."""
    chunks, starts = [], []
    for span in spans:
        for start in range(span.start, span.stop, IMAGES_AT_ONCE):
            chunks.append(order[start : min(start + IMAGES_AT_ONCE, span.stop)])
            starts.append(start == span.start)
    return chunks, starts


class _BlobWriter:
    """Packs images into shards; an object never crosses a shard, a partition starts a new one."""

    def __init__(self, group: zarr.Group) -> None:
        self.offsets: list[int] = []
        self.lengths: list[int] = []
        self.checksums: list[int] = []
        self._array = group.create_array(
            "blob",
            shape=(layout.BLOB_SHARD,),
            chunks=(layout.BLOB_CHUNK,),
            shards=(layout.BLOB_SHARD,),
            dtype="uint8",
            compressors=[Crc32cCodec()],
            fill_value=0,
        )
        self._shard = 0
        self._buffer = np.zeros(layout.BLOB_SHARD, dtype=np.uint8)
        self._used = 0

    def add(self, data: bytes) -> None:
        if self._used + len(data) > layout.BLOB_SHARD:
            self.next_shard()
        self._buffer[self._used : self._used + len(data)] = np.frombuffer(data, dtype=np.uint8)
        self.offsets.append(self._shard * layout.BLOB_SHARD + self._used)
        self.lengths.append(len(data))
        self.checksums.append(google_crc32c.value(data))
        self._used += len(data)

    def next_shard(self) -> None:
        if self._used:
            self.finish()
            self._shard += 1

    def finish(self) -> None:
        start = self._shard * layout.BLOB_SHARD
        if self._array.shape[0] < start + layout.BLOB_SHARD:
            self._array.resize((start + layout.BLOB_SHARD,))
        self._array[start : start + layout.BLOB_SHARD] = self._buffer
        self._buffer[:] = 0
        self._used = 0


def _put(
    group: zarr.Group, name: str, values: NDArray[Any], attributes: dict[str, Any] | None = None
) -> None:
    rows, rest = values.shape[0], values.shape[1:]
    whole = rows <= layout.COLUMN_CHUNK
    group.create_array(
        name,
        data=values,
        chunks=(max(rows, 1) if whole else layout.COLUMN_CHUNK, *rest),
        shards=None if whole else (layout.COLUMN_SHARD, *rest),
        compressors=[ZstdCodec(level=3), Crc32cCodec()],
        attributes=attributes,
        # A chunk of zeros is written like any other: an absent chunk is then always damage.
        config={"write_empty_chunks": True},
    )


def _identifiers(ids: NDArray[Any]) -> NDArray[Any]:
    """Return int64 as it is, text as fixed-width UTF-8 bytes, uint8 of shape (n, width)."""
    if np.issubdtype(ids.dtype, np.integer):
        values: NDArray[Any] = np.asarray(ids, dtype=np.int64)
        unique = len(np.unique(values)) == len(values)
    else:
        values = text_bytes([str(value) for value in ids])
        unique = len({row.tobytes() for row in values}) == len(values)
    if not unique:
        raise InputError("identifiers are not unique; drop or rename the duplicates")
    return values


def text_bytes(values: Sequence[str | None]) -> NDArray[np.uint8]:
    """Return UTF-8 text as zero-padded bytes, uint8 of shape (n, width); null as one 0xFF."""
    encoded = np.asarray(
        [layout.NULL_TEXT if value is None else value.encode() for value in values],
        dtype=np.bytes_,
    )
    width = max(encoded.dtype.itemsize, 1)
    return encoded.view(np.uint8).reshape(len(values), width)


def is_too_wide(values: NDArray[Any]) -> bool:
    """Tell whether a text column cannot be stored: every row would be as wide as its longest."""
    text = [v for v in values.tolist() if v is not None]
    width = max((len(v.encode()) for v in text), default=0)
    if width <= layout.WIDEST_TEXT or width * len(values) <= layout.MOST_TEXT_BYTES:
        return False
    return not _fit_categories(set(text))


def _fit_categories(categories: set[str]) -> bool:
    characters = sum(len(category) for category in categories)
    return (
        len(categories) <= layout.MOST_CATEGORIES and characters <= layout.MOST_CATEGORY_CHARACTERS
    )


def _stored(name: str, values: NDArray[Any]) -> layout.StoredColumn:
    if values.dtype.kind in "OUS":
        text = [None if v is None else str(v) for v in values.tolist()]
        distinct = {v for v in text if v is not None}
        if not _fit_categories(distinct):
            return layout.StoredColumn(text_bytes(text), {"kind": "text"})
        categories = sorted(distinct)
        code = {category: i for i, category in enumerate(categories)}
        codes = np.asarray([-1 if v is None else code[v] for v in text], dtype=np.int32)
        return layout.StoredColumn(codes, {"kind": "category", "categories": categories})
    if values.dtype.name in layout.ALLOWED_DTYPES:
        return layout.StoredColumn(values, {"kind": "number"})
    raise InputError(f"column {name!r} has data type {values.dtype}, which a store cannot hold")
