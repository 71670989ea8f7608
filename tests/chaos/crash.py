"""What a disk may hold after a crash: every prefix of the recorded operations, pessimistically.

Only what was synchronised is certain. The bytes of a file are certain once that file was, the
names in a folder once that folder was. Until then bytes may be absent, short or garbage, and a
change of a name may or may not have happened, whatever was done later. A rename is one change: its
old name is never gone before the new one is there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from chaos.shim import Operation

MOST_FREE = 6  # pending changes of which every subset is tried; of more, some subsets

MOST_DIRTY = 2  # files with uncertain bytes of which every combination is tried


@dataclass(slots=True, eq=False)
class _File:
    content: bytearray = field(default_factory=bytearray)
    certain: bytes = b""

    def variants(self) -> list[bytes]:
        whole = bytes(self.content)
        if whole == self.certain:
            return [whole]
        half = whole[: len(whole) // 2]
        return list(dict.fromkeys([self.certain, half, bytes(len(whole)), whole]))


@dataclass(frozen=True, slots=True, eq=False)
class _Change:
    """A name in a folder becomes a file (or a folder, or nothing)."""

    path: str
    to: _File | str | None  # "folder"
    after: _Change | None = None  # the other half of a rename, which comes first


Names = dict[str, _File | str]


class Disk:
    """A file system below one folder, and what of it is certain."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._now: Names = {root: "folder"}
        self._certain: Names = {root: "folder"}
        self._pending: list[_Change] = []

    def do(self, operation: Operation) -> None:
        """Carry out an operation that succeeded."""
        path, other = operation.path, operation.other
        match operation.kind:
            case "create":
                self._change(path, _File())
            case "mkdir":
                self._change(path, "folder")
            case "unlink":
                self._change(path, None)
            case "link":
                self._change(other, self._now[path])
            case "rename":
                arrival = self._change(other, self._now[path])
                self._change(path, None, arrival)
            case "truncate":
                self._file(path).content.clear()
            case "write":
                content, end = self._file(path).content, operation.offset + len(operation.content)
                content.extend(bytes(max(0, end - len(content))))
                content[operation.offset : end] = operation.content
            case "sync":
                self._sync(path)
            case "open":
                pass
            case kind:
                raise AssertionError(f"what does {kind} do to a disk?")

    def states(self) -> Iterator[dict[str, bytes]]:
        """Yield what may be there if the machine stops now: files by name below the root."""
        for chosen in _subsets(self._pending):
            names = dict(self._certain)
            for change in self._pending:
                if change in chosen:
                    _apply(names, change)
            files = {
                path: file
                for path, file in names.items()
                if isinstance(file, _File) and self._reachable(path, names)
            }
            relative = [path.removeprefix(f"{self._root}/") for path in files]
            for contents in _contents([file.variants() for file in files.values()]):
                yield dict(zip(relative, contents, strict=True))

    def _change(self, path: str, to: _File | str | None, after: _Change | None = None) -> _Change:
        change = _Change(path, to, after)
        _apply(self._now, change)
        self._pending.append(change)
        return change

    def _file(self, path: str) -> _File:
        found = self._now[path]
        assert isinstance(found, _File)
        return found

    def _sync(self, path: str) -> None:
        found = self._now[path]
        if isinstance(found, _File):
            found.certain = bytes(found.content)
            return
        settled = [c for c in self._pending if str(PurePosixPath(c.path).parent) == path]
        settled += [c.after for c in settled if c.after in self._pending]
        for change in [c for c in self._pending if c in settled]:
            _apply(self._certain, change)
            self._pending.remove(change)

    def _reachable(self, path: str, names: Names) -> bool:
        while path != self._root:
            path = str(PurePosixPath(path).parent)
            if names.get(path) != "folder":
                return False
        return True


def crash_states(
    operations: Iterable[Operation], root: str
) -> Iterator[tuple[int, dict[str, bytes]]]:
    """Yield every state after every prefix: the number of its last operation, and the files.

    A state that was yielded before is not yielded again.
    """
    disk = Disk(root)
    seen = set()
    for operation in operations:
        if operation.result < 0:
            continue
        disk.do(operation)
        for files in disk.states():
            key = hash(tuple(sorted(files.items())))
            if key not in seen:
                seen.add(key)
                yield operation.number, files


def _apply(names: Names, change: _Change) -> None:
    if change.to is None:
        names.pop(change.path, None)
    else:
        names[change.path] = change.to


def _contents(variants: list[list[bytes]]) -> Iterator[tuple[bytes, ...]]:
    """Yield what files may hold together: every combination, or of too many files only some."""
    if sum(len(several) > 1 for several in variants) <= MOST_DIRTY:
        yield from itertools.product(*variants)
        return
    for turn in range(max(map(len, variants))):
        yield tuple(several[min(turn, len(several) - 1)] for several in variants)


def _subsets(changes: list[_Change]) -> Iterator[set[_Change]]:
    """Yield subsets of the changes, in which no old name goes before the new one comes."""
    free, bound = changes[-MOST_FREE:], changes[:-MOST_FREE]
    for first in (set(), set(bound)) if bound else (set(),):
        for size in range(len(free) + 1):
            for some in itertools.combinations(free, size):
                chosen = first | set(some)
                if all(c.after is None or c.after in chosen or c.after not in changes
                       for c in chosen):  # fmt: skip
                    yield chosen
