"""What the de-biasing experiment's tables mean, its figures, and what it says in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from catalogs.cutouts.chosen import crop_of, read_usable
from catalogs.cutouts.store import Survey
from experiments.product import Cell, Drawing, p_text, shown
from training.models.base import GALAXY_ZOO_CROP
from training.settings import DebiasSettings

BIASED, CORRECTED, DDB = "biased labels", "de-biased labels", "de-biasing loss"
TRUTH, SIMULATED = "the truth", "the simulation's record: the true one"
LABELS = "the labels"
LABELS_CORRECTED = "the labels, de-biased"
LEVEL = 0.05
MEASURES = {
    "cv14": "bias L (CV14)",
    "cv18": "bias L (CV18)",
    "true_accuracy": "accuracy against the truth",
    "true_f1": "F1 of disks against the truth",
    "label_accuracy": "accuracy against the biased labels",
}
SHOWN = 12

_SCORES = {
    "accuracy": "share that is right",
    "precision": "of those called disks, share that are",
    "recall": "of the disks, share that are called so",
    "f1": "harmonic mean of precision and recall",
    "ee": "smooth galaxies called smooth",
    "es": "smooth galaxies called disks",
    "se": "disks called smooth",
    "ss": "disks called disks",
}
_BIASES = {
    "cv14": "bias L over resolution in one leaf: CV14 (reconstructed)",
    "cv18": "bias L over resolution at equal intrinsic properties (CV18)",
}
_MEANINGS = {
    "who": "network by what it learnt from; or labels, or the truth",
    "seed": "of split and weights",
    "seeds": "networks",
    "n": "test galaxies",
    "disks": "share called disks",
    **{f"true_{name}": f"{said}; against the truth" for name, said in _SCORES.items()},
    **{f"label_{name}": f"{said}; against the biased labels" for name, said in _SCORES.items()},
    **{
        f"corrected_{name}": f"{said}; against the de-biased labels"
        for name, said in _SCORES.items()
    },
    **{
        column: meaning
        for name, said in _BIASES.items()
        for column, meaning in (
            (name, said),
            (f"{name}_sd", "its standard deviation over bootstraps"),
            (f"{name}_denoised", "L less what chance alone gives"),
        )
    },
    "leaves": "parts of intrinsic space, as many in every seed; below two there is no CV18",
}
CHANGES = {
    "who": "network by what it learnt from",
    "measure": "column of the tables of means and seeds",
    "seeds": "splits, of which both networks saw the same",
    "biased": "mean of the network of biased labels",
    "difference": "this network less that of biased labels, mean over seeds",
    "sd": "its standard deviation over seeds",
    "p": "two-sided, over seeds whose splits share galaxies (Nadeau & Bengio 2003)",
    "p_holm": "after Holm's correction for all rows of this table",
    "truth": "L of the true classes of the same galaxies, where they are known",
}
THETA = {
    "from": "galaxies from whose labels it was found",
    "theta": "a disk is called smooth with probability exp(-alpha^2/(2 theta^2))",
    "error": "standard error of the likelihood alone; none where it was given",
}
CHANGED = {
    "id": "of the galaxy",
    "row": "of the drawn survey",
    "alpha": "resolution: radius over the standard deviation of the point spread function",
    "p_biased": "probability of a disk, by the network that learnt the biased labels",
    "p_debiased": "the same, by the one with the de-biasing loss",
    "truth": "true class, where it is known",
}
METHOD = (
    (
        "All networks learn from the same training galaxies and are tested on the same tiles of "
        "sky, from which none learnt. Galaxies are drawn without regard to class and weigh the "
        "same: balancing biased classes would be another bias."
    ),
    (
        "De-biased labels, unless the survey has them: where the posterior of the logistic model "
        "that gives theta exceeds one half, a galaxy called smooth becomes a disk (Cabrera-Vives "
        "et al. 2014, as Medina-Rosales & Cabrera-Vives 2021 use it). The paper trained on Galaxy "
        "Zoo 2's own de-biased votes. That model has few parameters, and is fitted to all "
        "galaxies, those that test as well."
    ),
    (
        "theta's error is that of the likelihood. It leaves out that features may say too little "
        "of the class, or the wrong thing: then theta is off by more. Differences are of networks "
        f"with the same training and test galaxies; at p of {LEVEL} or more after Holm's "
        "correction for all of them, or without p, a change is not shown."
    ),
    (
        "L measures how the share of disks follows the resolution; it is zero also for a network "
        "that is wrong everywhere alike, and chance alone gives some of it (denoised: less that). "
        "Where resolution and true class go together, as in one leaf they may, the truth has an L, "
        "too. CV14's own text was not to be had; the measure is reconstructed from CV18's."
    ),
)


def columns(rows: Sequence[Mapping[str, Cell]]) -> dict[str, str]:
    """Return the meaning of the columns of some rows."""
    return {name: _MEANINGS[name] for name in rows[0]}


def headline(changes: Sequence[Mapping[str, Cell]]) -> str:
    """Return what the de-biasing loss changes, and what is not shown."""
    at = {row["measure"]: row for row in changes if row["who"] == DDB}
    bias = next((name for name in ("cv18", "cv14") if name in at), None)
    accuracy = "true_accuracy" if "true_accuracy" in at else "label_accuracy"
    said = [_change(at[name]) for name in (bias, accuracy) if name is not None]
    if bias is None:
        said.append("too few test galaxies for the bias L")
    seeds = at[accuracy]["seeds"]
    many = f"{seeds} seed{'s' if seeds != 1 else ''}"
    return f"The de-biasing loss against biased labels, {many}: {'; '.join(said)}."


def _change(row: Mapping[str, Cell]) -> str:
    name, before, by = str(row["measure"]), float(row["biased"] or 0), float(row["difference"] or 0)
    factor, digits, unit = (100, 1, "%") if name.endswith("accuracy") else (1, 4, "")
    values = " to ".join(f"{factor * value:.{digits}f}{unit}" for value in (before, before + by))
    if row["p"] is None:
        told = "no p: no change is shown"
    else:
        p = f"{p_text(row['p'])}, after Holm {shown(row['p_holm'])}"
        shows = float(row["p_holm"] or 0) < LEVEL
        told = f"{'falls' if by < 0 else 'rises'}, {p}" if shows else f"{p}: no change is shown"
    truth = "" if row["truth"] is None else f"; the truth's own {shown(row['truth'])}"
    return f"{MEASURES[name]} {values} ({told}{truth})"


def findings(
    means: Sequence[Mapping[str, Cell]],
    changes: Sequence[Mapping[str, Cell]],
    thetas: Sequence[Mapping[str, Cell]],
    changed: Sequence[Mapping[str, Any]],
    back: int,
    debias: DebiasSettings,
) -> list[str]:
    """Return one sentence for everybody, for the differences, theta and the changed labels."""
    found = []
    for row in means:
        parts = [f"disks {100 * float(row['disks'] or 0):.1f}%"]
        parts += [
            f"{name.upper()} {shown(row[name])} (denoised {shown(row[f'{name}_denoised'])})"
            for name in ("cv14", "cv18")
            if row[name] is not None
        ]
        if "true_accuracy" in row and row["who"] != TRUTH:
            parts.append(
                f"right {100 * float(row['true_accuracy'] or 0):.1f}%, F1 {shown(row['true_f1'])}"
            )
        found.append(f"{str(row['who']).capitalize()}: {', '.join(parts)}.")
    for who in dict.fromkeys(row["who"] for row in changes):
        parts = [_change(row) for row in changes if row["who"] == who]
        found.append(f"{str(who).capitalize()} against {BIASED}: {'; '.join(parts)}.")
    found += _theta(thetas)
    said = f"{len(changed):,} test galaxies labelled smooth are answered {debias.disk}"
    known = [row["truth"] == debias.disk for row in changed if row["truth"] is not None]
    if known:
        said += f"; {sum(known):,} of them truly are"
    said += f". Labelled {debias.disk} and answered otherwise: {back:,}"
    if any(row["cv14"] is None for row in means):
        found.append("There are too few test galaxies for the bias L.")
    elif any(row["cv18"] is None for row in means):
        found.append("There is no CV18: no intrinsic property, or too few galaxies for two leaves.")
    return [*found, f"{said}."]


def _theta(thetas: Sequence[Mapping[str, Cell]]) -> list[str]:
    """Return theta with what its error leaves out, and the true one where it is known."""
    true = next((row["theta"] for row in thetas if row["from"] == SIMULATED), None)
    known = "" if true is None else f" The simulation's is {shown(true)}."
    for row in thetas[:1]:
        if row["from"] == SIMULATED or row["error"] is None:
            return [f"theta = {shown(row['theta'])}, given.{known}"]
        said = (
            f"theta = {shown(row['theta'])} ± {shown(row['error'])}, found from {row['from']}; the "
            f"error leaves out that features may say too little of the class.{known}"
        )
        return [said]
    return []


def draw(means: Sequence[Mapping[str, Cell]]) -> Drawing:
    """Return the figure of the biases."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained", facecolor="white")
    axes = figure.subplots()
    names = [str(row["who"]) for row in means]
    for k, (measure, colour) in enumerate((("cv14", "#14598c"), ("cv18", "#b35a00"))):
        for shade, suffix in ((0.35, ""), (1.0, "_denoised")):
            values = [float(row[measure + suffix] or 0) for row in means]
            known = any(row[measure] is not None for row in means)
            label = f"{measure.upper()}{', denoised' if suffix else ''}"
            if known:
                place = np.arange(len(names)) + 0.35 * k
                axes.barh(place, values, 0.32, color=colour, alpha=shade, label=label)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="bias L over resolution")
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize="small")
    said = "; ".join(f"{row['who']}: {shown(row['cv14'])}, {shown(row['cv18'])}" for row in means)
    return Drawing(
        "biases",
        "How much the share of disks follows the resolution",
        f"Bias CV14 and CV18 of each: {said}.",
        "Pale: as measured. Full: less what chance alone gives.",
        figure,
    )


