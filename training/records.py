"""What a run leaves for people and for the bundle: training sky, hold-out answers, curves."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mocpy import MOC
from numpy.typing import NDArray

from catalogs.cutouts.chosen import read_usable
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.sky import tile_of
from training import checkpoint
from training.fit import read_log
from training.judge import Judgement
from training.labels import Labels
from training.triage import Level

SKY_ORDER = 6
EXAMPLES, EXAMPLE_BYTES = 512, 1 << 26
FEWEST_DRAWN = 50
WATCHED = {
    "validation_roc_auc": "validation ROC AUC",
    "validation_accuracy": "validation accuracy",
    "validation_rmse": "validation RMSE of cumulative fractions",
}


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
    """Write the calibrated answers on the test galaxies, of which training saw nothing.

    Of two classes the second's probability; of a tree also ``f_``, the shares of volunteers.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    shown = slice(1, 2) if len(labels.answers) == 2 else slice(None)
    answers = [f"p_{name}" for name in labels.answers[shown]]
    shares = np.zeros((len(chosen), 0))
    if labels.votes is not None:
        answers += [f"f_{name}" for name in labels.answers]
        shares = labels.votes[chosen].cumulative
    writer.writerow(["id", "ra", "dec", "label", *answers])
    identifiers = survey.column("id")[labels.rows[chosen]]
    values = np.concatenate([probability[:, shown], shares], axis=1)
    for i, identifier, row in zip(chosen, identifiers, values, strict=True):
        place = [f"{labels.ra[i]:.6f}", f"{labels.dec[i]:.6f}"]
        writer.writerow([identifier, *place, labels.classes[i], *(f"{p:.6f}" for p in row)])
    checkpoint.write_bytes(run / checkpoint.HOLDOUT, text.getvalue().encode())


@dataclass(frozen=True, slots=True)
class Holdout:
    """The answers of a complete run of two classes on its test galaxies.

    Attributes
    ----------
    id, label : ndarray of str, shape (n,)
    ra, dec : ndarray of float64, shape (n,)
        ICRS, degrees.
    p : ndarray of float64, shape (n,)
        Calibrated probability of the second class, six digits.
    """

    id: NDArray[np.str_]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    label: NDArray[np.str_]
    p: NDArray[np.float64]


def read_holdout(run: Path) -> Holdout:
    """Read what `write_holdout` wrote of a run of two classes.

    Raises
    ------
    InputError
        The run has more answers than two classes.
    """
    with (run / checkpoint.HOLDOUT).open(newline="") as stream:
        names, *rows = csv.reader(stream)
    if len(names) != 5:
        raise InputError(f"{run} answers {', '.join(names[4:])}; two classes are expected")
    identifier, ra, dec, label, p = zip(*rows, strict=True)
    numbers = np.asarray([ra, dec, p], np.float64)
    return Holdout(np.asarray(identifier), numbers[0], numbers[1], np.asarray(label), numbers[2])


def write_examples(run: Path, survey: Survey, rows: NDArray[np.int64], crop: int) -> None:
    """Write held-out cutouts, uint8 (n, crop, crop, 3), and where they are: export compares them.

    At most 512, and 64 MiB, spread evenly over the rows, which are in the sky's order.
    """
    most = min(EXAMPLES, len(rows), max(EXAMPLE_BYTES // (3 * crop * crop), 1))
    chosen = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
    cutouts, kept = read_usable(survey, chosen, crop)
    tensors = {name: torch.from_numpy(survey.column(name)[kept]) for name in ("ra", "dec")}
    tensors["cutouts"] = torch.from_numpy(cutouts)
    checkpoint.write_tensors(run / checkpoint.EXAMPLES, tensors, {})


def write_metrics(run: Path, judgement: Judgement) -> None:
    """Write the whole judgement; what is not defined is null."""
    values = {"metrics": {k: asdict(m) for k, m in judgement.metrics.items()}, **judgement.details}
    checkpoint.write_json(run / checkpoint.METRICS, _without_nan(values))


def _without_nan(value: Any) -> Any:  # noqa: ANN401  (any JSON value)
    if isinstance(value, dict):
        return {name: _without_nan(v) for name, v in value.items()}
    if isinstance(value, list):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def write_triage(run: Path, judgement: Judgement) -> None:
    """Draw how often answers are right that are accepted, by the share that is accepted.

    Of classes, or of each question of a tree that 50 held-out galaxies or more were asked.
    """
    from matplotlib.figure import Figure

    details = judgement.details
    several = details.get("questions", {"": details})
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, found in several.items():
        found_levels = [Level.read(values) for values in found.get("triage", [])]
        if name and found.get("galaxies", 0) < FEWEST_DRAWN:
            continue
        share = [100 * level.accepted.value for level in found_levels]
        accuracy = [100 * level.accuracy.value for level in found_levels]
        (line,) = axes.plot(share, accuracy, marker=".", label=name)
        if len(several) == 1:
            low = [100 * level.accuracy.low for level in found_levels]
            high = [100 * level.accuracy.high for level in found_levels]
            axes.fill_between(share, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(xlabel="accepted, the surest first [%]", ylabel="right among these [%]")
    if len(several) > 1:
        axes.legend(frameon=False, ncols=2, fontsize="small")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    checkpoint.write_bytes(run / checkpoint.TRIAGE, image.getvalue())


def write_curves(run: Path) -> None:
    """Draw the losses, and what is watched on the validation galaxies, by epoch."""
    from matplotlib.figure import Figure

    log = read_log(run)
    epochs = [line["epoch"] for line in log]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    losses, others = figure.subplots(1, 2)
    shown = {
        "loss": "training, augmented",
        "validation_loss": "validation",
        "parts_loss": "of the part of the sky",
    }
    for name, label in shown.items():
        if name in log[0]:
            losses.plot(epochs, [line[name] for line in log], label=label)
    losses.set(xlabel="epoch", ylabel="loss")
    losses.legend(frameon=False)
    for name in set(log[0]) - {"epoch", *shown}:
        others.plot(epochs, [line[name] for line in log])
        others.set(ylabel=WATCHED.get(name, name))
    others.set(xlabel="epoch")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    checkpoint.write_bytes(run / checkpoint.CURVES, image.getvalue())
