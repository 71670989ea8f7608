"""Accuracy against the number of training galaxies: Dhar & Shamir 2022, figure 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
from matplotlib.figure import Figure
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings_class

from catalogs.errors import InputError
from experiments.lab import Experiment, Lab
from experiments.networks import CHEAP, RUN, Store, Training, train_step, two_classes
from experiments.product import Cell, Drawing, Product, Table
from experiments.steps import Step
from training.checkpoint import Run
from training.labels import Labels, read_labels
from training.run import FEWEST, roles_of
from training.splits import TRAIN

PAPER = 1000
MEASURES = ("accuracy", "balanced_accuracy", "roc_auc")


@settings_class(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Settings:
    """What is asked.

    Attributes
    ----------
    sizes : tuple of int
        Training galaxies of each class. Larger than what the training tiles of every seed hold,
        all that they hold is the size.
    seeds : int
        Splits of each size; test tiles, the draw of galaxies and the weights all follow the seed.
    train : TrainSettings
        How each network is trained; ``split.most`` is the size.
    """

    sizes: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (
        30,
        60,
        125,
        250,
        500,
        1000,
    )
    seeds: Annotated[int, Field(ge=1)] = 3
    train: Training = CHEAP


@dataclass(frozen=True, slots=True)
class Trained:
    """One network: what was asked, what the split gave, and what it measured on its test tiles."""

    size: int
    seed: int
    counts: dict[str, int]
    tested: int
    measures: dict[str, float]


def plan(store: Store, settings: Settings) -> list[tuple[int, int, Step]]:
    """Return size, seed and step of every network; smaller draws are part of larger ones."""
    return [
        (
            size,
            seed,
            train_step(
                store,
                replace(
                    settings.train,
                    seed=seed,
                    split=replace(settings.train.split, seed=seed, most=size),
                ),
                f"train on {size} of each class, seed {seed}",
            ),
        )
        for seed in range(settings.seeds)
        for size in settings.sizes
    ]


def run(lab: Lab, settings: Settings) -> Product:
    """Train a network of every size and seed, and say how accuracy grows."""
    two_classes(lab, settings.train)
    there = available(read_labels(lab.survey, settings.train), settings)
    sizes = tuple(sorted({min(size, there) for size in settings.sizes}))
    too_large = [size for size in settings.sizes if size > there]
    planned = plan(Store.of(lab), replace(settings, sizes=sizes))
    folders = lab.steps.make([step for _, _, step in planned])
    found = [
        _read(size, seed, folder) for (size, seed, _), folder in zip(planned, folders, strict=True)
    ]
    return product(found, _not_there(too_large, there))


def available(labels: Labels, settings: Settings) -> int:
    """Return how many galaxies of each class the training tiles of every seed hold."""
    fewest = []
    for seed in range(settings.seeds):
        split = replace(settings.train.split, seed=seed, most=None)
        roles = roles_of(labels, replace(settings.train, split=split))
        counts = np.bincount(labels.targets[roles == TRAIN], minlength=len(labels.names))
        fewest.append(int(counts.min()))
    if min(fewest) < FEWEST:
        raise InputError(
            f"the training tiles of seed {int(np.argmin(fewest))} hold {min(fewest)} galaxies of a "
            f"class, at least {FEWEST} are needed; use more galaxies or a finer [train.split] order"
        )
    return min(fewest)


def _not_there(asked: Sequence[int], there: int) -> list[str]:
    if not asked:
        return []
    said = (
        f"Asked for {' and '.join(f'{size:,}' for size in asked)} galaxies of each class; the "
        f"training tiles of every seed hold {there:,}, which is the largest size."
    )
    return [said]


def _read(size: int, seed: int, folder: Path) -> Trained:
    trained = Run.open(folder / RUN)
    measures = {name: trained.result.metrics[name].value for name in MEASURES}
    counts = trained.data.counts["train"]
    return Trained(size, seed, counts, trained.result.metrics["accuracy"].n, measures)


def product(found: Sequence[Trained], notes: Sequence[str] = ()) -> Product:
    """Return what the networks say together."""
    rows: list[dict[str, Cell]] = [
        {
            "size": one.size,
            "seed": one.seed,
            **{f"trained_{name}": count for name, count in one.counts.items()},
            "tested": one.tested,
            **one.measures,
        }
        for one in found
    ]
    means: list[dict[str, Cell]] = []
    for size in sorted({one.size for one in found}):
        of_size = [one for one in found if one.size == size]
        values = np.asarray([[one.measures[name] for name in MEASURES] for one in of_size])
        row: dict[str, Cell] = {"size": size, "networks": len(of_size)}
        for name, column in zip(MEASURES, values.T, strict=True):
            row[name] = float(column.mean())
            row[f"{name}_sd"] = float(column.std(ddof=1)) if len(column) > 1 else None
        means.append(row)
    classes = list(found[0].counts)
    return Product(
        headline=_headline(means),
        findings=[*(_gain(a, b, found) for a, b in pairwise(means)), *notes],
        tables=(
            Table("sizes", "Means over seeds", _MEANS, means),
            Table(
                "networks",
                "Every network",
                {
                    "size": "training galaxies of each class",
                    "seed": "of split, draw and weights",
                    **{f"trained_{name}": f"training galaxies labelled {name}" for name in classes},
                    "tested": "galaxies of the test tiles",
                    **{name: f"{name} on the test tiles" for name in MEASURES},
                },
                rows,
                shown=False,
            ),
        ),
        drawings=(_draw(means, found),),
        method=(_SPLITS, _TRUTH),
        facts={"sizes": means},
    )


_SPLITS = (
    "Test tiles hold no training galaxy and none within 2 arcsec of one. Each seed has its own "
    "test tiles, its own draw of training galaxies and its own weights; within a seed a smaller "
    "training set is part of a larger one."
)
_TRUTH = (
    "Labels are taken as true: where people err, accuracy against their labels is bounded by how "
    "often they agree with the truth."
)
_MEANS = {
    "size": "training galaxies of each class",
    "networks": "networks trained, one a seed",
    **{
        column: meaning
        for name in MEASURES
        for column, meaning in (
            (name, f"{name} on the test tiles, mean over seeds"),
            (f"{name}_sd", "its standard deviation over seeds"),
        )
    },
}


def _percent(row: dict[str, Cell]) -> str:
    return f"{100 * float(row['balanced_accuracy'] or 0):.1f}%"


def _headline(means: Sequence[dict[str, Cell]]) -> str:
    first, last = means[0], means[-1]
    if first is last:
        return f"Balanced accuracy is {_percent(first)} with {first['size']:,} of each class."
    return (
        f"Balanced accuracy goes from {_percent(first)} with {first['size']:,} galaxies of each "
        f"class to {_percent(last)} with {last['size']:,}."
    )


def _gain(a: dict[str, Cell], b: dict[str, Cell], found: Sequence[Trained]) -> str:
    before, after = (
        {one.seed: one.measures["balanced_accuracy"] for one in found if one.size == row["size"]}
        for row in (a, b)
    )
    gains = [100 * (after[seed] - before[seed]) for seed in after]
    spread = f" (standard deviation over seeds {np.std(gains, ddof=1):.1f})" if gains[1:] else ""
    return (
        f"From {a['size']:,} to {b['size']:,} galaxies of each class: {np.mean(gains):+.1f} "
        f"points{spread}."
    )


def _draw(means: Sequence[dict[str, Cell]], found: Sequence[Trained]) -> Drawing:
    figure = Figure(figsize=(6.4, 3.6), layout="constrained", facecolor="white")
    axes = figure.subplots()
    points = [(one.size, one.measures["balanced_accuracy"]) for one in found]
    axes.plot(*zip(*points, strict=True), "o", color="0.6", markersize=4, label="one network")
    line = [(row["size"], row["balanced_accuracy"]) for row in means]
    axes.plot(*zip(*line, strict=True), "-", color="#14598c", label="mean")
    axes.axvline(PAPER, color="0.7", linestyle=":", linewidth=1)
    axes.set(xscale="log", xlabel="training galaxies of each class", ylabel="balanced accuracy")
    axes.legend(frameon=False)
    said = ", ".join(f"{row['size']}: {_percent(row)}" for row in means)
    return Drawing(
        "accuracy",
        "Accuracy against the number of training galaxies",
        f"Balanced accuracy, mean over seeds, by training galaxies of each class: {said}.",
        f"Dotted: {PAPER} of each class, where the paper's curve flattens (Dhar & Shamir 2022).",
        figure,
    )


EXPERIMENT = Experiment(Settings, run)
