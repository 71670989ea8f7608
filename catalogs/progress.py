"""How long-running parts tell their caller what they are doing; they never print themselves."""

from __future__ import annotations

from typing import Protocol


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
