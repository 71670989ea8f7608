"""Can a network that learned from one kind of galaxies tell the other kind apart?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.realism.samples import CLASSES, REAL_CROP, Simulated, draw, real_picture
from export.bundle import Bundle, shipped
from export.session import Session
from training.metrics import CONFIDENCE, Measured, roc_auc

BATCH = 64
RESAMPLES = 1000
# Augmentation, balancing and the network itself are those of every `skytally train`.
EPOCHS = 8


def shipped_on_simulated(simulated: Simulated, most: int, seed: int) -> Measured:
    """Return the ROC AUC of the shipped bundle, trained on real galaxies, on simulated ones."""
    rows = np.flatnonzero(np.isin(simulated.classes, list(CLASSES)))
    rows = draw(rows, most, seed)
    pictures = simulated.sample(rows).pictures
    batches = (pictures[i : i + BATCH] for i in range(0, len(rows), BATCH))
    return bootstrapped(
        _answers(shipped(), batches), (simulated.classes[rows] == "spiral").astype(np.int64)
    )


def simulated_on_real(
    store: Path, label: str, data: Path, table: pd.DataFrame, to: Path
) -> Measured:
    """Train and export with skytally's own commands on a simulated survey, test on real galaxies.

    Parameters
    ----------
    store : Path
        A simulated survey of ellipticals and spirals.
    label : str
        Its column of classes.
    data : Path
        The real galaxies.
    table : DataFrame
        Those to test on, of ``samples.real_table``.
    to : Path
        Folder of the run and the bundle; a complete run in it is used again.
    """
    run, bundle = to / "simulated.run", to / "simulated.bundle"
    skytally = (sys.executable, "-m", "skytally")
    train = ("train", store, "--to", run, "--label", label, "--epochs", EPOCHS)
    subprocess.run([*skytally, *map(str, train)], check=True)
    subprocess.run([*skytally, "export", str(run), "--to", str(bundle), "--replace"], check=True)

    def batches() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(table), BATCH):
            some = table["objid"].iloc[start : start + BATCH]
            yield np.stack([real_picture(data, objid, REAL_CROP) for objid in some])

    return bootstrapped(_answers(bundle, batches()), (table["kind"] == "spiral").to_numpy(np.int64))


def _answers(bundle: Path, batches: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
    session = Session(Bundle.open(bundle))
    answer = session.bundle.manifest.spiral
    return np.concatenate([session.run(batch)[answer].astype(np.float64) for batch in batches])


def bootstrapped(
    scores: NDArray[np.float64], targets: NDArray[np.int64], seed: int = 0
) -> Measured:
    """Return the ROC AUC with the percentile interval of ``RESAMPLES`` bootstraps, by class."""
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(targets == k) for k in (0, 1)]
    again = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([rng.choice(members, len(members)) for members in classes])
        again.append(roc_auc(scores[rows], targets[rows]).value)
    low, high = np.quantile(again, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return Measured(roc_auc(scores, targets).value, float(low), float(high), len(scores))
