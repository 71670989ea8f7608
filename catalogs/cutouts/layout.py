"""What a survey store looks like on disk: names, data types, attributes, digests. No I/O.

::

    NAME.zarr/
      zarr.json                     root group; attributes: StoreAttributes. The commit point
      appends/00000/                everything one ingest added, never touched again
        zarr.json                     group; attributes: AppendAttributes
        blob                          uint8, the images' bytes, whole objects in a shard
        offset  length  checksum      where image i lies in the blob, its bytes, its crc32c
        height  width                 its size in pixels, 0 when it says none
        id  ra  dec  healpix_29  input_row
        columns/NAME                  further columns of the user's table
        digest                        sha256 of each column in each partition
      quarantine/00000.parquet      rows that have no place in the store, each with its reason
      .lock                         held by who appends; nobody reads it

An image's bytes are a JPEG or PNG file (``encoding`` "encoded"), or its samples, little endian,
in C order of height, width, channel ("raw"). Only stable Zarr v3 data types and codecs occur, so
that zarr-python, zarrs and TensorStore read a store alike. Text is either coded categories or
fixed-width UTF-8 bytes.

Everything is under a digest. The root's attributes hold their own, and the sha256 of each
append's ``zarr.json``; that one holds the sha256 of the ``zarr.json`` of each array below it, and
the fingerprint of each partition: the sha256 of its row of ``digest``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

FORMAT_VERSION: Literal[3] = 3
BLOB_CHUNK = 1 << 20
BLOB_SHARD = 32 << 20
MOST_COLUMN_ROWS = 65_536  # rows of a column in one chunk
FEWEST_COLUMN_ROWS = 256
COLUMNS_WINDOW = 32 << 20  # bytes of all columns together in one chunk's rows
CHUNKS_PER_SHARD = 16
MOST_IMAGE_BYTES = 16 << 20

# What a store may ask of the reader; anything else is refused before Zarr opens an array.
ALLOWED_DTYPES = frozenset(
    ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float32", "float64"]
)
ALLOWED_CODECS = frozenset(["bytes", "crc32c", "zstd", "sharding_indexed"])
LARGEST_CHUNK = 4 * BLOB_SHARD  # bytes, decoded
MOST_CHUNKS_PER_SHARD = 1024

POSITION_COLUMNS = ("id", "ra", "dec", "healpix_29", "input_row")
IMAGE_COLUMNS = ("offset", "length", "height", "width", "checksum")
CORE_COLUMNS = (*POSITION_COLUMNS, *IMAGE_COLUMNS)

LOCK = ".lock"
METADATA = "zarr.json"
APPENDS = "appends"

Encoding = Literal["encoded", "raw"]
RawDtype = Literal["uint8", "uint16", "float32"]
Identifiers = Literal["int64", "text"]
Sha256 = Field(pattern=r"^[0-9a-f]{64}$")
Size = tuple[int, int]  # height, width [px]


@dataclass(frozen=True, slots=True)
class RawPixels:
    """How the samples of raw images are stored: data type and number of channels."""

    dtype: RawDtype
    channels: int

    @property
    def stored(self) -> np.dtype[Any]:
        """The data type as it lies in the store, little endian."""
        return np.dtype(self.dtype).newbyteorder("<")


class Append(BaseModel):
    """One ingest into the store.

    Attributes
    ----------
    name : str
        Its group below ``appends``.
    night : str
        What people call it.
    rows, quarantined : int
    ids : tuple of int or str
        The smallest and the largest identifier.
    image_size : tuple of int, optional
        Height and width of its images; None when they differ.
    fingerprint : str
        Digest of its rows and images, wherever they lie.
    metadata : str
        sha256 of its group's ``zarr.json``.
    quarantine : str, optional
        sha256 of its quarantine table; None when it has none.
    written : str
        When, in UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^\d{5}$")
    night: str
    rows: int = Field(ge=1)
    quarantined: int = Field(ge=0)
    ids: tuple[StrictInt, StrictInt] | tuple[StrictStr, StrictStr]
    image_size: Size | None
    fingerprint: str = Sha256
    metadata: str = Sha256
    quarantine: str | None = Field(pattern=r"^[0-9a-f]{64}$")
    written: str


