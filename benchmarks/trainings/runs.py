"""Kinds of runs: a network trained, the shipped bundle judged, few images learnt by heart."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.trainings.row import Clock, Row
from benchmarks.trainings.surveys import CLASSES, GZ1_SPLIT, Surveys
from catalogs.cutouts.chosen import crop_of, read_usable
from catalogs.cutouts.store import Survey
from catalogs.progress import Silent
from export.bundle import Bundle, shipped
from export.session import Session
from training import checkpoint
from training.answers import answer_layer
from training.averaging import annotator_of
from training.checkpoint import Run
from training.data import read_views
from training.fit import deterministic, fit, predict
from training.labels import Labels, read_labels
from training.metrics import evaluate
from training.models.base import multiply_accumulates, parameter_count
from training.models.registry import build
from training.objective import Sample
from training.presets import default_settings, read_settings
from training.run import THRESHOLD, roles_of, train
from training.settings import TrainSettings, dump
from training.splits import TEST, TRAIN

BATCH = 64
Answer = Callable[[NDArray[Any]], NDArray[np.float64]]


@dataclass(frozen=True)
class Trained:
    """A network, trained by `training.run.train` and judged on tiles that it has not seen.

    Attributes
    ----------
    survey : str
        gz1, gz2 or sky.
    settings : dict
        Of `TrainSettings`, above the defaults of its network.
    turned : bool
        Whether to count the held-out galaxies whose label a symmetry of the square changes.
    """

    survey: str
    settings: dict[str, Any]
    turned: bool = False

    def measure(self, name: str, folder: Path, surveys: Surveys) -> Row:
        """Train, or go on training, and judge."""
        path = surveys.path(self.survey)
        clock = Clock(folder)
        settings = read_settings("default", None, self.settings)
        epochs = max(1, round(settings.epochs * surveys.sizes.share))
        settings = replace(settings, epochs=epochs)
        result = train(path, folder / "network.run", settings, clock)
        run = Run.open(folder / "network.run")
        network = build(settings.model, run.settings.shape, run.answers.outputs)
        trained = sum(result.counts["train"].values())
        seconds = clock.seconds
        facts: dict[str, Any] = {"epochs": epochs, "settings": dump(run.settings)}
        if result.votes:
            facts["votes"] = result.votes
        if run.result.theta is not None:
            theta = run.result.theta
            facts["theta"] = [theta.value, theta.error]
        if self.turned:
            facts["turned"] = _turned(annotator_answer(run), _held_out(path, run))
        return Row(
            name,
            settings.model,
            seconds,
            parameter_count(network),
            multiply_accumulates(network) * settings.views,
            trained,
            trained * epochs,
            run.result.metrics,
            facts,
        )


@dataclass(frozen=True)
class Shipped:
    """The bundle that comes with skytally, on the tiles that it was held out on."""

    def measure(self, name: str, folder: Path, surveys: Surveys) -> Row:
        """Answer in ONNX Runtime, and write the answers as a run does."""
        clock = Clock(folder)
        bundle = Bundle.open(shipped())
        manifest = bundle.manifest
        trained: Any = manifest.provenance
        session = Session(bundle)
        settings = TrainSettings(split=GZ1_SPLIT)
        store = Survey.open(surveys.path("gz1"))
        labels = read_labels(store, settings)
        test = roles_of(labels, settings) == TEST
        rows = labels.rows[test]
        cutouts, kept = read_usable(store, rows, manifest.input.crop)
        chosen = np.searchsorted(labels.rows, kept)

        def answer(images: NDArray[Any]) -> NDArray[np.float64]:
            return np.asarray(session.run(images)["p_spiral"], dtype=np.float64)

        p = np.concatenate([answer(b) for b in _batches(cutouts)])
        seconds = clock.seconds
        write_answers(folder / checkpoint.HOLDOUT, store, labels, chosen, p)
        settings_of: dict[str, Any] = trained.settings
        given = {name: settings_of[name] for name in ("model", "shape")}
        network = build(given["model"], read_settings("default", None, given).shape, 1)
        galaxies = sum(trained.counts["train"].values())
        return Row(
            name,
            settings_of["model"],
            seconds,
            parameter_count(network),
            multiply_accumulates(network) * settings_of.get("views", 1),
            galaxies,
            galaxies * settings_of["epochs"],
            evaluate(p, labels.targets[chosen], labels.names, manifest.threshold),
            {"epochs": settings_of["epochs"], "turned": _turned(answer, cutouts)},
        )


@dataclass(frozen=True)
class Overfitted:
    """A network at its paper's size, which learns a few galaxies by heart: it can learn."""

    network: str
    epochs: int
    settings: dict[str, Any]

    def measure(self, name: str, folder: Path, surveys: Surveys) -> Row:
        """Train on as many galaxies of either class, and answer for the same ones."""
        clock = Clock(folder)
        settings = replace(
            read_settings("default", None, {"model": self.network, **self.settings}),
            epochs=max(1, round(self.epochs * surveys.sizes.share)),
            augment=None,
            split=GZ1_SPLIT,
        )
        store = Survey.open(surveys.path("gz1"))
        labels = read_labels(store, settings)
        roles = roles_of(labels, settings)
        half = surveys.sizes.overfitted // 2
        members = [np.flatnonzero((roles == TRAIN) & (labels.classes == c))[:half] for c in CLASSES]
        chosen = np.sort(np.concatenate(members))
        network = build(settings.model, settings.shape, 1)
        crop = crop_of(store, None, network.crop)
        views = read_views(store, labels.rows[chosen], crop, network.size, Silent())
        targets = labels.targets[chosen[views.kept]]
        sample = Sample(views.wide, views.cutouts, torch.from_numpy(targets))
        answers = answer_layer(labels.names, None, settings.normalisation)
        folder.mkdir(parents=True, exist_ok=True)
        model = fit(sample, sample, settings, folder, clock, answers)
        with deterministic(settings.threads, settings.seed):
            raw = predict(model, sample.cutouts)[:, 0]
        p = 1.0 / (1.0 + np.exp(-raw))
        metrics = evaluate(p, targets, labels.names, THRESHOLD)
        (folder / checkpoint.STATE).unlink()  # its weights and optimiser: half a gigabyte
        return Row(
            name,
            self.network,
            clock.seconds,
            parameter_count(network),
            multiply_accumulates(network),
            len(targets),
            len(targets) * settings.epochs,
            metrics,
            {"epochs": settings.epochs, "loss": final_loss(folder)},
        )


