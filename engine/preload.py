"""What every local worker process does first: leave Ctrl-C to the driver.

A terminal sends the interrupt to all processes; the driver stops the workers in order.
"""

from __future__ import annotations

import signal


def dask_setup(_worker: object) -> None:
    """Ignore interrupts; Dask calls this as a worker starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
