"""Where on the sky a cutout is from, told from the cutout.

Two probes: a network trained on the cutouts, and a linear one on the features of the network that
tells the classes. If either can tell the part of the sky, a classifier can be of another opinion
there for no reason of the galaxies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from catalogs.audit.comparison.chance import LEVEL
from experiments.chance import ALIKE, Permuted, confusion, permuted_blocks
from experiments.lab import Experiment, Lab
from experiments.networks import Store, train_step
from experiments.pictures import Answered, folded, network_step
from experiments.probes import features_step, linear_step
from experiments.product import Cell, Drawing, Product, Table, shown
from experiments.sky_draw import Settings, cutouts_step, draw
from training.labels import read_labels

PROBES = {"network": "a network on the cutouts", "features": "a line on the classifier's features"}


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
            "detectable": None if test.alike == test.folds else test.detectable(LEVEL),
            "alike": test.alike,
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
    return Product(
        headline=_headline(tests),
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
    "detectable": f"balanced accuracy found with 80% power at level {LEVEL}, about",
    "alike": f"folds in which one tile was the answer to {ALIKE:.0%} or more: nothing was learnt",
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


def _headline(tests: Mapping[str, Permuted]) -> str:
    able = [PROBES[probe] for probe, test in tests.items() if test.p < LEVEL]
    blind = [PROBES[probe] for probe, test in tests.items() if test.alike == test.folds]
    if able:
        return f"The cutout tells where on the sky it is from ({' and '.join(able)})."
    if len(blind) == len(tests):
        return "The probes learnt nothing: they cannot say whether a cutout tells where it is from."
    but = f"; {' and '.join(blind)} learnt nothing" if blind else ""
    return f"Nothing shows that a cutout tells where on the sky it is from{but}."


def _finding(probe: str, test: Permuted, names: tuple[str, ...]) -> str:
    what, found = PROBES[probe], test.detectable(LEVEL)
    if test.alike == test.folds:
        power = (
            f"every fold gave one tile to {ALIKE:.0%} of cutouts or more, so nothing was learnt "
            "and nothing could be told"
        )
    else:
        power = f"with 80% power {100 * found:.1f}% would have been found at level {LEVEL}"
        if test.alike:
            power += (
                f" by probes that have learnt something; in {test.alike} of {test.folds} folds one "
                f"tile was the answer to {ALIKE:.0%} or more"
            )
    return (
        f"{what[0].upper()}{what[1:]}: balanced accuracy {100 * test.value:.1f}% over {len(names)} "
        f"tiles, chance {100 / len(names):.1f}% (exchanged blocks: {100 * test.mean:.1f}% ± "
        f"{100 * test.sd:.1f}%), p = {shown(test.p)}; {power}."
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
