"""What a driver tells other shells. Nothing depends on it: a power cut may leave anything."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a driver is, for other shells.

    Attributes
    ----------
    host : str
    process : int
        The driver's.
    time : float
        When it said so [s since 1970].
    seen, rows, bad : int
        Objects that are done or under way, all objects, and bad ones among those seen.
    objects_per_second : float
    seconds_left : int or None
        None while there is no rate.
    shares : dict of str to float
        Each stage's share of the workers' time.
    began : int
        When the process began, as its system counts: another one may have its number now.
    ended : str
        Why it ended before its work was done; empty while it is at work, and when it was killed.
    """

    host: str
    process: int
    began: int
    ended: str
    time: float
    seen: int
    rows: int
    bad: int
    objects_per_second: float
    seconds_left: int | None
    shares: dict[str, float]


@dataclass(frozen=True, slots=True)
class Said:
    """One sentence of a summary."""

    said: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What of a run's summary is read back."""

    rows: int
    limit: Said | None
