"""The page of results, made of what was really run."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.trainings.row import Row
from training.checkpoint import HOLDOUT
from training.metrics import Measured, roc_auc

BASELINE = "gz1-shipped"
RESAMPLES = 1000
HEAD = """# What the networks reach

Made by `python -m benchmarks.trainings --to out/trainings`; a single row by `--only NAME`. All
seeded; the galaxies are those of `../shared/data` and of a simulated sky. Judged on sky tiles from
which nothing was trained, chosen or calibrated; brackets are 95% intervals. "cost" is
multiply-accumulates of one answer; minutes are processor time of one thread of a shared AMD EPYC
without a matrix unit, epochs, decoding and judging together. Networks read 120 px, those of runs
that end in -64 read 64 px, the large ones what "Layers" says unless told otherwise.
"""
CARD = 20e12  # FLOP/s
SCHEDULES = {
    "shamir": ("250 epochs of 6,000 images", 1_500_000),
    "dieleman": ("25 million examples", 25_000_000),
    "resnet50": ("100 epochs of 97,600 images (the paper names no number)", 9_760_000),
    "resnet101": ("the same", 9_760_000),
}
REGRESSIONS = ("cv14", "curved")
CAPTIONS = {
    "truth": "the truth",
    "labels": "the biased labels themselves",
    "cv14": "logistic regression (CV14's method)",
    "curved": "the same, able to bend",
    "plain": "network, plain, of the biased labels",
    "debiased": "the same network, de-biasing likelihood, theta of the first regression",
    "given": "the same network, de-biasing likelihood, the true theta",
    "taught": "the same network, of the true labels",
}


def page(to: Path, runs: Iterable[str]) -> str:
    """Return the page of the runs below a folder."""
    rows = {name: Row.read(to / name) for name in runs}
    done = {name: row for name, row in rows.items() if row is not None}
    missing = [name for name, row in rows.items() if row is None]
    parts = [HEAD, real(to, done), simulated(done)]
    if "debiasing" in done:
        parts.append(debiasing(done["debiasing"], done))
    parts += [tree(done), few(done), schedules(done), shapes(done)]
    if missing:
        parts.append(f"## Not run\n\n{', '.join(f'`{name}`' for name in missing)}.\n")
    minutes = sum(row.seconds for row in done.values()) / 60
    parts.append(f"Processor time of all runs: {minutes:.0f} minutes.\n")
    return "\n".join(part for part in parts if part)


def real(to: Path, done: Mapping[str, Row]) -> str:
    """Return the table of Galaxy Zoo 1."""
    rows = [row for name, row in done.items() if name.startswith("gz1-")]
    if not rows:
        return ""
    base = answers(to / BASELINE / HOLDOUT)
    lines = []
    for row in rows:
        against = turned = ""
        took = "" if row.name == BASELINE else minutes(row)  # it only answered here
        if base and row.name != BASELINE:
            other = answers(to / row.name / "network.run" / HOLDOUT)
            against = said(paired(base, other), sign=True)
        if "turned" in row.facts:
            found = row.facts["turned"]
            turned = f"{100 * found['labels']:.1f}% ({found['spread']:.3f})"
        lines.append(
            f"| {row.name} | {millions(row.macs)} | {row.parameters:,} | {row.facts['epochs']} | "
            f"{took} | {told(row, 'accuracy')} | {told(row, 'roc_auc')} | {against} | "
            f"{turned} |"
        )
    test = next(iter(done[rows[0].name].metrics.values())).n
    return f"""## Real galaxies

Galaxy Zoo 1, {rows[0].trained:,} training and {test} held-out galaxies (HEALPix order 3). The
difference of ROC AUC is against the shipped bundle, by a paired bootstrap of the held-out galaxies.
"turned": galaxies to which the eight turned and mirrored copies of their image do not all give one
label, and in brackets the mean standard deviation of the eight probabilities. The two ResNets were
given 64 px, and like the network of Dieleman et al. (2015) a few epochs only: their rows show what
some minutes of one core begin, not what these networks reach.

