"""A preload of a Dask worker: pixels wait at a gate until the test lets them through.

``GATE`` names a folder. A pixel that a worker takes in hand leaves ``PIXEL.PID.begun`` there, and
goes on once ``PIXEL.go`` or ``go`` is there.
"""

from __future__ import annotations

import os
import threading
from functools import wraps
from pathlib import Path


def dask_setup(_worker):
    from engine import task

    folder = Path(os.environ["GATE"])

    def gated(function):
        @wraps(function)
        def wait_then_do(job, work, tick=None):
            (folder / f"{work.pixel}.{os.getpid()}.begun").touch()
            while not ((folder / "go").exists() or (folder / f"{work.pixel}.go").exists()):
                threading.Event().wait(0.02)
            return function(job, work, tick=tick)

        return wait_then_do

    task.annotate_pixel = gated(task.annotate_pixel)
    task.annotate_carefully = gated(task.annotate_carefully)
