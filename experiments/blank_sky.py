"""The class of a galaxy told from sky that does not show it: Shamir 2023.

A classifier that does so has learnt how a galaxy was observed. The patches are corners of the
cutouts, and, where these leave room beside the galaxy, patches at random places around it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, get_args

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings_class
from scipy import stats

from catalogs.audit.comparison.chance import LEVEL, against_chance
from catalogs.errors import InputError
from experiments.chance import confusion
from experiments.lab import Experiment, Lab
from experiments.networks import CHEAP, Store, based_on
from experiments.patches import SMALLEST, Geometry, Place, geometry, patches_step
from experiments.pictures import Answered, Pictures, folded, network_step
from experiments.product import Cell, Drawing, Product, Table, shown
from training.augment import AugmentSettings
from training.labels import read_labels
from training.models.shamir import ShamirShape
from training.settings import TrainSettings
from training.splits import block_order

MIRRORED = AugmentSettings(
    rotate=False,
    zoom=1.0,
    shift=0.0,
    gain=0.0,
    colour=0.0,
    saturation=0.0,
    background=0.0,
    noise=0.0,
    blur=0.0,
)
"""Mirrored only: noise and background are what there is to learn."""

LEARNING = replace(CHEAP, augment=MIRRORED)


@settings_class(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Settings:
    """What is asked.

    Attributes
    ----------
    seeds : int
        Folds, whose test tiles share nothing; with five every galaxy is tested once.
    places : tuple of {"corner", "random"}
    patch : int, optional
        Side [px]; by default a quarter of the cutout's, at most 64.
    radius : float, optional
        Of the circle that patches keep off [px]; by default two Petrosian radii, if the framing
        shows 5.76 as Galaxy Zoo's does.
    galaxies : int
        Of each class, drawn by their rows; as many of the other.
    train : TrainSettings
        ``label`` names the classes, two of them.
    """

    seeds: Annotated[int, Field(ge=1, le=5)] = 5
    places: Annotated[tuple[Place, ...], Field(min_length=1)] = get_args(Place)
    patch: Annotated[int, Field(ge=SMALLEST, le=1024)] | None = None
    radius: Annotated[float, Field(gt=0)] | None = None
    galaxies: Annotated[int, Field(ge=10)] = 2000
    train: Annotated[TrainSettings, based_on(LEARNING)] = LEARNING


def run(lab: Lab, settings: Settings) -> Product:
    """Cut patches, train on them, and compare what is told with chance."""
    labels = read_labels(lab.survey, settings.train)
    names = labels.names
    if len(names) != 2:
        raise InputError(f"{settings.train.label} has {len(names)} classes; expected two")
    train, store = settings.train, Store.of(lab)
    where = geometry(lab.survey, settings.patch, settings.radius, train)
    order = train.split.order or block_order(labels.ra, labels.dec)
    train = replace(train, shape=_of_size(train, where.patch))
    places = [place for place in settings.places if place == "corner" or where.room]
    if not places:
        raise InputError(
            f"no patch of {where.patch} px fits beside a galaxy of radius {where.radius:.3g} px in "
            f"a cutout of {where.side} px; ask for corners"
        )
    found: dict[str, Answered] = {}
    levels: list[dict[str, Cell]] = []
    for place in places:
        patches = patches_step(store, place, where, settings.galaxies, settings.train)
        networks = [
            network_step(
                patches,
                names,
                folded(train, fold, order),
                f"tell the class from a {place} patch, fold {fold}",
            )
            for fold in range(settings.seeds)
        ]
        cut, *folders = lab.steps.make([patches, *networks])
        found[place] = Answered.read(folders)
        levels += _levels(place, Pictures.read(cut), names)
    return product(found, levels, names, where, settings)


def _of_size(train: TrainSettings, side: int) -> ShamirShape:
    if not isinstance(train.shape, ShamirShape):
        raise InputError(f'model {train.model!r} has one size; patches need model = "shamir"')
    return replace(train.shape, size=side)


def _levels(place: str, pictures: Pictures, names: tuple[str, ...]) -> list[dict[str, Cell]]:
    """Say what simple numbers of a patch differ between the classes."""
    grey = pictures.cutouts.to(torch.float32).mean(dim=3).flatten(1)
    second = pictures.targets.numpy() == 1
    rows: list[dict[str, Cell]] = []
    for name, values in (("mean", grey.mean(dim=1)), ("scatter", grey.std(dim=1))):
        a, b = values.numpy()[~second], values.numpy()[second]
        test = stats.mannwhitneyu(b, a)
        row: dict[str, Cell] = {"place": place, "of_pixels": name}
        row[names[0]], row[names[1]] = float(np.median(a)), float(np.median(b))
        row["area"], row["p"] = float(test.statistic / (len(a) * len(b))), float(test.pvalue)
        rows.append(row)
    return rows


def product(
    found: dict[str, Answered],
    levels: list[dict[str, Cell]],
    names: tuple[str, ...],
    where: Geometry,
    settings: Settings,
) -> Product:
    """Return what the answers say."""
    rows: list[dict[str, Cell]] = []
    networks: list[dict[str, Cell]] = []
    for place, told in found.items():
        rows.append({"place": place, **_row(told, np.ones(len(told.rows), np.bool_), names)})
        networks += [
            {"place": place, "fold": fold, **_row(told, told.folds == fold, names)}
            for fold in np.unique(told.folds).tolist()
        ]
    answers: list[dict[str, Cell]] = [
        {"place": place, "row": row, "fold": fold, "label": names[target], "answer": names[answer]}
        for place, told in found.items()
        for row, fold, target, answer in zip(
            told.rows.tolist(),
            told.folds.tolist(),
            told.targets.tolist(),
            told.answers.tolist(),
            strict=True,
        )
    ]
    left_out = [place for place in settings.places if place not in found]
    said = [_finding(row) for row in rows]
    if left_out:
        said.append(
            f"No patch of {where.patch} px fits beside the galaxies of {where.side} px cutouts, so "
            "only corners were used."
        )
    told_any = [str(row["place"]) for row in rows if float(row["p"] or 0) < LEVEL]
    return Product(
        headline=(
            f"Sky without the galaxy tells its class ({' and '.join(told_any)} patches)."
            if told_any
            else "Nothing shows that sky without the galaxy tells its class."
        ),
        findings=said,
        tables=(
            Table("places", "All folds together", {"place": _PLACE, **_columns(names)}, rows),
            Table(
                "networks",
                "Every network",
                {"place": _PLACE, "fold": _FOLD, **_columns(names)},
                networks,
            ),
            Table(
                "levels",
                "What simple numbers differ",
                {
                    "place": _PLACE,
                    "of_pixels": "mean or standard deviation of a patch's grey levels",
                    names[0]: "its median over patches beside this class",
                    names[1]: "the same",
                    "area": f"probability that it is larger beside a {names[1]}",
                    "p": "two-sided p of Mann and Whitney that this is .5",
                },
                levels,
            ),
            Table(
                "answers",
                "Every test patch",
                {
                    "place": _PLACE,
                    "row": "of the survey",
                    "fold": _FOLD,
                    "label": "the galaxy's",
                    "answer": "of the network",
                },
                answers,
                shown=False,
            ),
        ),
        drawings=(_draw(rows, networks),),
        method=(
            _PATCHES.format(patch=where.patch, side=where.side, radius=where.radius),
            _TILES,
            _FRAMING,
        ),
        facts={"places": rows, "levels": levels, "patch": where.patch, "radius": where.radius},
    )


_PATCHES = (
    "Patches of {patch} px from cutouts of {side} px, one a galaxy, at least {radius:.3g} px from "
    "its centre. Random ones lie anywhere around it."
)
_PLACE = "where in the cutout"
_FOLD = "which network; its test tiles are in no other fold"
_TILES = (
    "Test tiles hold no training galaxy and none within 2 arcsec of one. As many galaxies of "
    "either class are drawn, so chance is one half if all folds are run; else it is the share of "
    f"the larger class. The binomial test is one-sided and exact; the level is {LEVEL}. It takes "
    "galaxies as independent."
)
_FRAMING = (
    "Telling the class from empty sky shows that labels go with how galaxies were observed. It "
    "does not show how much a classifier of whole cutouts uses that. Where a cutout's scale "
    "follows the galaxy's size, noise and neighbours are magnified with it, and size goes with "
    "class: even honest corners may tell it."
)


def _columns(names: tuple[str, ...]) -> dict[str, str]:
    return {
        "n": "test patches",
        "right": "of these told right",
        "accuracy": "share told right",
        "low": "lower bound of its 95% interval (Clopper and Pearson)",
        "high": "upper bound",
        "chance": "share of the larger class",
        "p": "one-sided exact binomial p against chance",
        "fisher_p": "one-sided p of Fisher's exact test",
        **{
            f"{a}_as_{b}": f"patches beside a galaxy labelled {a}, told as {b}"
            for a in names
            for b in names
        },
    }


def _row(told: Answered, chosen: NDArray[np.bool_], names: tuple[str, ...]) -> dict[str, Cell]:
    table = confusion(told.targets[chosen], told.answers[chosen], 2)
    test = against_chance(table)
    row: dict[str, Cell] = {"n": test.n, "right": test.right, "accuracy": test.accuracy}
    row |= {"low": test.low, "high": test.high, "chance": test.chance, "p": test.p}
    row["fisher_p"] = test.fisher_p
    for a, counts in zip(names, table.tolist(), strict=True):
        row |= {f"{a}_as_{b}": count for b, count in zip(names, counts, strict=True)}
    return row


def _finding(row: dict[str, Cell]) -> str:
    return (
        f"{str(row['place']).capitalize()} patches: {shown(row['right'])} of {shown(row['n'])} "
        f"right, {100 * float(row['accuracy'] or 0):.1f}% "
        f"({100 * float(row['low'] or 0):.1f}% to {100 * float(row['high'] or 0):.1f}%), chance "
        f"{100 * float(row['chance'] or 0):.1f}%, p = {shown(row['p'])}."
    )


def _draw(rows: Sequence[dict[str, Cell]], networks: Sequence[dict[str, Cell]]) -> Drawing:
    figure = Figure(figsize=(5.2, 3.2), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for k, row in enumerate(rows):
        folds = [float(one["accuracy"] or 0) for one in networks if one["place"] == row["place"]]
        axes.plot([k] * len(folds), folds, "o", color="0.6", markersize=4)
        value, low, high = (float(row[name] or 0) for name in ("accuracy", "low", "high"))
        error = [[value - low], [high - value]]
        axes.errorbar([k + 0.1], [value], error, fmt="s", color="#14598c", capsize=4)
        chance = float(row["chance"] or math.nan)
        axes.hlines(chance, k - 0.3, k + 0.3, color="0.5", linestyle=":")
    axes.set_xticks(range(len(rows)), [str(row["place"]) for row in rows])
    axes.set(ylabel="accuracy", xlim=(-0.6, len(rows) - 0.4))
    return Drawing(
        "accuracy",
        "The class told from sky without the galaxy",
        " ".join(_finding(row) for row in rows),
        "Grey: single folds. Blue: all test galaxies with their 95% interval. Dotted: chance.",
        figure,
    )


EXPERIMENT = Experiment(Settings, run)
