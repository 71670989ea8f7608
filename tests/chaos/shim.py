"""The preloaded library that sees and spoils what a process does to its files; see shim.c."""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("shim.c")
STATE = struct.Struct("15Q")
STOPPED, RELEASED = 2, 3


@dataclass(frozen=True, slots=True)
class Operation:
    """One change below the watched folder, as shim.c describes it."""

    number: int
    process: int
    kind: str
    result: int
    path: str
    other: str
    offset: int
    content: bytes


def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled library; without a compiler, the calling test is skipped."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc, to compile the library that watches files")
    return library_in(tmp_path_factory.getbasetemp())


@lru_cache(maxsize=1)
def library_in(folder: Path) -> Path:
    """Compile the library into a folder."""
    compiled = folder / "shim.so"
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", compiled, SOURCE]
    subprocess.run(command, check=True)
    return compiled


class Shim:
    """What one or more processes do below a folder, and what is done to them.

    Parameters
    ----------
    library : Path
        What `library` returned.
    under : Path
        The folder.
    notes : Path
        An empty or new folder for state and log.
    """

    def __init__(self, library: Path, under: Path, notes: Path) -> None:
        notes.mkdir(parents=True, exist_ok=True)
        self._library = library
        self._under = under
        self._files = {name: notes / name for name in ("state", "log", "data")}
        for path in self._files.values():
            path.write_bytes(b"")
        self._files["state"].write_bytes(bytes(STATE.size))
        with self._files["state"].open("r+b") as stream:
            self._state = mmap.mmap(stream.fileno(), 0)

    def environment(
        self, do: str | None = None, at: int = 0, fail: tuple[str, int, int] | None = None
    ) -> dict[str, str]:
        """Return the variables that a process is started with; ``fail``: kind, from, errno."""
        given = {f"CHAOS_{name.upper()}": str(path) for name, path in self._files.items()}
        given |= {"LD_PRELOAD": str(self._library), "CHAOS_UNDER": str(self._under)}
        if do is not None:
            given |= {"CHAOS_DO": do, "CHAOS_AT": str(at)}
        if fail is not None:
            given["CHAOS_FAIL"] = ":".join(map(str, fail))
        return given

    def started(self, **what: object) -> dict[str, str]:
        """Return the environment of this process with :meth:`environment` in it."""
        return os.environ | self.environment(**what)  # type: ignore[arg-type]

    @property
    def count(self) -> int:
        """Operations so far."""
        return STATE.unpack(self._state)[0]

    @property
    def stopped(self) -> int | None:
        """The process that has stopped, if one has."""
        return STATE.unpack(self._state)[STOPPED] or None

    def release(self) -> None:
        """Let the stopped process go on."""
        struct.pack_into("Q", self._state, 8 * RELEASED, 1)

    def operations(self) -> list[Operation]:
        """Return what was recorded, in order."""
        data = self._files["data"].read_bytes()
        found = []
        for line in self._files["log"].read_text().splitlines():
            number, process, kind, result, path, other, offset, size, at = line.split("\t")
            content = data[int(at) : int(at) + int(size)] if int(size) > 0 else b""
            found.append(
                Operation(
                    int(number), int(process), kind, int(result), path, other, int(offset), content
                )
            )
        return sorted(found, key=lambda operation: operation.number)