| run | cost | parameters | epochs | minutes | accuracy | ROC AUC | difference | turned |
|---|---|---|---|---|---|---|---|---|
{chr(10).join(lines)}
"""


def simulated(done: Mapping[str, Row]) -> str:
    """Return the learning curve on the simulated sky."""
    rows = [
        row
        for name, row in done.items()
        if name.startswith("sky-") and row.facts["settings"]["label"].startswith("truth")
    ]
    if not rows:
        return ""
    lines = [
        f"| {row.name} | {row.trained:,} | {row.facts['epochs']} | {millions(row.macs)} | "
        f"{minutes(row)} | {told(row, 'accuracy')} | {told(row, 'roc_auc')} |"
        for row in rows
    ]
    test = next(iter(rows[0].metrics.values())).n
    return f"""## A simulated sky

Observed as a drift-scan survey does, labels are the truth; {test:,} held-out galaxies. Dhar &
Shamir (2022), figure 2: accuracy flattens at about 1,000 training images per class.

`sky-truth` is the equivariant network at 64 px.

| run | trained on | epochs | cost | minutes | accuracy | ROC AUC |
|---|---|---|---|---|---|---|
{chr(10).join(lines)}
"""


def debiasing(row: Row, done: Mapping[str, Row]) -> str:
    """Return the table of de-biasing."""
    facts = row.facts
    lines = []
    for name, found in facts["judged"].items():
        auc = said(Measured(**found["roc_auc"])) if found["roc_auc"] else ""
        accuracy = "" if name == "truth" else said(Measured(**found["accuracy"]))
        cv14, cv18 = (
            f"{found[k]['value']:.3f} ± {found[k]['sd']:.3f} ({found[k]['denoised']:.3f})"
            for k in ("cv14", "cv18")
        )
        lines.append(
            f"| {CAPTIONS[name]} | {accuracy} | {auc} | {found['spirals']:.3f} | {cv14} | {cv18} |"
        )
    first, second = (
        f"{facts['theta'][k][0]:.2f} ± {facts['theta'][k][1]:.2f}" for k in REGRESSIONS
    )
    missed = 100 * facts["missed"]
    debiased = done.get("sky-debiased")
    cost = f" of {millions(debiased.macs)}" if debiased else ""
    return f"""## Labels that call unresolved disks smooth

The simulated sky again, but labels lose disks by equation 4 of Medina-Rosales & Cabrera-Vives
(2021) with theta {facts["theta_true"]:g}: {missed:.0f}% of the disks are called smooth. From
{facts["train"]:,} labels, Sersic index, axis ratio and half-light radius, a logistic regression
finds theta = {first}; given their logarithms, squares and a product, it finds
{second}. The likelihood knows only what its model can say: a straight one blames the
resolution for what it cannot follow. Accuracy and ROC AUC are against the *true* classes of
{facts["test"]:,} held-out galaxies, which neither network nor logistic regression has seen; the
networks{cost} see the image alone, the logistic regressions the measured properties and the
biased label itself. L: bias with resolution, ± over bootstraps, in brackets without its noise
floor; "CV14 (reconstructed)" in one leaf, "CV18" in leaves of like luminosity and physical size.
The truth's own L need not be 0: what is resolved better is nearer or larger, and not the same kind
of galaxy.

| answers | accuracy | ROC AUC | called spiral | L, CV14 (reconstructed) | L, CV18 |
|---|---|---|---|---|---|
{chr(10).join(lines)}
"""


def tree(done: Mapping[str, Row]) -> str:
    """Return what the decision tree's run reached."""
    row = done.get("gz2-equivariant")
    if row is None:
        return ""
    of = row.metrics
    questions = [
        f"| {name.removeprefix('accuracy_')} | {m.n} | {said(m)} |"
        for name, m in of.items()
        if name.startswith("accuracy_q")
    ]
    return f"""## A decision tree

Galaxy Zoo 2's 11 questions, from {row.trained} galaxies ({row.facts["votes"]});
{millions(row.macs)}, {minutes(row)} minutes. The error of cumulative fractions is
{said(of["rmse"])}, that of the mean answer {said(of["rmse_mean_answer"])}. So few galaxies show
that the tree is learnt, not how well it can be; no accuracy of a rarely asked question means
anything here.

| question | galaxies of which half were asked | accuracy |
|---|---|---|
{chr(10).join(questions)}
"""


