import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from catalogs.errors import InputError, IntegrityError
from training import checkpoint
from training.calibrate import Calibration
from training.checkpoint import Run, RunData, RunResult
from training.metrics import Measured
from training.models.shamir import ShamirShape
from training.network import Classifier
from training.presets import PRESETS, read_settings
from training.settings import TrainSettings

SMALL = TrainSettings(shape=ShamirShape(widths=(2, 2, 2, 2, 2), dense=4), epochs=2)
DATA = RunData(
    survey="s",
    survey_uuid="u",
    names=("elliptical", "spiral"),
    crop=240,
    fingerprint="f",
    counts={"train": {"elliptical": 2, "spiral": 3}},
    code_version="c",
)
RESULT = RunResult(
    calibration=Calibration(1.25, -0.5),
    threshold=0.5,
    metrics={"accuracy": Measured(0.9, 0.8, 0.95, 100)},
    validation={},
    undecodable=0,
)


def optimiser_of(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def test_state_comes_back_to_the_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, average = Classifier(SMALL), Classifier(SMALL)
    optimiser = optimiser_of(model)
    for _ in range(3):
        model(torch.randint(0, 256, (4, 120, 120, 3), dtype=torch.uint8)).sum().backward()
        optimiser.step()
    checkpoint.save_state(tmp_path, 3, {"model": model, "average": average}, optimiser)
    other, mean = Classifier(SMALL), Classifier(SMALL)
    restored = optimiser_of(other)
    assert checkpoint.load_state(tmp_path, {"model": other, "average": mean}, restored) == 3
    for one, two in ((model, other), (average, mean)):
        for name, value in one.state_dict().items():
            assert torch.equal(value, two.state_dict()[name]), name
    for index, values in optimiser.state_dict()["state"].items():
        for name, value in values.items():
            assert torch.equal(value, restored.state_dict()["state"][index][name])


def test_without_a_state_training_starts(tmp_path: Path) -> None:
    model = Classifier(SMALL)
    assert checkpoint.load_state(tmp_path, {"model": model}, optimiser_of(model)) == 0


def test_a_complete_run_is_read_back(tmp_path: Path) -> None:
    run = tmp_path / "a.run"
    assert checkpoint.begin(run, SMALL, DATA) is False
    with pytest.raises(InputError, match="not complete"):
        Run.open(run)
    model = Classifier(SMALL)
    checkpoint.write_tensors(run / checkpoint.WEIGHTS, model.state_dict(), {})
    checkpoint.write_json(run / checkpoint.RESULT, RESULT.model_dump())
    found = Run.open(run)
    assert (found.settings, found.data, found.result) == (SMALL, DATA, RESULT)
    assert checkpoint.begin(run, SMALL, DATA) is True
    Classifier(found.settings).load_state_dict(found.weights)


@pytest.mark.parametrize(
    ("settings", "data", "field"),
    [
        (replace(SMALL, seed=5), DATA, "seed"),
        (SMALL, DATA.model_copy(update={"fingerprint": "g"}), "fingerprint"),
        (replace(SMALL, shape=ShamirShape()), DATA, "shape"),
    ],
)
def test_a_run_never_goes_on_with_something_else(
    tmp_path: Path, settings: TrainSettings, data: RunData, field: str
) -> None:
    checkpoint.begin(tmp_path / "a.run", SMALL, DATA)
    with pytest.raises(InputError, match=f"another {field}"):
        checkpoint.begin(tmp_path / "a.run", settings, data)


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="no training run"):
        checkpoint.begin(tmp_path, SMALL, DATA)
    with pytest.raises(InputError, match="no training run"):
        Run.open(tmp_path)


@pytest.mark.parametrize("left", [("data.json",), (".settings.json.partial", "data.json"),
                                  (".data.json.partial",)])  # fmt: skip
