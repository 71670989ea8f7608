"""The bytes of a chunk whose own checksum fails, for the images in it that are still whole.

A chunk holds hundreds of images, and one flipped bit is in one of them. Zarr gives none of a
chunk that fails, so its bytes are taken from the shard as the sharding codec of Zarr v3 lays it
out: chunks, then an index of (offset, length) pairs as little-endian uint64, then the index's
crc32c. Nothing here is believed; the images' own checksums decide.
"""

from __future__ import annotations

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts import layout
from catalogs.storage.place import Place

CRC_BYTES = 4
PAIR_BYTES = 16
CHUNKS = layout.BLOB_SHARD // layout.BLOB_CHUNK


def salvage(place: Place, blob: str, chunk: int) -> NDArray[np.uint8] | None:
    """Return a chunk of images as it lies in its shard; None when it cannot be found there.

    Parameters
    ----------
    place : Place
        The survey store.
    blob : str
        Path of the array of images in it.
    chunk : int
        Which chunk, counted through the whole array.

    Raises
    ------
    BusyError, SkytallyError
        The shard cannot be read now, or at all.
    """
    try:
        shard = place.read(f"{blob}/c/{chunk // CHUNKS}")
    except FileNotFoundError:
        return None
    index = shard[-(CHUNKS * PAIR_BYTES + CRC_BYTES) : -CRC_BYTES]
    if google_crc32c.value(index) != int.from_bytes(shard[-CRC_BYTES:], "little"):
        return None
    offset, length = np.frombuffer(index, dtype="<u8").reshape(-1, 2)[chunk % CHUNKS].tolist()
    if length != layout.BLOB_CHUNK + CRC_BYTES or offset + length > len(shard):
        return None
    return np.frombuffer(shard, dtype=np.uint8, count=layout.BLOB_CHUNK, offset=offset)
