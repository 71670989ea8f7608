"""Reading a survey store: the one reader of inference, training, parity and calibration.

Opening a store trusts nothing. The root's attributes hold their own digest and those of each
append; from there on, every byte is compared with a digest when it is first used, so that opening
costs little, whatever the number of appends and shards.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zarr
from numpy.typing import NDArray

from catalogs.cutouts import layout
from catalogs.cutouts.arrays import OPEN_ARRAYS, Arrays, refuse_links
from catalogs.cutouts.blob import ImagePlaces, Images, read_blocks
from catalogs.cutouts.columns import TEXT, as_bytes, user_values
from catalogs.cutouts.documents import REMEDY, own_attributes, parse, store_attributes
from catalogs.cutouts.partition import Pixel
from catalogs.errors import InputError, IntegrityError
from catalogs.sky import FINEST_ORDER, BoolArray, FloatArray, IntArray
from catalogs.storage.parquet import read_parquet
from catalogs.storage.place import Place, open_place

READERS = 8
KEPT_DIGESTS = 64


@dataclass(frozen=True, slots=True)
class Partition:
    """One HEALPix pixel of one append of the survey.

    ``start`` and ``stop`` are rows of the append; ``fingerprint`` (hex) stands for the content.
    """

    append: str
    pixel: Pixel
    start: int
    stop: int
    fingerprint: str

    @property
    def rows(self) -> int:
        """Number of objects."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Rows:
    """The core columns of a partition; arrays share the first dimension.

    ``height`` and ``width`` [px] are 0 where an image's header cannot be read.
    """

    id: NDArray[Any]
    ra: FloatArray
    dec: FloatArray
    healpix_29: IntArray
    input_row: IntArray
    offset: IntArray
    length: IntArray
    height: NDArray[np.uint16]
    width: NDArray[np.uint16]
    checksum: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class _Append:
    """What an append's group says, checked."""

    partitions: tuple[Partition, ...]
    nodes: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Column:
    """An opened column: its values as stored, what these mean, and how they are compared."""

    array: zarr.Array[Any]
    attributes: dict[str, Any]
    digest: layout.ColumnDigest


