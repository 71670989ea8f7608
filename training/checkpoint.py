"""A training run on disk: ``NAME.run/``. Nothing in it is pickled.

::

    settings.json              what decides the result
    data.json                  classes, counts, crop, fingerprint of the data, code version
    log.csv                    one line per epoch
    tensorboard/               the same for TensorBoard
    state.safetensors          where training stands: weights, their mean, the optimiser
    best.safetensors           the best epoch's weights, with patience
    weights.safetensors        the result, written last but one
    metrics.json               the whole judgement on the test galaxies
    result.json                calibration and metrics, written last: the run is complete
    holdout.csv                the test galaxies' answers
    training_sky.moc.fits      where the training galaxies lie
    curves.png                 what was learnt by epoch
    triage.png                 how often answers are right that are accepted
    examples.safetensors       held-out cutouts, on which an export is compared with torch
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from catalogs.errors import InputError, IntegrityError
from catalogs.trees.tree import Tree
from training.answers import AnswerLayer, answer_layer
from training.calibrate import Calibration
from training.debias import Theta
from training.metrics import Measured
from training.settings import TrainSettings, dump, parse_settings

SETTINGS, DATA, RESULT, LOG = "settings.json", "data.json", "result.json", "log.csv"
STATE, WEIGHTS, SKY = "state.safetensors", "weights.safetensors", "training_sky.moc.fits"
BEST, METRICS, TRIAGE = "best.safetensors", "metrics.json", "triage.png"
HOLDOUT, CURVES, EXAMPLES = "holdout.csv", "curves.png", "examples.safetensors"
SHOWN = 200

Model = TypeVar("Model", bound=BaseModel)


class Member(BaseModel):
    """One network of an averaged run; its weights begin with its number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    settings: dict[str, Any]
    calibration: Calibration


class Averaged(BaseModel):
    """What an averaged run is made of.

    Attributes
    ----------
    members : tuple of Member
    turned : bool
        Whether each answers for the sixty transformations of the image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: tuple[Member, ...]
    turned: bool


class RunData(BaseModel):
    """What a run was trained on.

    Attributes
    ----------
    names : tuple of str
        The answers, in order.
    questions : Tree, optional
        The decision tree to which they belong, whole: the file it came from may change.
    votes : str
        What the survey has of the tree's votes: "counts", "fractions", "fractions and totals".
    averaged : Averaged, optional
        Of a run that was not trained, but made of others.
    parts : dict of str to int, optional
        Galaxies, labelled or not, by the part of the sky that features were not to tell.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    survey: str
    survey_uuid: str
    names: tuple[str, ...]
    crop: Annotated[int, Field(gt=0, le=8192)]
    fingerprint: str
    counts: dict[str, dict[str, int]]
    code_version: str
    questions: Tree | None = None
    votes: str = ""
    averaged: Averaged | None = None
    parts: dict[str, int] | None = None


class RunResult(BaseModel):
    """What came out of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calibration: Calibration
    threshold: float
    metrics: dict[str, Measured]
    validation: dict[str, Measured]
    undecodable: int
    theta: Theta | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A complete run, read back."""

    path: Path
    settings: TrainSettings
    data: RunData
    result: RunResult
    weights: dict[str, Tensor]

    @property
    def answers(self) -> AnswerLayer:
        """What the network's raw outputs mean."""
        return answer_layer(self.data.names, self.data.questions, self.settings.normalisation)

    @classmethod
    def open(cls, path: Path) -> Run:
        """Read a complete run.

        Raises
        ------
        InputError
            There is no run at ``path``, or it is not complete.
        IntegrityError
            A file of it cannot be read.
        """
        if not (path / SETTINGS).is_file():
            raise InputError(f"{path} is no training run; make one with `skytally train`")
        if not (path / RESULT).is_file():
            raise InputError(f"{path} is not complete; run the same `skytally train` again")
        return cls(
            path,
            _read_settings(path),
            _read_model(path / DATA, RunData),
            _read_model(path / RESULT, RunResult),
            read_tensors(path / WEIGHTS),
        )


