"""A process that hangs is ended, so that whoever gave it the work learns of it.

The clock runs in a thread of the interpreter's own that needs no Python to run
(`faulthandler.dump_traceback_later`): code that hangs in C and never gives back the interpreter's
lock is ended, too.
"""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SHARE_BETWEEN_BEATS = 20  # starting the clock again costs a thread: not at every beat


class _Clock:
    """The one clock of this process: work under way, and when it last moved."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way = 0
        self._limit = 0.0
        self._started = 0.0
        self._null = os.open(os.devnull, os.O_WRONLY)

    def enter(self, limit: float) -> None:
        with self._lock:
            self._under_way += 1
            self._limit = limit
            self._start()

    def leave(self) -> None:
        with self._lock:
            self._under_way -= 1
            if self._under_way:
                self._start()
            else:
                faulthandler.cancel_dump_traceback_later()

    def beat(self) -> None:
        if time.monotonic() - self._started < self._limit / _SHARE_BETWEEN_BEATS:
            return
        with self._lock:
            if self._under_way:
                self._start()

    def _start(self) -> None:
        self._started = time.monotonic()
        # Silent: workers of this machine share their standard error with the driver.
        faulthandler.dump_traceback_later(self._limit, exit=True, file=self._null)


_clock = _Clock()


@contextmanager
def watched(limit: float) -> Iterator[None]:
    """End this process when nothing in it makes progress for so long, until the block is left.

    Several threads may be watched at once; progress of one counts for all, since they may wait
    for each other. The last ``limit`` holds.

    Parameters
    ----------
    limit : float
        Longest time between two calls of `beat` [s].
    """
    _clock.enter(limit)
    try:
        yield
    finally:
        _clock.leave()


def beat() -> None:
    """Say that work goes on. Cheap: may be called for every batch."""
    _clock.beat()
