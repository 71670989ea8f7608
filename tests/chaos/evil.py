"""A decoder that crashes or hangs its process, as a defect in a C library would."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Sequence
from typing import Any

from catalogs.cutouts import decode


def bewitch() -> None:
    """Make every decoder of this process obey the spells in its images."""
    honest = decode.open_decoder

    def open_decoder(*given: Any, **named: Any) -> Any:
        decoder = honest(*given, **named)
        decoder.decode = _obeying(decoder.decode)
        return decoder

    decode.open_decoder = open_decoder


def _obeying(honest: Any) -> Any:
    def obey(files: Sequence[Any]) -> Any:
        for data in files:
            spell = bytes(data[-8:])
            if spell.endswith(b"CRASHES"):
                os.kill(os.getpid(), signal.SIGSEGV)
            if spell.endswith(b"HANGS"):
                re.match(r"(a+)+$", "a" * 60 + "b")  # for ever, with the interpreter's lock held
            if spell.endswith(b"SLEEPS"):
                threading.Event().wait()  # for ever, with the lock released
        return honest(files)

    return obey
