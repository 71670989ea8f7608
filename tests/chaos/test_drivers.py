"""Several drivers on one catalog at once: one wins, the others say so and go."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from chaos import shim
from chaos.checks import differences
from chaos.drive import drive
from chaos.little import two_nights
from chaos.runs import Command, Group, said_by, wait_until
from chaos.shim import Shim
from surveys import brightness_bundle

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(sys.platform != "linux", reason="preloads a library of Linux calls"),
]
AFTER_THE_LOCK = 40  # more operations than eight drivers need to find the catalog locked


@pytest.fixture(scope="module")
def clean(in_memory) -> Command:
    folder: Path = in_memory("drivers")
    survey = two_nights(folder)[1]
    model = brightness_bundle(folder / "brightness.bundle").path
    command = Command(survey, model, folder / "clean" / "catalog")
    drive(command.survey, command.model, command.catalog)
    return command


def race(command: Command, drivers: int, shim: Shim, notes: Path, broken: str | None = None):
    """Start drivers at once; whoever comes far waits until the others have ended."""
    environment = shim.environment(do="stop", at=AFTER_THE_LOCK)
    with ExitStack() as stack:
        groups = []
        for i in range(drivers):
            group = Group(command.line("--workers", "1"), notes / f"{i}", environment, broken)
            stack.callback(group.end)
            groups.append(group)
        wait_until(
            lambda: shim.stopped and sum(group.ended() for group in groups) >= drivers - 1,
            "all drivers but one had ended, and that one waited",
        )
        shim.release()
        return [(group.wait(), said_by(group.said)) for group in groups]


def violations(ended: Sequence[tuple[int, list[str]]], catalog: Path, clean: Path) -> list[str]:
    """Return what must not be: no winner or two, one who is not told, another catalog."""
    statuses = [status for status, _ in ended]
    wrong = differences(catalog, clean)
    if sorted(statuses) != [0] + [75] * (len(ended) - 1):
        wrong.append(f"exit statuses {statuses}")
    wrong += [
        f"a loser says {said}"
        for status, said in ended
        if status and (len(said) != 1 or "another process writes into" not in said[0])
    ]
    return wrong


@pytest.mark.parametrize(("drivers", "broken"), [(2, None), (8, None), (2, "no_lock")])
def test_one_of_several_drivers_wins(drivers, broken, clean, in_memory, tmp_path_factory):
    folder = in_memory("race")
    command = Command(clean.survey, clean.model, folder / "catalog")
    seen = Shim(shim.library(tmp_path_factory), command.catalog, folder / "notes")
    ended = race(command, drivers, seen, folder / "notes", broken)
    wrong = violations(ended, command.catalog, clean.catalog)
    assert bool(wrong) == bool(broken), wrong
