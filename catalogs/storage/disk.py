"""Files on a disk that are whole or absent, whatever happens to the process or the machine."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from catalogs.errors import BusyError, InputError, IntegrityError, SkytallyError

if TYPE_CHECKING:
    from zarr.storage import LocalStore

TEMPORARY_SUFFIX = ".partial"
UNUSABLE = frozenset([errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG])
RETRIABLE = frozenset([errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.EINTR, errno.EBUSY])


class Disk:
    """A folder on a disk; see :class:`catalogs.storage.place.Place`."""

    def __init__(self, folder: Path) -> None:
        self.path: Path = Path(os.path.abspath(folder))  # noqa: PTH100  (links stay as given)

    @property
    def url(self) -> str:
        """The absolute path."""
        return str(self.path)

    def read(self, name: str) -> bytes:
        """Return a file's bytes; see `Place.read`."""
        path = self.path / name
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"{path} does not exist") from None
        except OSError as error:
            raise disk_error(path, error, "read") from error

    def size(self, name: str) -> int | None:
        """Return a file's size, None when there is none; see `Place.size`."""
        path = self.path / name
        return path.stat().st_size if path.is_file() else None

    def names(self, under: str = "") -> list[str]:
        """Return every file below a folder; see `Place.names`."""
        found = (self.path / under).rglob("*")
        return sorted(path.relative_to(self.path).as_posix() for path in found if path.is_file())

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Put a file in place; see `Place.write`."""
        path = self.path / name
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(6)}{TEMPORARY_SUFFIX}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            _discard(temporary)
            raise disk_error(path, error) from error

    def create(self, name: str, content: bytes | memoryview) -> None:
        """Put a file in place if there is none; see `Place.create`."""
        try:
            there = self.read(name)
        except FileNotFoundError:
            self.write(name, content)
            return
        if there != bytes(content):
            raise IntegrityError(
                f"{self.path / name} holds other bytes than this run gives; "
                "annotate into another catalog"
            )

    def move(self, name: str, to: str) -> None:
        """Rename a file; see `Place.move`."""
        source, target = self.path / name, self.path / to
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
            sync_folder(target.parent)
            sync_folder(source.parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise disk_error(target, error) from error

    def remove(self, name: str) -> None:
        """Remove a file, if it is there; see `Place.remove`."""
        try:
            (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(self.path / name, error) from error

    def remove_leftovers(self) -> None:
        """Remove temporary files; see `Place.remove_leftovers`."""
        for path in self.path.rglob(f"*{TEMPORARY_SUFFIX}"):
            path.unlink(missing_ok=True)

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Hold a lock; see `Place.hold`. The system frees it when the process ends."""
        lock = self.path / name
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise disk_error(lock, error) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(
                    f"another process writes into {self.path}; wait for it, or stop it"
                ) from None
            yield
        finally:
            os.close(descriptor)

    def zarr(self, *, read_only: bool = True) -> LocalStore:
        """Return the folder as a Zarr store."""
        from zarr.storage import LocalStore

        return LocalStore(self.path, read_only=read_only)


def disk_error(path: Path, error: OSError, verb: str = "written") -> SkytallyError:
    """Return the exception that tells a user what the disk said, and what to do."""
    if error.errno in UNUSABLE:
        return InputError(f"{path} cannot be made: {error.strerror}; name another place")
    if error.errno in RETRIABLE:
        return BusyError(f"{path} cannot be {verb} now: {error.strerror}; run the command again")
    remedy = "free some space" if error.errno == errno.ENOSPC else "see to the disk or its rights"
    return SkytallyError(
        f"{path} cannot be {verb}: {error.strerror}; {remedy} and run the same command again"
    )


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the write's own error is the one to tell
