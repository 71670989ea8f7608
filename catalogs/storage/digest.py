"""What identifies a file or a folder of files: one sha256 that a shell can make again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from catalogs.storage.place import Place, each

FILE = "sha256sum FILE"
LIST = "sha256sum of the files, in order of name (LC_ALL=C), through sha256sum"
SIZES = "sizes and names of the files, in order of name, through sha256sum"
_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class Digest:
    """A sha256 in hex, and ``of`` what it is."""

    sha256: str
    of: str


def of_file(place: Place, name: str) -> Digest:
    """Return the digest of a file's bytes; they are not held.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    """
    digest = hashlib.sha256()
    with place.open(name) as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return Digest(digest.hexdigest(), FILE)


def of_files(place: Place, names: Iterable[str]) -> Digest:
    """Return the digest of a folder's files; of their sizes alone where these lie in a bucket."""
    chosen = sorted(names, key=str.encode)
    if place.path is None:
        sizes = zip(each(place, place.size, chosen), chosen, strict=True)
        return _of_lines((f"{size} {name}" for size, name in sizes), SIZES)
    return of_list((name, of_file(place, name).sha256) for name in chosen)


def of_list(files: Iterable[tuple[str, str]]) -> Digest:
    """Return the digest of files whose digests are known: pairs of name and sha256."""
    ordered = sorted(files, key=lambda file: file[0].encode())
    return _of_lines((f"{sha256}  {name}" for name, sha256 in ordered), LIST)


def _of_lines(lines: Iterable[str], of: str) -> Digest:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return Digest(digest.hexdigest(), of)
