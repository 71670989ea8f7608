"""On a terminal: bars instead of JSON lines, and nothing left behind by Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow.parquet import read_metadata
from surveys import encode, scattered, small_image, write_small_survey

from catalogs.progress import Bars


class Terminal:
    """A pseudo-terminal that keeps what is written to it."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        self._parts: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 4096)
            except OSError:  # the last writer has closed its side
                return
            self._parts.append(data)

    def close(self) -> str:
        os.close(self.theirs)
        self._reader.join()
        os.close(self._ours)
        return b"".join(self._parts).decode()


def on_terminal(*arguments: object) -> tuple[int, str, str]:
    terminal = Terminal()
    process = subprocess.run(
        [sys.executable, "-m", "skytally", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=terminal.theirs,
        text=True,
        timeout=300,
        check=False,
    )
    return process.returncode, process.stdout, terminal.close()


def test_ingest_annotate_and_audit_show_bars(brightness, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    ra, dec = scattered(300)
    lines = ["id,ra,dec"]
    for row in range(300):
        (images / f"{row}.png").write_bytes(encode(small_image(row)))
        lines.append(f"{row},{ra[row]:.6f},{dec[row]:.6f}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    survey, catalog = tmp_path / "s.zarr", tmp_path / "catalog"
    for arguments in (
        ("ingest", tmp_path / "t.csv", "--images", images, "--to", survey),
        ("annotate", survey, "--model", brightness.path, "--to", catalog, "--workers", "1"),
        ("audit", catalog, "--to", tmp_path / "a.audit"),
    ):
        status, out, shown = on_terminal(*arguments)
        assert status == 0, shown
        assert "300" in out
        assert "/s" in shown
        assert '{"event"' not in shown


def test_bars_of_several_stages_and_an_early_end(capfd):
    bars = Bars()
    bars.event("plan", objects=3)
    for done in range(4):
        bars.progress("read", done, 3, "rows")
    bars.progress("annotate", 1, 3, "objects")
    bars.close()
    assert "plan" in capfd.readouterr().err


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGINT, "stopped"), (signal.SIGTERM, "terminated"), (signal.SIGHUP, "hung up")],
)
def test_a_signal_ends_in_one_line_and_the_run_can_be_resumed(number, said, brightness, tmp_path):
    """A terminal interrupts the process group, systemd terminates the one process that it knows."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    write_small_survey(tmp_path / "s.zarr", rows=6000)
    command = [sys.executable, "-m", "skytally", "annotate", str(tmp_path / "s.zarr")]
    command += ["--model", str(brightness.path), "--to", str(tmp_path / "catalog")]
    command += ["--workers", "1"]
    # A shell's background job ignores interrupts, one under nohup hang-ups: so would its children.
    before = signal.signal(number, signal.SIG_DFL)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"TMPDIR": str(scratch)},
    )
    signal.signal(number, before)
    receipts = tmp_path / "catalog/run/receipts"
    while not (receipts.is_dir() and any(receipts.iterdir())):
        try:
            process.wait(timeout=0.01)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(process.stderr.read())
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=120)
    lines = [line for line in errors.splitlines() if not line.startswith('{"event"')]
    assert process.returncode == 128 + number
    assert lines == [f"skytally: {said}; run the same command again to go on"]
    assert not [path for path in scratch.rglob("*") if "worker-" in path.name]  # Dask's
    assert not (tmp_path / "catalog/hats.properties").exists()
    ended = json.loads((tmp_path / "catalog/run/progress.json").read_text())["ended"]
    assert ended == ("interrupted" if number == signal.SIGINT else said)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "6000 objects (6000 ok)" in again.stdout


def test_a_full_output_is_no_traceback():
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "skytally", "doctor"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 20
    assert result.stderr.startswith("skytally: the result cannot be printed")
    assert np.char.count(result.stderr, "\n") == 1


def broken(how: str) -> dict[str, Any]:
    """Return the options of a process whose standard error cannot be written."""
    if how == "full":
        return {"stderr": os.open("/dev/full", os.O_WRONLY)}
    if how == "closed":
        return {"preexec_fn": lambda: os.close(2)}
    reading, writing = os.pipe()
    os.close(reading)
    return {"stderr": writing}


@pytest.mark.parametrize("how", ["full", "closed", "without a reader"])
def test_notes_that_nobody_takes_stop_no_work(how, brightness, small_survey, tmp_path):
    def run(*arguments: object) -> int:
        options = broken(how)
        done = subprocess.run(
            [sys.executable, "-m", "skytally", *map(str, arguments)],
            stdout=subprocess.PIPE,
            timeout=300,
            check=False,
            **options,
        )
        if "stderr" in options:
            os.close(options["stderr"])
        return done.returncode

    catalog = tmp_path / "catalog"
    given = ("annotate", small_survey, "--model", brightness.path, "--to", catalog)
    assert run(*given, "--workers", "1") == 0
    assert read_metadata(catalog / "dataset" / "_metadata").num_rows == 2000
    assert run("annotate", tmp_path / "none.zarr", "--to", tmp_path / "c") == 2


@pytest.mark.parametrize("how", ["full", "closed"])
def test_a_result_that_cannot_be_printed_is_a_failure(how, brightness):
    options = {"preexec_fn": lambda: os.close(1)} if how == "closed" else {}
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "skytally", "export", "--check", str(brightness.path)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
            **options,
        )
    assert done.returncode == 20, done.stderr
    assert "skytally: the result cannot be printed" in done.stderr
