"""The training loop: explicit, and reproduced by its seed."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional

from catalogs.progress import Reporter
from training import checkpoint
from training.augment import augment
from training.losses import class_weights, weighted_cross_entropy
from training.memory import keep_freed_memory
from training.metrics import roc_auc
from training.network import Classifier
from training.settings import TrainSettings

EVALUATION_BATCH = 128


@dataclass(frozen=True, slots=True)
class Sample:
    """Images and targets of one role; see :class:`training.data.Views`."""

    wide: Tensor
    cutouts: Tensor
    targets: Tensor


def fit(
    train: Sample, validation: Sample, settings: TrainSettings, run: Path, reporter: Reporter
) -> Classifier:
    """Train a classifier, or go on where an interrupted training of this run stopped.

    Every epoch draws from generators seeded by (seed, epoch), so a resumed training gives the
    same weights as an uninterrupted one.

    Parameters
    ----------
    train, validation : Sample
        The validation galaxies are only watched; nothing is chosen by them here.
    settings : TrainSettings
    run : Path
        The run's folder; receives the state and the log after every epoch.
    reporter : Reporter

    Returns
    -------
    Classifier
        In evaluation mode, with the averaged weights.
    """
    keep_freed_memory()
    with _deterministic(settings.threads, settings.seed):
        model = Classifier(settings)
        model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = copy.deepcopy(model).eval()
        optimiser = _optimiser(model, settings)
        weights = class_weights(train.targets, settings.balanced)
        done = checkpoint.load_state(run, model, average, optimiser)
        log = _log_lines(run, done)
        for epoch in range(done, settings.epochs):
            loss = _epoch(model, average, optimiser, train, weights, settings, epoch)
            logits = predict(average, validation.cutouts)
            line: dict[str, object] = {"epoch": epoch + 1, "loss": loss}
            line |= _watch(logits, validation.targets, settings)
            log.append(json.dumps(line))
            checkpoint.save_state(run, epoch + 1, model, average, optimiser)
            checkpoint.write_bytes(run / checkpoint.LOG, "".join(f"{x}\n" for x in log).encode())
            reporter.event("epoch", **line)
            reporter.progress("train", epoch + 1, settings.epochs, "epochs")
    return average


def predict(model: Classifier, cutouts: Tensor) -> NDArray[np.float64]:
    """Return the logit of each cutout, float64 (n,), computed in fp32."""
    with torch.inference_mode():
        parts = [model(batch).squeeze(1) for batch in torch.split(cutouts, EVALUATION_BATCH)]
    return np.concatenate([part.numpy() for part in parts] or [np.zeros(0)]).astype(np.float64)


def _epoch(
    model: Classifier,
    average: Classifier,
    optimiser: torch.optim.Optimizer,
    train: Sample,
    weights: Tensor,
    settings: TrainSettings,
    epoch: int,
) -> float:
    """Train for one epoch; return the mean loss."""
    # One generator for the data, and torch's own for dropout.
    generator = Generator().manual_seed(_seed(settings.seed, epoch))
    torch.manual_seed(_seed(settings.seed, epoch) + 1)
    model.train()
    order = torch.randperm(len(train.targets), generator=generator)
    batches = [b for b in torch.split(order, settings.batch) if len(b) > 1] or [order]
    losses = []
    for number, batch in enumerate(batches):
        step = epoch * len(batches) + number
        for group in optimiser.param_groups:
            group["lr"] = _rate(step, settings.epochs * len(batches), settings)
        targets = train.targets[batch]
        images = _images(model, train, batch, settings, generator)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            logits = model.network(images).squeeze(1)
        loss = weighted_cross_entropy(logits.float(), targets, weights)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
        # Early on the mean follows closely; it forgets the first, bad weights.
        _follow(average, model, min(settings.average, (step + 1) / (step + 20)))
    return float(np.mean(losses))


def _images(
    model: Classifier, train: Sample, batch: Tensor, settings: TrainSettings, generator: Generator
) -> Tensor:
    """Return the network's input for a batch: the cutouts as they are, or a random view of each."""
    look = model.preprocess
    if settings.augment is None:
        images: Tensor = look(train.cutouts[batch])
        return images
    wide = train.wide[batch].permute(0, 3, 1, 2).to(torch.float32).contiguous()
    views = augment(wide, model.size, settings.augment, generator, look.frames, look.side)
    return look.normalise(views)


def _optimiser(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """AdamW or Nesterov's; biases and normalisation do not decay."""
    named = list(model.named_parameters())
    free = [name.endswith("bias") or p.ndim <= 1 for name, p in named]
    groups = [
        {
            "params": [p for (_, p), f in zip(named, free, strict=True) if f == spared],
            "weight_decay": 0.0 if spared else settings.weight_decay,
        }
        for spared in (False, True)
    ]
    if settings.optimiser == "nesterov":
        momentum = settings.betas[0]
        return torch.optim.SGD(groups, settings.learning_rate, momentum, nesterov=True)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas)


def _rate(step: int, steps: int, settings: TrainSettings) -> float:
    warm = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    cosine = 0.5 * (1.0 + math.cos(math.pi * step / steps)) if settings.cosine else 1.0
    drops = 0.1 ** sum(step >= share * steps for share in settings.drops)
    return settings.learning_rate * warm * cosine * drops


def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    with torch.no_grad():
        pairs = zip(average.state_dict().values(), model.state_dict().values(), strict=True)
        for mean, value in pairs:
            if mean.dtype.is_floating_point:
                mean.lerp_(value, 1.0 - decay)
            else:
                mean.copy_(value)


def _watch(
    logits: NDArray[np.float64], targets: Tensor, settings: TrainSettings
) -> dict[str, float]:
    """Return validation loss and ROC AUC; empty when a class is missing."""
    if len(torch.unique(targets)) < 2:
        return {}
    weights = class_weights(targets, settings.balanced)
    loss = functional.binary_cross_entropy_with_logits(
        torch.from_numpy(logits), targets.to(torch.float64), weight=weights[targets]
    )
    area = roc_auc(logits, targets.numpy()).value
    return {"validation_loss": float(loss), "validation_roc_auc": area}


def _seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 2)


def _log_lines(run: Path, done: int) -> list[str]:
    file = run / checkpoint.LOG
    return file.read_text().splitlines()[:done] if file.is_file() else []


@contextmanager
def _deterministic(threads: int, seed: int) -> Iterator[None]:
    """Fix torch's threads, algorithms and random numbers, and restore them afterwards."""
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        # Filling every new tensor is for finding bugs; it costs a pass over memory.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.set_num_threads(before)
            torch.use_deterministic_algorithms(strict)
            torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
