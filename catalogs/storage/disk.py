"""Files on a disk that are whole or absent, whatever happens to the process or the machine."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from catalogs.errors import BusyError, InputError, SkytallyError
from catalogs.storage.place import other_bytes

if TYPE_CHECKING:
    from zarr.storage import LocalStore

TEMPORARY_SUFFIX = ".partial"
UNUSABLE = frozenset([errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG])
LINKLESS = frozenset([errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
RETRIABLE = frozenset([errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.EINTR, errno.EBUSY])

_durable: set[Path] = set()  # folders whose names this process has synchronised


class DiskLock:
    """A lock that the system keeps as long as the process lives."""

    def check(self) -> None:
        """Do nothing: it cannot be lost."""


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
        with self._reading(name) as path:
            return path.read_bytes()

    def open(self, name: str) -> BinaryIO:
        """Return a file for reading; see `Place.open`."""
        with self._reading(name) as path:
            return path.open("rb")

    def size(self, name: str) -> int | None:
        """Return a file's size, None when there is none; see `Place.size`."""
        try:
            with self._reading(name) as path:
                found = path.stat()
        except FileNotFoundError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def names(self, under: str = "") -> list[str]:
        """Return every file below a folder; see `Place.names`."""

        def refuse(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                raise disk_error(Path(str(error.filename)), error, "listed") from error

        found = []
        # Path.rglob would pass over a folder that cannot be read, in silence.
        for folder, _, files in os.walk(self.path / under, onerror=refuse):
            found += [Path(folder) / file for file in files]
        return sorted(path.relative_to(self.path).as_posix() for path in found if path.is_file())

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Put a file in place; see `Place.write`."""
        path = self.path / name
        temporary = self._temporary(path, content)
        try:
            temporary.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            _discard(temporary)
            raise disk_error(path, error) from error

    def note(self, name: str, content: bytes | memoryview) -> None:
        """Put a file in place that a power cut may take; see `Place.note`."""
        path = self.path / name
        temporary = self._temporary(path, content, durable=False)
        try:
            temporary.replace(path)
        except OSError as error:
            _discard(temporary)
            raise disk_error(path, error) from error

    def create(self, name: str, content: bytes | memoryview) -> None:
        """Put a file in place if there is none; see `Place.create`."""
        path = self.path / name
        temporary = self._temporary(path, content)
        try:
            _link(temporary, path)
            sync_folder(path.parent)
        except FileExistsError:
            if self.read(name) != bytes(content):
                raise other_bytes(str(path)) from None
            sync_folder(path.parent)  # whoever put it there may have been killed before he did
        except OSError as error:
            raise disk_error(path, error) from error
        finally:
            _discard(temporary)

    def move(self, name: str, to: str) -> None:
        """Rename a file; see `Place.move`."""
        source, target = self.path / name, self.path / to
        try:
            make_folder(target.parent, self.path)
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
        for name in self.names():
            if name.endswith(TEMPORARY_SUFFIX):
                self.remove(name)

    @contextmanager
    def hold(self, name: str) -> Iterator[DiskLock]:
        """Hold a lock; see `Place.hold`. The system frees it when the process ends."""
        lock = self.path / name
        try:
            make_folder(lock.parent, self.path)
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
            yield DiskLock()
        finally:
            os.close(descriptor)

    def _temporary(self, path: Path, content: bytes | memoryview, *, durable: bool = True) -> Path:
        """Write a file beside the one that it shall become."""
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(6)}{TEMPORARY_SUFFIX}")
        try:
            make_folder(path.parent, self.path)
            with temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                if durable:
                    os.fsync(stream.fileno())
        except OSError as error:
            _discard(temporary)
            raise disk_error(path, error) from error
        return temporary

    @contextmanager
    def _reading(self, name: str) -> Iterator[Path]:
        path = self.path / name
        try:
            yield path
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"{path} does not exist") from None
        except OSError as error:
            raise disk_error(path, error, "read") from error

    def zarr(self, *, read_only: bool = True) -> LocalStore:
        """Return the folder as a Zarr store."""
        from zarr.storage import LocalStore

        from catalogs.storage import zarr_thread  # noqa: F401

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


def make_folder(folder: Path, root: Path) -> None:
    """Make a folder below ``root``, and ``root``; their names are durable then.

    A folder that is there already may have been made a moment ago by a process that has not got
    further, so each process synchronises it once, too.
    """
    outside = folder == root or not folder.is_relative_to(root)
    if folder.is_dir() and (outside or folder in _durable):
        return
    make_folder(folder.parent, root)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)
    _durable.add(folder)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(temporary: Path, path: Path) -> None:
    """Give a file its name unless that is taken, which a rename would not notice."""
    try:
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in LINKLESS:
            raise
        # A file system without links. Between the look and the rename only an equal process could
        # come, as there is one driver and a name stands for its bytes.
        if path.exists():
            raise FileExistsError(str(path)) from None
        temporary.replace(path)


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the write's own error is the one to tell
