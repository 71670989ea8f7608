"""The training loop: explicit, and reproduced by its seed."""

from __future__ import annotations

import copy
import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional

from catalogs.errors import InputError, IntegrityError
from catalogs.progress import Reporter
from training import checkpoint
from training.answers import AnswerLayer, TwoClasses
from training.augment import augment, principal_colour
from training.board import board
from training.memory import keep_freed_memory
from training.metrics import roc_auc
from training.network import Classifier
from training.objective import Objective, Sample
from training.reversal import Adversary
from training.settings import TrainSettings

EVALUATION_BATCH = 128


def fit(
    train: Sample,
    validation: Sample,
    settings: TrainSettings,
    run: Path,
    reporter: Reporter,
    answers: AnswerLayer | None = None,
    theta: float | None = None,
    sky: Sample | None = None,
) -> Classifier:
    """Train a classifier, or go on where an interrupted training of this run stopped.

    Every epoch draws from generators seeded by (seed, epoch), so a resumed training gives the
    same weights as an uninterrupted one, and no galaxy is seen twice in the same way.

    Parameters
    ----------
    train, validation : Sample
        The validation galaxies are only watched, unless ``settings.patience`` stops by them.
    settings : TrainSettings
    run : Path
        The run's folder; receives the state and the log after every epoch.
    reporter : Reporter
    answers : AnswerLayer, optional
        What raw outputs mean; by default two classes.
    theta : float, optional
        The width of the labelling bias.
    sky : Sample, optional
        With the settings' table ``adversary``: galaxies whose targets are the parts of the sky.

    Returns
    -------
    Classifier
        In evaluation mode, with the averaged weights; those of the best epoch with patience.
    """
    keep_freed_memory()
    device = device_of(settings)
    with deterministic(settings.threads, settings.seed, device):
        model = Classifier(settings, answers).to(device)
        model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = copy.deepcopy(model).eval()
        modules: dict[str, nn.Module] = {"model": model, "average": average}
        adversary = None
        if settings.adversary is not None:
            assert sky is not None
            adversary = Adversary(model.network, sky, settings.adversary)
            modules["adversary"] = adversary
        trained = [model] if adversary is None else [model, adversary]
        optimiser = _optimiser(nn.ModuleList(trained), settings)
        objective = Objective(model.answers, settings, train, theta)
        watched = Objective(model.answers, settings, validation, theta)
        colour = _colour(train, settings)
        done = checkpoint.load_state(run, modules, optimiser)
        log = read_log(run)[:done]
        if len(log) < done:
            raise IntegrityError(
                f"{run / checkpoint.LOG} has {len(log)} of the {done} epochs that are done; "
                "train again"
            )
        with board(run, done) as note:
            for epoch in range(done, settings.epochs):
                if settings.patience and _waited(log) >= settings.patience:
                    break
                losses = _epoch(
                    model, average, optimiser, objective, settings, epoch, colour, adversary
                )
                line: dict[str, float] = {"epoch": epoch + 1, **losses}
                raw = predict(average, validation.cutouts)
                if not np.isfinite(raw).all():
                    raise _diverged("answers are no numbers", epoch, optimiser)
                line |= _watch(raw, watched)
                if log and set(log[0]) != set(line):
                    raise IntegrityError(
                        f"{run / checkpoint.LOG} has {', '.join(log[0])} instead of "
                        f"{', '.join(line)}; train again"
                    )
                log.append(line)
                if settings.patience and _waited(log) == 0:
                    checkpoint.write_tensors(run / checkpoint.BEST, average.state_dict(), {})
                write_log(run, log)
                checkpoint.save_state(run, epoch + 1, modules, optimiser)
                note(line)
                reporter.event("epoch", **line)
                reporter.progress("train", epoch + 1, settings.epochs, "epochs")
        if settings.patience:
            best = run / checkpoint.BEST
            checkpoint.restore(average, checkpoint.read_tensors(best), best)
    return average.cpu()


