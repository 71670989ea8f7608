"""A bad cutout costs its own row: rows in are rows out, neighbours' numbers do not change a bit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from chaos.bad import choose, violations, write_with
from chaos.checks import rows_of
from chaos.drive import SETTINGS, drive
from chaos.runs import Command, Group, said_by
from surveys import brightness_bundle, encode, small_image

from catalogs.cutouts.decode import ReferenceDecoder
from engine import task

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(sys.platform != "linux", reason="decodes with DALI, reads /proc"),
]
ROWS = 1000
Annotate = Callable[[str, int, int, str, dict], list[dict]]


@pytest.fixture(scope="module")
def annotate(in_memory) -> Annotate:
    """Write a survey, annotate it, return the catalog's rows."""
    folder: Path = in_memory("bad")
    model = brightness_bundle(folder / "brightness.bundle").path
    count = iter(range(1000))

    def run(kind: str, rows: int, size: int, decoder: str, bad: dict) -> list[dict]:
        at = folder / str(next(count))
        write_with(at / "s.zarr", rows, kind, size, bad)
        drive(at / "s.zarr", model, at / "catalog", replace(SETTINGS, decoder=decoder))
        return rows_of(at / "catalog")

    return run


@pytest.fixture(scope="module")
def clean(annotate) -> Callable[..., list[dict]]:
    return lru_cache(lambda *survey: annotate(*survey, {}))


@pytest.mark.parametrize("share", [0.001, 0.01, 0.5])
@pytest.mark.parametrize(
    ("kind", "rows", "size", "decoder"),
    [("PNG", ROWS, 32, "reference"), ("JPEG", ROWS, 32, "reference"), ("JPEG", 300, 120, "dali")],
)
def test_a_bad_cutout_costs_its_own_row(kind, rows, size, decoder, share, annotate, clean):
    bad = choose(rows, share, kind, size)
    found = annotate(kind, rows, size, decoder, bad)
    ways = dict.fromkeys(bad, "")
    assert violations(found, clean(kind, rows, size, decoder), ways) == []
    if share == 0.5:
        assert len({way for way, _ in bad.values()}) == 8
        statuses = {row["status"] for row in found}
        assert statuses == {"ok", "decode_error", "checksum_error", "too_small"}


def drops_bad(patch: pytest.MonkeyPatch) -> None:
    """Rows that are not ok do not come into the catalog."""
    honest = task.to_table

    def to_table(*given, **named):
        table = honest(*given, **named)
        return table.filter(np.asarray(table.column("status")) == "ok")

    patch.setattr(task, "to_table", to_table)


def touches_neighbours(patch: pytest.MonkeyPatch) -> None:
    """A bad image changes the last bit of the others of its batch."""
    honest = ReferenceDecoder.decode

    def decode(self, files):
        pixels, problems = honest(self, files)
        return (pixels ^ 1 if problems else pixels), problems

    patch.setattr(ReferenceDecoder, "decode", decode)


def answers_anyway(patch: pytest.MonkeyPatch) -> None:
    """A bad image is taken for a black one, and answered for."""
    honest = ReferenceDecoder.decode
    patch.setattr(ReferenceDecoder, "decode", lambda self, files: (honest(self, files)[0], {}))


@pytest.mark.parametrize("broken", [drops_bad, touches_neighbours, answers_anyway])
def test_a_broken_engine_is_found(broken, annotate, clean, monkeypatch):
    expected = clean("PNG", ROWS, 32, "reference")
    broken(monkeypatch)
    bad = choose(ROWS, 0.01, "PNG", 32)
    found = annotate("PNG", ROWS, 32, "reference", bad)
    # A black image has the status "blank" anyway: its reason must speak of the file.
    reasons = {
        row: "neither" if way in ("gif", "text", "pdf") else "" for row, (way, _) in bad.items()
    }
    assert violations(found, expected, reasons)


EVIL = {3: "CRASHES", 4: "CRASHES", 250: "HANGS", 251: "SLEEPS", 400: "CRASHES"}
REASONS = {"CRASHES": "SIGSEGV", "HANGS": "longer than", "SLEEPS": "longer than"}


def test_cutouts_that_crash_or_hang_the_decoder_cost_their_own_rows(in_memory):
    """The decoder of every process really crashes or hangs at images that say so."""
    folder: Path = in_memory("evil")
    rows = 500
    # What follows the end of a PNG is no part of the image: without the spell these are good.
    bad = {row: (what, encode(small_image(row)) + what.encode()) for row, what in EVIL.items()}
    write_with(folder / "s.zarr", rows, "PNG", 32, bad)
    model = brightness_bundle(folder / "brightness.bundle").path
    drive(folder / "s.zarr", model, folder / "clean")
    clean = rows_of(folder / "clean")
    assert {row["status"] for row in clean} == {"ok"}
    command = Command(folder / "s.zarr", model, folder / "catalog")
    spell = {"CHAOS_DECODER": "evil"}
    group = Group(command.line("--workers", "2", "--stall-seconds", "4"), folder / "stderr", spell)
    status = group.wait()
    assert (status, said_by(group.said)) == (0, [])
    found = rows_of(folder / "catalog")
    reasons = {row: REASONS[what] for row, what in EVIL.items()}
    assert violations(found, clean, reasons) == []
    assert {row["status"] for row in found if row["input_row"] in EVIL} == {"decode_error"}
