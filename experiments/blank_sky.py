"""The class of a galaxy told from patches of sky beside it: Shamir 2023.

Such a classifier has learnt something else than the galaxy's shape: its outskirts, its frame, or
how it was observed. The patches are corners of the cutouts, patches at random places around the
galaxy, and corners of other galaxies' cutouts in the same tile of the sky.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, get_args

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass as settings_class
from scipy import stats

from catalogs.audit.comparison.chance import LEVEL, against_chance
from catalogs.errors import InputError
from experiments import blank_words as words
from experiments.chance import confusion, detectable
from experiments.lab import Experiment, Lab
from experiments.networks import CHEAP, Store, based_on
from experiments.patches import SEEN, Geometry, Place, geometry, patches_step
from experiments.pictures import Answered, Pictures, folded, network_step
from experiments.product import Cell, Drawing, Product, Table
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


def _each_once(places: tuple[Place, ...]) -> tuple[Place, ...]:
    if len(set(places)) < len(places):
        raise ValueError(f"{', '.join(places)}: name each place once")
    return places


@settings_class(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Settings:
    """What is asked.

    Attributes
    ----------
    seeds : int
        Folds, whose test tiles share nothing; with five every galaxy is tested once.
    places : tuple of {"corner", "random", "elsewhere"}
    patch : int, optional
        Side [px]; by default a quarter of the cutout's, at most 64. At random places smaller where
        no such patch fits beside the galaxy.
    radius : float, optional
        Of the circle that patches keep off [px]; by default two Petrosian radii, if the framing
        shows 5.76 as Galaxy Zoo's does.
    galaxies : int
        Of each class, drawn by their rows; as many of the other.
    train : TrainSettings
        ``label`` names the classes, two of them.
    """

    seeds: Annotated[int, Field(ge=1, le=5)] = 5
    places: Annotated[tuple[Place, ...], Field(min_length=1), AfterValidator(_each_once)] = (
        get_args(Place)
    )
    patch: Annotated[int, Field(ge=SEEN, le=1024)] | None = None
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
    corner = geometry(lab.survey, settings.patch, settings.radius, train)
    order = train.split.order or block_order(labels.ra, labels.dec)
    folds = [folded(train, fold, order) for fold in range(settings.seeds)]
    where = places_of(corner, settings)
    found: dict[str, Answered] = {}
    levels: list[dict[str, Cell]] = []
    for place, of_place in where.items():
        patches = patches_step(store, place, of_place, settings.galaxies, train, order)
        shape = _of_size(train, of_place.patch * of_place.repeated)
        networks = [
            network_step(
                patches,
                names,
                replace(fold, shape=shape),
                f"tell the class from a patch ({place}), fold {fold.split.fold}",
            )
            for fold in folds
        ]
        cut, *folders = lab.steps.make([patches, *networks])
        found[place] = Answered.read(folders)
        levels += _levels(place, Pictures.read(cut), names)
    follow = lab.survey.attributes.pixel_scale is None
    return product(found, levels, names, where, settings, follow)


def places_of(corner: Geometry, settings: Settings) -> dict[Place, Geometry]:
    """Return where patches lie, by place; random ones are left out where corners are asked, too."""
    found: dict[Place, Geometry] = {}
    for place in settings.places:
        try:
            found[place] = corner.of_place(place)
        except InputError:
            if len(settings.places) == 1:
                raise
    return found


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
    found: Mapping[str, Answered],
    levels: Sequence[dict[str, Cell]],
    names: tuple[str, ...],
    where: Mapping[Place, Geometry],
    settings: Settings,
    follow: bool,
) -> Product:
    """Return what the answers say.

    Parameters
    ----------
    found : mapping of str to Answered
        By place.
    levels : sequence of dict
        From `_levels`.
    names : tuple of str
        Of the classes.
    where : mapping of str to Geometry
        By place.
    settings : Settings
    follow : bool
        Whether frames follow the galaxies' sizes, or may.
    """
    rows: list[dict[str, Cell]] = []
    networks: list[dict[str, Cell]] = []
    for place, told in found.items():
        whole = _row(told, np.ones(len(told.rows), np.bool_), names)
        whole["detectable"] = detectable(len(told.rows), float(whole["chance"] or 0), LEVEL)
        rows.append({"place": place, **whole})
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
    said = [words.finding(row) for row in rows]
    said += words.reasons(rows, levels, names, follow)
    if "random" in settings.places and "random" not in found:
        said.append("No patch fits at random places beside the galaxies: they were left out.")
    columns = {"place": words.PLACE, **words.columns(names)}
    return Product(
        headline=words.headline(rows, levels),
        findings=said,
        tables=(
            Table("places", "All folds together", columns | words.POWER, rows),
            Table(
                "networks",
                "Every network",
                {"place": words.PLACE, "fold": words.FOLD, **words.columns(names)},
                networks,
            ),
            Table(
                "levels",
                "What simple numbers differ",
                {
                    "place": words.PLACE,
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
                    "place": words.PLACE,
                    "row": "of the survey",
                    "fold": words.FOLD,
                    "label": "the galaxy's",
                    "answer": "of the network",
                },
                answers,
                shown=False,
            ),
        ),
        drawings=(_draw(rows, networks),),
        method=(*words.patches(where), words.TILES, words.MEANING),
        facts={
            "places": rows,
            "levels": levels,
            "patch": {place: one.patch for place, one in where.items()},
            "radius": {place: one.radius for place, one in where.items()},
        },
    )


def _row(told: Answered, chosen: NDArray[np.bool_], names: tuple[str, ...]) -> dict[str, Cell]:
    table = confusion(told.targets[chosen], told.answers[chosen], 2)
    test = against_chance(table)
    row: dict[str, Cell] = {"n": test.n, "right": test.right, "accuracy": test.accuracy}
    row |= {"low": test.low, "high": test.high, "chance": test.chance, "p": test.p}
    row["fisher_p"] = test.fisher_p
    for a, counts in zip(names, table.tolist(), strict=True):
        row |= {f"{a}_as_{b}": count for b, count in zip(names, counts, strict=True)}
    return row


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
        "The class told from sky beside the galaxy",
        " ".join(words.finding(row) for row in rows),
        "Grey: single folds. Blue: all test galaxies with their 95% interval. Dotted: chance.",
        figure,
    )


EXPERIMENT = Experiment(Settings, run)