class Survey:
    """A survey store, opened for reading. Use :meth:`open`.

    Attributes
    ----------
    url : str
        Where it lies: a path, or a URL such as ``s3://bucket/survey.zarr``.
    attributes : StoreAttributes
        What it says of itself.
    """

    def __init__(self, place: Place, attributes: layout.StoreAttributes) -> None:
        self.url = place.url
        self.attributes = attributes
        self._place = place
        self._arrays = Arrays(place)
        self._known = {append.name: append for append in attributes.appends}
        keys = layout.column_keys(attributes.columns)
        self._at = {key: i for i, key in enumerate(keys)}  # its place among the digests
        self._append = lru_cache(None)(self._read_append)
        self._nodes = lru_cache(KEPT_DIGESTS)(self._read_nodes)
        self._digests = lru_cache(KEPT_DIGESTS)(self._read_digests)
        self._column = lru_cache(OPEN_ARRAYS)(self._open_column)

    @classmethod
    def open(cls, where: str | Path) -> Survey:
        """Open a store after checking its root.

        Raises
        ------
        InputError
            There is no store at ``where``, or it is of another kind or version.
        IntegrityError
            Its root is damaged, or it holds a symbolic link, through which Zarr would read what
            was never ingested. The rest is checked when it is first used.
        """
        place = open_place(where)
        try:
            content = place.read(layout.METADATA)
        except FileNotFoundError:
            raise InputError(
                f"{place.url} is not a survey store (no {layout.METADATA}); "
                "make one with `skytally ingest`"
            ) from None
        attributes = store_attributes(place.url, parse(content, f"{place.url}/{layout.METADATA}"))
        refuse_links(place, "")
        refuse_links(place, layout.APPENDS)
        survey = cls(place, attributes)
        survey._arrays.document(layout.APPENDS, APPENDS_SHA256)
        return survey

    @cached_property
    def partitions(self) -> tuple[Partition, ...]:
        """Every partition, in sky order within each append."""
        with ThreadPoolExecutor(READERS) as executor:
            appends = executor.map(self._append, self._known)
            return tuple(partition for append in appends for partition in append.partitions)

    @property
    def rows(self) -> int:
        """Number of objects in the store."""
        return sum(append.rows for append in self.attributes.appends)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the further columns of the user's table."""
        return tuple(self.attributes.columns)

    def night(self, append: str) -> str:
        """Return what an append is called: the night it was taken, as its ingest named it."""
        return self._known[append].night

    def column(self, name: str, append: str | None = None) -> NDArray[Any]:
        """Return one column of all objects, or of one append's, in store order, shape (rows,).

        Core columns (``id``, ``ra``, ``dec``, ``healpix_29``, ``input_row``, ``height``,
        ``width``) and the user's own; text comes as an object array of ``str``, None for null.

        Raises
        ------
        InputError
            The store has no such column.
        IntegrityError
            Bytes are missing or changed.
        """
        key = self._key(name)
        names = list(self._known) if append is None else [append]
        return np.concatenate([self._user_values(a, key, self._whole(a, key)) for a in names])

    def read_columns(self, partition: Partition, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return columns of a partition; see :meth:`column`.

        Raises
        ------
        InputError
            The store has no such column.
        IntegrityError
            Bytes are missing or changed; the message names the column.
        """
        keys = {name: self._key(name) for name in names}
        found = self._read(partition, keys.values())
        return {
            name: self._user_values(partition.append, key, found[key]) for name, key in keys.items()
        }

    def read_rows(self, partition: Partition) -> Rows:
        """Read the core columns of a partition.

        Raises
        ------
        IntegrityError
            Bytes are missing or changed; the message names the partition.
        """
        values = self._read(partition, layout.CORE_COLUMNS)
        return Rows(**(values | {"length": values["length"].astype(np.int64)}))

    def read_images(
        self, partition: Partition, rows: Rows, at_once: int = 8192
    ) -> Iterator[Images]:
        """Yield the images of a partition in row order, at most ``at_once`` and 64 MiB at a time.

        A flipped bit or a missing chunk never comes out as an image: each object's crc32c is
        compared, and what differs is named in ``problems``.
        """
        places = ImagePlaces(rows.offset, rows.length, rows.height, rows.width, rows.checksum)
        blob = self._array(partition.append, "blob")
        return read_blocks(self._arrays, blob, places, self.attributes.raw, at_once)

    def known_ids(self, ids: NDArray[Any]) -> BoolArray:
        """Tell which of some identifiers the store has already.

        Parameters
        ----------
        ids : ndarray of int64, or of str, shape (n,)
        """
        text = self.attributes.identifiers == TEXT
        values = np.asarray([str(i) for i in ids.tolist()], dtype=object) if text else ids
        asked = pa.array(values).cast(pa.binary() if text else pa.int64())
        smallest: Any = min(values, default=0)
        largest: Any = max(values, default=0)

        def known_of(append: layout.Append) -> BoolArray:
            whole = self._whole(append.name, "id")
            stored = pa.array(as_bytes(whole) if text else whole)
            both = stored.filter(pc.is_in(stored, value_set=asked))
            return np.asarray(pc.is_in(asked, value_set=both))

        near = [
            append
            for append in self.attributes.appends
            if len(ids) and smallest <= append.ids[1] and largest >= append.ids[0]
        ]
        known: BoolArray = np.zeros(len(ids), dtype=np.bool_)
        with ThreadPoolExecutor(READERS) as executor:
            for found in executor.map(known_of, near):
                known |= found
        return known

    def quarantine(self, append: str) -> pa.Table | None:
        """Return the rows that an append could not store; None when its ingest kept no table.

        Raises
        ------
        IntegrityError
            The table is missing or changed.
        """
        digest = self._known[append].quarantine
        if digest is None:
            return None
        name = layout.quarantine_name(append)
        try:
            content = self._place.read(name)
        except FileNotFoundError:
            raise IntegrityError(f"{self.url}/{name} is missing; {REMEDY}") from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise IntegrityError(f"{self.url}/{name} is not what was written; {REMEDY}")
        return read_parquet(content)

    def _key(self, name: str) -> str:
        if name in layout.CORE_COLUMNS:
            return name
        if name not in self.attributes.columns:
            have = ", ".join((*layout.POSITION_COLUMNS, *self.column_names))
            raise InputError(f"{self.url} has no column {name!r}; it has {have}")
        return f"columns/{name}"

    def _user_values(self, append: str, key: str, values: NDArray[Any]) -> NDArray[Any]:
        try:
            return user_values(values, self._column(append, key).attributes)
        except (ValueError, KeyError) as error:
            raise IntegrityError(f"{self.url}: column {key} has {error}; {REMEDY}") from None

    def _whole(self, append: str, key: str) -> NDArray[Any]:
        """Return a column of an append as stored, every partition compared with its digest."""
        column = self._column(append, key)
        values = self._arrays.read(column.array, 0, self._known[append].rows)
        self._compare(append, key, values, self._append(append).partitions, 0)
        return values

    def _read(self, partition: Partition, keys: Iterable[str]) -> dict[str, NDArray[Any]]:
        """Return columns of a partition as stored, compared with their digests."""
        known = self._append(partition.append).partitions
        at = bisect_left(known, partition.start, key=lambda p: p.start)
        if at == len(known) or known[at] != partition:
            raise self._changed(partition, "another partition lies there")
        found = {}
        for key in keys:
            array = self._column(partition.append, key).array
            found[key] = self._arrays.rows(array, partition.start, partition.stop)
            self._compare(partition.append, key, found[key], known[at : at + 1], at)
        return found

    def _compare(
        self,
        append: str,
        key: str,
        values: NDArray[Any],
        partitions: Sequence[Partition],
        first: int,
    ) -> None:
        expected = self._digests(append)[first:, self._at[key]]
        digest = self._column(append, key).digest
        for partition, sha256 in zip(partitions, expected, strict=False):
            rows = slice(
                partition.start - partitions[0].start, partition.stop - partitions[0].start
            )
            if digest.of(values[rows]) != sha256.tobytes():
                raise self._changed(partition, f"column {key}")

    def _changed(self, partition: Partition, what: str) -> IntegrityError:
        return IntegrityError(
            f"{self.url}: rows {partition.start} to {partition.stop} of append {partition.append}, "
            f"pixel {partition.pixel}, are not what was written ({what}); {REMEDY}"
        )

    def _open_column(self, append: str, key: str) -> _Column:
        array = self._array(append, key)
        attributes = dict(array.attrs)
        return _Column(array, attributes, layout.ColumnDigest(key, attributes))

    def _array(self, append: str, key: str) -> zarr.Array[Any]:
        if append not in self._known:
            raise IntegrityError(f"{self.url} has no append {append!r}; {REMEDY}")
        folder, _, name = key.rpartition("/")
        nodes = self._nodes(append) if folder else self._append(append).nodes
        if name not in nodes:
            raise IntegrityError(f"{self.url}: append {append} has no array {key}; {REMEDY}")
        array = self._arrays.open(f"{layout.append_path(append)}/{key}", nodes[name])
        rows = len(self._append(append).partitions) if key == "digest" else self._known[append].rows
        if key != "blob" and array.shape[0] != rows:
            raise IntegrityError(f"{self.url}: array {array.path} has not {rows} rows; {REMEDY}")
        return array

    def _read_append(self, name: str) -> _Append:
        append = self._known[name]
        base = layout.append_path(name)
        refuse_links(self._place, base)
        document = self._arrays.document(base, append.metadata)
        own = own_attributes(document, layout.AppendAttributes, f"{self.url}/{base}")
        partitions = tuple(
            Partition(name, Pixel(order, number), start, stop, fingerprint)
            for order, number, start, stop, fingerprint in own.partitions
        )
        limits = [0, *(p.stop for p in partitions)]
        if (
            limits[-1] != append.rows
            or [p.start for p in partitions] != limits[:-1]
            or any(a >= b for a, b in pairwise(limits))
            or any(not 0 <= p.pixel.order <= FINEST_ORDER for p in partitions)
        ):
            raise IntegrityError(f"{self.url}/{base}: its partitions are impossible; {REMEDY}")
        return _Append(partitions, own.nodes)

    def _read_nodes(self, append: str) -> dict[str, str]:
        base = f"{layout.append_path(append)}/columns"
        refuse_links(self._place, base)
        document = self._arrays.document(base, self._append(append).nodes.get("columns", ""))
        return own_attributes(document, layout.ColumnsAttributes, f"{self.url}/{base}").nodes

    def _read_digests(self, append: str) -> NDArray[np.uint8]:
        """Return each column's digest in each partition, uint8 (partitions, columns, 32)."""
        array = self._array(append, "digest")
        if array.dtype != np.uint8 or array.shape[1:] != (len(self._at), 32):
            raise IntegrityError(f"{self.url}: array {array.path} is no table of digests; {REMEDY}")
        digests = self._arrays.read(array, 0, array.shape[0])
        for partition, found in zip(self._append(append).partitions, digests, strict=True):
            if layout.partition_fingerprint(found) != partition.fingerprint:
                raise self._changed(partition, "digests")
        return digests


APPENDS_SHA256 = hashlib.sha256(layout.group_document({})).hexdigest()
