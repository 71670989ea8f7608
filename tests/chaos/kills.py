"""One run of `skytally annotate`, killed at a moment that a seed chooses, then resumed.

The moment is an operation on the catalog's files, counted through all processes: whoever comes to
it stops there, the victims are killed, and he goes on if he is not among them.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chaos.checks import differences, false_receipts, files_of
from chaos.runs import Command, Group, said_by, wait_until
from chaos.shim import Operation, Shim

from catalogs.errors import SkytallyError

Victim = Literal["driver", "worker", "workers", "everything", "scheduler"]
VICTIMS: tuple[Victim, ...] = ("driver", "worker", "workers", "scheduler", "everything")
WORKERS = 2
IN_FLIGHT = 3  # pixels of one worker: two threads, and a result that was not fetched yet
ALLOWED = {
    "driver": {-9},
    "everything": {-9},
    "worker": {0},
    "workers": {0, 75},
    "scheduler": {0, 20, 75},  # 0 when the last pixel was done: writing metadata needs no cluster
}


@dataclass(frozen=True, slots=True)
class Kill:
    """Who is killed at which operation."""

    seed: int
    victim: Victim
    at: int

    @classmethod
    def of(cls, seed: int, operations: int) -> Kill:
        """Return what a seed stands for, in a run of so many operations."""
        return cls(seed, VICTIMS[seed % len(VICTIMS)], random.Random(seed).randint(8, operations))


@dataclass(frozen=True, slots=True)
class Killed:
    """What was there after a kill, when every process had ended, and after resuming.

    ``missing`` tells what differed from an uninterrupted run before anything was resumed.
    """

    kill: Kill
    happened: bool
    status: int
    said: list[str]
    left_behind: list[int]
    false: list[str]
    missing: list[str]
    receipts: int
    redone: int
    resumed: list[str]

    def violations(self) -> list[str]:
        """Return what must not be."""
        wrong = [f"receipt after the kill: {line}" for line in self.false]
        wrong += [f"process {pid} was left behind" for pid in self.left_behind]
        wrong += [f"after resuming: {line}" for line in self.resumed]
        allowed = ALLOWED[self.kill.victim] if self.happened else {0}
        if self.status not in allowed:
            wrong.append(f"exit status {self.status}, not one of {sorted(allowed)}")
            wrong += self.said[-1:]
        if self.status == 0:
            wrong += [f"exit status 0, but {line}" for line in self.missing]
        if self.status in (20, 75) and len(self.said) != 1:
            wrong.append(f"said {len(self.said)} lines: {self.said}")
        bound = IN_FLIGHT * (1 if self.kill.victim == "worker" else WORKERS)
        if self.redone > bound:
            wrong.append(f"{self.redone} pixels were written again, at most {bound} in flight")
        return wrong


def kill_and_resume(
    command: Command,
    clean: Path,
    kill: Kill,
    shim: Shim,
    notes: Path,
    resume: Callable[[Command], int],
    broken: str | None = None,
) -> Killed:
    """Annotate, kill, and annotate again.

    ``resume`` annotates again and returns the number of objects that this took.
    """
    environment = shim.environment(do="stop", at=kill.at)
    with ExitStack() as stack:
        options = ["--workers", str(WORKERS)]
        others: list[Group] = []
        if kill.victim == "scheduler":
            others = _cluster(notes, environment, stack)
            options = ["--cluster", json.loads((notes / "scheduler").read_text())["address"]]
            environment = shim.environment(do="stop", at=kill.at)
        run = Group(command.line(*options), notes / "stderr", environment, broken)
        stack.callback(run.end)
        wait_until(lambda: bool(shim.stopped) or run.ended(), "an operation came, or the end")
        happened = not run.ended()
        if happened:
            victims = {
                "driver": lambda: [run.process.pid],
                "worker": lambda: run.workers()[:1],
                "workers": run.workers,
                "everything": run.members,
                "scheduler": lambda: [others[0].process.pid],
            }[kill.victim]()
            happened = bool(victims)  # an early moment may come before there are workers
            (others[0] if others else run).kill(*victims)
            shim.release()
        status = run.wait()
        left = run.left_behind()
    files = files_of(command.catalog)
    false = false_receipts(files)
    missing = differences(command.catalog, clean)
    receipts = sum(name.startswith("run/receipts/") for name in files)
    before = _rows(files)
    left_to_do = _rows(files_of(clean)) - before
    resumed = []
    try:
        annotated = resume(command)
    except SkytallyError as error:
        resumed.append(str(error))
    else:
        if annotated != left_to_do:
            resumed.append(f"{annotated} objects were annotated, {left_to_do} had no receipt")
    resumed += differences(command.catalog, clean) + false_receipts(files_of(command.catalog))
    return Killed(
        kill,
        happened,
        status,
        said_by(run.said),
        left,
        false,
        missing,
        receipts,
        _redone(shim.operations()),
        resumed,
    )


def _cluster(notes: Path, environment: dict[str, str], stack: ExitStack) -> list[Group]:
    """Start a scheduler and its workers; the scheduler comes first."""
    file = notes / "scheduler"
    file.unlink(missing_ok=True)
    common = ["--no-dashboard", "--scheduler-file", str(file)]
    python = [sys.executable, "-m"]
    lines = [[*python, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]]
    lines += [[*python, "distributed.cli.dask_worker", "--nthreads", "2", "--no-nanny"]] * WORKERS
    started = []
    for i, line in enumerate(lines):
        group = Group([*line, *common], notes / f"cluster{i}", environment)
        stack.callback(group.end)
        started.append(group)
        wait_until(lambda: _is_whole(file), "the scheduler had written its address")
    return started


def _is_whole(file: Path) -> bool:
    """Say whether a JSON file is there and written to its end; the scheduler does not rename."""
    try:
        json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return False
    return True


def _rows(files: dict[str, bytes]) -> int:
    """Count the objects of which the newest receipts speak."""
    newest = {
        name.rpartition("/")[2].split(".")[0]: content
        for name, content in sorted(files.items())
        if name.startswith("run/receipts/") and name.endswith(".json")
    }
    return sum(part["rows"] for text in newest.values() for part in json.loads(text)["parts"])


def _redone(operations: list[Operation]) -> int:
    """Count how often a pixel's file came to its place once more."""
    arrived = Counter(
        operation.other
        for operation in operations
        if operation.kind == "rename" and operation.result == 0 and "Npix=" in operation.other
    )
    return sum(times - 1 for times in arrived.values())
