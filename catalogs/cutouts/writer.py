"""Writing a survey store: sky-sorted rows, whole objects in a shard, everything checksummed.

The root's ``zarr.json`` is the commit point of a new store and of every append: it is written
last, whole, and names what it commits by digest.
"""

from __future__ import annotations

import datetime
import errno
import hashlib
import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from catalogs.cutouts.columns import (
    TEXT,
    StoredColumn,
    as_kind,
    kind_of,
    stored_column,
    stored_identifiers,
)
from catalogs.cutouts.partition import Pixel, Span, rows_per_partition, split_sky
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter, Silent
from catalogs.sky import FINEST_ORDER, FloatArray, IntArray, tile_of
from catalogs.storage.disk import disk_error, sync_folder
from catalogs.storage.place import Place, open_place

if TYPE_CHECKING:
    from zarr.abc.store import Store

IMAGES_AT_ONCE = 256
FIRST = "00000"

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
class SurveyInfo:
    """What a store says of itself; see :class:`catalogs.cutouts.layout.StoreAttributes`.

    ``night`` is what people call the first append; its number by default.
    """

    name: str
    provenance: dict[str, Any] = field(default_factory=dict)
    framing: str | None = None
    crop: int | None = None
    pixel_scale: float | None = None
    encoding: layout.Encoding = "encoded"
    dtype: layout.RawDtype = "uint8"
    channels: int = 3
    night: str | None = None


def write_survey(
    where: str | Path,
    table: SurveyTable,
    images: ImageSource,
    info: SurveyInfo,
    reporter: Reporter | None = None,
) -> None:
    """Write a new survey store; it is one only when whole.

    On a disk it is written in a hidden folder beside ``where``, which any failure removes. A
    killed process leaves that folder, ``.NAME.zarr.*.partial``: it harms nothing and can be
    deleted. In a bucket, what a killed process leaves is no store, and the next one replaces it.

    Parameters
    ----------
    where : str or Path
        The store to make, ``NAME.zarr``; must not exist.
    table : SurveyTable
        Positions, identifiers and further columns.
    images : callable
        ``images(chunks)`` yields the images of each chunk of row numbers of ``table``; see
        `ImageSource`. An empty one is stored as it is and found when decoded.
    info : SurveyInfo
        What the store says of itself.
    reporter : Reporter, optional
        Receives progress.

    Raises
    ------
    InputError
        ``where`` exists or cannot be made, the table is empty, or identifiers are not unique.
    BusyError
        Another process writes there, or the storage does not answer now.
    SkytallyError
        The storage is full or failing.
    """
    place = open_place(where)
    _refuse_existing(place)
    if len(table.ids) == 0:
        raise InputError(f"no rows to write to {place.url}; check the table and its quarantine")
    reporter = reporter or Silent()
    if place.path is None:
        with place.hold(layout.LOCK):
            _refuse_existing(place)
            _remove_append(place, FIRST)
            _write_store(place, table, images, info, reporter)
        return
    path = place.path
    with _hidden_folder(path) as partial:
        _write_store(open_place(partial), table, images, info, reporter)
        _sync_tree(partial)
        _refuse_existing(place)
        partial.rename(path)
        sync_folder(path.parent)


def append_survey(
    where: str | Path,
    table: SurveyTable,
    images: ImageSource,
    night: str | None = None,
    reporter: Reporter | None = None,
) -> str | None:
    """Add a night's objects to a store, in time that depends on the night.

    A killed append leaves a group that nothing names; the next one replaces it.

    Parameters
    ----------
    where : str or Path
        The store.
    table : SurveyTable
        The night's rows; the columns must be those of the store.
    images : callable
        See `write_survey`; images must be of the store's kind.
    night : str, optional
        What people call it; its number by default.
    reporter : Reporter, optional
        Receives progress.

    Returns
    -------
    str or None
        The name of the new append; None when the store has this very night already.

    Raises
    ------
    InputError
        There is no store, columns or images are of another kind, identifiers are in the store
        already, or another night has this name.
    BusyError
        Another process appends, or the storage does not answer now.
    SkytallyError
        The storage is full or failing, or the store is damaged.
    """
    Survey.open(where)  # before a lock is put where there is no store
    place = open_place(where)
    with place.hold(layout.LOCK):
        survey = Survey.open(where)
        known = survey.attributes.appends
        name = f"{len(known):05d}"
        night = night or name
        if len(table.ids) == 0:
            raise InputError(f"no rows to add to {place.url}; check the table and its quarantine")
        table = _conform(table, survey)
        repeated = _check_new(survey, table, night)
        _remove_append(place, name)
        try:
            append = _write_append(
                place,
                name,
                night,
                table,
                images,
                survey.attributes.raw,
                reporter or Silent(),
                {partition.pixel for partition in survey.partitions},
                survey.rows + len(table.ids),
            )
            if repeated:
                _check_same(survey, append)
        except BaseException as error:
            _remove_append(place, name)
            if isinstance(error, OSError):
                raise disk_error(Path(place.url), error) from error
            raise
        if repeated:
            _remove_append(place, name)
            return None
        grown = survey.attributes.model_copy(update={"appends": (*known, append)})
        place.write(layout.METADATA, layout.root_document(grown))
        return name


