"""A run comes from anywhere: what it kept for its export is looked at before it is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from catalogs.errors import InputError, IntegrityError
from export.convert import export
from export.kept import kept_examples
from training import checkpoint
from training.calibrate import Calibration
from training.checkpoint import Run, RunData, RunResult
from training.models.shamir import ShamirShape
from training.network import Classifier
from training.settings import TrainSettings, dump

SIDE = 24
SETTINGS = TrainSettings(shape=ShamirShape(widths=(2, 2, 2, 2, 2), dense=4))
DATA = RunData(
    survey="s",
    survey_uuid="u",
    names=("elliptical", "spiral"),
    crop=SIDE,
    fingerprint="f",
    counts={"train": {"elliptical": 2, "spiral": 3}},
    code_version="c",
)


def a_run(path: Path, data: RunData = DATA) -> Path:
    """A run as a training leaves it, but for what an export does not read."""
    path.mkdir()
    result = RunResult(
        calibration=Calibration(), threshold=0.5, metrics={}, validation={}, undecodable=0
    )
    checkpoint.write_json(path / checkpoint.SETTINGS, dump(SETTINGS))
    checkpoint.write_json(path / checkpoint.DATA, data.model_dump())
    checkpoint.write_json(path / checkpoint.RESULT, result.model_dump())
    checkpoint.write_tensors(path / checkpoint.WEIGHTS, Classifier(SETTINGS).state_dict(), {})
    return path


def good() -> dict[str, torch.Tensor]:
    random = np.random.default_rng(1)
    cutouts = random.integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
    places = random.uniform(-80, 80, (2, 5))
    return {
        "cutouts": torch.from_numpy(cutouts),
        **{k: torch.from_numpy(v) for k, v in zip(("ra", "dec"), places, strict=True)},
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run.open(a_run(tmp_path_factory.mktemp("runs") / "a.run"))


def test_what_a_training_kept_is_read(run: Run) -> None:
    checkpoint.write_tensors(run.path / checkpoint.EXAMPLES, good(), {})
    found = kept_examples(run)
    assert np.array_equal(found.cutouts, good()["cutouts"].numpy())
    assert np.array_equal(found.dec, good()["dec"].numpy())
    checkpoint.write_tensors(run.path / checkpoint.EXAMPLES, {"cutouts": good()["cutouts"]}, {})
    assert np.isnan(kept_examples(run).ra).tolist() == [True] * 5


@pytest.mark.parametrize(
    "change",
    [
        {"cutouts": torch.zeros((5, 5, 5, 3), dtype=torch.uint8)},
        {"cutouts": torch.zeros((3, SIDE, SIDE, 3), dtype=torch.uint8)},  # of five places
        {"cutouts": torch.zeros((5, SIDE, SIDE, 3))},
        {"cutouts": torch.zeros((5, SIDE, SIDE, 1), dtype=torch.uint8)},
        {"cutouts": torch.tensor(3)},
        {"cutouts": None},
        {k: v[:0] for k, v in good().items()},
        {"ra": torch.zeros(4, dtype=torch.float64)},
        {"ra": torch.zeros(5, dtype=torch.bfloat16)},
        {"ra": None},
        {"dec": torch.full((5,), 91.0, dtype=torch.float64)},
        {"ra": torch.full((5,), torch.inf, dtype=torch.float64)},
        {"more": torch.zeros(5)},
    ],
)
def test_other_tensors_are_refused_in_one_line(run: Run, change: dict[str, torch.Tensor]) -> None:
    tensors = {k: v for k, v in {**good(), **change}.items() if v is not None}
    checkpoint.write_tensors(run.path / checkpoint.EXAMPLES, tensors, {})
    with pytest.raises(IntegrityError, match=r"examples\.safetensors has") as caught:
        kept_examples(run)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("elliptical", "s" * 80)}, "labels.1: String should have at most 64"),
        ({"names": ("elliptical", "spiral\x1b[2J")}, "labels.1: String should match"),
    ],
)
def test_what_no_bundle_can_say_is_told_in_one_line(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = a_run(tmp_path / "a.run", DATA.model_copy(update=change))
    with pytest.raises(InputError, match=rf"x\.bundle cannot be made of .*a\.run: {message}"):
        export(path, tmp_path / "x.bundle")


def test_without_its_training_sky_no_bundle_is_made(tmp_path: Path) -> None:
    path = a_run(tmp_path / "a.run")
    with pytest.raises(IntegrityError, match=r"training_sky\.moc\.fits cannot be read"):
        export(path, tmp_path / "x.bundle")