def final_loss(folder: Path) -> float:
    """Return the loss on the images themselves after the last epoch."""
    with (folder / checkpoint.LOG).open() as stream:
        return float(list(csv.DictReader(stream))[-1]["validation_loss"])


@dataclass(frozen=True)
class Shapes:
    """What every layer of a network gives, and how many numbers it is made of."""

    network: str
    outputs: int

    def measure(self, name: str, folder: Path, surveys: Surveys) -> Row:
        """Run one empty image through the network at its paper's size."""
        clock = Clock(folder)
        network = build(self.network, default_settings(self.network).shape, self.outputs).eval()
        layers: list[list[Any]] = []

        def note(layer: nn.Module, _: object, output: torch.Tensor) -> None:
            layers.append([type(layer).__name__, list(output.shape[1:]), parameter_count(layer)])

        hooks = [layer.register_forward_hook(note) for layer in _layers(network)]
        empty = torch.zeros((1, network.size, network.size, 3))
        with torch.no_grad():
            network(network.preprocess()(empty))
        for hook in hooks:
            hook.remove()
        return Row(
            name,
            self.network,
            clock.seconds,
            parameter_count(network),
            multiply_accumulates(network),
            facts={"layers": layers, "outputs": self.outputs},
        )


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost modules that have parameters of their own, but for normalisation."""
    if any(True for _ in module.parameters(recurse=False)):
        if not isinstance(module, nn.BatchNorm2d):
            yield module
        return
    for child in module.children():
        yield from _layers(child)


def write_answers(
    file: Path, store: Survey, labels: Labels, chosen: NDArray[np.int64], p: NDArray[np.float64]
) -> None:
    """Write probabilities of spirals, like a run's ``holdout.csv``."""
    identifiers = store.column("id")[labels.rows[chosen]]
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "ra", "dec", "label", "p_spiral"])
        for i, identifier, value in zip(chosen, identifiers, p, strict=True):
            place = [f"{labels.ra[i]:.6f}", f"{labels.dec[i]:.6f}"]
            writer.writerow([identifier, *place, labels.classes[i], f"{value:.6f}"])


def annotator_answer(run: Run) -> Answer:
    """Return what gives the probability of a spiral for uint8 cutouts of the network's size."""
    annotator = annotator_of(run)
    at = annotator.answers.index("spiral")

    def answer(images: NDArray[Any]) -> NDArray[np.float64]:
        with torch.inference_mode():
            found: NDArray[np.float64] = annotator(torch.from_numpy(images))[at].double().numpy()
        return found

    return answer


def _held_out(survey: Path, run: Run) -> NDArray[np.uint8]:
    """Return the test galaxies' cutouts, at the network's size."""
    store = Survey.open(survey)
    labels = read_labels(store, run.settings)
    rows = labels.rows[roles_of(labels, run.settings) == TEST]
    size = build(run.settings.model, run.settings.shape, run.answers.outputs).size
    views = read_views(store, rows, run.data.crop, size, Silent())
    cutouts: NDArray[np.uint8] = views.cutouts.numpy()
    return cutouts


def _turned(answer: Answer, cutouts: NDArray[Any]) -> dict[str, float]:
    """Return how much answers change when images are turned by 90 degrees and mirrored.

    ``labels`` is the share of galaxies to which not all eight copies give one label, ``spread``
    the mean standard deviation of their probabilities.
    """
    found = []
    for mirrored in (cutouts, cutouts[:, :, ::-1]):
        for quarter in range(4):
            turned = np.rot90(mirrored, quarter, (1, 2))
            parts = [answer(np.ascontiguousarray(b)) for b in _batches(turned)]
            found.append(np.concatenate(parts))
    p = np.stack(found)
    spiral = (p >= THRESHOLD).sum(axis=0)
    share = np.mean((spiral > 0) & (spiral < len(p)))
    return {
        "labels": float(share),
        "spread": float(p.std(axis=0).mean()),
        "n": float(p.shape[1]),
    }


def _batches(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(images), BATCH):
        yield images[start : start + BATCH]