def test_a_run_that_was_killed_while_it_began_begins_again(
    tmp_path: Path, left: tuple[str, ...]
) -> None:
    run, whole = tmp_path / "a.run", tmp_path / "whole.run"
    checkpoint.begin(whole, SMALL, DATA)
    run.mkdir()
    for name in left:
        file = whole / name.removeprefix(".").removesuffix(".partial")
        (run / name).write_bytes(file.read_bytes()[: 20 if "partial" in name else None])
    assert checkpoint.begin(run, SMALL, DATA) is False
    for name in ("settings.json", "data.json"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()


def test_a_file_in_the_place_of_a_run_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    file.write_text("1\n")
    with pytest.raises(InputError, match="exists and is no training run"):
        checkpoint.begin(file, SMALL, DATA)
    with pytest.raises(InputError, match="cannot be made: Not a directory"):
        checkpoint.begin(file / "a.run", SMALL, DATA)
    assert file.read_text() == "1\n"


@pytest.mark.parametrize("fault", ["shape", "epochs", "no epochs", "key", "index", "optimiser"])
def test_a_state_of_something_else_is_told(tmp_path: Path, fault: str) -> None:
    model = Classifier(SMALL)
    optimiser = optimiser_of(model)
    model(torch.zeros((2, 120, 120, 3), dtype=torch.uint8)).sum().backward()
    optimiser.step()
    checkpoint.save_state(tmp_path, 1, {"model": model}, optimiser)
    file = tmp_path / checkpoint.STATE
    tensors = checkpoint.read_tensors(file)
    some = next(k for k in tensors if k.startswith("optimiser.0.exp_avg"))
    if fault == "shape":
        tensors[next(k for k in tensors if k.startswith("model."))] = torch.zeros(7, 7)
    elif fault in ("key", "index"):
        tensors["optimiser.x.y" if fault == "key" else "optimiser.999.y"] = tensors.pop(some)
    elif fault == "optimiser":
        tensors[some] = torch.zeros(77)
    metadata = {"epochs": "abc" if fault == "epochs" else "1"}
    checkpoint.write_tensors(file, tensors, {} if fault == "no epochs" else metadata)
    with pytest.raises(IntegrityError, match=r"state\.safetensors .*; train again$") as caught:
        checkpoint.load_state(tmp_path, {"model": model}, optimiser)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    run = tmp_path / "a.run"
    checkpoint.begin(run, SMALL, DATA)
    checkpoint.write_json(run / checkpoint.RESULT, RESULT.model_dump())
    (run / checkpoint.WEIGHTS).write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(IntegrityError, match=r"weights\.safetensors"):
        Run.open(run)
    (run / checkpoint.DATA).write_text("[]")
    with pytest.raises(IntegrityError, match=r"data\.json"):
        Run.open(run)


def test_settings_come_from_preset_file_and_flags_in_this_order(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("epochs = 7\nseed = 3\n[augment]\nblur = 0.5\n")
    found = read_settings("default", file, {"seed": 4})
    assert (found.epochs, found.seed) == (7, 4)
    assert found.augment is not None
    assert found.augment.blur == 0.5
    assert found.augment.noise == TrainSettings().augment.noise  # type: ignore[union-attr]
    assert read_settings("paper").epochs == 250


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_survive_json(preset: str) -> None:
    from training.settings import dump, parse_settings

    settings = read_settings(preset)
    assert parse_settings(json.loads(json.dumps(dump(settings))), "x") == settings


def test_every_fault_is_told_at_once_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_settings("default", None, {"epochs": 0, "colour": 1, "split": {"test": 2}})
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in ("epochs", "colour", "split.test"))
    with pytest.raises(InputError, match="'fast' is none of"):
        read_settings("fast")
    with pytest.raises(InputError, match="cannot be read"):
        read_settings("default", tmp_path / "missing.toml")


def test_the_shipped_recipe_is_valid() -> None:
    from export.bundle import shipped

    recipe = shipped().with_name("gz1-equivariant.toml")
    settings = read_settings("default", recipe)
    assert "Galaxy Zoo" in settings.credit
