"""Reading a survey store: the one reader of inference, training, parity and calibration.

Opening a store trusts nothing: data types and codecs are compared with an allow-list in the raw
metadata before Zarr opens an array, and every partition's rows are compared with the fingerprint
that was recorded when they were written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import ValidationError

from catalogs.cutouts import layout
from catalogs.cutouts.partition import Pixel
from catalogs.errors import InputError, IntegrityError
from catalogs.sky import FloatArray, IntArray

ImageBytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Partition:
    """One HEALPix pixel of the survey, the unit of work: whole shards of one append.

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
    """The core columns of a partition; arrays share the first dimension."""

    id: NDArray[Any]
    ra: FloatArray
    dec: FloatArray
    healpix_29: IntArray
    input_row: IntArray
    offset: IntArray
    length: IntArray
    checksum: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Images:
    """Encoded images of consecutive rows.

    ``start`` counts from the partition's first row. ``problems`` maps positions within
    ``files`` to the reason why these bytes are not the bytes that were stored.
    """

    start: int
    files: list[ImageBytes]
    problems: dict[int, str]


class Survey:
    """A survey store, opened for reading. Use :meth:`open`.

    Attributes
    ----------
    path : Path
        Where it lies.
    attributes : StoreAttributes
        What it says of itself.
    partitions : tuple of Partition
        Every partition, in sky order within each append.
    """

    def __init__(self, path: Path, attributes: layout.StoreAttributes, root: zarr.Group) -> None:
        self.path = path
        self.attributes = attributes
        self._root = root
        self._whole_arrays: set[str] = set()

    @classmethod
    def open(cls, path: Path) -> Survey:
        """Open a store after checking its metadata.

        Raises
        ------
        InputError
            There is no store at ``path``, or it is of another kind or version.
        IntegrityError
            Its metadata ask for codecs or data types that a survey store never has, or it holds
            a symbolic link, through which Zarr would read what was not checked.
        """
        metadata = path / "zarr.json"
        if not metadata.is_file():
            raise InputError(
                f"{path} is not a survey store (no zarr.json); make one with `skytally ingest`"
            )
        attributes = _attributes(path, _read_json(metadata))
        for found in _metadata_files(path):
            _check_node(found, _read_json(found))
        # Consolidated metadata would be a second, unchecked copy of what was just checked.
        root = zarr.open_group(str(path), mode="r", zarr_format=3, use_consolidated=False)
        return cls(path, attributes, root)

    @cached_property
    def partitions(self) -> tuple[Partition, ...]:
        """Every partition, in sky order within each append."""
        return tuple(self._columns_fingerprints)

    @cached_property
    def _columns_fingerprints(self) -> dict[Partition, bytes]:
        """The digest of each partition's further columns, which `read_rows` does not read."""
        found: dict[Partition, bytes] = {}
        for append in self.attributes.appends:
            base = f"appends/{append.name}/partition"
            names = ("order", "number", "start", "stop", "fingerprint", "columns_fingerprint")
            arrays = [self._whole(f"{base}/{name}") for name in names]
            for order, number, start, stop, core, columns in zip(*arrays, strict=True):
                both = layout.partition_fingerprint(bytes(core), bytes(columns))
                pixel = Pixel(int(order), int(number))
                partition = Partition(append.name, pixel, int(start), int(stop), both)
                found[partition] = bytes(columns)
        return found

    @property
    def rows(self) -> int:
        """Number of objects in the store."""
        return sum(append.rows for append in self.attributes.appends)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the further columns of the user's table."""
        return self.attributes.columns

    def night(self, append: str) -> str:
        """Return what an append is called: the night it was taken, as its ingest named it."""
        return append

    def column(self, name: str) -> NDArray[Any]:
        """Return one column of all objects, in store order, shape (rows,).

        Core columns (``id``, ``ra``, ``dec``, ``healpix_29``, ``input_row``) and the user's own;
        text comes as an object array of ``str`` with None for null.

        Raises
        ------
        InputError
            The store has no such column.
        """
        parts = [
            self.column_slice(append.name, name, 0, append.rows)
            for append in self.attributes.appends
        ]
        return np.concatenate(parts)

    def column_slice(self, append: str, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start`` to ``stop`` of a column of one append; see :meth:`column`."""
        core = ("id", "ra", "dec", "healpix_29", "input_row")
        if name in core:
            values = self._read(f"appends/{append}/{name}", start, stop)
            return as_text(values) if values.ndim == 2 else values
        if name not in self.column_names:
            raise InputError(
                f"{self.path} has no column {name!r}; "
                f"it has {', '.join((*core, *self.column_names))}"
            )
        array = self._array(f"appends/{append}/columns/{name}")
        values = self._read(f"appends/{append}/columns/{name}", start, stop)
        kind = array.attrs.get("kind")
        if kind == "category":
            names = array.attrs["categories"]
            if not isinstance(names, list) or int(values.max(initial=-1)) >= len(names):
                raise IntegrityError(f"{self.path}: column {name} has codes without a category")
            categories: NDArray[Any] = np.asarray([*names, None], dtype=object)
            return np.asarray(categories[values], dtype=object)
        return as_text(values) if kind == "text" else values

    def read_rows(self, partition: Partition) -> Rows:
        """Read the core columns of a partition and compare them with its fingerprint.

        Raises
        ------
        IntegrityError
            Bytes are missing or changed; the message names the partition.
        """
        base = f"appends/{partition.append}"
        names = (*layout.CORE_COLUMNS, "offset")
        values = {
            name: self._read(f"{base}/{name}", partition.start, partition.stop) for name in names
        }
        columns = self._columns_fingerprints.get(partition, b"")
        found = layout.partition_fingerprint(layout.fingerprint(values), columns)
        if found != partition.fingerprint:
            raise IntegrityError(
                f"{self.path}: rows {partition.start} to {partition.stop} of pixel "
                f"{partition.pixel} are not what was written; "
                "restore the store from a copy or ingest it again"
            )
        return Rows(
            id=values["id"],
            ra=values["ra"],
            dec=values["dec"],
            healpix_29=values["healpix_29"],
            input_row=values["input_row"],
            offset=values["offset"],
            length=values["length"].astype(np.int64),
            checksum=values["checksum"],
        )

    def read_images(
        self, partition: Partition, rows: Rows, at_once: int = 8192
    ) -> Iterator[Images]:
        """Yield the encoded images of a partition, some thousands at a time, in row order.

        A flipped bit or a missing chunk never comes out as an image: each object's crc32c is
        compared, and what differs is named in ``problems``.
        """
        blob = self._array(f"appends/{partition.append}/blob")
        for start in range(0, len(rows.offset), at_once):
            stop = min(start + at_once, len(rows.offset))
            yield _verified(blob, rows, start, stop)

    def _array(self, name: str) -> zarr.Array[Any]:
        node = self._root.get(name)
        if not isinstance(node, zarr.Array):
            raise IntegrityError(f"{self.path}: array {name} is missing; restore or ingest again")
        return node

    def _check_all_chunks(self, name: str, array: zarr.Array[Any]) -> None:
        """Count an array's files: Zarr would read an absent one as zeros, in silence."""
        files = array.shards or array.chunks
        expected = math.prod(-(-n // of) for n, of in zip(array.shape, files, strict=True))
        found = sum(path.is_file() for path in (self.path / name / "c").rglob("*"))
        if found != expected:
            raise IntegrityError(
                f"{self.path}: array {name} has {found} of {expected} files; "
                "restore the store from a copy or ingest it again"
            )
        self._whole_arrays.add(name)

    def _whole(self, name: str) -> NDArray[Any]:
        return self._read(name, 0, self._array(name).shape[0])

    def _read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        array = self._array(name)
        if name not in self._whole_arrays:
            self._check_all_chunks(name, array)
        try:
            return np.asarray(array[start:stop])
        except (ValueError, RuntimeError, OSError) as error:
            raise IntegrityError(
                f"{self.path}: array {name} cannot be read, rows {start} to {stop}: {error}"
            ) from error


def as_text(values: NDArray[np.uint8]) -> NDArray[Any]:
    """Return fixed-width UTF-8 rows, uint8 (n, width), as an object array of ``str`` or None."""
    width = values.shape[1]
    raw = np.ascontiguousarray(values).view(f"S{width}").reshape(-1).tolist()
    text = [None if value == layout.NULL_TEXT else value.decode() for value in raw]
    return np.asarray(text, dtype=object)


def _verified(blob: zarr.Array[Any], rows: Rows, start: int, stop: int) -> Images:
    offset, length = rows.offset[start:stop], rows.length[start:stop]
    first, last = int(offset[0]), int((offset + length).max())
    problems: dict[int, str] = {}
    try:
        whole = np.asarray(blob[first:last])
        files = [whole[o : o + n] for o, n in zip(offset - first, length, strict=True)]
    except (ValueError, RuntimeError, OSError):
        # A chunk's own checksum failed. Find the objects in it; the rest are read as usual.
        files = []
        for i, (o, n) in enumerate(zip(offset, length, strict=True)):
            try:
                files.append(np.asarray(blob[o : o + n]))
            except (ValueError, RuntimeError, OSError) as error:
                problems[i] = f"stored bytes cannot be read: {error}".splitlines()[0]
                files.append(np.zeros(0, dtype=np.uint8))
    for i, (data, expected) in enumerate(zip(files, rows.checksum[start:stop], strict=True)):
        if i not in problems and google_crc32c.value(data.tobytes()) != int(expected):
            problems[i] = "stored bytes differ from their checksum"
    return Images(start, files, problems)


def _attributes(path: Path, metadata: dict[str, Any]) -> layout.StoreAttributes:
    own = metadata.get("attributes", {}).get("skytally")
    if own is None:
        raise InputError(
            f"{path} is a Zarr group but not a survey store; make one with `skytally ingest`"
        )
    try:
        return layout.StoreAttributes.model_validate(own)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path} is no survey store of format {layout.FORMAT_VERSION}: {where}: {first['msg']}"
        ) from None


def _metadata_files(store: Path) -> list[Path]:
    found = []
    for path in sorted(store.rglob("*")):
        if path.is_symlink():
            raise IntegrityError(
                f"{path} is a symbolic link, which a survey store never holds; put the files "
                "themselves there, or ingest again"
            )
        if path.name == "zarr.json":
            found.append(path)
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}; restore it from a copy") from None
    if not isinstance(found, dict):
        raise IntegrityError(f"{path} is no Zarr metadata; restore it from a copy")
    return found


