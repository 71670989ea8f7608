"""Processes that begin with everything imported: a server that forks one for each line it reads.

A line is JSON: ``surveys`` to annotate in turn, ``model``, ``catalog``, ``environment`` of the
shim, ``broken`` (a name of :mod:`chaos.broken` or null). The answer is a line: the wait status.
The child ends as the command line does: exit status of the error and one line on standard error.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

PRELOADED = (
    "chaos.broken",
    "chaos.drive",
    "engine.task",
    "hats.catalog.dataset.table_properties",
    "hats.catalog.partition_info",
    "onnxruntime",
)
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: exit status, or minus the signal; and what it said."""

    status: int
    said: str


class Forks:
    """The server's client; use it as a context."""

    def __init__(self, library: Path, notes: Path) -> None:
        self._errors = notes / "stderr"
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        self._server = subprocess.Popen(
            [sys.executable, "-m", "chaos.forks", str(self._errors)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"LD_PRELOAD": str(library), "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
        )

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate()

    def run(
        self,
        surveys: tuple[Path, ...],
        model: Path,
        catalog: Path,
        environment: dict[str, str] | None = None,
        broken: str | None = None,
    ) -> Ended:
        """Annotate the surveys in one new process, one after another, and wait for its end."""
        request = {
            "surveys": list(map(str, surveys)),
            "model": str(model),
            "catalog": str(catalog),
            "environment": environment or {},
            "broken": broken,
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        status = os.waitstatus_to_exitcode(int(self._server.stdout.readline()))
        return Ended(status, self._errors.read_text())


def _child(request: dict[str, object], errors: str) -> int:
    from chaos.broken import BROKEN
    from chaos.drive import drive

    from catalogs.errors import SkytallyError

    target = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(target, 2)
    os.environ.update(request["environment"])
    ctypes.CDLL(None).chaos_configure()
    if request["broken"]:
        BROKEN[request["broken"]]()
    try:
        for survey in request["surveys"]:
            drive(Path(survey), Path(request["model"]), Path(request["catalog"]))
    except SkytallyError as error:
        os.write(2, f"skytally: {error}\n".encode())
        return error.exit_status
    except BaseException:  # noqa: BLE001  (else the child would go on as the server)
        os.write(2, traceback.format_exc().encode())
        return 1
    return 0


def _serve(errors: str) -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(_child(json.loads(line), errors))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve(sys.argv[1])
