"""Simulate, train, annotate and audit in four worlds, and say whether the verdict is right.

The audit's procedure from end to end on images. Which worlds there are says `experiments.worlds`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from catalogs.audit.uniformity.fractions import wilson
from experiments import worlds
from experiments.lab import Experiment, Lab
from experiments.product import Cell, Drawing, Product, Table
from experiments.world_steps import AUDIT, plan
from experiments.worlds import WORLDS, Settings, World


@dataclass(frozen=True, slots=True)
class Judged:
    """One world of one seed, as its audit has it; None where a test could not be made."""

    world: World
    seed: int
    document: dict[str, Any]

    @property
    def said(self) -> tuple[str, str | None]:
        """Verdict and cause."""
        return self.document["verdict"], self.document["cause"]

    @property
    def right(self) -> bool:
        """Whether verdict and cause are those of the world."""
        return self.said == self.world.right

    def row(self) -> dict[str, Cell]:
        """Return the row of the table."""
        tests = {test["name"]: test for test in self.document["tests"]}
        labels = self.document["labels"]
        found = labels["attribution"] or {}
        rates, difference = found.get("rates") or {}, found.get("sky") or {}
        whole = labels["whole"]
        compared = self.document["compared"]
        cap = (compared["catalogs"][0]["in_cap"] if compared else None) or {}
        detectable = self.document["detectable"]["dipole"] or {}
        return {
            "world": self.world.name,
            "seed": self.seed,
            "verdict": self.said[0],
            "cause": self.said[1],
            "right": self.right,
            "alarm_p": self.document["alarm"]["p"],
            "fraction": self.document["sky"]["fraction"],
            "dipole": tests["dipole"]["effect"],
            "dipole_p": tests["dipole"]["p"],
            "scan_p": tests["scan"]["p"],
            "detectable": detectable.get("mean"),
            "tpr": whole["tpr"]["value"],
            "tnr": whole["tnr"]["value"],
            "region": found.get("region"),
            "rates_p": rates.get("p"),
            "sky_difference": difference.get("difference"),
            "sky_p": difference.get("p"),
            "cap_audited": cap.get("audited"),
            "cap_other": cap.get("other"),
        }


def run(lab: Lab, settings: Settings) -> Product:
    """Make every world, and say in how many the audit was right."""
    planned = plan(settings, lab.workers)
    folders = lab.steps.make([one.audit for one in planned])
    judged = [
        Judged(one.world, one.seed, json.loads((folder / AUDIT / "audit.json").read_text()))
        for one, folder in zip(planned, folders, strict=True)
    ]
    return product(judged, settings)


def product(judged: Sequence[Judged], settings: Settings) -> Product:
    """Return what the worlds say together."""
    rows = [one.row() for one in judged]
    summary: list[dict[str, Cell]] = []
    for name in settings.worlds:
        of_world = [one for one in judged if one.world.name == name]
        right = sum(one.right for one in of_world)
        low, high = wilson(np.array([right]), np.array([len(of_world)]))
        said = [" ".join(filter(None, one.said)) for one in of_world]
        verdict, cause = WORLDS[name].right
        row: dict[str, Cell] = {
            "world": name,
            "should_be": verdict if cause is None else f"{verdict}: {cause}",
            "right": right,
            "of": len(of_world),
            "low": float(low[0]),
            "high": float(high[0]),
            "said": ", ".join(f"{said.count(one)} {one}" for one in dict.fromkeys(said)),
        }
        summary.append(row)
    alone, alarm = worlds.power(settings.galaxies, settings.alpha)
    total = sum(one.right for one in judged)
    wrong = [one for one in judged if not one.right]
    return Product(
        headline=f"The verdict is right in {total} of {len(judged)} worlds.",
        findings=[
            _power_in_words(alone.mean, alarm.best, settings),
            *(
                f"Wrong: {one.world.name}, seed {one.seed}: {' '.join(filter(None, one.said))}."
                for one in wrong
            ),
        ],
        tables=(
            Table("worlds", "Right, by world", _SUMMARY, summary),
            Table("audits", "Every audit", _ROWS, rows),
        ),
        drawings=(_draw(rows, alarm.best, settings),),
        method=(_WHAT, _LEARNT, _CHANCE),
        facts={
            "worlds": summary,
            "power": {"dipole": alone.mean, "dipole_best": alone.best, "alarm_best": alarm.best},
        },
    )


def _power_in_words(mean: float, best: float, settings: Settings) -> str:
    return (
        f"{settings.galaxies:,} galaxies of this footprint show a dipole of {mean:.3f} in the "
        f"answers with 80% power over all directions, of {best:.3f} along the best axis and after "
        f"Holm's correction; {settings.dipole:g} is in the truth where the sky varies."
    )


_WHAT = (
    "null: the truth is isotropic and the sky observed evenly. sky: the true spiral fraction has a "
    "dipole. classifier: the truth is isotropic, but where the audited network learns, a condition "
    "(seeing, unless the settings say otherwise) goes with the class, and over the whole sky it "
    "varies as a dipole. both: both, the same way. "
    "The galaxies of a seed are drawn from the same random numbers in all four."
)
_LEARNT = (
    "Networks learn from other galaxies than they annotate, of isotropic truth under the "
    "conditions of the world; so null and sky share theirs, and classifier and both. The audit is "
    "given the catalog, a blind sample of true labels, declared as one, the catalog of a network "
    "that learnt elsewhere, and the training sky. The region in which labels are compared is the "
    "cap that its own scan finds."
)
_CHANCE = (
    "What is expected by design: the alarm sounds on at most alpha of null skies; each of the two "
    "tests of labels rejects by chance in 2.5%, which turns sky or classifier into both."
)
_SUMMARY = {
    "world": "which of the four",
    "should_be": "verdict and cause that are right",
    "right": "audits with this verdict and cause",
    "of": "audits",
    "low": "lower bound of the 95% interval (Wilson) of the share that is right",
    "high": "upper bound",
    "said": "verdicts and causes, with their numbers",
}
_ROWS = {
    "world": "which of the four",
    "seed": "of galaxies, networks and labels",
    "verdict": "of the audit",
    "cause": "of the audit",
    "right": "whether both are those of the world",
    "alarm_p": "smallest p of the tests of the map, after Holm",
    "fraction": "spirals among the answers",
    "dipole": "amplitude fitted to the answers",
    "dipole_p": "p of the dipole, Monte Carlo",
    "scan_p": "p of the cap scan, Monte Carlo",
    "detectable": "dipole that these answers show with 80% power, mean over directions",
    "tpr": "true spirals called spiral, of the labels",
    "tnr": "true ellipticals called elliptical, of the labels",
    "region": "where labels are compared with the rest",
    "rates_p": "p that true and false positive rates are the same inside and outside",
    "sky_difference": "corrected spiral fraction inside minus outside",
    "sky_p": "p of that difference",
    "cap_audited": "fraction of answers in the scan's cap minus outside, audited network",
    "cap_other": "the same of the other network",
}


def _draw(rows: Sequence[dict[str, Cell]], detectable: float, settings: Settings) -> Drawing:
    figure = Figure(figsize=(6.4, 3.4), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for right, colour, marker in ((True, "#14598c", "o"), (False, "#9c2f14", "X")):
        points = [
            (float(row["dipole"] or 0), settings.worlds.index(str(row["world"])) + _spread(row))
            for row in rows
            if row["right"] is right
        ]
        if points:
            label = "right" if right else "wrong"
            axes.plot(*zip(*points, strict=True), marker, color=colour, label=label)
    axes.axvline(detectable, color="0.6", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(settings.worlds)), settings.worlds)
    axes.set(
        xlabel="dipole of the answers", xlim=(0, None), ylim=(len(settings.worlds) - 0.5, -0.5)
    )
    axes.legend(frameon=False)
    said = "; ".join(
        f"{row['world']}, seed {row['seed']}: {float(row['dipole'] or 0):.3f}, "
        f"{'right' if row['right'] else 'wrong'}"
        for row in rows
    )
    return Drawing(
        "dipoles",
        "The dipole in the answers of each world",
        f"Dipole amplitudes of the answers by world. {said}.",
        "Dotted: what the alarm finds with 80% power along the best axis. A map alone does not "
        "tell a true dipole from one that the classifier made.",
        figure,
    )


def _spread(row: dict[str, Cell]) -> float:
    """Set the seeds of a world a little apart."""
    return 0.08 * (int(row["seed"] or 0) % 5 - 2)


EXPERIMENT = Experiment(Settings, run)
