"""Gives zarr's thread the time to end.

At the end of a process zarr waits 0.2 s for the thread of its event loop, and then closes the loop
under it: on a busy machine that is a traceback after a command that did all it should.
"""

from __future__ import annotations

import atexit

from zarr.core import sync  # its own ending is registered here, before ours, and comes after it

SECONDS = 60.0


def _end() -> None:
    loop, thread = sync.loop[0], sync.iothread[0]
    if loop is not None and thread is not None and not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
        thread.join(SECONDS)


atexit.register(_end)
