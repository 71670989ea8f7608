"""What a survey store looks like on disk: names, data types, attributes. No image is read here.

::

    NAME.zarr/                      root group; attributes: StoreAttributes
      appends/00000/                everything one ingest added, never touched again
        blob                          uint8, the images' bytes, whole objects in a shard
        offset  length  checksum      where image i lies in the blob, its size, its crc32c
        id  ra  dec  healpix_29  input_row
        columns/NAME                  further columns of the user's table
        partition/{order,number,start,stop,fingerprint,columns_fingerprint}
      quarantine/00000.parquet      rows that have no place in the store, each with its reason

Only stable Zarr v3 data types and codecs occur, so that zarr-python, zarrs and TensorStore read
a store alike. Text is either coded categories or fixed-width UTF-8 bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

FORMAT_VERSION: Literal[2] = 2
BLOB_CHUNK = 1 << 20
BLOB_SHARD = 32 << 20
COLUMN_CHUNK = 65_536
COLUMN_SHARD = 16 * COLUMN_CHUNK
MOST_IMAGE_BYTES = 16 << 20
MOST_CATEGORIES = 4096
MOST_CATEGORY_CHARACTERS = 1 << 20
WIDEST_TEXT = 1024  # bytes; wider text columns must stay below MOST_TEXT_BYTES in all
MOST_TEXT_BYTES = 64 << 20
NULL_TEXT = b"\xff"  # never valid UTF-8

# What a store may ask of the reader; anything else is refused before Zarr opens an array.
ALLOWED_DTYPES = frozenset(
    ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float32", "float64"]
)
ALLOWED_CODECS = frozenset(["bytes", "crc32c", "zstd", "sharding_indexed"])
CORE_COLUMNS = ("id", "ra", "dec", "healpix_29", "input_row", "length", "checksum")

Encoding = Literal["encoded"]


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A further column as it lies in a store.

    ``attributes["kind"]`` is ``number``, ``text`` (UTF-8 bytes, uint8 of shape (n, width), null
    as `NULL_TEXT`) or ``category`` (codes of ``attributes["categories"]``, null as -1).
    """

    values: NDArray[Any]
    attributes: dict[str, Any]


class Append(BaseModel):
    """One ingest into the store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^\d{5}$")
    rows: int = Field(ge=0)
    quarantined: int = Field(ge=0)
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$")


class StoreAttributes(BaseModel):
    """The attributes of a survey store's root group, under the key ``skytally``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[2] = FORMAT_VERSION
    uuid: str
    name: str
    bands: tuple[str, ...] = ("r", "g", "b")
    pixel_scale: float | None = None  # arcsec per pixel; None when it differs by object
    encoding: Encoding = "encoded"
    image_size: tuple[int, int] | None = None  # height, width; None when sizes differ
    framing: str | None = None  # how the cutouts are framed, in words
    crop: int | None = None  # pixels to keep around the centre, when the survey asks for it
    columns: tuple[str, ...] = ()
    provenance: dict[str, Any] = {}
    appends: tuple[Append, ...] = ()


def quarantine_name(append: str) -> str:
    """Return where the rows that an append could not store lie, relative to the store."""
    return f"quarantine/{append}.parquet"


def fingerprint(columns: dict[str, NDArray[Any]]) -> bytes:
    """Return the sha256 (32 bytes) of the core columns of some rows: what makes them those rows.

    ``checksum`` holds each image's crc32c, so the digest also stands for the images.
    """
    digest = hashlib.sha256()
    for name in CORE_COLUMNS:
        _update(digest, name, columns[name])
    return digest.digest()


def columns_fingerprint(offset: NDArray[Any], columns: dict[str, StoredColumn]) -> bytes:
    """Return the sha256 (32 bytes) of ``offset`` and the further columns of some rows, as stored.

    Categories are part of it; the order of the columns is not.
    """
    digest = hashlib.sha256()
    _update(digest, "offset", offset)
    for name, column in sorted(columns.items()):
        digest.update(json.dumps([name, column.attributes], sort_keys=True).encode())
        _update(digest, "", column.values)
    return digest.digest()


def partition_fingerprint(core: bytes, columns: bytes) -> str:
    """Return the digest (hex) by which a plan knows a partition: all that is stored of it."""
    return hashlib.sha256(core + columns).hexdigest()


def survey_fingerprint(partitions: Iterable[str]) -> str:
    """Return the digest (hex) of an append from its partitions' fingerprints, in their order."""
    return hashlib.sha256("".join(partitions).encode()).hexdigest()


def _update(digest: hashlib._Hash, name: str, values: NDArray[Any]) -> None:
    values = np.ascontiguousarray(values)
    digest.update(f"{name}:{values.dtype.str}:{values.shape}\n".encode())
    digest.update(values.tobytes())
