"""A catalog goes on only with the very survey, model and options with which it was begun."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chaos.drive import SETTINGS, drive
from chaos.little import two_nights
from chaos.runs import Command, said_by
from surveys import brightness_bundle

from catalogs.errors import SkytallyError
from engine import ledger

pytestmark = pytest.mark.chaos
CROP = 24
PARTITION = ("append", "order", "number", "start", "stop", "fingerprint")


@pytest.fixture(scope="module")
def begun(in_memory) -> Command:
    """A catalog of which one pixel is still to be done."""
    folder: Path = in_memory("resume")
    survey = two_nights(folder)[1]
    model = brightness_bundle(folder / "brightness.bundle").path
    command = Command(survey, model, folder / "begun" / "catalog")
    drive(command.survey, command.model, command.catalog)
    next((command.catalog / "run/receipts").glob("0-7.*")).unlink()
    return command


def changes(plan: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the plan with one value changed by one byte, and the name by which that is told."""
    for name in ("survey_uuid", "survey_name", "bundle_sha256"):
        yield name, plan | {name: _other(plan[name])}
    for name, value in plan["options"].items():
        yield f"options.{name}", plan | {"options": plan["options"] | {name: _other(value)}}
    for i in range(len(PARTITION)):
        partitions = [list(row) for row in plan["partitions"]]
        partitions[1][i] = _other(partitions[1][i])
        yield "partition", plan | {"partitions": partitions}


def _other(value: Any) -> Any:
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list):
        return value[1:]
    if value == "fp32":
        return "bf16"  # any other name is damage
    last = "0" if value[-1] != "0" else "1"
    return value[:-1] + last


def violations(begun: Command, folder: Path) -> list[str]:
    """Return which changes are not refused with their name, and which change the catalog."""
    plan = json.loads((begun.catalog / "run/plan.json").read_text())
    wrong = []
    for i, (name, other) in enumerate(changes(plan)):
        catalog = folder / str(i) / "catalog"
        shutil.copytree(begun.catalog, catalog)
        (catalog / "run/plan.json").write_text(json.dumps(other))
        before = {path: path.read_bytes() for path in catalog.rglob("*") if path.is_file()}
        try:
            drive(begun.survey, begun.model, catalog, replace(SETTINGS, crop=CROP))
        except SkytallyError as error:
            if error.exit_status != 2 or name not in str(error):
                wrong.append(f"{name}: exit status {error.exit_status}, {error}")
        else:
            wrong.append(f"{name}: goes on")
        if {path: path.read_bytes() for path in catalog.rglob("*") if path.is_file()} != before:
            wrong.append(f"{name}: the catalog is touched")
    return wrong


def test_any_change_is_refused_by_name(begun, in_memory):
    assert violations(begun, in_memory("changed")) == []


def test_an_engine_that_does_not_look_is_found(begun, in_memory, monkeypatch):
    monkeypatch.setattr(ledger, "check_resumable", lambda *_: None)
    assert violations(begun, in_memory("changed"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--crop", "23"), "options.crop"),
        (("--decoder", "dali"), "options.decoder"),
        (("--columns", ""), "column"),
    ],
)
def test_the_command_says_so_in_one_line(options, said, begun, tmp_path):
    catalog = Path(shutil.copytree(begun.catalog, tmp_path / "catalog"))
    line = Command(begun.survey, begun.model, catalog, ("--decoder", "reference"))
    done = subprocess.run(line.line(*options), capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    (told,) = said_by(done.stderr)
    assert said in told


def test_one_changed_byte_in_the_model_is_refused(begun, tmp_path):
    model = Path(shutil.copytree(begun.model, tmp_path / "changed.bundle"))
    content = bytearray((model / "model.onnx").read_bytes())
    content[-1] ^= 1
    (model / "model.onnx").write_bytes(content)
    with pytest.raises(SkytallyError, match=r"model\.onnx"):
        drive(begun.survey, model, begun.catalog)
