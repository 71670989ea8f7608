"""A hanging process ends; one that works, however slowly, does not."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

LIMIT = 1.0


def run(body: str) -> subprocess.CompletedProcess[str]:
    code = "import re, sys, threading, time\nfrom engine.watchdog import beat, watched\n" + body
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "hang",
    [
        "threading.Event().wait()",
        "while True: pass",
        "re.match('(a*)*b', 'a' * 60)",  # in C, and the interpreter's lock is never given back
    ],
)
def test_a_hang_ends_the_process_without_a_word(hang: str) -> None:
    began = time.monotonic()
    result = run(f"with watched({LIMIT}):\n    {hang}\n")
    assert time.monotonic() - began >= LIMIT
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "")


def test_beats_of_any_thread_keep_all_alive_until_they_cease() -> None:
    body = f"""
def work():
    with watched({LIMIT}):
        until = time.monotonic() + {3 * LIMIT}
        while time.monotonic() < until:
            time.sleep(0.01)
            beat()
    print('worked', flush=True)

thread = threading.Thread(target=work)
thread.start()
with watched({LIMIT}):
    thread.join()
    threading.Event().wait()
"""
    result = run(body)
    assert result.stdout == "worked\n"
    assert result.returncode == 1


def test_outside_the_block_nothing_is_watched() -> None:
    body = f"with watched({LIMIT / 4}):\n    pass\nbeat()\ntime.sleep({LIMIT})\nprint('alive')\n"
    assert run(body).stdout == "alive\n"
