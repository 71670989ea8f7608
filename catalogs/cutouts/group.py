"""Writing one append's group: sky-sorted rows, whole objects in a shard, everything checksummed."""

from __future__ import annotations

import datetime
import hashlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from catalogs.cutouts import layout
from catalogs.cutouts.blob import BlobWriter, SourceImages, pack
from catalogs.cutouts.columns import stored_identifiers
from catalogs.cutouts.partition import Span
from catalogs.cutouts.spool import ColumnSpool
from catalogs.progress import Reporter
from catalogs.sky import FloatArray, IntArray
from catalogs.storage.disk import sync_folder
from catalogs.storage.place import Place, open_place

if TYPE_CHECKING:
    from zarr.abc.store import Store

Ends = tuple[int, int] | tuple[str, str]


class AppendWriter:
    """Writes an append's group, partition by partition, in bounded memory."""

    def __init__(
        self,
        place: Place,
        name: str,
        spans: list[Span],
        attributes: dict[str, dict[str, Any]],
        raw: layout.RawPixels | None,
        reporter: Reporter,
    ) -> None:
        self._place = place
        self._name = name
        self._spans = spans
        self._raw = raw
        self._reporter = reporter
        self._group = open_place(f"{place.url}/{layout.append_path(name)}")
        self._store = self._group.zarr(read_only=False)
        self._blob = BlobWriter(self._store)
        self._keys = layout.column_keys(attributes)
        self._attributes: dict[str, dict[str, Any]] = {key: {} for key in layout.CORE_COLUMNS} | {
            f"columns/{name}": own for name, own in attributes.items()
        }
        self._of = {key: layout.ColumnDigest(key, self._attributes[key]) for key in self._keys}
        self._digests = np.zeros((len(spans), len(self._keys), 32), dtype=np.uint8)
        self._spool: ColumnSpool | None = None
        self._done = self._images = 0
        self._sizes: set[layout.Size] = set()

    def __enter__(self) -> AppendWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._spool is not None:
            self._spool.close()

    def add_images(self, images: SourceImages) -> None:
        """Store the next images of the current partition."""
        self._blob.add(pack(images, self._raw))
        self._images += len(images)
        self._reporter.progress("write images", self._images, self._spans[-1].stop, "images")

    def end_partition(
        self,
        ids: NDArray[Any],
        ra: FloatArray,
        dec: FloatArray,
        healpix_29: IntArray,
        input_row: IntArray,
        columns: dict[str, NDArray[Any]],
    ) -> None:
        """Store the columns, as a store holds them, of the rows whose images were added."""
        span, places = self._spans[self._done], self._blob.end_partition()
        if not len(places.offset) == len(ids) == span.stop - span.start:
            raise ValueError(
                f"{len(places.offset)} images and {len(ids)} rows for the "
                f"{span.stop - span.start} of pixel {span.pixel}"
            )
        values = {
            "id": ids,
            "ra": np.asarray(ra, dtype=np.float64),
            "dec": np.asarray(dec, dtype=np.float64),
            "healpix_29": healpix_29,
            "input_row": np.asarray(input_row, dtype=np.int64),
            "offset": places.offset,
            "length": places.length.astype(np.uint32),
            "height": places.height,
            "width": places.width,
            "checksum": places.checksum,
        } | {f"columns/{name}": of_rows for name, of_rows in columns.items()}
        if self._spool is None:
            self._spool = ColumnSpool(self._spans[-1].stop, values, self._place.path)
        self._spool.add(values)
        of_span = b"".join(self._of[key].of(values[key]) for key in self._keys)
        self._digests[self._done] = np.frombuffer(of_span, dtype=np.uint8).reshape(-1, 32)
        sizes = np.unique(np.stack([places.height, places.width], axis=1), axis=0)
        self._sizes |= {(int(h), int(w)) for h, w in sizes if h or w}
        self._done += 1

    def unique_ids(self) -> Ends:
        """Return the smallest and largest identifier, after making sure that none is there twice.

        Raises
        ------
        InputError
            One is.
        """
        spool = self._whole_spool()
        ids = stored_identifiers(spool.read("id", 0, spool.rows))
        return ends(ids)

    def close(self, night: str, ids: Ends, quarantine: pa.Table | None) -> layout.Append:
        """Write the columns and all that names them; return what will name the group."""
        spool = self._whole_spool()
        self._blob.finish()
        for key in self._keys:
            _write_column(self._store, key, spool, self._attributes[key])
        _write_digests(self._store, self._digests)
        fingerprints = [layout.partition_fingerprint(found) for found in self._digests]
        further = [key.removeprefix("columns/") for key in self._keys if key.startswith("columns/")]
        metadata = _write_groups(self._group, further, self._spans, fingerprints)
        if self._place.path is not None:
            sync_tree(self._place.path / layout.append_path(self._name))
            sync_folder(self._place.path / layout.APPENDS)
        return layout.Append(
            name=self._name,
            night=night,
            rows=spool.rows,
            quarantined=0 if quarantine is None else quarantine.num_rows,
            ids=ids,
            # None when they differ; those that do not say theirs do not count
            image_size=next(iter(self._sizes)) if len(self._sizes) == 1 else None,
            fingerprint=layout.survey_fingerprint(fingerprints),
            metadata=metadata,
            quarantine=_write_quarantine(self._place, self._name, quarantine),
            written=_now(),
        )

    def _whole_spool(self) -> ColumnSpool:
        if self._spool is None or self._done != len(self._spans):
            raise ValueError(f"{self._done} of {len(self._spans)} partitions were written")
        return self._spool


