"""Where on the sky a cutout is from, told from the cutout.

Two probes: a network trained on the cutouts, and a linear one on the features of the network that
tells the classes. If either can tell the part of the sky, a classifier can be of another opinion
there for no reason of the galaxies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings_class
from torch import Tensor, nn

from catalogs.audit.comparison.chance import LEVEL
from catalogs.cutouts.chosen import crop_of
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter
from catalogs.sky import Region, tile_of
from experiments.chance import Permuted, confusion, permuted_blocks
from experiments.lab import Experiment, Lab
from experiments.networks import CHEAP, RUN, Store, based_on, train_step
from experiments.pictures import Answered, Pictures, check, folded, labelling, network_step, told
from experiments.product import Cell, Drawing, Product, Table, shown
from experiments.steps import Step
from training.augment import AugmentSettings
from training.averaging import annotator_of
from training.checkpoint import Run
from training.data import read_views
from training.fit import deterministic
from training.labels import Labels, read_labels
from training.models.base import GALAXY_ZOO_CROP, last_dense
from training.settings import SplitSettings, TrainSettings, dump
from training.splits import TEST, TRAIN, block_order, hashed_uniform

PROBES = {"network": "a network on the cutouts", "features": "a line on the classifier's features"}
DEEPER = 3  # orders by which blocks are finer than tiles
PENALTY = 0.1  # inverse strength of the linear probe's ridge
BATCH = 128

TURNED = AugmentSettings(
    zoom=1.0, gain=0.0, colour=0.0, saturation=0.0, background=0.0, noise=0.0, blur=0.0
)
"""Turned, mirrored and shifted only: what the sky does to brightness and noise must stay."""

LEARNING = replace(CHEAP, augment=TURNED)


@settings_class(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Settings:
    """What is asked.

    Attributes
    ----------
    seeds : int
        Folds, whose test blocks share nothing; with five every galaxy is tested once.
    order : int
        HEALPix order of the tiles to tell apart; order 0 has 12 on the sky.
    regions : dict of str to str
        Instead of tiles: names and ``RA0..RA1,DEC0..DEC1``, which must not overlap.
    fewest : int
        Galaxies of each class that a tile must have.
    most : int
        Galaxies of each class and tile that are drawn; the same number of every one.
    train : TrainSettings
        Of both networks; ``label`` names the classes. Its ``split.order`` is that of the blocks,
        by default three finer than the tiles; of regions, that which makes 64 of each.
    """

    seeds: Annotated[int, Field(ge=1, le=5)] = 5
    order: Annotated[int, Field(ge=0, le=6)] = 0
    regions: dict[str, str] = Field(default_factory=dict)
    fewest: Annotated[int, Field(ge=10)] = 200
    most: Annotated[int, Field(ge=10)] = 500
    train: Annotated[TrainSettings, based_on(LEARNING)] = LEARNING

    def blocks(self, labels: Labels, drawn: Drawn) -> int:
        """Return the order of the blocks."""
        asked, at = self.train.split.order, drawn.chosen
        if asked is None and self.regions:
            return block_order(labels.ra[at], labels.dec[at], drawn.tiles)
        return max(3, self.order + DEEPER) if asked is None else asked


@dataclass(frozen=True, slots=True)
class Drawn:
    """Which galaxies are shown: positions among the labelled ones, and the tile of each."""

    chosen: NDArray[np.int64]
    tiles: NDArray[np.int64]
    names: tuple[str, ...]


def draw(labels: Labels, settings: Settings) -> Drawn:
    """Return as many galaxies of every class from every tile, so that the mix tells nothing.

    Raises
    ------
    InputError
        Fewer than two tiles have enough galaxies, or regions overlap.
    """
    if settings.regions:
        inside = np.stack(
            [Region.parse(r).contains(labels.ra, labels.dec) for r in settings.regions.values()]
        )
        if inside.sum(axis=0).max(initial=0) > 1:
            raise InputError("regions overlap; a galaxy must lie in one of them")
        kinds = np.where(inside.any(axis=0), inside.argmax(axis=0), -1)
        every = list(settings.regions)
    else:
        found, kinds = np.unique(
            tile_of(labels.ra, labels.dec, settings.order), return_inverse=True
        )
        every = [f"tile {tile}" for tile in found.tolist()]
    counts = np.array(
        [
            [np.sum((kinds == k) & (labels.targets == c)) for c in range(len(labels.names))]
            for k in range(len(every))
        ]
    )
    usable = np.flatnonzero(counts.min(axis=1) >= settings.fewest)
    if len(usable) < 2:
        raise InputError(
            f"{len(usable)} tiles have {settings.fewest} galaxies of each class; two are needed: "
            "set fewest, order or regions"
        )
    count = min(settings.most, int(counts[usable].min()))
    rank = hashed_uniform(labels.rows, settings.train.split.seed)
    parts = []
    for k in usable:
        for c in range(len(labels.names)):
            members = np.flatnonzero((kinds == k) & (labels.targets == c))
            parts.append(members[np.argsort(rank[members])[:count]])
    chosen = np.sort(np.concatenate(parts))
    place = np.searchsorted(usable, kinds[chosen]).astype(np.int64)
    return Drawn(chosen, place, tuple(every[k] for k in usable))


def cutouts_step(store: Store, settings: Settings, size: int) -> Step:
    """Return the step that reads the cutouts of the galaxies that are shown."""
    decides = {
        "survey": store.content,
        "order": settings.order,
        "regions": settings.regions,
        "fewest": settings.fewest,
        "most": settings.most,
        "size": size,
        "labels": labelling(settings.train),
    }
    made = partial(_read, store=store, settings=settings, size=size)
    return Step("cutouts", "read cutouts", decides, made, store.needs)


def _read(
    folder: Path,
    needs: Sequence[Path],
    reporter: Reporter,
    *,
    store: Store,
    settings: Settings,
    size: int,
) -> None:
    survey = Survey.open(store.at(needs))
    labels = read_labels(survey, settings.train)
    drawn = draw(labels, settings)
    rows = labels.rows[drawn.chosen]
    crop = crop_of(survey, settings.train.crop, GALAXY_ZOO_CROP)
    views = read_views(survey, rows, crop, size, reporter)
    kept = drawn.chosen[views.kept]
    numbers = (drawn.tiles[views.kept], labels.rows[kept], labels.ra[kept], labels.dec[kept])
    Pictures(views.wide, views.cutouts, *map(torch.from_numpy, numbers)).write(folder)


def features_step(cutouts: Step, classifier: Step) -> Step:
    """Return the step that keeps what the classifier's last layer sees of each cutout."""
    return Step(
        "features",
        "features of the classifier",
        {},
        _features,
        (cutouts, classifier),
        ("training",),
    )