def begin(path: Path, settings: TrainSettings, data: RunData) -> bool:
    """Start a run, or find that it has been started with the same settings and data.

    Returns
    -------
    bool
        Whether the run is complete already.

    Raises
    ------
    InputError
        ``path`` is something else, or a run with other settings or data; names the field.
    """
    begun = (path / SETTINGS).is_file() and (path / DATA).is_file()
    # A run that was killed while it began has nothing but these, or what they are written to.
    first = {name for file in (SETTINGS, DATA) for name in (file, _partial(path / file).name)}
    other = path.exists() and (not path.is_dir() or {file.name for file in path.iterdir()} - first)
    if other and not begun:
        raise InputError(f"{path} exists and is no training run; choose another name")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be made: {error.strerror}") from None
    if begun:
        old = dump(_read_settings(path)) | _read_model(path / DATA, RunData).model_dump()
        new = dump(settings) | data.model_dump()
        for key in new:
            if old[key] != new[key]:
                raise InputError(
                    f"{path} was started with another {key} ({_short(old[key])}, now "
                    f"{_short(new[key])}); "
                    "choose another name or remove it"
                )
        return (path / RESULT).is_file()
    write_json(path / DATA, data.model_dump())
    write_json(path / SETTINGS, dump(settings))
    return False


def _short(value: object) -> str:
    """Return a value as code would write it, or its beginning: a tree is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def save_state(
    path: Path, epochs: int, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer
) -> None:
    """Keep where training stands after ``epochs`` epochs, atomically."""
    tensors = {
        f"{name}.{k}": v for name, module in modules.items() for k, v in module.state_dict().items()
    }
    for index, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": v for k, v in values.items()}
    write_tensors(path / STATE, tensors, {"epochs": str(epochs)})


def load_state(
    path: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer
) -> int:
    """Restore what `save_state` kept; return the number of epochs done, 0 without a state.

    Raises
    ------
    IntegrityError
        It cannot be read, or is of another network.
    """
    file = path / STATE
    if not file.is_file():
        return 0
    tensors = read_tensors(file)
    for name, module in modules.items():
        restore(module, _below(tensors, f"{name}."), file)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    try:
        with safetensors.safe_open(file, "pt") as stream:
            epochs = int((stream.metadata() or {})["epochs"])
        for key, value in _below(tensors, "optimiser.").items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        fits = epochs > 0 and all(
            value.ndim == 0 or value.shape == parameters[index].shape
            for index, values in state.items()
            for value in values.values()
        )
    except (KeyError, IndexError, ValueError):
        fits = False
    if not fits:
        raise IntegrityError(f"{file} is not what a training run writes; train again")
    optimiser.load_state_dict(
        {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
    )
    return epochs


def restore(module: nn.Module, tensors: Mapping[str, Tensor], file: Path) -> None:
    """Give a module its weights, which were read from ``file``.

    Raises
    ------
    IntegrityError
        They are another module's.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = _short(" ".join(str(error).split()))
        raise IntegrityError(f"{file} does not fit the network ({reason}); train again") from None


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write named tensors, atomically."""
    content = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata
    )
    write_bytes(file, content)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read named tensors.

    Raises
    ------
    IntegrityError
        The file is missing or damaged.
    """
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(file.read_bytes())
    except (OSError, safetensors.SafetensorError) as error:
        raise IntegrityError(f"{file} cannot be read ({error}); train again") from None
    return tensors


def write_json(file: Path, values: Any) -> None:  # noqa: ANN401  (any JSON value)
    """Write JSON for people to read, atomically."""
    write_bytes(file, (json.dumps(values, indent=1) + "\n").encode())


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    partial = _partial(file)
    with partial.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)


def _partial(file: Path) -> Path:
    return file.with_name(f".{file.name}.partial")


def _read_settings(path: Path) -> TrainSettings:
    return parse_settings(read_json(path / SETTINGS), str(path / SETTINGS))


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    IntegrityError
        The file is missing or damaged.
    """
    try:
        values = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{file} cannot be read ({error}); train again") from None
    if not isinstance(values, dict):
        raise IntegrityError(f"{file} is not what a training run writes; train again")
    return values


def _read_model(file: Path, kind: type[Model]) -> Model:
    try:
        return kind.model_validate(read_json(file))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise IntegrityError(f"{file}: {first['loc']}: {first['msg']}; train again") from None
