"""Steps that most experiments are made of: train a network, annotate with it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator

from catalogs.errors import InputError, SkytallyError
from catalogs.progress import Reporter
from engine.run import AnnotateSettings, annotate
from experiments.lab import Lab, fingerprint
from experiments.steps import Step, damaged
from export.convert import export
from export.parity.gate import Gate
from training import checkpoint
from training.checkpoint import RunData, RunResult, read_json
from training.labels import read_labels
from training.models.shamir import ShamirShape
from training.presets import merged
from training.records import Holdout, read_holdout
from training.run import train
from training.settings import SplitSettings, TrainSettings, dump, parse_settings

SKY, RUN, BUNDLE, CATALOG = "sky.zarr", "network.run", "network.bundle", "catalog"

SHOWN = 6  # classes of a column, in a message
PROOF = Gate(cutouts=512)  # of each of many networks that are thrown away
CHEAP = TrainSettings(
    epochs=15,
    warmup=30,
    average=0.98,
    shape=ShamirShape(size=64),
    split=SplitSettings(most=1000),
)
"""About a minute on one core: 64 pixels, at most 1,000 galaxies of a class, 15 epochs."""


def based_on(usual: TrainSettings) -> BeforeValidator:
    """Return what reads a table ``[train]``: what it does not name is as usual."""

    def read(value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        below = dump(usual)
        if value.get("model", usual.model) != usual.model:
            del below["shape"]  # of another network
        return parse_settings(merged(below, value), "[train]")

    return BeforeValidator(read)


Training = Annotated[TrainSettings, based_on(CHEAP)]


@dataclass(frozen=True, slots=True)
class Store:
    """A survey store that steps read: one on disk, or the product of a step.

    Attributes
    ----------
    path : Path, optional
    content : str
        Stands for what it holds.
    step : Step, optional
        Makes it, as ``sky.zarr`` in its folder.
    """

    path: Path | None
    content: str = ""
    step: Step | None = None

    @classmethod
    def of(cls, lab: Lab) -> Store:
        """Return the experiment's survey."""
        return cls(lab.path, fingerprint(lab.survey))

    @property
    def needs(self) -> tuple[Step, ...]:
        """What must be made first."""
        return () if self.step is None else (self.step,)

    def at(self, needs: Sequence[Path]) -> Path:
        """Return where it is, given the folders of what is needed, its own first."""
        return self.path if self.path is not None else needs[0] / SKY


def two_classes(lab: Lab, settings: TrainSettings) -> tuple[str, str]:
    """Return the two classes of the label column.

    Raises
    ------
    InputError
        There is no such column, there are more classes, or a tree is asked for: an experiment
        compares two.
    """
    there = lab.survey.column_names
    if settings.tree is None and settings.label not in there:
        some = ", ".join(there[:SHOWN]) + (", ..." if len(there) > SHOWN else "")
        raise InputError(
            f"{lab.path} has no column {settings.label!r}; it has {some}: name the labels' column "
            "with [train] label"
        )
    names = read_labels(lab.survey, settings).names
    if settings.tree is not None or len(names) != 2:
        some = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        raise InputError(
            f"column {settings.label!r} of {lab.path} has {len(names)} classes ({some}); "
            "an experiment compares two: name another column with [train] label, or make one "
            "with `skytally ingest --classes`"
        )
    return names[0], names[1]


def refuse_other_classes(lab: Lab, settings: TrainSettings, spiral: str, elliptical: str) -> None:
    """Refuse names of classes that are not the two of the label column; see `two_classes`."""
    classes = two_classes(lab, settings)
    if set(classes) != {spiral, elliptical}:
        raise InputError(
            f"column {settings.label!r} has {' and '.join(classes)}; name them with spiral and "
            "elliptical"
        )


def train_step(store: Store, settings: TrainSettings, title: str, *, bundle: bool = False) -> Step:
    """Return the step that trains a network, and exports it where it is to annotate.

    The folder holds ``network.run`` without what only a resumed training or a later export
    needs, and ``network.bundle``.

    Parameters
    ----------
    store : Store
    settings : TrainSettings
    title : str
    bundle : bool
    """
    return Step(
        "train",
        title,
        {"survey": store.content, "settings": dump(settings), "bundle": bundle},
        partial(_train, store=store, settings=settings, bundle=bundle),
        store.needs,
        ("training", "export") if bundle else ("training",),
    )


def holdout_of(folder: Path) -> Holdout:
    """Return what the network of a step from `train_step` answered on its test galaxies.

    Parameters
    ----------
    folder : Path
        Of a step that learnt two classes, as `two_classes` makes sure.

    Raises
    ------
    IntegrityError
        The file is missing, or does not hold the galaxies that the run tested.
    """
    run = folder / RUN
    try:
        held = read_holdout(run)
        tested = Counter(RunData.model_validate(read_json(run / checkpoint.DATA)).counts["test"])
        result = RunResult.model_validate(read_json(run / checkpoint.RESULT))
    except (OSError, ValueError, KeyError, csv.Error, SkytallyError):
        raise damaged(run / checkpoint.HOLDOUT, folder) from None
    found = Counter(held.label.tolist())
    lost = tested.total() - found.total()  # whose images could not be decoded
    strange = found - tested or not np.all((held.p >= 0) & (held.p <= 1))
    if strange or lost > result.undecodable or len(set(held.id.tolist())) < len(held.id):
        raise damaged(run / checkpoint.HOLDOUT, folder)
    return held


def annotate_step(store: Store, network: Step, title: str, workers: int) -> Step:
    """Return the step that annotates a whole survey: ``catalog`` in its folder.

    Parameters
    ----------
    store : Store
    network : Step
        From `train_step`, with a bundle.
    title : str
    workers : int
        The catalog does not depend on them.
    """
    return Step(
        "annotate",
        title,
        {"survey": store.content},
        partial(_annotate, store=store, workers=workers),
        (*store.needs, network),
        ("engine",),
    )


def _train(
    folder: Path,
    needs: Sequence[Path],
    reporter: Reporter,
    *,
    store: Store,
    settings: TrainSettings,
    bundle: bool,
) -> None:
    run = folder / RUN
    train(store.at(needs), run, settings, reporter)
    if bundle:
        export(run, folder / BUNDLE, reporter, gate=PROOF, replace=True)
    for name in (checkpoint.STATE, checkpoint.EXAMPLES):
        (run / name).unlink(missing_ok=True)


def _annotate(
    folder: Path, needs: Sequence[Path], reporter: Reporter, *, store: Store, workers: int
) -> None:
    settings = AnnotateSettings(workers=workers)
    annotate(store.at(needs), folder / CATALOG, needs[-1] / BUNDLE, settings, reporter)
