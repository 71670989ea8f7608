"""How long-running parts tell their caller what they are doing; they never print themselves."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Protocol

EVENT_SECONDS = 5.0  # between two progress events when standard error is no terminal


class Reporter(Protocol):
    """Receives events and progress; the command line shows them, a library caller may not."""

    def event(self, name: str, **fields: object) -> None:
        """Report something that happened once, with named facts."""

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        """Report that ``done`` of ``total`` units of a stage are finished."""


class Silent:
    """A reporter that shows nothing."""

    def event(self, name: str, **fields: object) -> None:
        """Ignore the event."""

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        """Ignore the progress."""


class JsonEvents:
    """Events as JSON lines on standard error, progress at most every few seconds."""

    def __init__(self) -> None:
        self._last = -EVENT_SECONDS
        self._began: dict[str, float] = {}

    def event(self, name: str, **fields: object) -> None:
        """Show the event."""
        sys.stderr.write(json.dumps({"event": name, **fields}, default=str) + "\n")
        sys.stderr.flush()

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        """Show the progress."""
        now = time.monotonic()
        began = self._began.setdefault(stage, now)
        if done < total and now - self._last < EVENT_SECONDS:
            return
        self._last = now
        rate = round(done / (now - began), 1) if now > began else None
        self.event("progress", stage=stage, done=done, total=total, unit=unit, per_second=rate)


class Bars:
    """One progress bar a stage, on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]} {task.speed:.0f}/s"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._tasks: dict[str, Any] = {}

    def event(self, name: str, **fields: object) -> None:
        """Show the event."""
        said = ", ".join(f"{key} {value}" for key, value in fields.items())
        self._console.print(f"{name}: {said}", style="dim", highlight=False, markup=False)

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        """Show the progress."""
        if stage not in self._tasks:
            self._progress.start()
            self._tasks[stage] = self._progress.add_task(stage, total=total, unit=unit)
        self._progress.update(self._tasks[stage], completed=done, total=total)
        if done >= total:
            self._progress.stop()
