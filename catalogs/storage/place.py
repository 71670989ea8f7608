"""One folder of files, wherever it lies; surveys and catalogs touch storage only through this.

A place promises: a file is whole or absent, and durable once `Place.write` or `Place.create`
returns. What a crash leaves behind is a temporary file that nobody reads.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeVar
from urllib.parse import urlsplit

from catalogs.errors import IntegrityError
from catalogs.parallel import bounded_map

if TYPE_CHECKING:
    from zarr.abc.store import Store


Item = TypeVar("Item")
Result = TypeVar("Result")

REQUESTS = 16  # under way at once to a bucket, which answers each after a while


class Lock(Protocol):
    """A lock that is held."""

    def check(self) -> None:
        """Make sure that the lock is still held; asked between two steps of long work.

        Raises
        ------
        BusyError
            It was lost: the storage could not be reached for too long, or somebody took it over.
        """


class Place(Protocol):
    """A folder. Names are relative, with ``/`` between parts, on every kind of storage.

    Attributes
    ----------
    url : str
        Where it is, as `open_place` takes it: an absolute path, or ``s3://bucket/prefix``.
    path : Path or None
        The folder when it is on a disk of this machine.
    """

    @property
    def url(self) -> str: ...  # noqa: D102

    @property
    def path(self) -> Path | None: ...  # noqa: D102

    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        BusyError, SkytallyError
            It cannot be read now, or at all.
        """

    def open(self, name: str) -> BinaryIO:
        """Return a file for reading here and there; errors as for `read`."""

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes, None when there is no such file."""

    def names(self, under: str = "") -> list[str]:
        """Return every file below a folder, sorted, relative to the place. Never proof of work."""

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Put a file in place, whole and durable, whatever was there before.

        Raises
        ------
        BusyError, SkytallyError
            The storage is full, failing, or not answering; what was there before is still there.
        """

    def note(self, name: str, content: bytes | memoryview) -> None:
        """Put a file in place, whole, that nothing depends on: a power cut may take it."""

    def create(self, name: str, content: bytes | memoryview) -> None:
        """Put a file in place if there is none of that name, whole and durable.

        The same bytes already there are this call's own, earlier and unanswered, or an equal
        process's: success.

        Raises
        ------
        IntegrityError
            Other bytes are there.
        BusyError, SkytallyError
            As for `write`.
        """

    def move(self, name: str, to: str) -> None:
        """Rename a file, replacing what is there; durable. Nothing happens if it moved already."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def remove_leftovers(self) -> None:
        """Remove temporary files of processes that were killed; only for the one driver."""

    def hold(self, name: str) -> AbstractContextManager[Lock]:
        """Be the only holder of the lock ``name`` until the block ends, or the process does.

        On a disk the system frees the lock of a process that was killed at once; in a bucket it is
        taken over after a time without signs of life, during which this call waits.

        Raises
        ------
        BusyError
            Another process is.
        """

    def zarr(self, *, read_only: bool = True) -> Store:
        """Return the folder as a Zarr store."""


def is_remote(where: str | Path) -> bool:
    """Tell a URL such as ``s3://bucket/survey.zarr`` from a path."""
    return isinstance(where, str) and "://" in where and urlsplit(where).scheme != "file"


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_place(where: str | Path) -> Place:
    """Return the place at a path or URL; nothing is read or made yet.

    Raises
    ------
    InputError
        The URL's kind of storage is unknown, or what it needs is not installed.
    """
    if is_remote(where):
        from catalogs.storage.bucket import Bucket

        return Bucket(str(where))
    from catalogs.storage.disk import Disk

    return Disk(Path(str(where).removeprefix("file://")))


def above(place: Place) -> list[Place]:
    """Return the folders that a place lies in, the nearest first; links are followed."""
    if place.path is not None:
        return [open_place(folder) for folder in place.path.resolve().parents]
    scheme, _, rest = place.url.partition("://")
    bucket, *parts = rest.strip("/").split("/")
    return [
        open_place(f"{scheme}://{'/'.join((bucket, *parts[:n]))}")
        for n in range(len(parts) - 1, -1, -1)
    ]


def each(
    place: Place, function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """Yield ``function(item)`` in order; in a bucket, several requests are under way at once."""
    if place.path is not None:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(REQUESTS) as executor:
        yield from bounded_map(executor, function, items, 4 * REQUESTS)


def other_bytes(where: str) -> IntegrityError:
    """Return the error of a `Place.create` that finds something else in its place."""
    return IntegrityError(
        f"{where} holds other bytes than this run gives; annotate into another catalog"
    )
