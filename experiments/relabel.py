"""A survey drawn from another, with labels from which the labelling bias is taken out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.errors import InputError
from catalogs.progress import Reporter
from catalogs.storage.disk import Disk
from experiments.networks import SKY, Store
from experiments.steps import Step
from training.debias import Theta, logistic_model
from training.labels import read_labels
from training.settings import TrainSettings, dump
from training.splits import hashed_uniform

DEBIASED = "debiased_label"
THETA = "theta.json"


@dataclass(frozen=True, slots=True)
class Relabel:
    """What decides the drawn survey.

    Attributes
    ----------
    labels : TrainSettings
        With the table ``debias``: which labels, resolution and features.
    corrected : str, optional
        Column of de-biased labels, which are then not made.
    columns : tuple of str
        Others to keep.
    galaxies : int
        How many, drawn by their rows without regard to class.
    """

    labels: TrainSettings
    corrected: str | None
    columns: tuple[str, ...]
    galaxies: int

    @property
    def kept(self) -> tuple[str, ...]:
        """Columns of the survey that the drawn one has, too."""
        debias = self.labels.debias
        assert debias is not None
        names: list[Any] = [self.labels.label, self.labels.certainty, debias.resolution]
        names += [debias.radius, debias.fwhm, *debias.features, *self.columns]
        return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))


CODE = (
    "experiments/relabel.py",
    "catalogs/cutouts",
    "training/debias.py",
    "training/labels.py",
    "training/splits.py",
)


def relabel_step(store: Store, what: Relabel) -> Step:
    """Return the step that makes the drawn survey, ``sky.zarr``, and finds theta."""
    values = dump(what.labels)
    decides = {
        "survey": store.content,
        "labels": {name: values[name] for name in ("label", "certainty", "min_certainty")},
        "debias": values["debias"],
        "corrected": what.corrected,
        "columns": list(what.kept),
        "galaxies": what.galaxies,
    }
    made = partial(_relabel, store=store, what=what)
    code = (
        "experiments/relabel.py",
        "catalogs/cutouts",
        "training/labels.py",
        "training/debias.py",
        "training/splits.py",
    )
    title = "draw galaxies and de-bias their labels"
    return Step("relabel", title, decides, made, store.needs, code, ("scipy",))


def _relabel(
    folder: Path, needs: Sequence[Path], reporter: Reporter, *, store: Store, what: Relabel
) -> None:
    survey = Survey.open(store.at(needs))
    labels = read_labels(survey, what.labels)
    missing = [name for name in what.kept if name not in survey.column_names]
    if missing:
        raise InputError(f"{survey.url} has no column {missing[0]!r}")
    rank = hashed_uniform(labels.rows, 0)
    chosen = np.sort(np.argsort(rank, kind="stable")[: what.galaxies])
    pictures = _pictures(survey, labels.rows[chosen])
    chosen = chosen[[row in pictures for row in labels.rows[chosen].tolist()]]
    rows = labels.rows[chosen]
    columns = {name: survey.column(name)[rows] for name in what.kept}
    debias = what.labels.debias
    assert debias is not None
    theta = None if debias.theta is None else Theta(debias.theta)
    if debias.features:
        assert labels.features is not None
        assert labels.resolution is not None
        disk = (labels.classes[chosen] == debias.disk).astype(np.int64)
        given = labels.resolution[chosen], disk, labels.features[chosen]
        model = logistic_model(*given)
        theta = model.theta
        if what.corrected is None:
            p = model.posterior(*given)
            (other,) = (name for name in labels.names if name != debias.disk)
            columns[DEBIASED] = np.where(p >= 0.5, debias.disk, other).astype(object)
    attributes = survey.attributes
    table = SurveyTable(
        survey.column("id")[rows], survey.column("ra")[rows], survey.column("dec")[rows], columns
    )
    raw = attributes.raw is not None
    info = SurveyInfo(name=attributes.name, crop=attributes.crop)
    if raw:
        info = SurveyInfo(
            name=attributes.name,
            crop=attributes.crop,
            encoding="raw",
            dtype=attributes.dtype,
            channels=attributes.channels,
        )

    def images(chunks: Sequence[NDArray[np.int64]]) -> Iterator[Any]:
        for chunk in chunks:
            found = [pictures[row] for row in rows[chunk].tolist()]
            yield np.stack(found) if raw else [file.tobytes() for file in found]

    if not (folder / SKY).exists():
        write_survey(folder / SKY, table, images, info, reporter)
    Disk(folder).write(THETA, json.dumps(None if theta is None else asdict(theta)).encode())


def _pictures(survey: Survey, rows: NDArray[np.int64]) -> dict[int, NDArray[Any]]:
    """Return the images of some rows as they are stored; those that are damaged are left out."""
    found, wanted = {}, set(rows.tolist())
    starts, total = {}, 0
    for append in survey.attributes.appends:
        starts[append.name] = total
        total += append.rows
    for partition in survey.partitions:
        first = starts[partition.append] + partition.start
        for block in survey.read_images(partition, survey.read_rows(partition)):
            for k, file in enumerate(block.files):
                row = first + block.start + k
                if row in wanted and block.start + k not in block.problems:
                    found[row] = file
    return found


def theta_of(folder: Path) -> Theta | None:
    """Return the width of the bias that the step found, or was given."""
    values = json.loads((folder / THETA).read_text())
    return None if values is None else Theta(**values)