FEATURES = "features.npy"


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


def run(lab: Lab, settings: Settings) -> Product:
    """Train both probes on every fold and compare what they tell with chance."""
    labels = read_labels(lab.survey, settings.train)
    drawn, store = draw(labels, settings), Store.of(lab)
    size = settings.train.shape.size
    cutouts = cutouts_step(store, settings, size)
    classifier = train_step(store, settings.train, "train the classifier of the classes")
    features = features_step(cutouts, classifier)
    order = settings.blocks(labels, drawn)
    folds = [folded(settings.train, fold, order) for fold in range(settings.seeds)]
    steps = {
        "network": [
            network_step(cutouts, drawn.names, one, f"tell the tile, fold {one.split.fold}")
            for one in folds
        ],
        "features": [linear_step(features, cutouts, one.split, drawn.names) for one in folds],
    }
    found = {probe: Answered.read(lab.steps.make(of_probe)) for probe, of_probe in steps.items()}
    return product(found, drawn.names, len(drawn.chosen))


def product(found: Mapping[str, Answered], names: tuple[str, ...], galaxies: int) -> Product:
    """Return what the probes say."""
    tests = {
        probe: permuted_blocks(one.targets, one.answers, one.blocks, one.folds, len(names))
        for probe, one in found.items()
    }
    rows: list[dict[str, Cell]] = [
        {
            "probe": probe,
            "n": len(found[probe].rows),
            "blocks": len(np.unique(found[probe].blocks)),
            "balanced_accuracy": test.value,
            "chance": 1 / len(names),
            "permuted": test.mean,
            "permuted_sd": test.sd,
            "p": test.p,
        }
        for probe, test in tests.items()
    ]
    tables: list[dict[str, Cell]] = []
    for probe, one in found.items():
        for name, counts in zip(
            names, confusion(one.targets, one.answers, len(names)).tolist(), strict=True
        ):
            row: dict[str, Cell] = {"probe": probe, "tile": name}
            row.update({f"as {other}": n for other, n in zip(names, counts, strict=True)})
            tables.append(row)
    able = [PROBES[probe] for probe, test in tests.items() if test.p < LEVEL]
    return Product(
        headline=(
            f"The cutout tells where on the sky it is from ({' and '.join(able)})."
            if able
            else "Nothing shows that a cutout tells where on the sky it is from."
        ),
        findings=[_finding(probe, test, names) for probe, test in tests.items()],
        tables=(
            Table("probes", "Told against chance", _PROBE_COLUMNS, rows),
            Table(
                "tiles",
                "Which tile for which",
                {
                    "probe": _WHICH,
                    "tile": "where the galaxies are",
                    **{f"as {name}": f"told as {name}" for name in names},
                },
                tables,
            ),
            Table("answers", "Every test cutout", _ANSWERS, _answers(found, names), shown=False),
        ),
        drawings=(_draw(tests, names),),
        method=(_DRAWN.format(galaxies=galaxies, tiles=len(names)), _BLOCKS, _MEANS),
        facts={"probes": rows, "tiles": list(names)},
    )


