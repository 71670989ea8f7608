"""The runs, the most valuable first."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from benchmarks.trainings.debiasing import FEATURES, Debiasing
from benchmarks.trainings.row import Row
from benchmarks.trainings.runs import Overfitted, Shapes, Shipped, Trained
from benchmarks.trainings.surveys import GZ1_SPLIT, SKY_SPLIT, Sizes, Surveys
from catalogs.synthetic.labels import THETA
from training.models.registry import NETWORKS


class Run(Protocol):
    """Something that is measured once."""

    def measure(self, name: str, folder: Path, surveys: Surveys) -> Row:
        """Measure it in a folder of its own, and go on there after an interruption."""


GZ1: dict[str, Any] = {"split": asdict(GZ1_SPLIT), "seed": 1}
SKY: dict[str, Any] = {"split": asdict(SKY_SPLIT), "seed": 1}
# At 64 px, of the same blocks: what 100 minutes of one core allow for three networks.
SMALL = {"model": "equivariant", "shape": {"size": 64}}
DEBIAS = {"resolution": "alpha", "features": FEATURES}
GIVEN = {"resolution": "alpha", "theta": THETA}
EPOCHS = 20
CURVE_EPOCHS = {125: 60, 250: 36, 500: 24, 1000: 16, 2000: 9}
TREE = {
    "model": "equivariant",
    "tree": "gz2",
    "epochs": 24,
    "seed": 1,
    "batch": 16,
    "warmup": 20,
    "average": 0.99,
    "votes": {"ending": "_weighted_fraction", "total": "total_classifications"},
    "shape": {"fields": (4, 8, 12), "blocks": (0, 1, 1), "features": 32, "size": 64},
}


def plan(sizes: Sizes) -> dict[str, Run]:
    """Return the runs by name, in the order in which they are done."""
    sky = {"label": "truth", "epochs": 10, **SKY}
    said = {**sky, **SMALL, "label": "human_label", "balanced": False}
    gz1 = {**GZ1, "epochs": EPOCHS}
    runs: dict[str, Run] = {"gz1-shipped": Shipped()}
    for network in NETWORKS:
        runs[f"shapes-{network}"] = Shapes(network, 37 if network == "dieleman" else 1)
    runs |= {
        "gz1-equivariant-64": Trained("gz1", {**gz1, **SMALL}, turned=True),
        "gz1-shamir": Trained("gz1", gz1, turned=True),
        "sky-labels": Trained("sky", said),
        "sky-debiased": Trained("sky", {**said, "loss": "debiased", "debias": DEBIAS}),
        "sky-debiased-given": Trained("sky", {**said, "loss": "debiased", "debias": GIVEN}),
        "sky-truth": Trained("sky", {**sky, **SMALL, "balanced": False}),
        "debiasing": Debiasing(
            {
                "plain": "sky-labels",
                "debiased": "sky-debiased",
                "given": "sky-debiased-given",
                "taught": "sky-truth",
            }
        ),
        "gz1-equivariant": Trained("gz1", {**gz1, "model": "equivariant"}, turned=True),
    }
    for size in reversed(sizes.curve):
        runs[f"sky-shamir-{size}"] = Trained(
            "sky", {**sky, "label": f"truth_{size}", "epochs": CURVE_EPOCHS.get(size, 10)}
        )
    runs["sky-equivariant"] = Trained("sky", {**sky, "model": "equivariant"})
    runs["gz2-equivariant"] = Trained("gz2", TREE)
    few = {"batch": 16, "warmup": 8, "average": 0.9, "seed": 1}
    runs |= {
        "few-dieleman": Overfitted(
            "dieleman", 60, {**few, "learning_rate": 3e-4, "shape": {"dropout": 0.0}}
        ),
        "few-deepgalaxy": Overfitted("deepgalaxy", 20, {**few, "learning_rate": 5e-4}),
        "few-resnet50": Overfitted("resnet50", 12, {**few, "learning_rate": 5e-4}),
        "few-resnet101": Overfitted("resnet101", 12, {**few, "learning_rate": 5e-4}),
        "few-shamir": Overfitted("shamir", 20, few),
        "few-equivariant": Overfitted("equivariant", 20, few),
        "gz1-deepgalaxy": Trained("gz1", {**gz1, "model": "deepgalaxy", "learning_rate": 5e-4}),
        "gz1-dieleman": Trained(
            "gz1", {**gz1, "model": "dieleman", "epochs": 5, "learning_rate": 3e-4}
        ),
        # At half the usual side and for few epochs: some minutes of one core.
        "gz1-resnet50": Trained(
            "gz1", {**gz1, "model": "resnet50", "epochs": 4, "shape": {"size": 64}}
        ),
        "gz1-resnet101": Trained(
            "gz1", {**gz1, "model": "resnet101", "epochs": 3, "shape": {"size": 64}}
        ),
    }
    for seed in (2, 3):
        runs[f"gz1-equivariant-seed-{seed}"] = Trained(
            "gz1", {**gz1, "model": "equivariant", "seed": seed}, turned=True
        )
        runs[f"gz1-shamir-seed-{seed}"] = Trained("gz1", {**gz1, "seed": seed}, turned=True)
    return runs
