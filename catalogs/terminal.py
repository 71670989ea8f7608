"""The command line's plumbing: flags from a file, where results and progress go, exit statuses.

Results go to standard output (as text, or as one JSON object with ``--json``); progress goes to
standard error (a bar on a terminal, one-line JSON events elsewhere); a foreseen failure is one
line on standard error and an exit status. What standard error does not take is dropped: notes
stop no work, and the exit status says how it ended.
"""

from __future__ import annotations

import atexit
import errno
import io
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from catalogs.errors import InputError, SkytallyError, printable

if TYPE_CHECKING:
    from types import FrameType

    from catalogs.progress import Reporter

INTERRUPTED_STATUS = 130
ENDING = {signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


def load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make a TOML file's values the defaults of the command's flags."""
    if path is None:
        return None
    from catalogs.config import names_in, read_flags

    known = {
        option.lstrip("-"): parameter.name or ""
        for parameter in context.command.params
        for option in (*parameter.opts, parameter.name or "")
        if option.lstrip("-") != "config"
    }
    repeated = {p.name for p in context.command.params if getattr(p, "multiple", False)}
    context.default_map = {
        name: list(names_in(str(value))) if name in repeated else value
        for name, value in read_flags(path, context.command.name or "", known).items()
    }
    return path


Config = Annotated[
    Path | None,
    typer.Option("--config", callback=load_config, is_eager=True, help="TOML file of flags."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
MaxBad = Annotated[
    float, typer.Option("--max-bad", min=0, max=1, help="Largest fraction of unusable rows.")
]


def on_disk(path: Path | None) -> Path | None:
    """Refuse a URL where only a path will do; as a path it would be a folder called ``s3:``."""
    found = re.match(r"([a-z][a-z0-9+.-]+):/+", str(path))
    if found:
        raise InputError(
            f"{found[1]}:// is no place for this file or folder; give a path on a disk"
        )
    return path


def reporter() -> Reporter:
    """Return what shows progress here: bars on a terminal, JSON events elsewhere."""
    from catalogs.progress import Bars, JsonEvents

    if not sys.stderr.isatty():
        return JsonEvents()
    bars = Bars()
    atexit.register(bars.close)  # after an error too, or the terminal's cursor stays hidden
    return bars


def show(as_json: bool, lines: list[str], facts: dict[str, Any]) -> None:
    """Print a result: the lines, or the facts as one JSON object."""
    text = json.dumps(facts, default=str) if as_json else "\n".join(lines)
    if sys.stdout is None:
        fail("the result cannot be printed: standard output is closed", SkytallyError.exit_status)
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as error:
        # Python's own flush at exit would end in a traceback.
        _close(sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # then the reader has seen enough
            fail(f"the result cannot be printed: {error.strerror}", SkytallyError.exit_status)


def fields(result: Any) -> dict[str, Any]:  # noqa: ANN401  (any result dataclass)
    """Return a result's fields as JSON values."""
    from dataclasses import asdict

    return asdict(result)


def need(module: str, extra: str) -> None:
    """Refuse to go on without a module, naming the extra that brings it."""
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise InputError(f"{module} is not installed; pip install 'skytally[{extra}]'")


def fail(message: str, exit_status: int) -> NoReturn:
    """End with one line on standard error and an exit status."""
    sys.stderr.write(f"skytally: {printable(' '.join(message.split()))}\n")
    raise SystemExit(exit_status)


class _Notes(io.FileIO):
    """Standard error that never fails: from the first failure on, nothing is written."""

    def write(self, data: Any, /) -> int:  # noqa: ANN401  (any buffer)
        try:
            written = super().write(data)
        except OSError:
            _close(self.fileno())
            written = None
        return memoryview(data).nbytes if written is None else written


def _close(descriptor: int) -> None:
    """Drop what goes to a descriptor. It stays taken: a file that got its number would get it."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)


def _keep_streams() -> None:
    """Let no closed or failing standard stream stop the work, or lead into another file."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            _close(descriptor)
            os.set_inheritable(descriptor, True)
    notes = io.BufferedWriter(_Notes(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(
        notes, sys.stderr.encoding if sys.stderr else None, "backslashreplace", line_buffering=True
    )


class _EndedError(BaseException):
    """Somebody ends this process in order; what it has started is taken down on the way out."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(ENDING[self.signal])  # status tells it of the run that it ended


def _end(number: int, _: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)  # a second one does not wait
    raise _EndedError(number)


def run_app(app: typer.Typer) -> NoReturn:
    """Run the command line; every foreseen failure is one line and an exit status."""
    # Typer carries its own copy of click; its base classes are reached through a public one.
    usage_error: Any = typer.BadParameter.__mro__[2]
    _keep_streams()
    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
            signal.signal(number, _end)
    try:
        outcome = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except SkytallyError as error:
        fail(str(error), error.exit_status)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        name = error.filename or "a temporary file"
        fail(
            f"{name} cannot be written: {error.strerror}; free some space and run the same "
            "command again",
            SkytallyError.exit_status,
        )
    except usage_error as error:
        fail(f"{error.format_message().rstrip('.')}; see --help", InputError.exit_status)
    except _EndedError as ended:
        fail(f"{ENDING[ended.signal]}; run the same command again to go on", 128 + ended.signal)
    except (typer.Abort, KeyboardInterrupt):
        outcome = INTERRUPTED_STATUS
    if outcome == INTERRUPTED_STATUS:  # also Typer's own answer to Ctrl-C
        fail("stopped; run the same command again to go on", INTERRUPTED_STATUS)
    raise SystemExit(outcome if isinstance(outcome, int) else 0)