def device_of(settings: TrainSettings) -> torch.device:
    """Return where to train.

    Raises
    ------
    InputError
        A card is asked for and there is none.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise InputError('device "cuda": torch sees no card here; leave it out to train on the CPU')
    return torch.device(settings.device)


def predict(model: Classifier, cutouts: Tensor) -> NDArray[np.float64]:
    """Return the raw outputs of each cutout, float64 (n, outputs), computed in fp32."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        parts = [model(b.to(device)).cpu() for b in torch.split(cutouts, EVALUATION_BATCH)]
    empty = np.zeros((0, model.answers.outputs))
    return np.concatenate([part.numpy() for part in parts] or [empty]).astype(np.float64)


def read_log(run: Path) -> list[dict[str, float]]:
    """Return what was written of each epoch, in order; nothing without a log.

    Raises
    ------
    IntegrityError
        It is not what training writes.
    """
    file = run / checkpoint.LOG
    if not file.is_file():
        return []
    try:
        log = [
            {name: int(text) if name == "epoch" else float(text) for name, text in row.items()}
            for row in csv.DictReader(file.read_text().splitlines(), strict=True)
        ]
        whole = [line["epoch"] for line in log] == list(range(1, len(log) + 1))
    except (KeyError, TypeError, ValueError, csv.Error):
        whole = False
    if not whole or any("loss" not in line for line in log):
        raise IntegrityError(f"{file} is not what a training run writes; train again")
    return log


def write_log(run: Path, log: Sequence[Mapping[str, float]]) -> None:
    """Write one line per epoch, with every digit."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(log[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(log)
    checkpoint.write_bytes(run / checkpoint.LOG, text.getvalue().encode())


def _waited(log: Sequence[Mapping[str, float]]) -> int:
    """Return the number of epochs since the smallest validation loss."""
    losses = [line["validation_loss"] for line in log]
    return len(losses) - 1 - losses.index(min(losses)) if losses else -1


def _epoch(
    model: Classifier,
    average: Classifier,
    optimiser: torch.optim.Optimizer,
    objective: Objective,
    settings: TrainSettings,
    epoch: int,
    colour: Tensor | None,
    adversary: Adversary | None = None,
) -> dict[str, float]:
    """Train for one epoch; return the mean loss, and with an adversary its own."""
    train = objective.sample
    # One generator for the data, and torch's own for dropout.
    generator = Generator().manual_seed(_seed(settings.seed, epoch))
    torch.manual_seed(_seed(settings.seed, epoch) + 1)
    model.train()
    # Features are taken from the network itself, not from copies of it on several cards.
    network = _spread(model.network, settings, several=adversary is None)
    order = _order(train, generator)
    batches = [b for b in torch.split(order, settings.batch) if len(b) > 1] or [order]
    if adversary is not None:
        other = Generator().manual_seed(_seed(settings.seed, epoch) + 2)
        unlabelled = adversary.batches([len(batch) for batch in batches], other)
    losses, told = [], []
    for number, batch in enumerate(batches):
        step = epoch * len(batches) + number
        for group in optimiser.param_groups:
            group["lr"] = _rate(step, settings.epochs * len(batches), settings)
        images = _images(model, train, batch, settings, generator, colour)
        if adversary is not None:
            which = unlabelled[number]
            views = _images(model, adversary.sky, which, settings, other, colour)
            images = torch.cat([images, views])
        images = images.contiguous(memory_format=torch.channels_last)
        raw = network(images)
        constrained = step * settings.batch >= settings.unconstrained
        loss = objective(raw[: len(batch)].float().cpu(), batch, constrained)
        losses.append(loss.item())
        if adversary is not None:
            parts = adversary.loss(which, step / (settings.epochs * len(batches)))
            told.append(parts.item())
            loss = loss + parts
        if not math.isfinite(value := loss.item()):
            raise _diverged(f"the loss is {value}", epoch, optimiser)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        # Early on the mean follows closely; it forgets the first, bad weights.
        _follow(average, model, min(settings.average, (step + 1) / (step + 20)))
    found = {"loss": float(np.mean(losses))}
    return found | {"parts_loss": float(np.mean(told))} if told else found


def _diverged(what: str, epoch: int, optimiser: torch.optim.Optimizer) -> InputError:
    rate = optimiser.param_groups[0]["lr"]
    return InputError(
        f"training diverged: {what} in epoch {epoch + 1}, at a rate of {rate:g}; train another run "
        "with a smaller learning_rate or a longer warmup"
    )


class Precise(nn.Module):
    """A network in the arithmetic that the settings ask for.

    What autocast is told holds in its thread only, and each of several cards has its own
    (`torch.nn.DataParallel`), so it is told inside.
    """

    def __init__(self, network: nn.Module, settings: TrainSettings) -> None:
        super().__init__()
        self.network, self.device = network, settings.device
        self.reduced = settings.precision == "bf16"

    def forward(self, images: Tensor) -> Tensor:
        """Return what the network returns."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.reduced):
            raw: Tensor = self.network(images)
        return raw


