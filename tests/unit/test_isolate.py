"""Cutouts that end or stop the decoder's process are named; the process here is a real one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from surveys import encode, small_image

from engine.isolate import DecoderSettings, Sandbox

# Wraps the decoder of every process that Python starts with this file on its path.
TRAPS = """
import os, signal, sys, importlib.abc

def spring(data):
    if len(data) >= 4 and bytes(data[-4:]) == b"SEGV":
        os.kill(os.getpid(), signal.SIGSEGV)
    if len(data) >= 4 and bytes(data[-4:]) == b"EXIT":
        os._exit(7)
    while len(data) >= 4 and bytes(data[-4:]) == b"HANG":
        pass

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "catalogs.cutouts.decode":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def trapped(module):
            execute(module)
            real = module.open_decoder
            def open_decoder(*args, **kwargs):
                decoder = real(*args, **kwargs)
                decode = decoder.decode
                def decode_or_die(files):
                    for data in files:
                        spring(data)
                    return decode(files)
                decoder.decode = decode_or_die
                return decoder
            module.open_decoder = open_decoder
        spec.loader.exec_module = trapped
        return spec

import importlib.util
sys.meta_path.insert(0, Finder())
"""


def image(row: int, trap: str = "") -> np.ndarray:
    return np.frombuffer(encode(small_image(row), "JPEG") + trap.encode(), dtype=np.uint8)


@pytest.fixture
def traps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(TRAPS)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


@pytest.mark.chaos
@pytest.mark.parametrize("decoder", ["reference", "dali"])
@pytest.mark.usefixtures("traps")
def test_culprits_are_named_and_nobody_else(decoder):
    files = [image(row) for row in range(40)]
    files[0] = image(0, "SEGV")
    files[13] = image(13, "HANG")
    files[14] = image(14, "EXIT")
    files[39] = image(39, "SEGV")
    waits = []
    with Sandbox(DecoderSettings(decoder, 24, 8, 1), 2.0, lambda: waits.append(1)) as sandbox:
        found = sandbox.culprits(files)
        assert sandbox.culprits(files[1:13]) == {}
    assert {i: problem.reason for i, problem in found.items()} == {
        0: "decoding it ends the process (SIGSEGV)",
        13: "decoding it takes longer than 2 s",
        14: "decoding it ends the process (exit status 7)",
        39: "decoding it ends the process (SIGSEGV)",
    }
    assert {problem.status for problem in found.values()} == {"decode_error"}
    assert waits


def test_images_that_merely_cannot_be_decoded_are_no_culprits():
    files = [image(1), np.zeros(0, dtype=np.uint8), image(2)[:50]]
    with Sandbox(DecoderSettings("dali", 24, 8, 1), 5.0, lambda: None) as sandbox:
        assert sandbox.culprits(files) == {}
        assert sandbox.culprits([]) == {}
