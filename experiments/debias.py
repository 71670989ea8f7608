"""Labels that call unresolved disks smooth, and three trainings on them.

Medina-Rosales & Cabrera-Vives 2021: a network learns from the biased labels, one from de-biased
labels, one from the biased labels with the de-biasing loss. How biased what they answer is, and how
often it is right, is measured on galaxies of tiles from which none of them learnt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings_class

from catalogs.audit.comparison.papers import ConfusionMatrix
from catalogs.audit.conditions.resolution import (
    ResolutionBias,
    TooFewError,
    deepest,
    resolution_bias,
)
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from experiments import debias_words as words
from experiments.debias_sums import Tested, back_of, changed_of, compared, means_of
from experiments.debias_words import (
    BIASED,
    CORRECTED,
    DDB,
    LABELS,
    LABELS_CORRECTED,
    SIMULATED,
    TRUTH,
)
from experiments.lab import Experiment, Lab
from experiments.networks import CHEAP, RUN, SKY, Store, based_on, holdout_of, train_step
from experiments.product import Cell, Product, Table
from experiments.relabel import DEBIASED, Relabel, relabel_step, theta_of
from experiments.truth import refuse_truth
from training.checkpoint import Run
from training.labels import Labels, read_labels
from training.settings import DebiasSettings, SplitSettings, TrainSettings

_REFERENCES = {TRUTH: "true", LABELS: "label", LABELS_CORRECTED: "corrected"}
HUMAN = "human_label"  # of a simulated survey

# Balanced classes, or as many of each, would be a bias of their own.
LEARNING = replace(CHEAP, balanced=False, split=SplitSettings())


@settings_class(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Settings:
    """What is asked.

    Attributes
    ----------
    debias : DebiasSettings
        Where the resolution is, and theta or the features from which it is found; by default the
        columns of a simulated survey.
    corrected : str, optional
        Column of de-biased labels; by default they are made from the features.
    truth : str, optional
        Column of true classes, where they are known.
    intrinsic : tuple of str
        Columns that do not depend on how well a galaxy is resolved, for the bias of
        Cabrera-Vives, Miller & Schneider 2018.
    seeds : int
    galaxies : int
        Drawn by their rows, without regard to class.
    train : TrainSettings
        ``label`` names the biased labels.
    """

    debias: DebiasSettings = Field(
        default_factory=lambda: DebiasSettings(
            resolution="alpha", features=("sersic_n", "axis_ratio", "petro_r50")
        )
    )
    corrected: str | None = None
    truth: str | None = None
    intrinsic: tuple[str, ...] = ()
    seeds: Annotated[int, Field(ge=1)] = 3
    galaxies: Annotated[int, Field(ge=100)] = 4000
    train: Annotated[TrainSettings, based_on(LEARNING)] = LEARNING

    @property
    def relabel(self) -> Relabel:
        """What decides which galaxies are used, and their de-biased labels."""
        columns = tuple(n for n in (self.truth, self.corrected) if n) + self.intrinsic
        labels = debiased(self.train, self.debias)
        return Relabel(labels, self.corrected, columns, self.galaxies)


def debiased(train: TrainSettings, debias: DebiasSettings) -> TrainSettings:
    """Return a training with the de-biasing loss, which weighs no class."""
    return replace(train, loss="debiased", debias=debias, balanced=None)


def trainings(settings: Settings) -> dict[str, TrainSettings]:
    """Return how each network learns; without features or a column, none from de-biased labels."""
    train = settings.train
    found = {BIASED: train}
    if settings.corrected or settings.debias.features:
        found[CORRECTED] = replace(train, label=settings.corrected or DEBIASED)
    return found | {DDB: debiased(train, settings.debias)}


def tested(survey: Survey, labels: Labels, runs: Mapping[str, Path], settings: Settings) -> Tested:
    """Return the galaxies that all networks of a seed were tested on, and what is said of them."""
    names = survey.column("id").astype(str)
    place = {name: row for row, name in enumerate(names.tolist())}
    disk = settings.debias.disk
    second = labels.names.index(disk) == 1
    said: dict[str, dict[int, float]] = {}
    for name, folder in runs.items():
        held = holdout_of(folder)
        p = held.p if second else 1 - held.p
        said[name] = dict(zip((place[i] for i in held.id.tolist()), p.tolist(), strict=True))
    common = set(labels.rows.tolist()).intersection(*said.values())
    rows = np.array(sorted(common), np.int64)
    if settings.truth:  # others are neither class
        rows = rows[np.isin(survey.column(settings.truth)[rows].astype(str), labels.names)]
    if len(rows) == 0:
        raise InputError(f"no test galaxy has a known {settings.truth or 'answer'}; draw more")
    answers = {name: np.array([p[r] for r in rows.tolist()]) for name, p in said.items()}
    answers[LABELS] = (survey.column(settings.train.label)[rows].astype(str) == disk) * 1.0
    if CORRECTED in runs:
        column = survey.column(settings.corrected or DEBIASED)[rows].astype(str)
        answers[LABELS_CORRECTED] = (column == disk) * 1.0
    if settings.truth:
        answers[TRUTH] = (survey.column(settings.truth)[rows].astype(str) == disk) * 1.0
    assert labels.resolution is not None
    alpha = labels.resolution[np.searchsorted(labels.rows, rows)]
    columns = [survey.column(name)[rows].astype(np.float64) for name in settings.intrinsic]
    empty = np.zeros((len(rows), 0))
    return Tested(rows, answers, alpha, np.column_stack(columns) if columns else empty)


def depth_of(every: Sequence[Tested]) -> int:
    """Return b of the 2^b leaves that the galaxies of every seed fill: L depends on it."""
    return deepest(min(int(np.isfinite(one.intrinsic).all(axis=1).sum()) for one in every))


def judged(one: Tested, settings: Settings, seed: int, depth: int) -> list[dict[str, Cell]]:
    """Return how right and how biased everybody is, against the truth and against the labels.

    Parameters
    ----------
    one : Tested
    settings : Settings
    seed : int
    depth : int
        From `depth_of`. With fewer than two leaves there is no bias at equal intrinsic properties.
    """
    references = {name: key for name, key in _REFERENCES.items() if name in one.p}
    rows: list[dict[str, Cell]] = []
    for name, p in one.p.items():
        says = p >= 0.5
        row: dict[str, Cell] = {"seed": seed, "who": name, "n": len(says)}
        row["disks"] = float(says.mean())
        for reference, key in references.items():
            row |= _scores(one.p[reference] >= 0.5, says, key)
        row |= _columns("cv14", _bias(says, one.alpha, None, 0, settings))
        intrinsic = one.intrinsic if one.intrinsic.shape[1] and depth > 0 else None
        at_equal = None if intrinsic is None else _bias(says, one.alpha, intrinsic, depth, settings)
        row |= _columns("cv18", at_equal)
        row["leaves"] = None if at_equal is None else at_equal.leaves
        rows.append(row)
    return rows


def _columns(name: str, bias: ResolutionBias | None) -> dict[str, Cell]:
    if bias is None:
        return dict.fromkeys((name, f"{name}_sd", f"{name}_denoised"))
    return {name: bias.value, f"{name}_sd": bias.sd, f"{name}_denoised": bias.denoised}


def _bias(
    says: NDArray[np.bool_],
    alpha: NDArray[np.float64],
    intrinsic: NDArray[np.float64] | None,
    depth: int,
    settings: Settings,
) -> ResolutionBias | None:
    """Return the bias L where intrinsic properties are known; None with too few galaxies."""
    rng = np.random.default_rng(settings.train.seed)
    if intrinsic is not None:
        used = np.isfinite(intrinsic).all(axis=1)
        says, alpha, intrinsic = says[used], alpha[used], intrinsic[used]
    try:
        return resolution_bias(says, alpha, intrinsic, rng, depth=depth)
    except TooFewError:
        return None


def _scores(truth: NDArray[np.bool_], says: NDArray[np.bool_], reference: str) -> dict[str, Cell]:
    """Return counts and scores of disks; precision, recall and F1 are of disks."""
    counts = (~truth & ~says, ~truth & says, truth & ~says, truth & says)
    matrix = ConfusionMatrix(*(int(np.sum(one)) for one in counts))
    found: dict[str, Cell] = {
        "accuracy": matrix.accuracy,
        "precision": _share(matrix.ss, matrix.spirals),
        "recall": _share(matrix.ss, matrix.ss + matrix.se),
        "f1": _share(2 * matrix.ss, 2 * matrix.ss + matrix.se + matrix.es),
        **asdict(matrix),
    }
    return {f"{reference}_{name}": value for name, value in found.items()}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def check(survey: Survey, settings: Settings) -> None:
    """Refuse before anything is trained what would fail afterwards."""
    names = read_labels(survey, settings.train).names
    if settings.debias.disk not in names or len(names) != 2:
        raise InputError(
            f"debias.disk {settings.debias.disk!r} is none of two classes; column "
            f"{settings.train.label!r} has {', '.join(names)}"
        )
    if settings.truth is not None:
        rows = read_labels(survey, settings.relabel.labels).rows
        drawn = min(1.0, settings.galaxies / len(rows))
        refuse_truth(survey, settings.truth, names, rows, drawn * settings.train.split.test)
    if settings.corrected is not None:
        other = read_labels(survey, replace(settings.train, label=settings.corrected)).names
        if set(other) != set(names):
            raise InputError(
                f"corrected: column {settings.corrected!r} has {', '.join(other)}; "
                f"{settings.train.label!r} has {', '.join(names)}: the same classes are expected"
            )
    for name in settings.intrinsic:
        if name not in survey.column_names:
            raise InputError(f"{survey.url} has no column {name!r}, asked for as intrinsic")
        if survey.column(name).dtype.kind not in "fiu":
            raise InputError(
                f"column {name!r} of {survey.url} does not hold numbers; intrinsic properties do"
            )


def run(lab: Lab, settings: Settings) -> Product:
    """Draw and relabel, train, and judge."""
    check(lab.survey, settings)
    relabelled = relabel_step(Store.of(lab), settings.relabel)
    store = Store(None, relabelled.digest, relabelled)
    planned = [
        (
            seed,
            name,
            train_step(
                store,
                replace(train, seed=seed, split=replace(train.split, seed=seed)),
                f"train on {name}, seed {seed}",
            ),
        )
        for seed in range(settings.seeds)
        for name, train in trainings(settings).items()
    ]
    folder, *runs = lab.steps.make([relabelled, *(step for _, _, step in planned)])
    survey = Survey.open(folder / SKY)
    labels = read_labels(survey, settings.relabel.labels)
    every: list[Tested] = []
    thetas: list[dict[str, Cell]] = []
    if (theta := theta_of(folder)) is not None:
        thetas.append({"from": "all galaxies", "theta": theta.value, "error": theta.error})
    for seed in range(settings.seeds):
        of_seed = {
            name: path for (s, name, _), path in zip(planned, runs, strict=True) if s == seed
        }
        every.append(tested(survey, labels, of_seed, settings))
        found = Run.open(of_seed[DDB] / RUN).result.theta
        if found is not None:
            said = f"training galaxies, seed {seed}"
            thetas.append({"from": said, "theta": found.value, "error": found.error})
    if (true := true_theta(lab.survey, settings)) is not None:
        thetas.append({"from": SIMULATED, "theta": true, "error": None})
    return product(survey, every, thetas, settings)


def true_theta(survey: Survey, settings: Settings) -> float | None:
    """Return the theta that a simulated survey's human labels were made with; else None."""
    simulated = survey.attributes.provenance.get("simulation")
    if simulated is None or settings.train.label != HUMAN:
        return None
    return float(simulated["labels"]["theta"])


