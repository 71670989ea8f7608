"""Files that are whole or absent, whatever happens to the process or the machine."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from catalogs.annotated.names import TEMPORARY_SUFFIX
from catalogs.errors import BusyError, InputError, SkytallyError

UNUSABLE = frozenset([errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG])
RETRIABLE = frozenset([errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.EINTR, errno.EBUSY])


def write_file(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that it appears whole, and stays after a power cut.

    Order: temporary name in the same folder, fsync, rename, fsync of the folder.

    Raises
    ------
    SkytallyError
        The disk is full or failing; `BusyError` where trying again may help. Nothing that was
        there before is lost.
    """
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
        _remove(temporary)
        raise disk_error(path, error) from error


def disk_error(path: Path, error: OSError) -> SkytallyError:
    """Return the exception that tells a user what the disk said, and what to do."""
    if error.errno in UNUSABLE:
        return InputError(f"{path} cannot be made: {error.strerror}; name another place")
    if error.errno in RETRIABLE:
        return BusyError(f"{path} cannot be written now: {error.strerror}; run the command again")
    remedy = "free some space" if error.errno == errno.ENOSPC else "see to the disk or its rights"
    return SkytallyError(
        f"{path} cannot be written: {error.strerror}; {remedy} and run the same command again"
    )


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the write's own error is the one to tell