def _spread(network: nn.Module, settings: TrainSettings, *, several: bool) -> nn.Module:
    """Return the network as it is trained: on all cards, if ``several`` may be used."""
    precise = Precise(network, settings)
    if several and settings.device == "cuda" and torch.cuda.device_count() > 1:
        return nn.DataParallel(precise)
    return precise


def _order(train: Sample, generator: Generator) -> Tensor:
    """Return the galaxies of an epoch: every one once, or as often as its weight says."""
    if train.weights is None:
        return torch.randperm(len(train), generator=generator)
    return torch.multinomial(train.weights, len(train), replacement=True, generator=generator)


def _colour(train: Sample, settings: TrainSettings) -> Tensor | None:
    """Return the direction in which brightness changes, where it is changed."""
    if settings.augment is None or not settings.augment.brightness:
        return None
    return principal_colour(train.cutouts)


def _images(
    model: Classifier,
    train: Sample,
    batch: Tensor,
    settings: TrainSettings,
    generator: Generator,
    colour: Tensor | None,
) -> Tensor:
    """Return the network's input for a batch: the cutouts as they are, or a random view of each."""
    look, device = model.preprocess, next(model.parameters()).device
    if settings.augment is None:
        images: Tensor = look(train.cutouts[batch].to(device))
        return images
    wide = train.wide[batch].to(device).permute(0, 3, 1, 2).to(torch.float32).contiguous()
    views = augment(wide, model.size, settings.augment, generator, look.frames, look.side, colour)
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


def _watch(raw: NDArray[np.float64], objective: Objective) -> dict[str, float]:
    """Return the validation loss, and a number that people know.

    The area under the ROC curve of two classes, the accuracy of several, and of a tree the root
    mean squared error of cumulative fractions. Empty when one of two classes is missing.
    """
    sample, answers = objective.sample, objective.answers
    if isinstance(answers, TwoClasses) and len(torch.unique(sample.targets)) < 2:
        return {}
    outputs = torch.from_numpy(raw)
    found = {"validation_loss": float(objective(outputs, slice(None)))}
    if sample.cumulative is not None:
        error = functional.mse_loss(answers(outputs), sample.cumulative)
        return found | {"validation_rmse": math.sqrt(float(error))}
    if isinstance(answers, TwoClasses):
        return found | {"validation_roc_auc": roc_auc(raw[:, 0], sample.targets.numpy()).value}
    right = outputs.argmax(dim=1) == sample.targets
    return found | {"validation_accuracy": float(right.to(torch.float64).mean())}


def _seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 2)


@contextmanager
def deterministic(threads: int, seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Fix torch's threads, algorithms and random numbers, and restore them afterwards.

    On a card only as far as it has such algorithms; of the others torch warns.
    """
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        card = device is not None and device.type == "cuda"
        torch.use_deterministic_algorithms(True, warn_only=card)
        # Filling every new tensor is for finding bugs; it costs a pass over memory.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.set_num_threads(before)
            torch.use_deterministic_algorithms(strict)
            torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
