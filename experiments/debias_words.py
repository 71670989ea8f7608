"""What the de-biasing experiment's tables mean, its figures, and what it says in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from catalogs.cutouts.chosen import crop_of, read_usable
from catalogs.cutouts.store import Survey
from experiments.product import Cell, Drawing, shown
from training.models.base import GALAXY_ZOO_CROP
from training.settings import DebiasSettings

BIASED, DDB, TRUTH = "biased labels", "de-biasing loss", "the truth"
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
        column: meaning
        for name, said in _BIASES.items()
        for column, meaning in (
            (name, said),
            (f"{name}_sd", "its standard deviation over bootstraps"),
            (f"{name}_denoised", "L less what chance alone gives"),
        )
    },
    "leaves": "parts of intrinsic space",
}
THETA = {
    "from": "galaxies from whose labels it was found",
    "theta": "a disk is called smooth with probability exp(-alpha^2/(2 theta^2))",
    "error": "its standard error; none where it was given",
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
        "Zoo 2's own de-biased votes."
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


def headline(means: Sequence[Mapping[str, Cell]]) -> str:
    """Return what the de-biasing loss changes."""
    at = {row["who"]: row for row in means}
    before, after = at[BIASED], at[DDB]
    measure = next((m for m in ("cv18", "cv14") if before[m] is not None), None)
    said = []
    if measure is not None:
        said.append(
            f"the bias of the answers ({measure.upper()}) goes from {shown(before[measure])} to "
            f"{shown(after[measure])}"
        )
    kind = "true" if "true_accuracy" in before else "label"
    against = "the truth" if kind == "true" else "the biased labels"
    a, b = (100 * float(one[f"{kind}_accuracy"] or 0) for one in (before, after))
    said.append(f"accuracy against {against} from {a:.1f}% to {b:.1f}%")
    return f"With the de-biasing loss {' and '.join(said)}."


def findings(
    means: Sequence[Mapping[str, Cell]],
    thetas: Sequence[Mapping[str, Cell]],
    changed: Sequence[Mapping[str, Any]],
    debias: DebiasSettings,
) -> list[str]:
    """Return one sentence for everybody, and for theta and the changed labels."""
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
    for row in thetas[:1]:
        error = "" if row["error"] is None else f" +- {shown(row['error'])}"
        how = "given" if row["error"] is None else f"found from {row['from']}"
        found.append(f"theta = {shown(row['theta'])}{error}, {how}.")
    said = f"{len(changed):,} test galaxies labelled smooth are answered {debias.disk}"
    known = [row["truth"] == debias.disk for row in changed if row["truth"] is not None]
    if known:
        said += f"; {sum(known):,} of them truly are"
    if any(row["cv14"] is None for row in means):
        found.append("There are too few test galaxies for the bias L.")
    return [*found, f"{said}."]


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