class StoreAttributes(BaseModel):
    """The attributes of a survey store's root group, under the key ``skytally``.

    ``identifiers`` and the values of ``columns`` are data types of numbers, or ``text``.
    ``dtype`` and ``channels`` are those of the pixels, stored or decoded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[3] = FORMAT_VERSION
    uuid: str
    name: str
    bands: tuple[str, ...] = ("r", "g", "b")  # of the channels, in their order
    pixel_unit: str | None = None  # of the samples, in words
    pixel_scale: float | None = None  # arcsec per pixel; None when it differs by object
    encoding: Encoding = "encoded"
    dtype: RawDtype = "uint8"
    channels: int = Field(default=3, ge=1, le=1024)
    framing: str | None = None  # how the cutouts are framed, in words
    crop: int | None = None  # pixels to keep around the centre, when the survey asks for it
    identifiers: Identifiers
    columns: dict[str, str]
    meanings: dict[str, tuple[str, str]] = {}  # unit and meaning of columns, where they are known
    provenance: dict[str, Any] = {}
    appends: tuple[Append, ...]

    @property
    def raw(self) -> RawPixels | None:
        """How raw pixels are stored; None when the images are encoded."""
        return RawPixels(self.dtype, self.channels) if self.encoding == "raw" else None

    @property
    def image_size(self) -> Size | None:
        """Height and width of all images [px]; None when they differ."""
        sizes = {append.image_size for append in self.appends}
        return sizes.pop() if len(sizes) == 1 else None


class AppendAttributes(BaseModel):
    """The attributes of an append's group, under the key ``skytally``.

    Attributes
    ----------
    partitions : tuple of (order, number, start, stop, fingerprint)
        HEALPix pixel, rows of the append, and the digest (hex) of all that is stored of them.
    nodes : dict of str to str
        sha256 of the ``zarr.json`` of each node below, ``columns`` among them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    partitions: tuple[tuple[int, int, int, int, str], ...]
    nodes: dict[str, str]


class ColumnsAttributes(BaseModel):
    """The attributes of an append's group ``columns``: the digests of the nodes below it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: dict[str, str]


def append_path(append: str) -> str:
    """Return where an append lies, relative to the store."""
    return f"{APPENDS}/{append}"


def quarantine_name(append: str) -> str:
    """Return where the rows that an append could not store lie, relative to the store."""
    return f"quarantine/{append}.parquet"


def column_keys(columns: Iterable[str]) -> tuple[str, ...]:
    """Return where each column lies in an append, in the order of its digests."""
    return (*CORE_COLUMNS, *(f"columns/{name}" for name in sorted(columns)))


def rows_per_chunk(row_bytes: int) -> int:
    """Return how many rows of each column share a chunk, a power of two.

    Parameters
    ----------
    row_bytes : int
        Bytes of a row in all columns together: the same rows of every column must fit in memory.
    """
    rows = COLUMNS_WINDOW // max(row_bytes, 1)
    return int(np.clip(1 << max(rows.bit_length() - 1, 0), FEWEST_COLUMN_ROWS, MOST_COLUMN_ROWS))


def group_document(attributes: dict[str, Any]) -> bytes:
    """Return a group's ``zarr.json``."""
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return json.dumps(document, indent=1).encode()


def root_document(attributes: StoreAttributes) -> bytes:
    """Return the root's ``zarr.json``, which holds the digest of its own attributes."""
    own = json.loads(json.dumps(attributes.model_dump(mode="json")))  # as a reader will see it
    return group_document({"skytally": own | {"digest": attributes_digest(own)}})


def attributes_digest(own: dict[str, Any]) -> str:
    """Return the sha256 (hex) of the root's attributes, their digest aside."""
    rest = {name: value for name, value in own.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


class ColumnDigest:
    """The digests of one column: sha256 of its name, its attributes, and some rows as stored."""

    def __init__(self, key: str, attributes: dict[str, Any]) -> None:
        self._seed = hashlib.sha256(json.dumps([key, attributes], sort_keys=True).encode())

    def of(self, values: NDArray[Any]) -> bytes:
        """Return the digest (32 bytes) of some rows."""
        values = np.ascontiguousarray(values)
        digest = self._seed.copy()
        digest.update(f"{values.dtype.str}{values.shape}".encode())
        digest.update(values.data.cast("B") if values.size else b"")
        return digest.digest()


def partition_fingerprint(digests: NDArray[np.uint8]) -> str:
    """Return the digest (hex) by which a plan knows a partition: all that is stored of it.

    Parameters
    ----------
    digests : ndarray of uint8, shape (columns, 32)
        One of each column, in the order of `column_keys`. That of ``checksum`` stands for the
        images.
    """
    return hashlib.sha256(digests.tobytes()).hexdigest()


def survey_fingerprint(partitions: Iterable[str]) -> str:
    """Return the digest (hex) of an append from its partitions' fingerprints, in their order."""
    return hashlib.sha256("".join(partitions).encode()).hexdigest()