def ends(ids: NDArray[Any]) -> Ends:
    """Return the smallest and the largest identifier."""
    if np.issubdtype(ids.dtype, np.integer):
        return int(ids.min()), int(ids.max())
    return min(ids.tolist()), max(ids.tolist())


def _now() -> str:
    """Return the time in UTC, or what SOURCE_DATE_EPOCH says instead.

    That variable is how builds that must give the same bytes again are asked to
    (https://reproducible-builds.org/specs/source-date-epoch).
    """
    said = os.environ.get("SOURCE_DATE_EPOCH", "")
    utc = datetime.UTC
    now = datetime.datetime.fromtimestamp(int(said), utc) if said.isdecimal() else None
    return (now or datetime.datetime.now(utc)).isoformat(timespec="seconds")


def sync_tree(folder: Path) -> None:
    """Make every file below a folder durable, so that a commit never precedes its content."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def _write_column(store: Store, key: str, spool: ColumnSpool, attributes: dict[str, Any]) -> None:
    array = _new_array(store, key, spool.rows, spool.like(key), spool.window, attributes)
    shard = layout.CHUNKS_PER_SHARD * spool.window
    for start in range(0, spool.rows, shard):
        stop = min(start + shard, spool.rows)
        array[start:stop] = spool.read(key, start, stop)


def _write_digests(store: Store, digests: NDArray[np.uint8]) -> None:
    per_chunk = layout.rows_per_chunk(digests[:1].nbytes)
    _new_array(store, "digest", len(digests), digests, per_chunk, {})[:] = digests


def _new_array(
    store: Store,
    name: str,
    rows: int,
    like: NDArray[Any],
    per_chunk: int,
    attributes: dict[str, Any],
) -> zarr.Array[Any]:
    whole, rest = rows <= per_chunk, like.shape[1:]
    return zarr.create_array(
        store,
        name=name,
        shape=(rows, *rest),
        dtype=like.dtype,
        chunks=(rows if whole else per_chunk, *rest),
        shards=None if whole else (layout.CHUNKS_PER_SHARD * per_chunk, *rest),
        compressors=[ZstdCodec(level=3), Crc32cCodec()],
        attributes=attributes,
        overwrite=True,
    )


def _write_groups(
    group: Place, further: list[str], spans: list[Span], fingerprints: list[str]
) -> str:
    """Write the groups' documents, each with the digests of those below it; return the top's."""
    below = {name: _metadata_digest(group, f"columns/{name}") for name in further}
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
