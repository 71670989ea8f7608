"""A line on the features of the network that tells the classes, which is to tell something else."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from catalogs.progress import Reporter
from experiments.networks import RUN
from experiments.pictures import Pictures, check, told
from experiments.steps import Step
from training.averaging import annotator_of
from training.checkpoint import Run
from training.fit import deterministic
from training.models.base import last_dense
from training.settings import SplitSettings, TrainSettings, dump
from training.splits import TEST, TRAIN

PENALTY = 0.1  # inverse strength of the linear probe's ridge
BATCH = 128
FEATURES = "features.npy"


def features_step(cutouts: Step, classifier: Step) -> Step:
    """Return the step that keeps what the classifier's last layer sees of each cutout."""
    return Step(
        "features",
        "features of the classifier",
        {},
        _features,
        (cutouts, classifier),
        ("training", "experiments/probes.py", "experiments/pictures.py"),
        ("torch",),
    )


def _features(folder: Path, needs: Sequence[Path], _: Reporter) -> None:
    model = annotator_of(Run.open(needs[1] / RUN))
    with deterministic(1, 0):
        values = penultimate(model, Pictures.read(needs[0]).cutouts)
    np.save(folder / FEATURES, values, allow_pickle=False)


def penultimate(model: nn.Module, cutouts: Tensor) -> NDArray[np.float32]:
    """Return the input of a network's last dense layer, means over views, shape (n, width).

    Raises
    ------
    InputError
        The network has no dense layer.
    """
    seen: list[Tensor] = []
    hook = last_dense(model).register_forward_hook(
        lambda _, given, __: seen.append(given[0].clone())
    )
    parts = []
    with torch.inference_mode():
        for batch in torch.split(cutouts, BATCH):
            seen.clear()
            model(batch)
            parts.append(torch.stack(seen).mean(dim=0))
    hook.remove()
    return np.asarray(torch.cat(parts).numpy(), np.float32)


def linear_step(
    features: Step, cutouts: Step, split: SplitSettings, names: tuple[str, ...]
) -> Step:
    """Return the step that fits a logistic regression to the features of one fold."""
    assert split.order is not None
    return Step(
        "line",
        f"tell the tile from features, fold {split.fold}",
        {"split": dump(TrainSettings(split=split))["split"], "penalty": PENALTY},
        partial(_line, split=split, names=names),
        (cutouts, features),
        ("experiments/probes.py", "experiments/pictures.py", "training/splits.py"),
        ("scikit-learn",),
    )


def _line(
    folder: Path,
    needs: Sequence[Path],
    _: Reporter,
    *,
    split: SplitSettings,
    names: tuple[str, ...],
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pictures = Pictures.read(needs[0])
    features = np.load(needs[1] / FEATURES, allow_pickle=False).astype(np.float64)
    roles, targets = pictures.roles(split), pictures.targets.numpy()
    check(pictures, roles, names)
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=PENALTY, max_iter=2000, class_weight="balanced")
    )
    model.fit(features[roles == TRAIN], targets[roles == TRAIN])
    told(pictures, roles, split, model.predict(features[roles == TEST])).write(folder)
