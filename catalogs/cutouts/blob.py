"""The images of an append: packed into shards one behind the other, read back and verified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec

from catalogs.cutouts import layout
from catalogs.cutouts.arrays import Arrays
from catalogs.cutouts.header import LONGEST_SIDE, sizes_of
from catalogs.cutouts.layout import RawPixels
from catalogs.errors import InputError, IntegrityError
from catalogs.sky import IntArray

if TYPE_CHECKING:
    from zarr.abc.store import Store

ImageBytes = NDArray[np.uint8]
SourceImages = Sequence[bytes] | Sequence[NDArray[Any]] | NDArray[Any]

MOST_BYTES_AT_ONCE = 64 << 20
WHOLE_BATCHES = 256  # blocks end after a multiple of these where they can


@dataclass(frozen=True, slots=True)
class Images:
    """Images of consecutive rows.

    Attributes
    ----------
    start : int
        Counts from the partition's first row.
    files : sequence of ndarray
        Encoded images as uint8 of shape (bytes,), raw ones as (height, width, channels).
    problems : dict of int to str
        Positions within ``files`` whose stored bytes are not those that were written, and why.
        Such an image has no bytes here, or its samples are all zero.
    stack : ndarray, shape (n, height, width, channels), optional
        Raw images of one size as one array, a view; ``files`` are then its rows.
    damaged : tuple of str
        Stored chunks that are not what was written, though images in them may be whole.
    """

    start: int
    files: Sequence[NDArray[Any]] | NDArray[Any]
    problems: dict[int, str]
    stack: NDArray[Any] | None = None
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImagePlaces:
    """Where images lie in the blob; arrays of shape (n,).

    ``offset`` and ``length`` in bytes, ``height`` and ``width`` in pixels, ``checksum`` the
    crc32c.
    """

    offset: IntArray
    length: IntArray
    height: NDArray[np.uint16]
    width: NDArray[np.uint16]
    checksum: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Packed:
    """Some images' bytes, one behind the other.

    Attributes
    ----------
    data : bytes
    length : ndarray of int64, shape (n,)
        Bytes of each.
    size : ndarray of uint16, shape (n, 2)
        Height and width [px].
    """

    data: bytes
    length: IntArray
    size: NDArray[np.uint16]


def pack(images: SourceImages, raw: RawPixels | None) -> Packed:
    """Return images as the bytes that a store holds.

    Raises
    ------
    InputError
        An image is too large, or its samples are not those of the store.
    """
    kind = {type(image) for image in images}
    if kind - {bytes if raw is None else np.ndarray}:
        expected = "encoded images" if raw is None else f"raw {raw.dtype}"
        raise InputError(f"an image is {kind.pop().__name__}, the store holds {expected}")
    if raw is None:
        files: list[bytes] = list(images)  # type: ignore[arg-type]
        length = np.fromiter((len(data) for data in files), dtype=np.int64, count=len(files))
        packed = Packed(b"".join(files), length, sizes_of(files))
    else:
        packed = _pack_raw(images, raw)
    if packed.length.max(initial=0) > layout.MOST_IMAGE_BYTES:
        raise InputError(
            f"an image has {packed.length.max()} bytes, more than the "
            f"{layout.MOST_IMAGE_BYTES} that a store takes; cut it out smaller"
        )
    return packed


def _pack_raw(images: SourceImages, raw: RawPixels) -> Packed:
    arrays: Sequence[NDArray[Any]] | NDArray[Any] = images  # type: ignore[assignment]
    stacks = [arrays] if isinstance(arrays, np.ndarray) else [a[np.newaxis] for a in arrays]
    parts, lengths, sizes = [], [], []
    for stack in stacks:
        if stack.ndim != 4 or stack.shape[3] != raw.channels or stack.dtype != raw.dtype:
            raise InputError(
                f"an image is {stack.dtype} of shape {stack.shape[1:]}, the store holds {raw.dtype}"
                f" of (height, width, {raw.channels}); convert it"
            )
        count, height, width = stack.shape[:3]
        if max(height, width) > LONGEST_SIDE:
            raise InputError(f"an image of {width}x{height} pixels is no cutout; cut it smaller")
        parts.append(np.ascontiguousarray(stack, dtype=raw.stored).tobytes())
        lengths.append(np.full(count, len(parts[-1]) // max(count, 1), dtype=np.int64))
        sizes.append(np.tile(np.asarray([height, width], dtype=np.uint16), (count, 1)))
    return Packed(b"".join(parts), np.concatenate(lengths), np.concatenate(sizes))


class BlobWriter:
    """Packs images into shards. An image lies in one shard, and a partition in as few as can be.

    A partition that does not fit behind others in a shard starts one of its own, so that reading
    it opens nobody else's; small ones share a shard, so that a night is a few files.
    """

    def __init__(self, store: Store) -> None:
        self._array = zarr.create_array(
            store,
            name="blob",
            shape=(layout.BLOB_SHARD,),
            chunks=(layout.BLOB_CHUNK,),
            shards=(layout.BLOB_SHARD,),
            dtype="uint8",
            compressors=[Crc32cCodec()],
            fill_value=0,
            overwrite=True,
        )
        self._buffer = np.zeros(layout.BLOB_SHARD, dtype=np.uint8)
        self._shard = 0
        self._used = 0
        self._mark = 0  # where in the shard the current partition starts
        self._offsets: list[IntArray] = []  # of the current partition, as is the next
        self._packed: list[tuple[IntArray, NDArray[np.uint16], NDArray[np.uint32]]] = []

    def end_partition(self) -> ImagePlaces:
        """Say that the images from here on belong to another partition; return where these lie."""
        length, size, checksum = (np.concatenate(v) for v in zip(*self._packed, strict=True))
        places = ImagePlaces(
            np.concatenate(self._offsets), length, size[:, 0], size[:, 1], checksum
        )
        self._mark = self._used
        self._offsets, self._packed = [], []
        return places

    def add(self, images: Packed) -> None:
        """Store some images."""
        ends = np.cumsum(images.length)
        starts = ends - images.length
        data = np.frombuffer(images.data, dtype=np.uint8)
        first = 0
        while first < len(ends):
            done = int(starts[first])
            room = layout.BLOB_SHARD - self._used
            stop = int(np.searchsorted(ends, done + room, side="right"))
            if stop == first:
                self._next_shard()
                continue
            size = int(ends[stop - 1]) - done
            self._buffer[self._used : self._used + size] = data[done : done + size]
            at = self._shard * layout.BLOB_SHARD + self._used - done
            self._offsets.append(starts[first:stop] + at)
            self._used += size
            first = stop
        self._packed.append((images.length, images.size, _checksums(images.data, starts, ends)))

    def finish(self) -> None:
        """Write the last shard."""
        self._write(self._used)

    def _next_shard(self) -> None:
        if self._mark == 0:
            self._write(self._used)
            self._used = 0
        else:  # the earlier partitions stay, this one moves on as a whole
            self._write(self._mark)
            kept = self._used - self._mark
            self._buffer[:kept] = self._buffer[self._mark : self._used].copy()
            for offset in self._offsets:
                offset += layout.BLOB_SHARD - self._mark
            self._used, self._mark = kept, 0
        self._shard += 1

    def _write(self, used: int) -> None:
        start = self._shard * layout.BLOB_SHARD
        if self._array.shape[0] < start + layout.BLOB_SHARD:
            self._array.resize((start + layout.BLOB_SHARD,))
        shard = np.zeros(layout.BLOB_SHARD, dtype=np.uint8)
        shard[:used] = self._buffer[:used]
        self._array[start : start + layout.BLOB_SHARD] = shard


def read_blocks(
    arrays: Arrays,
    blob: zarr.Array[Any],
    places: ImagePlaces,
    raw: RawPixels | None,
    at_once: int,
) -> Iterator[Images]:
    """Yield images in row order, at most ``at_once`` and 64 MiB at a time, verified.

    Raises
    ------
    IntegrityError
        ``places`` are impossible: not what a store ever holds.
    """
    _check(blob, places, raw)
    start = 0
    while start < len(places.offset):
        stop = _block_end(places, start, at_once)
        yield _read_block(arrays, blob, places, start, stop, raw)
        start = stop


def _check(blob: zarr.Array[Any], places: ImagePlaces, raw: RawPixels | None) -> None:
    offset, length = places.offset, places.length
    ends = offset + length
    wrong = (offset < 0) | (length > layout.MOST_IMAGE_BYTES) | (ends > blob.shape[0])
    wrong[1:] |= offset[1:] < ends[:-1]
    if raw is not None:
        samples = places.height.astype(np.int64) * places.width * raw.channels
        wrong |= length != samples * raw.stored.itemsize
    if wrong.any():
        raise IntegrityError(
            f"array {blob.path}: image {int(np.argmax(wrong))} of a partition lies where no image "
            "can; restore the store from a copy or ingest it again"
        )


def _block_end(places: ImagePlaces, start: int, at_once: int) -> int:
    """Return where a block that begins at ``start`` ends: before the next gap, if not earlier."""
    offset = places.offset[start : start + at_once]
    ends = offset + places.length[start : start + at_once]
    count = int(np.searchsorted(ends, offset[0] + MOST_BYTES_AT_ONCE, side="right"))
    count = max(count, 1)
    gaps = np.flatnonzero(offset[1:count] != ends[: count - 1])
    if len(gaps):
        return start + int(gaps[0]) + 1
    if start + count < len(places.offset) and count > WHOLE_BATCHES:
        count -= count % WHOLE_BATCHES
    return start + count


def _read_block(
    arrays: Arrays,
    blob: zarr.Array[Any],
    places: ImagePlaces,
    start: int,
    stop: int,
    raw: RawPixels | None,
) -> Images:
    first = int(places.offset[start])
    starts = places.offset[start:stop] - first
    ends = starts + places.length[start:stop]
    whole, unreadable, damaged = _read_bytes(arrays, blob, first, first + int(ends[-1]))
    found = _checksums(whole.tobytes(), starts, ends)
    wrong = np.flatnonzero(found != places.checksum[start:stop])
    problems = {int(i): "stored bytes differ from their checksum" for i in wrong}
    if problems:  # Zarr takes a file that is not there for zeros
        for shard in range(
            first // layout.BLOB_SHARD, 1 + (first + int(ends[-1])) // layout.BLOB_SHARD
        ):
            low = shard * layout.BLOB_SHARD - first
            name = f"{blob.path}/c/{shard}"
            if low < ends[-1] and not arrays.has(name):
                unreadable[low, low + layout.BLOB_SHARD] = f"{name} is missing"
                damaged += (f"{name} is missing",)
    for (low, high), reason in unreadable.items():
        lost = np.flatnonzero((starts < high) & (ends > low) & (ends > starts))
        problems |= dict.fromkeys(lost.tolist(), reason)
    limits = list(zip(starts.tolist(), ends.tolist(), strict=True))
    for i in problems:
        whole[limits[i][0] : limits[i][1]] = 0
    if raw is None:
        files = [whole[:0] if i in problems else whole[a:b] for i, (a, b) in enumerate(limits)]
        return Images(start, files, problems, None, damaged)
    height, width = places.height[start:stop], places.width[start:stop]
    samples = whole.view(raw.stored)
    if (height == height[0]).all() and (width == width[0]).all():
        stack = samples.reshape(stop - start, int(height[0]), int(width[0]), raw.channels)
        return Images(start, stack, problems, stack, damaged)
    item = raw.stored.itemsize
    arrays_of = [
        samples[a // item : b // item].reshape(h, w, raw.channels)
        for (a, b), h, w in zip(limits, height.tolist(), width.tolist(), strict=True)
    ]
    return Images(start, arrays_of, problems, None, damaged)


def _read_bytes(
    arrays: Arrays, blob: zarr.Array[Any], start: int, stop: int
) -> tuple[ImageBytes, dict[tuple[int, int], str], tuple[str, ...]]:
    """Return a stretch of the blob, the parts that cannot be read and why, and damaged chunks."""
    try:
        whole = arrays.read(blob, start, stop)
    except IntegrityError:
        pass
    else:
        return (whole if whole.flags.writeable else whole.copy()), {}, ()
    # A chunk's own checksum failed. Its images' own checksums say which of them are lost.
    whole = np.zeros(stop - start, dtype=np.uint8)
    unreadable, damaged = {}, []
    chunk = blob.chunks[0]
    for low in range(start // chunk * chunk, stop, chunk):
        part = slice(max(low, start), min(low + chunk, stop))
        try:
            whole[part.start - start : part.stop - start] = arrays.read(blob, part.start, part.stop)
        except IntegrityError as error:
            damaged.append(f"{blob.path}: chunk {low // chunk}")
            saved = arrays.salvage(blob, low // chunk)
            if saved is not None:
                whole[part.start - start : part.stop - start] = saved[
                    part.start - low : part.stop - low
                ]
                continue
            reason = f"stored bytes cannot be read: {error.__cause__ or error}".splitlines()[0]
            unreadable[part.start - start, part.stop - start] = reason[:200]
    return whole, unreadable, tuple(damaged)


def _checksums(data: bytes, starts: IntArray, ends: IntArray) -> NDArray[np.uint32]:
    value = google_crc32c.value
    limits = zip(starts.tolist(), ends.tolist(), strict=True)
    return np.fromiter((value(data[a:b]) for a, b in limits), dtype=np.uint32, count=len(starts))
