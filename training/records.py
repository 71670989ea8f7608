"""What a run leaves for people and for the bundle: training sky, hold-out answers, curves."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import torch
from mocpy import MOC
from numpy.typing import NDArray

from catalogs.cutouts.store import Survey
from catalogs.sky import tile_of
from training import checkpoint
from training.data import Labels, read_cutouts

SKY_ORDER = 6
EXAMPLES = 64


def write_sky(run: Path, labels: Labels, chosen: NDArray[np.int64]) -> None:
    """Write the tiles (order 6, 0.9 degrees) that hold training galaxies as a MOC."""
    tiles = np.unique(tile_of(labels.ra[chosen], labels.dec[chosen], SKY_ORDER)).astype(np.uint64)
    depths = np.full(tiles.shape, SKY_ORDER, dtype=np.uint8)
    moc = MOC.from_healpix_cells(tiles, depths, max_depth=SKY_ORDER)
    moc.save(run / checkpoint.SKY, format="fits", overwrite=True)


def write_holdout(
    run: Path,
    survey: Survey,
    labels: Labels,
    chosen: NDArray[np.int64],
    probability: NDArray[np.float64],
) -> None:
    """Write the calibrated answers on the test galaxies, of which training saw nothing."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "ra", "dec", "label", f"p_{labels.names[1]}"])
    identifiers = survey.column("id")[labels.rows[chosen]]
    for i, identifier, p in zip(chosen, identifiers, probability, strict=True):
        writer.writerow(
            [
                identifier,
                f"{labels.ra[i]:.6f}",
                f"{labels.dec[i]:.6f}",
                labels.classes[i],
                f"{p:.6f}",
            ]
        )
    checkpoint.write_bytes(run / checkpoint.HOLDOUT, text.getvalue().encode())


def write_examples(run: Path, survey: Survey, rows: NDArray[np.int64], crop: int) -> None:
    """Write some cutouts, uint8 (n, crop, crop, 3): real input for the comparison at export."""
    chosen = rows[np.linspace(0, len(rows) - 1, min(EXAMPLES, len(rows))).astype(np.int64)]
    cutouts = torch.from_numpy(read_cutouts(survey, chosen, crop))
    checkpoint.write_tensors(run / checkpoint.EXAMPLES, {"cutouts": cutouts}, {})


def write_curves(run: Path) -> None:
    """Draw loss and validation ROC AUC by epoch."""
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in (run / checkpoint.LOG).read_text().splitlines()]
    epochs = [line["epoch"] for line in lines]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    losses, areas = figure.subplots(1, 2)
    losses.plot(epochs, [line["loss"] for line in lines], label="training, augmented")
    losses.plot(epochs, [line.get("validation_loss") for line in lines], label="validation")
    losses.set(xlabel="epoch", ylabel="cross-entropy", ylim=(0, None))
    losses.legend(frameon=False)
    areas.plot(epochs, [line.get("validation_roc_auc") for line in lines])
    areas.set(xlabel="epoch", ylabel="validation ROC AUC")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    checkpoint.write_bytes(run / checkpoint.CURVES, image.getvalue())