_WHICH = "network on cutouts, or line on the classifier's features"
_PROBE_COLUMNS = {
    "probe": _WHICH,
    "n": "test galaxies",
    "blocks": "blocks of sky that they lie in",
    "balanced_accuracy": "mean over tiles of the share told right, mean over folds",
    "chance": "one over the number of tiles",
    "permuted": "mean balanced accuracy when blocks are given the tiles of others",
    "permuted_sd": "its standard deviation",
    "p": "one-sided p of the balanced accuracy among these",
}
_ANSWERS = {
    "probe": _WHICH,
    "row": "of the survey",
    "fold": "which network; its test blocks are in no other fold",
    "block": "HEALPix tile, nested, that is on one side of the split",
    "tile": "where the galaxy is",
    "answer": "what was told",
}
_DRAWN = (
    "{galaxies:,} galaxies are shown, as many of each class in each of {tiles} tiles: the mix of "
    "classes tells nothing."
)
_BLOCKS = (
    "Each fold holds out whole blocks of sky within the tiles, so that no galaxy, no neighbour and "
    "no field is on both sides. For p, blocks of a fold exchange their tiles, because galaxies of "
    f"a block are not independent. The level is {LEVEL}."
)
_MEANS = (
    "A probe that tells the tile shows that cutouts carry marks of where they were taken, or that "
    "galaxies of a class differ between the tiles, as near clusters and far fields do. That the "
    "features of a classifier carry them does not show that its answers follow them. The "
    "classifier may have learnt from galaxies that are shown here; it was never told their tile."
)


def _answers(found: Mapping[str, Answered], names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {
            "probe": probe,
            "row": int(one.rows[i]),
            "fold": int(one.folds[i]),
            "block": int(one.blocks[i]),
            "tile": names[one.targets[i]],
            "answer": names[one.answers[i]],
        }
        for probe, one in found.items()
        for i in range(len(one.rows))
    ]


def _finding(probe: str, test: Permuted, names: tuple[str, ...]) -> str:
    what = PROBES[probe]
    return (
        f"{what[0].upper()}{what[1:]}: balanced accuracy {100 * test.value:.1f}% over {len(names)} "
        f"tiles, chance {100 / len(names):.1f}% (exchanged blocks: {100 * test.mean:.1f}% +- "
        f"{100 * test.sd:.1f}%), p = {shown(test.p)}."
    )


def _draw(tests: Mapping[str, Permuted], names: tuple[str, ...]) -> Drawing:
    figure = Figure(figsize=(5.2, 3.2), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for k, test in enumerate(tests.values()):
        axes.errorbar([k], [test.mean], [2 * test.sd], fmt="_", color="0.6", capsize=6)
        axes.plot([k], [test.value], "s", color="#14598c")
    axes.axhline(1 / len(names), color="0.6", linestyle=":", linewidth=1)
    axes.set_xticks(range(len(tests)), list(tests))
    axes.set(ylabel="balanced accuracy", xlim=(-0.6, len(tests) - 0.4))
    return Drawing(
        "probes",
        "The tile told from the cutout",
        " ".join(_finding(probe, test, names) for probe, test in tests.items()),
        "Blue: found. Grey: mean and two standard deviations when blocks exchange their tiles. "
        "Dotted: chance.",
        figure,
    )


EXPERIMENT = Experiment(Settings, run)