def product(
    survey: Survey,
    every: Sequence[Tested],
    thetas: Sequence[dict[str, Cell]],
    settings: Settings,
) -> Product:
    """Return what the trainings say together."""
    depth = depth_of(every)
    rows = [row for seed, one in enumerate(every) for row in judged(one, settings, seed, depth)]
    means = means_of(rows)
    split = settings.train.split
    changes = compared(rows, split.test / (1 - split.test - split.validation))
    changed = changed_of(survey, every, settings.truth)
    back = back_of(every)
    drawings = [words.draw(means)]
    if changed:
        drawings.append(words.gallery(survey, changed, settings.train.crop))
    return Product(
        headline=words.headline(changes),
        findings=words.findings(means, changes, thetas, changed, back, settings.debias),
        tables=(
            Table("differences", "Against the network of biased labels", words.CHANGES, changes),
            Table("means", "Means over seeds", words.columns(means), means),
            Table("theta", "The width of the bias", words.THETA, thetas),
            Table("judged", "Every seed", words.columns(rows), rows, shown=False),
            Table("changed", "Called smooth, answered disk", words.CHANGED, changed, shown=False),
        ),
        drawings=drawings,
        method=words.METHOD,
        facts={
            "means": means,
            "differences": changes,
            "theta": thetas,
            "changed": len(changed),
            "changed_back": back,
        },
    )


EXPERIMENT = Experiment(Settings, run)