def few(done: Mapping[str, Row]) -> str:
    """Return what was learnt by heart."""
    rows = [row for name, row in done.items() if name.startswith("few-")]
    if not rows:
        return ""
    lines = [
        f"| {row.network} | {row.parameters:,} | {row.trained} | {row.facts['epochs']} | "
        f"{minutes(row)} | {row.metrics['accuracy'].value:.3f} | {row.facts['loss']:.4f} |"
        for row in rows
    ]
    return f"""## Learnt by heart

Each network at its paper's size on a few galaxies, without augmentation, answering for these same
ones: whether it can learn at all.

| network | parameters | galaxies | epochs | minutes | accuracy on them | loss |
|---|---|---|---|---|---|---|
{chr(10).join(lines)}
"""


def shapes(done: Mapping[str, Row]) -> str:
    """Return the layers of each network."""
    rows = [row for name, row in done.items() if name.startswith("shapes-")]
    if not rows:
        return ""
    lines = [
        f"| {row.network} | {row.facts['outputs']} | {row.parameters:,} | {millions(row.macs)} | "
        f"{layers(row.facts['layers'])} |"
        for row in rows
    ]
    return f"""## Layers

Outputs of the layers that have parameters, normalisation left out; equal ones are counted. Of
`equivariant`, maps (eight to a field).

| network | answers | parameters | cost | layers |
|---|---|---|---|---|
{chr(10).join(lines)}
"""


def schedules(done: Mapping[str, Row]) -> str:
    """Return what the papers' own trainings would take, by the rates that were measured."""
    lines = []
    for network, (what, images) in SCHEDULES.items():
        rows = [done[name] for name in (f"gz1-{network}", f"few-{network}") if name in done]
        if not rows:
            continue
        row = max(rows, key=lambda row: row.macs)  # nearest to the paper's size
        days = images * row.seconds / row.shown / 86400
        # Forward and backward are three times the forward's multiplications and additions.
        work = images * row.macs * 6
        lines.append(
            f"| {network} | {what} | {row.name}, {row.shown / row.seconds:.0f}/s | {days:.1f} | "
            f"{work / 1e15:.3g} | {work / CARD / 3600:.2g} |"
        )
    if not lines:
        return ""
    return f"""## The papers' own schedules

What they would take here at the rate that a run had, and on a card that sustains
{CARD / 1e12:.0f} TFLOP/s in these layers, if images reach it as fast. None was run on a card.

| network | schedule | rate of | days of one core | 10^15 operations | hours of such a card |
|---|---|---|---|---|---|
{chr(10).join(lines)}
"""


def layers(found: list[list[Any]]) -> str:
    """Return layers in words, in the order in which their kinds first come."""
    texts = Counter(f"{kind} {'x'.join(map(str, shape))}" for kind, shape, _ in found)
    return ", ".join(text if n == 1 else f"{n} {text}" for text, n in texts.items())


def answers(file: Path) -> dict[str, tuple[int, float]]:
    """Return class and probability of a spiral by id; nothing without a file."""
    if not file.is_file():
        return {}
    with file.open() as stream:
        return {
            line["id"]: (int(line["label"] == "spiral"), float(line["p_spiral"]))
            for line in csv.DictReader(stream)
        }


def paired(
    base: Mapping[str, tuple[int, float]], other: Mapping[str, tuple[int, float]]
) -> Measured:
    """Return by how much the other's ROC AUC is larger on the galaxies that both answered."""
    both = sorted(base.keys() & other.keys())
    truth = np.asarray([base[name][0] for name in both])
    p = [np.asarray([a[name][1] for name in both]) for a in (base, other)]

    def larger(rows: NDArray[np.int64]) -> float:
        one, two = (roc_auc(values[rows], truth[rows]).value for values in p)
        return two - one

    random = np.random.default_rng(0)
    drawn = [larger(random.integers(0, len(both), len(both))) for _ in range(RESAMPLES)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Measured(larger(np.arange(len(both))), float(low), float(high), len(both))


def told(row: Row, name: str) -> str:
    return said(row.metrics[name])


def said(m: Measured, sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    return f"{m.value:{form}} [{m.low:{form}}, {m.high:{form}}]"


def millions(macs: int) -> str:
    return f"{macs / 1e6:,.0f} M"


def minutes(row: Row) -> str:
    return f"{row.seconds / 60:.1f}"
