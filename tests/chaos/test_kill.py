"""Driver, workers or scheduler killed at any moment: run again, annotate gives the same bytes.

`make chaos` does the same many times more, resuming by the command line as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from chaos import shim
from chaos.drive import drive
from chaos.kills import Kill, Killed, kill_and_resume
from chaos.runs import Command
from chaos.shim import Shim
from surveys import brightness_bundle, write_small_survey

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(sys.platform != "linux", reason="preloads a library of Linux calls"),
]
OPERATIONS = 260  # of an uninterrupted run of twelve pixels


@pytest.fixture(scope="module")
def clean(in_memory) -> Command:
    """A survey of twelve pixels, annotated without any interruption."""
    folder: Path = in_memory("kill")
    write_small_survey(folder / "small.zarr", rows=1200)
    model = brightness_bundle(folder / "brightness.bundle").path
    command = Command(folder / "small.zarr", model, folder / "clean" / "catalog")
    drive(command.survey, command.model, command.catalog)
    return command


def resume(command: Command) -> int:
    return drive(command.survey, command.model, command.catalog).annotated


@pytest.fixture
def killed(clean, in_memory, tmp_path_factory) -> Callable[..., Killed]:
    library = shim.library(tmp_path_factory)

    def run(kill: Kill, broken: str | None = None, resume: Callable[[Command], int] = resume):
        folder = in_memory("killed")
        command = replace(clean, catalog=folder / "catalog")
        seen = Shim(library, command.catalog, folder / "notes")
        return kill_and_resume(command, clean.catalog, kill, seen, folder / "notes", resume, broken)

    return run


@pytest.mark.parametrize("seed", range(8))
def test_a_killed_run_is_resumed_to_the_same_bytes(seed, killed):
    found = killed(Kill.of(seed, OPERATIONS))
    assert found.violations() == []


@pytest.mark.parametrize(
    ("broken", "victim", "said"),
    [
        ("short_file", "everything", "receipt after the kill"),
        ("orphans", "driver", "was left behind"),
        ("early_success", "worker", "exit status 0, but hats.properties is missing"),
    ],
)
def test_a_broken_engine_is_found(broken, victim, said, killed, monkeypatch):
    monkeypatch.setattr("chaos.runs.LINGER", 3.0)
    found = killed(Kill(0, victim, 150), broken)
    assert any(said in line for line in found.violations())


def test_an_engine_that_begins_anew_is_found(killed):
    def forgetful(command: Command) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("engine.ledger.Ledger.receipts", lambda *_, **__: {})
            return resume(command)

    found = killed(Kill(0, "driver", 150), resume=forgetful)
    assert any("had no receipt" in line for line in found.violations())