def gallery(survey: Survey, changed: Sequence[Mapping[str, Any]], crop: int | None) -> Drawing:
    """Return the galaxies whose label changed, the surest first."""
    shown_rows = [int(row["row"]) for row in changed[:SHOWN]]
    side = crop_of(survey, crop, GALAXY_ZOO_CROP)
    pictures, kept = read_usable(survey, np.array(sorted(shown_rows), np.int64), side)
    at = dict(zip(kept.tolist(), pictures, strict=True))
    figure = Figure(figsize=(6.4, 3.6), layout="constrained", facecolor="white")
    panels = figure.subplots(3, 4).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, row in zip(panels, changed, strict=False):
        if row["row"] in at:
            panel.imshow(np.clip(at[row["row"]][..., :3], 0, 255).astype(np.uint8))
            truth = "" if row["truth"] is None else f"\ntruly {row['truth']}"
            panel.set_title(f"p = {row['p_debiased']:.2f}{truth}", fontsize=7)
    return Drawing(
        "gallery",
        "Labelled smooth, answered as disks",
        f"The {min(SHOWN, len(changed))} galaxies of which the network with the de-biasing loss is "
        f"surest, of {len(changed)} whose label it changes.",
        "With the probability of a disk. All of them are in changed.parquet.",
        figure,
    )
