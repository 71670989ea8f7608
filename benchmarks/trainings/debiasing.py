"""De-biasing on a sky whose truth is known: the bias of answers, and how often they are right."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.trainings.row import Clock, Row
from benchmarks.trainings.surveys import SKY_SPLIT, Surveys
from catalogs.audit.conditions.resolution import resolution_bias
from catalogs.cutouts.store import Survey
from catalogs.synthetic.labels import THETA
from training.checkpoint import HOLDOUT
from training.debias import logistic_model
from training.metrics import roc_auc, wilson
from training.splits import TEST, TRAIN, sky_blocked

FEATURES = ("sersic_n", "axis_ratio", "petro_r50")
SEED = 5
DEPTH = 2  # four leaves of intrinsic space: 1,856 galaxies a bootstrap


@dataclass(frozen=True)
class Debiasing:
    """The networks' runs to compare, by what they were trained on; those that are there."""

    networks: dict[str, str]

    def measure(self, name: str, folder: Path, surveys: Surveys) -> Row:
        """Judge labels, networks and the logistic model against the truth of held-out galaxies.

        The logistic model is Cabrera-Vives et al. 2014's as Medina-Rosales & Cabrera-Vives 2021
        use it: fitted with theta on the training galaxies, it gives each galaxy that was called
        smooth the probability ``s b / (s b + 1 - s)`` of being a disk.
        """
        clock = Clock(folder)
        there = {
            said: run
            for said, run in self.networks.items()
            if Row.read(folder.parent / run) is not None
        }
        sky = Sky.of(surveys.path("sky"))
        test, train = sky.roles == TEST, sky.roles == TRAIN
        answers = {
            "truth": sky.truth.astype(np.float64)[test],
            "labels": sky.observed.astype(np.float64)[test],
        }
        theta = {}
        for said, features in (("cv14", sky.features), ("curved", sky.curved)):
            model = logistic_model(sky.alpha[train], sky.observed[train], features[train])
            theta[said] = [model.theta.value, model.theta.error]
            answers[said] = model.posterior(sky.alpha, sky.observed, features)[test]
        place = {str(i): k for k, i in enumerate(sky.ids[test])}
        for said, run in there.items():
            answers[said] = _answers(folder.parent / run / "network.run" / HOLDOUT, place)
        judged = {said: sky.judge(p, test) for said, p in answers.items()}
        facts: dict[str, Any] = {
            "theta": theta,
            "theta_true": THETA,
            "train": int(train.sum()),
            "test": int(test.sum()),
            "missed": float(np.mean(~sky.observed.astype(bool)[sky.truth == 1])),
            "judged": judged,
            "missing": sorted(self.networks.keys() - there.keys()),
        }
        return Row(name, "logistic regression", clock.seconds, facts=facts)


@dataclass(frozen=True)
class Sky:
    """What is true and what was said of simulated galaxies; 1: a disk."""

    ids: NDArray[Any]
    truth: NDArray[np.int64]
    observed: NDArray[np.int64]
    alpha: NDArray[np.float64]
    features: NDArray[np.float64]
    curved: NDArray[np.float64]
    intrinsic: NDArray[np.float64]
    roles: NDArray[np.int8]

    @classmethod
    def of(cls, path: Path) -> Sky:
        store = Survey.open(path)

        def column(name: str) -> NDArray[np.float64]:
            return np.asarray(store.column(name), dtype=np.float64)

        # Size in kpc but for a constant and the expansion: what distance does not change.
        size = np.log10(column("petro_r50")) + 0.2 * (column("mag") - column("absolute_mag"))
        return cls(
            store.column("id"),
            (store.column("truth") == "spiral").astype(np.int64),
            (store.column("human_label") == "spiral").astype(np.int64),
            column("alpha"),
            np.column_stack([column(name) for name in FEATURES]),
            _curved(column("sersic_n"), column("axis_ratio"), column("petro_r50")),
            np.column_stack([column("absolute_mag"), size]),
            sky_blocked(store.column("ra"), store.column("dec"), SKY_SPLIT),
        )

    def judge(self, p: NDArray[np.float64], test: NDArray[np.bool_]) -> dict[str, Any]:
        """Return accuracy and area against the truth, and the bias L of the labels."""
        known = ~np.isnan(p)
        p, truth = p[known], self.truth[test][known]
        says = (p >= 0.5).astype(np.int64)
        right = wilson(int(np.sum(says == truth)), len(truth))
        found: dict[str, Any] = {"accuracy": asdict(right), "spirals": float(says.mean())}
        found["roc_auc"] = asdict(roc_auc(p, truth)) if len(np.unique(p)) > 2 else None
        alpha, intrinsic = self.alpha[test][known], self.intrinsic[test][known]
        for name, depth in (("cv14", 0), ("cv18", DEPTH)):
            bias = resolution_bias(
                says, alpha, intrinsic if depth else None, np.random.default_rng(SEED), depth=depth
            )
            found[name] = asdict(bias)
        return found


def _curved(
    sersic: NDArray[np.float64], ratio: NDArray[np.float64], radius: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the same three properties, but able to bend: logarithms, squares and a product."""
    n = np.log(sersic)
    return np.column_stack([n, n**2, ratio, ratio**2, n * ratio, np.log(radius)])


def _answers(holdout: Path, place: dict[str, int]) -> NDArray[np.float64]:
    """Return a run's probabilities in the order of the held-out galaxies; nan where it has none."""
    p = np.full(len(place), np.nan)
    with holdout.open() as stream:
        for line in csv.DictReader(stream):
            if line["id"] in place:
                p[place[line["id"]]] = float(line["p_spiral"])
    return p
