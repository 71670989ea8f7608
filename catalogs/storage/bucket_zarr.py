"""A bucket's folder as a Zarr store: zarr's own, with this package's patience and errors."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from obstore.exceptions import BaseError
from zarr.abc.store import ByteRequest, RangeByteRequest
from zarr.storage import ObjectStore

from catalogs.storage import zarr_thread  # noqa: F401
from catalogs.storage.patience import Attempts

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer, BufferPrototype

    from catalogs.storage.bucket import Bucket

Result = TypeVar("Result")

# Zarr asks for the chunks of a shard one after the other, an answer's delay each. A chunk as large
# as an image blob's is seldom wanted alone, so its surroundings come along.
LARGE_REQUEST = 1 << 19
WINDOW = 1 << 23
WINDOWS_KEPT = 4


class BucketStore(ObjectStore[Any]):
    """Zarr's object store; objects must not change while it is open.

    Raises what `catalogs.storage.patience.patiently` raises; an object that is not there is None.
    """

    def __init__(self, bucket: Bucket, *, read_only: bool = False) -> None:
        super().__init__(bucket.store, read_only=read_only)
        self.bucket = bucket
        self._windows: OrderedDict[tuple[str, int], asyncio.Future[Buffer | None]] = OrderedDict()

    def with_read_only(self, read_only: bool = False) -> BucketStore:
        """Return the same store for reading or for writing."""
        return BucketStore(self.bucket, read_only=read_only)

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.bucket.url, "read_only": self.read_only}

    def __setstate__(self, state: dict[str, Any]) -> None:
        from catalogs.storage.bucket import Bucket

        self.__init__(Bucket(state["url"]), read_only=state["read_only"])  # type: ignore[misc]

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return an object's bytes, or some of them."""
        if (
            isinstance(byte_range, RangeByteRequest)
            and byte_range.end - byte_range.start >= LARGE_REQUEST
        ):
            return await self._from_windows(key, prototype, byte_range)
        return await self._get(key, prototype, byte_range)

    async def exists(self, key: str) -> bool:
        """Say whether there is such an object."""
        return await self._patiently(key, "looked at", lambda: super(BucketStore, self).exists(key))

    async def set(self, key: str, value: Buffer) -> None:
        """Put an object, whole and proven; see `Place.write`."""
        self._check_writable()
        await asyncio.to_thread(self.bucket.write, key, value.to_bytes())

    async def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        self._check_writable()
        await asyncio.to_thread(self.bucket.remove, key)

    async def delete_dir(self, prefix: str) -> None:
        """Remove all objects below a folder."""
        async for key in self.list_prefix(prefix):
            await self.delete(key)

    def list(self) -> AsyncGenerator[str, None]:
        """Yield every object's name."""
        return self.list_prefix("")

    async def list_prefix(self, prefix: str) -> AsyncGenerator[str, None]:
        """Yield the names below a folder."""
        for name in await asyncio.to_thread(self.bucket.names, prefix.rstrip("/")):
            yield name

    async def list_dir(self, prefix: str) -> AsyncGenerator[str, None]:
        """Yield what a folder holds, folders once."""
        inside = prefix.strip("/")
        seen: dict[str, None] = {}
        async for name in self.list_prefix(inside):
            seen[name.removeprefix(inside).lstrip("/").partition("/")[0]] = None
        for name in seen:
            yield name

    async def _get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None
    ) -> Buffer | None:
        return await self._patiently(
            key, "read", lambda: super(BucketStore, self).get(key, prototype, byte_range)
        )

    async def _from_windows(
        self, key: str, prototype: BufferPrototype, wanted: RangeByteRequest
    ) -> Buffer | None:
        parts = []
        for number in range(wanted.start // WINDOW, -(-wanted.end // WINDOW)):
            window = await self._window(key, prototype, number)
            if window is None:
                return None
            base = number * WINDOW
            start, stop = max(wanted.start - base, 0), min(wanted.end - base, WINDOW)
            parts.append(window[start:stop])
        first, *rest = parts
        return first.combine(rest) if rest else first

    async def _window(self, key: str, prototype: BufferPrototype, number: int) -> Buffer | None:
        where = (key, number)
        found = self._windows.get(where)
        if found is None:
            wanted = RangeByteRequest(number * WINDOW, (number + 1) * WINDOW)
            found = asyncio.ensure_future(self._get(key, prototype, wanted))
            self._windows[where] = found
            while len(self._windows) > WINDOWS_KEPT:
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end(where)
        try:
            return await found
        except BaseException:
            self._windows.pop(where, None)
            raise

    async def _patiently(
        self, key: str, verb: str, call: Callable[[], Awaitable[Result]]
    ) -> Result:
        what = f"{self.bucket.url}/{key} cannot be {verb}"
        attempts = Attempts(what, self.bucket.patience)
        while True:
            try:
                return await call()
            except BaseError as error:
                await asyncio.sleep(attempts.wait_after(error))
