"""What the driver hears of its workers, passed on: to whoever watches, and to other shells."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

from catalogs.progress import Reporter
from engine.ledger import Ledger
from engine.machine import began
from engine.notes import Progress
from engine.summary import Tally

SECONDS_BETWEEN_RECORDS = 2.0


class Heard:
    """Shows progress, and keeps ``run/progress.json`` for `skytally status`."""

    def __init__(self, tally: Tally, ledger: Ledger, reporter: Reporter) -> None:
        self._tally = tally
        self._ledger = ledger
        self._reporter = reporter
        self._began = time.monotonic()
        self._before = tally.rows
        self._recorded = -SECONDS_BETWEEN_RECORDS

    def tick(self, pixel: str, rows: int, bad: int) -> None:
        """Note how far a pixel under way is."""
        self._tally.tick(pixel, rows, bad)
        self.show()

    def show(self) -> None:
        """Tell what is done so far."""
        tally = self._tally
        shares = {
            stage: f"{share:.0%}" for stage, share in tally.shares().items() if share >= 0.005
        }
        self._reporter.progress(
            "annotate", tally.seen, tally.objects, "objects", **shares, bad=tally.bad
        )
        now = time.monotonic()
        if now - self._recorded >= SECONDS_BETWEEN_RECORDS:
            self._recorded = now
            self._record(now - self._began)

    def damage(self, chunk: str, survey: str) -> None:
        """Tell of a part of the survey store that is not what was written."""
        self._reporter.event("damage", chunk=chunk, survey=survey)

    def stop(self, why: str) -> None:
        """Tell that the driver ends here, with work left."""
        with suppress(Exception):  # the disk may be what it ends of
            self._record(time.monotonic() - self._began, why)

    def _record(self, seconds: float, ended: str = "") -> None:
        tally = self._tally
        rate = (tally.seen - self._before) / seconds if seconds else 0.0
        self._ledger.write_progress(
            Progress(
                host=socket.gethostname(),
                process=os.getpid(),
                time=time.time(),
                seen=tally.seen,
                rows=tally.objects,
                bad=tally.bad,
                objects_per_second=round(rate, 1),
                seconds_left=round((tally.objects - tally.seen) / rate) if rate else None,
                shares=tally.shares(),
                began=began(os.getpid()) or 0,
                ended=ended,
            )
        )
