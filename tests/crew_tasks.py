# ruff: noqa: ARG001  (every task has the same arguments)
"""Tasks that a test's workers do; a module of its own, so that workers can import it."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from engine.watchdog import watched


def done_once(folder: str, item: str, tick=None) -> str:
    """Leave a file that says by whom the item was done."""
    Path(folder, item).write_text(f"{os.getpid()} quick")
    return item


def done_carefully(folder: str, item: str, tick=None) -> str:
    Path(folder, item).write_text(f"{os.getpid()} careful")
    return item


def negligible(shared: object, item: object, tick=None) -> object:
    return item


def size_of(shared: bytes, item: int, tick=None) -> int:
    return len(shared) + item


def killed(folder: str, item: str, tick=None) -> str:
    """Some items end the process that does them."""
    if item.startswith("killer"):
        os.kill(os.getpid(), signal.SIGKILL)
    return done_once(folder, item)


def killed_always(folder: str, item: str, tick=None) -> str:
    return killed(folder, item)


def hang(folder: str, item: str, tick=None) -> str:
    with watched(2.0):
        while item.startswith("hang"):
            pass
    return done_once(folder, item)


def stopped(folder: str, item: str, tick=None) -> str:
    """Some items stop the process that does them, its clocks too."""
    if item.startswith("stop"):
        os.kill(os.getpid(), signal.SIGSTOP)
    return done_once(folder, item)


def ticking(shared: object, item: str, tick=None) -> str:
    """Tick for two seconds."""
    for rows in range(1, 40):
        tick(rows, 1)
        threading.Event().wait(0.05)
    return item


def wait_for_file(folder: str, item: str, tick=None) -> str:
    """Say that the item is under way, then wait until the file ``go`` is there."""
    Path(folder, f"{item}.{os.getpid()}.begun").touch()
    while not Path(folder, "go").exists():
        threading.Event().wait(0.02)
        tick(1, 0)
    return done_once(folder, item)
