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

    def progress(self, stage: str, done: int, total: int, unit: str, **facts: object) -> None:
        """Report that ``done`` of ``total`` units of a stage are finished, with named facts."""


class Silent:
    """A reporter that shows nothing."""

    def event(self, name: str, **fields: object) -> None:
        """Ignore the event."""

    def progress(self, stage: str, done: int, total: int, unit: str, **facts: object) -> None:
        """Ignore the progress."""


class _Rates:
    """Units a second of each stage since it was first heard of; a resumed one starts above 0."""

    def __init__(self) -> None:
        self._began: dict[str, tuple[float, int]] = {}

    def of(self, stage: str, done: int, total: int) -> float | None:
        now = time.monotonic()
        began, before = self._began.setdefault(stage, (now, done))
        if done >= total:
            del self._began[stage]  # the next survey has a stage of this name, too
        return (done - before) / (now - began) if now > began else None


class JsonEvents:
    """Events as JSON lines on standard error, progress at most every few seconds."""

    def __init__(self) -> None:
        self._last = -EVENT_SECONDS
        self._rates = _Rates()

    def event(self, name: str, **fields: object) -> None:
        """Show the event."""
        sys.stderr.write(json.dumps({"event": name, **fields}, default=str) + "\n")
        sys.stderr.flush()

    def progress(self, stage: str, done: int, total: int, unit: str, **facts: object) -> None:
        """Show the progress."""
        rate = self._rates.of(stage, done, total)
        now = time.monotonic()
        if done < total and now - self._last < EVENT_SECONDS:
            return
        self._last = now
        self.event(
            "progress",
            stage=stage,
            done=done,
            total=total,
            unit=unit,
            per_second=None if rate is None else round(rate, 1),
            seconds_left=round((total - done) / rate) if rate else None,
            **facts,
        )


class Bars:
    """One progress bar a stage, on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._rates = _Rates()

    def event(self, name: str, **fields: object) -> None:
        """Show the event."""
        said = ", ".join(f"{key} {value}" for key, value in fields.items())
        self._console.print(f"{name}: {said}", style="dim", highlight=False, markup=False)

    def progress(self, stage: str, done: int, total: int, unit: str, **facts: object) -> None:
        """Show the progress."""
        per_second = self._rates.of(stage, done, total)
        if self._bars is None:
            self._bars = self._started()
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total, rate="")
        rate = unit if per_second is None else f"{per_second:,.0f} {unit}/s"
        rate = ", ".join([rate, *(f"{key} {value}" for key, value in facts.items() if value)])
        self._bars.update(self._tasks[stage], completed=done, total=total, rate=rate)
        if done >= total:
            self.close()

    def close(self) -> None:
        """Leave the bars as they are and give the terminal back."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def _started(self) -> Any:  # noqa: ANN401  (rich is imported only on a terminal)
        from rich import progress as rich_progress

        bars = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TextColumn("{task.fields[rate]}"),
            rich_progress.TimeRemainingColumn(),
            console=self._console,
        )
        bars.start()
        return bars
