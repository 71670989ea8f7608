"""`skytally annotate` as people run it: a process group, watched, stopped, killed, resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.forks import ROOT

PATIENCE = 120.0  # seconds; whatever is awaited comes within, or the test fails
LINGER = 30.0  # seconds that processes may take to notice that their driver is gone
SITE = Path(__file__).with_name("site")


def wait_until(true: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Look until something is so; an error when it never is."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"in {seconds:.0f} s it never came about that {what}")
        time.sleep(0.002)


def said_by(errors: str) -> list[str]:
    """Return the lines of standard error that are not events of progress."""
    return [line for line in errors.splitlines() if not line.startswith('{"event"')]


@dataclass(frozen=True, slots=True)
class Command:
    """What is annotated into what."""

    survey: Path
    model: Path
    catalog: Path
    options: tuple[str, ...] = ("--decoder", "reference", "--max-bad", "1")

    def line(self, *more: str) -> list[str]:
        """Return the command line."""
        where = [str(self.survey), "--model", str(self.model), "--to", str(self.catalog)]
        return [sys.executable, "-m", "skytally", "annotate", *where, *self.options, *more]


class Group:
    """Processes that one command started, all in a session of their own."""

    def __init__(
        self,
        line: Sequence[str | Path],
        errors: Path,
        environment: dict[str, str] | None = None,
        broken: str | None = None,
    ) -> None:
        self._errors = errors
        paths = os.pathsep.join(map(str, (SITE, ROOT, ROOT / "tests")))
        given = os.environ | {"PYTHONPATH": paths} | (environment or {})
        if broken:
            given["CHAOS_BROKEN"] = broken
        with errors.open("wb") as stream:
            self.process = subprocess.Popen(
                line, stdout=subprocess.DEVNULL, stderr=stream, env=given, start_new_session=True
            )

    @property
    def said(self) -> str:
        """Everything on standard error so far."""
        return self._errors.read_text()

    def ended(self) -> bool:
        """Say whether the command itself has ended."""
        return self.process.poll() is not None

    def wait(self) -> int:
        """Wait for the command's end; its exit status, or minus the signal."""
        return self.process.wait(timeout=PATIENCE)

    def members(self) -> list[int]:
        """Return the processes of the session that live."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.process.pid and fields[0] != "Z":
                found.append(int(stat.parent.name))
        return sorted(found)

    def workers(self) -> list[int]:
        """Return the worker processes of a local cluster."""
        return [pid for pid in self.members() if b"spawn_main" in _command_of(pid)]

    def kill(self, *pids: int) -> None:
        """Kill processes of this group, at once."""
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def end(self) -> None:
        """Kill whatever of the group lives."""
        self.kill(*self.members())
        self.process.wait()

    def left_behind(self) -> list[int]:
        """Return the processes that do not end although the command has, and kill them."""
        try:
            wait_until(lambda: not self.members(), "every process had ended", LINGER)
        except TimeoutError:
            left = self.members()
            self.kill(*left)
            return left
        return []


def _command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