def _check_node(path: Path, metadata: dict[str, Any]) -> None:
    """Refuse data types and codecs that no survey store has, before Zarr sees them."""
    if metadata.get("zarr_format") != 3:
        raise InputError(f"{path} is not Zarr format 3")
    if metadata.get("node_type") != "array":
        return
    dtype = metadata.get("data_type")
    if not isinstance(dtype, str) or dtype not in layout.ALLOWED_DTYPES:
        raise IntegrityError(f"{path}: data type {dtype!r} does not belong in a survey store")
    pending = list(metadata.get("codecs", []))
    while pending:
        codec = pending.pop()
        name = codec.get("name") if isinstance(codec, dict) else codec
        if name not in layout.ALLOWED_CODECS:
            raise IntegrityError(f"{path}: codec {name!r} does not belong in a survey store")
        configuration = codec.get("configuration", {}) if isinstance(codec, dict) else {}
        pending.extend(configuration.get("codecs", []))
        pending.extend(configuration.get("index_codecs", []))
    chunk = metadata.get("chunk_grid", {}).get("configuration", {}).get("chunk_shape", [])
    if np.prod(np.asarray(chunk, dtype=np.float64)) > 4 * layout.BLOB_SHARD:
        raise IntegrityError(f"{path}: chunks of shape {chunk} are larger than a store's ever are")
