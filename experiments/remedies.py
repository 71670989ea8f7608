"""The sky swap again with each remedy: what is left of the anisotropy, and of the accuracy.

Two networks learn spirals in one region and ellipticals in the other, and the other way round. What
they say of the same galaxies differs by what they learnt of the sky; a remedy is to make that less,
and cost little accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from matplotlib.figure import Figure
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings_class

from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.sky import Region
from experiments import swap_plan
from experiments.lab import Experiment, Lab
from experiments.networks import CHEAP, Store, based_on, holdout_of, refuse_other_classes
from experiments.product import Cell, Drawing, Product, Table
from experiments.remedy_shifts import Measured, corrected, measure, summaries, swaps_of
from experiments.remedy_words import (
    MATRICES,
    METHOD,
    PAIRS,
    SUMMARY,
    findings,
    headline,
    judged_by,
)
from experiments.sky_draw import TURNED
from experiments.steps import Step
from experiments.swap_roles import FEWEST, refuse_thin
from experiments.swaps import Answered, Training
from experiments.truth import refuse_truth, true_classes
from training.augment import AugmentSettings
from training.models.equivariant import EquivariantShape
from training.reversal import draw_parts
from training.settings import AdversarySettings, DebiasSettings, TrainSettings

Remedy = Literal[
    "none", "sky-balanced", "background", "reversal", "equivariant", "debiased", "labels"
]
TRAINED: tuple[Remedy, ...] = (
    "none",
    "sky-balanced",
    "background",
    "reversal",
    "equivariant",
    "debiased",
)
SMALL = EquivariantShape(fields=(4, 8, 12), blocks=(0, 1, 1), features=32)

LEARNING = replace(CHEAP, augment=TURNED)


@settings_class(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Settings:
    """What is asked.

    Attributes
    ----------
    regions : dict of str to str
        Two names with ``RA0..RA1,DEC0..DEC1``; by default two of the sky swap's.
    spiral, elliptical : str
        Classes of the label column.
    remedies : tuple of str
        ``none``; ``sky-balanced``: every tile weighs the same within each class; ``background``:
        brightness, background, noise and blur of the training images are random; ``reversal``:
        features from which the region cannot be told, with unlabelled galaxies of both
        (`training.reversal`); ``equivariant``:
        a network that cannot tell turned images apart; ``debiased``: the de-biasing loss, with the
        table ``debias``, for which every network learns from the labels as they are, not as many
        of each class; ``labels``: answers of the networks without a remedy, corrected by labels.
    truth : str, optional
        Column of true classes, by which answers are judged; by default the labels themselves.
        Networks that learn from biased labels can be judged by nothing else.
    labels : int
        Test galaxies of each region whose labels are used, drawn blind.
    seeds : int
        Splits of the sky, with networks of their own.
    order : int
        Of the tiles that are split.
    background : AugmentSettings
        The random changes of that remedy.
    adversary : AdversarySettings, optional
        Of the reversal; by default the parts are the two regions.
    debias : DebiasSettings, optional
    train : TrainSettings
        Without a remedy.
    """

    regions: Annotated[dict[str, str], Field(min_length=2, max_length=2)] = Field(
        default_factory=lambda: dict(list(swap_plan.PAPERS.items())[:2])
    )
    spiral: str = "spiral"
    elliptical: str = "elliptical"
    remedies: tuple[Remedy, ...] = (
        "none",
        "sky-balanced",
        "background",
        "reversal",
        "equivariant",
        "labels",
    )
    truth: str | None = None
    labels: Annotated[int, Field(ge=10)] = 200
    seeds: Annotated[int, Field(ge=1)] = 6
    order: Annotated[int, Field(ge=0, le=12)] = 5
    background: AugmentSettings = Field(default_factory=AugmentSettings)
    adversary: AdversarySettings | None = None
    debias: DebiasSettings | None = None
    train: Annotated[TrainSettings, based_on(LEARNING)] = LEARNING


@dataclass(frozen=True, slots=True)
class Planned:
    """A network: its remedy, what it learnt from, its seed, and its step."""

    remedy: Remedy
    training: Training
    seed: int
    step: Step


def remedied(settings: Settings, remedy: Remedy) -> TrainSettings:
    """Return how networks learn with a remedy."""
    train = settings.train
    if "debiased" in settings.remedies:
        train = _as_labelled(train)
    if remedy == "sky-balanced":
        return replace(train, sampling="sky")
    if remedy == "background":
        return replace(train, augment=settings.background)
    if remedy == "reversal":
        parts = settings.adversary or AdversarySettings(regions=settings.regions)
        return replace(train, adversary=parts)
    if remedy == "equivariant":
        size = getattr(train.shape, "size", SMALL.size)
        return replace(train, model="equivariant", shape=replace(SMALL, size=size))
    if remedy == "debiased":
        if settings.debias is None:
            raise InputError('remedies: "debiased" needs the table [debias]')
        return replace(train, loss="debiased", debias=settings.debias, balanced=None)
    return train


def _as_labelled(train: TrainSettings) -> TrainSettings:
    """Return a training on the labels as they are: the de-biasing loss is of their shares."""
    most = train.split.most
    if train.balanced or most not in (None, LEARNING.split.most):
        raise InputError(
            'remedies: "debiased" is of labels as they are; balanced and split.most change the '
            "shares of the classes: leave them out"
        )
    return replace(train, balanced=False, split=replace(train.split, most=None))


def plan(store: Store, settings: Settings) -> list[Planned]:
    """Return every network: both trainings of every remedy and seed."""
    first, second = settings.regions
    if "none" not in settings.remedies:
        raise InputError('remedies: without "none" there is nothing to compare with')
    swaps = {one: swap_of(settings, one) for one in TRAINED if one in settings.remedies}
    found = []
    for seed in range(settings.seeds):
        for remedy, swap in swaps.items():
            for training in (Training(first, second), Training(second, first)):
                step = swap_plan.network(store, swap, training, swap_plan.Split(seed, None))
                title = f"train {training}, {remedy}, seed {seed}"
                found.append(Planned(remedy, training, seed, replace(step, title=title)))
    return found


def swap_of(settings: Settings, remedy: Remedy) -> swap_plan.Settings:
    """Return the sky swap of networks that learn with a remedy.

    Raises
    ------
    InputError
        Regions that cannot be, or a training setting that the swap decides.
    """
    swap = swap_plan.Settings(
        regions=settings.regions,
        spiral=settings.spiral,
        elliptical=settings.elliptical,
        seeds=settings.seeds,
        folds=0,
        audited=(),
        order=settings.order,
        train=remedied(settings, remedy),
    )
    swap_plan.refuse(swap)
    return swap


def run(lab: Lab, settings: Settings) -> Product:
    """Train both ways with every remedy, and compare."""
    classes = (settings.elliptical, settings.spiral)
    refuse_other_classes(lab, settings.train, settings.spiral, settings.elliptical)
    if settings.truth is not None:
        refuse_truth(lab.survey, settings.truth, classes)
    planned = plan(Store.of(lab), settings)
    splits = [swap_plan.Split(seed, None) for seed in range(settings.seeds)]
    for remedy in dict.fromkeys(one.remedy for one in planned):
        swap = swap_of(settings, remedy)
        refuse_thin(lab.survey, swap, splits, settings.truth)
        if swap.train.adversary is not None:
            refuse_empty_parts(lab.survey, swap, splits)
    folders = lab.steps.make([one.step for one in planned])
    answered: dict[Remedy, list[Answered]] = {}
    for one, folder in zip(planned, folders, strict=True):
        answered.setdefault(one.remedy, []).extend(_answers(one, folder, lab.survey, settings))
    return product(answered, settings)


def refuse_empty_parts(
    survey: Survey, swap: swap_plan.Settings, splits: Sequence[swap_plan.Split]
) -> None:
    """Refuse an adversary whose parts of the sky lack galaxies, as its training would."""
    place = (survey.column("ra"), survey.column("dec"))
    for split in splits:
        draw_parts(*place, replace(swap.train, split=swap_plan.blocks(swap, split)))


def _answers(one: Planned, folder: Path, survey: Survey, settings: Settings) -> list[Answered]:
    held, truth = holdout_of(folder), settings.truth
    right = held.label if truth is None else true_classes(survey, truth, held.id)
    judged = np.isin(right, [settings.spiral, settings.elliptical])
    second = settings.spiral > settings.elliptical  # of two classes the second's probability
    found = []
    for name, text in settings.regions.items():
        here = judged & Region.parse(text).contains(held.ra, held.dec)
        spiral = right[here] == settings.spiral
        if min(spiral.sum(), (~spiral).sum()) < FEWEST:
            raise InputError(
                f"region {name} has {spiral.sum()} and {(~spiral).sum()} test galaxies of the "
                f"classes; {FEWEST} are needed: choose larger regions, or another order"
            )
        said = (held.p[here] >= 0.5) == second
        found.append(Answered(one.training, name, f"seed {one.seed}", spiral, said))
    return found


def product(answered: Mapping[Remedy, Sequence[Answered]], settings: Settings) -> Product:
    """Return what is left with each remedy."""
    split = settings.train.split
    ratio = split.test / (1 - split.test - split.validation)
    pairs: list[dict[str, Cell]] = []
    measured: dict[str, list[Measured]] = {}
    for remedy in settings.remedies:
        networks = answered["none" if remedy == "labels" else remedy]
        fraction = None
        if remedy == "labels":
            fraction = {
                k: corrected(one, settings.labels, int(one.split.split()[1]))
                for k, one in enumerate(networks)
            }
        rows = swaps_of(networks, fraction)
        pairs += [{"remedy": remedy, **row} for row in rows]
        measured[remedy] = measure(rows, None if remedy == "labels" else networks)
    summary = summaries(measured, ratio)
    matrices: list[dict[str, Cell]] = [
        {
            "remedy": remedy,
            "training": str(one.training),
            "region": one.region,
            "split": one.split,
            **{name: getattr(one.matrix, name) for name in ("ee", "es", "se", "ss")},
        }
        for remedy, networks in answered.items()
        for one in networks
    ]
    return Product(
        headline=headline(summary, list(settings.regions)),
        findings=findings(summary),
        tables=(
            Table("remedies", "What is left", SUMMARY, summary),
            Table("pairs", "Every swap", PAIRS, pairs, shown=False),
            Table("matrices", "Confusion matrices", MATRICES, matrices, shown=False),
        ),
        drawings=(_draw(summary, pairs, list(settings.regions)),),
        method=(*METHOD, judged_by(settings.train.label, settings.truth)),
        facts={"remedies": summary, "test_over_train": ratio},
    )


def _draw(
    summary: Sequence[Mapping[str, Cell]],
    pairs: Sequence[Mapping[str, Cell]],
    regions: Sequence[str],
) -> Drawing:
    figure = Figure(figsize=(6.4, 3.4), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for k, row in enumerate(summary):
        values = [100 * float(p["difference"] or 0) for p in pairs if p["remedy"] == row["remedy"]]
        axes.plot(values, [k] * len(values), "o", color="0.6", markersize=4)
        filled = "#14598c" if row["learnt"] else "none"
        mean = 100 * float(row["shift"] or 0)
        axes.plot([mean], [k], "s", color="#14598c", markerfacecolor=filled)
        if row["shift_low"] is not None:
            ends = [100 * float(row[name] or 0) for name in ("shift_low", "shift_high")]
            axes.plot(ends, [k, k], "-", color="#14598c")
    axes.axvline(0, color="0.6", linestyle=":", linewidth=1)
    names = [f"{row['remedy']}{'' if row['learnt'] else ' (not learnt)'}" for row in summary]
    axes.set_yticks(range(len(summary)), names)
    axes.invert_yaxis()
    first, second = regions
    axes.set(xlabel=f"called spiral by {first}/{second} more than by {second}/{first} [points]")
    return Drawing(
        "remedies",
        "What the swap moves with each remedy",
        " ".join(findings(summary)),
        "Grey: single regions and splits. Blue: their mean, the shift, with its 95% interval over "
        "splits; empty where networks have not learnt to tell the classes.",
        figure,
    )


EXPERIMENT = Experiment(Settings, run)
