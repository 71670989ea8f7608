"""Name the cutouts that crash or hang the decoder, in processes that may die.

A worker whose process died over a pixel runs it again with a :class:`Sandbox`: images are decoded
first in a child process of this module, batch by batch. When the child dies or stands still, the
batch it was at is decoded again one image at a time, and the image at which a child dies or stands
still is the culprit. Nothing else is decided here; who survives is decoded again by the worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts.decode import Problem, open_decoder
from catalogs.errors import SkytallyError
from catalogs.schema import DECODE_ERROR
from catalogs.storage.disk import disk_error

OPENING_SECONDS = 60.0  # a decoder may take so long before its first image


@dataclass(frozen=True, slots=True)
class DecoderSettings:
    """How :func:`catalogs.cutouts.decode.open_decoder` is called in a sandbox."""

    name: str
    crop: int
    batch: int
    threads: int


class Sandbox:
    """A process that decodes images on trial.

    Parameters
    ----------
    settings : DecoderSettings
        The decoder of the run.
    hang_seconds : float
        A batch that takes longer hangs; a single image gets this long as well.
    waiting : callable
        Called about once a second while images are on trial.
    """

    def __init__(
        self, settings: DecoderSettings, hang_seconds: float, waiting: Callable[[], None]
    ) -> None:
        self._waiting = waiting
        self._process = subprocess.Popen(
            [sys.executable, "-m", "engine.isolate"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._ask(asdict(settings) | {"hang_seconds": hang_seconds})

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def culprits(self, files: Sequence[NDArray[np.uint8]]) -> dict[int, Problem]:
        """Return the positions of the images that crash or hang the decoder, and how.

        Raises
        ------
        SkytallyError
            The trial itself failed.
        """
        lengths = np.asarray([len(data) for data in files], dtype=np.int64)
        content = np.concatenate([np.zeros(0, np.uint8), *files])
        try:
            with tempfile.NamedTemporaryFile(suffix=".npz") as spool:
                np.savez(spool, content=content, lengths=lengths)
                spool.flush()
                found = self._ask({"spool": spool.name})
        except OSError as error:
            raise disk_error(Path(tempfile.gettempdir()), error) from error
        return {int(i): Problem(DECODE_ERROR, why) for i, why in found["culprits"].items()}

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise SkytallyError("the trial process has no pipes; run the same command again")
        try:
            stdin.write(json.dumps(question).encode() + b"\n")
            stdin.flush()
        except OSError:
            line = b""
        else:
            while not select.select([stdout], [], [], 1.0)[0]:
                self._waiting()
            line = stdout.readline()
        if not line:
            raise SkytallyError(
                f"the process that tries out cutouts ended (exit status {self._process.wait()}); "
                "run the same command again"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer


def _serve() -> None:
    """Answer questions on standard input; this process itself never decodes."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print must not be taken for an answer
    settings: DecoderSettings | None = None
    hang_seconds = 0.0
    for line in sys.stdin:
        question = json.loads(line)
        if settings is None:
            hang_seconds = question.pop("hang_seconds")
            settings = DecoderSettings(**question)
            answer: dict[str, Any] = {}
            if settings.name == "dali":
                import nvidia.dali  # noqa: F401  (once here, and not in every child)
        else:
            files = _unspool(Path(question["spool"]))
            answer = {"culprits": _culprits(settings, files, hang_seconds)}
        try:
            answers.write(json.dumps(answer).encode() + b"\n")
        except BrokenPipeError:
            return  # the worker died meanwhile, over another pixel


def _unspool(path: Path) -> list[NDArray[np.uint8]]:
    with np.load(path, allow_pickle=False) as spool:
        content, lengths = spool["content"], spool["lengths"]
    return np.split(content, np.cumsum(lengths)[:-1]) if len(lengths) else []


def _culprits(
    settings: DecoderSettings, files: Sequence[NDArray[np.uint8]], hang_seconds: float
) -> dict[int, str]:
    found: dict[int, str] = {}
    start = 0
    while start < len(files):
        # Whole batches first; after a death, the batch in which it happened, image by image.
        start, why = _trial(settings, files, range(start, len(files), settings.batch), hang_seconds)
        end = min(start + settings.batch, len(files)) if why else start
        while start < end:
            start, why = _trial(settings, files, range(start, end), hang_seconds)
            if why:
                found[start] = why
                start += 1
    return found


def _trial(
    settings: DecoderSettings,
    files: Sequence[NDArray[np.uint8]],
    steps: range,
    hang_seconds: float,
) -> tuple[int, str]:
    """Decode in a forked child; return where it died and how, or ``(steps.stop, "")``."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _decode(settings, files, steps, writing)
    os.close(writing)
    beats, ended = _listen(reading, hang_seconds)
    os.close(reading)
    if not ended:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if beats == 0:
        raise SkytallyError(f"decoder {settings.name!r} cannot be opened on trial; see above")
    if status == 0 or beats > len(steps):
        return steps.stop, ""
    at = steps[beats - 1]
    if not ended:
        return at, f"decoding it takes longer than {hang_seconds:g} s"
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return at, f"decoding it ends the process ({how})"


def _decode(
    settings: DecoderSettings, files: Sequence[NDArray[np.uint8]], steps: range, beat: int
) -> NoReturn:
    """Decode in this child, telling of each step before it is taken, and end."""
    try:
        decoder = open_decoder(settings.name, settings.crop, settings.batch, settings.threads)
        for first in steps:
            os.write(beat, b".")
            decoder.decode(files[first : min(first + steps.step, steps.stop)])
        os.write(beat, b".")
    except BaseException:  # noqa: BLE001  (a forked child must never return)
        with contextlib.suppress(OSError):
            traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _listen(reading: int, hang_seconds: float) -> tuple[int, bool]:
    """Count a child's beats until it ends (True), or one is overdue (False)."""
    beats = 0
    while True:
        patience = hang_seconds if beats else OPENING_SECONDS + hang_seconds
        if not select.select([reading], [], [], patience)[0]:
            return beats, False
        news = os.read(reading, 4096)
        if not news:
            return beats, True
        beats += len(news)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # who asked was killed
        _serve()