def _conform(table: SurveyTable, survey: Survey) -> SurveyTable:
    """Return the table with the store's columns, each of the kind that it has there."""
    wanted = survey.attributes.columns
    missing = [name for name in wanted if name not in table.columns]
    unknown = [name for name in table.columns if name not in wanted]
    if missing or unknown:
        what = f"has no column {missing[0]!r}" if missing else f"has a column {unknown[0]!r}"
        other = "which the store has" if missing else "which the store has not"
        raise InputError(
            f"the table {what}, {other}; {survey.url} has {', '.join(wanted) or 'none'}: give "
            "every night the same columns"
        )
    ids = table.ids
    if survey.attributes.identifiers == TEXT:
        ids = np.asarray([str(i) for i in ids.tolist()], dtype=object)
    elif not np.issubdtype(ids.dtype, np.integer):
        raise InputError(
            f"identifiers are text here and whole numbers in {survey.url}; convert them"
        )
    columns = {name: as_kind(name, table.columns[name], kind) for name, kind in wanted.items()}
    return replace(table, ids=ids, columns=columns)


def _check_new(survey: Survey, table: SurveyTable, night: str) -> bool:
    """Return whether this may be a night that the store has already; refuse what is neither."""
    appends = survey.attributes.appends
    known = survey.known_ids(table.ids)
    if known.all() and any(len(table.ids) == append.rows for append in appends):
        return True
    if known.any():
        raise InputError(_stored_already(survey, night, table.ids[known]))
    if night in {append.night for append in appends}:
        raise InputError(
            f"{survey.url} has a night {night!r} already, with other objects; name this one "
            "otherwise"
        )
    return False


def _check_same(survey: Survey, append: layout.Append) -> None:
    if append.fingerprint not in {known.fingerprint for known in survey.attributes.appends}:
        raise InputError(_stored_already(survey, append.night))


def _stored_already(survey: Survey, night: str, ids: NDArray[Any] | None = None) -> str:
    which = "the objects" if ids is None else f"{len(ids)} objects (such as {ids[0]})"
    return (
        f"{which} of night {night!r} are in {survey.url} already, with other images or values; "
        "leave them out"
    )


def _refuse_existing(place: Place) -> None:
    there = (
        place.size(layout.METADATA) is not None
        if place.path is None
        else os.path.lexists(place.path)
    )
    if there:
        raise InputError(f"{place.url} exists already; name another store, or remove it first")


@contextmanager
def _hidden_folder(path: Path) -> Iterator[Path]:
    """Make a folder beside ``path``, and remove it unless it was renamed."""
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
    try:
        folder.chmod(0o755)
        yield folder
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    """Make every file below a folder durable, so that a commit never precedes its content."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def _remove_append(place: Place, name: str) -> None:
    """Remove what a killed or failed process left of an append; nothing names it."""
    base = layout.append_path(name)
    if place.path is not None:
        shutil.rmtree(place.path / base, ignore_errors=True)
    else:
        for file in place.names(base):
            place.remove(file)
    place.remove(layout.quarantine_name(name))


def _write_store(
    place: Place, table: SurveyTable, images: ImageSource, info: SurveyInfo, reporter: Reporter
) -> None:
    raw = layout.RawPixels(info.dtype, info.channels) if info.encoding == "raw" else None
    rows = len(table.ids)
    night = info.night or FIRST
    append = _write_append(place, FIRST, night, table, images, raw, reporter, (), rows)
    place.write(f"{layout.APPENDS}/{layout.METADATA}", layout.group_document({}))
    content = f"{info.encoding} {info.dtype} {info.channels} {append.fingerprint}"
    attributes = layout.StoreAttributes(
        uuid=str(uuid.uuid5(uuid.NAMESPACE_OID, content)),
        name=info.name,
        pixel_scale=info.pixel_scale,
        encoding=info.encoding,
        dtype=info.dtype,
        channels=info.channels,
        framing=info.framing,
        crop=info.crop,
        identifiers="int64" if np.issubdtype(table.ids.dtype, np.integer) else TEXT,
        columns={name: kind_of(values) for name, values in table.columns.items()},
        provenance=info.provenance,
        appends=(append,),
    )
    place.create(layout.METADATA, layout.root_document(attributes))


def _write_append(
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
        _sync_tree(place.path / layout.append_path(name))
        sync_folder(place.path / layout.APPENDS)
    quarantine = _write_quarantine(place, name, table.quarantine)
    sizes = {
        (int(h), int(w)) for h, w in np.unique(np.stack([places.height, places.width]), axis=1).T
    }
    sizes.discard((0, 0))
    return layout.Append(
        name=name,
        night=night,
        rows=len(order),
        quarantined=0 if table.quarantine is None else table.quarantine.num_rows,
        image_size=sizes.pop() if len(sizes) == 1 else None,
        fingerprint=layout.survey_fingerprint(fingerprints),
        metadata=metadata,
        quarantine=quarantine,
        written=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


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
