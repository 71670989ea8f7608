"""Random forests on photometry that learn spirals in one region and ellipticals in another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings_class

from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter
from catalogs.sky import FloatArray, Region
from experiments.networks import Store
from experiments.steps import Step
from experiments.swap_plan import PAPERS
from experiments.swaps import Answered, Training
from training import checkpoint
from training.settings import SplitSettings
from training.splits import TEST, TRAIN, at_most, sky_blocked, without_neighbours

ANSWERS = "answers.safetensors"
FEWEST = 20  # galaxies of a class in a region, to train on and to test on
MEASURED = ("mag_g", "mag_r", "mag_i", "radius", "alpha")


@settings_class(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Settings:
    """What is asked.

    Attributes
    ----------
    regions : dict of str to str
        Name to ``RA0..RA1,DEC0..DEC1``; three in the poster, by default those of the sky swap.
    columns : tuple of str
        Columns of numbers that the classifier sees; by default some of a simulated survey.
    label, spiral, elliptical : str
        Column of labels, and the two classes.
    seeds : int
        Random splits of the sky's tiles.
    most : int
        Training galaxies of each class; the same number in every region.
    trees : int
        Of the forest.
    order : int
        Of the tiles that are split.
    test : float
        Their share that tests.
    """

    regions: Annotated[dict[str, str], Field(min_length=2)] = Field(
        default_factory=lambda: dict(PAPERS)
    )
    columns: Annotated[tuple[str, ...], Field(min_length=1)] = MEASURED
    label: str = "label"
    spiral: str = "spiral"
    elliptical: str = "elliptical"
    seeds: Annotated[int, Field(ge=1)] = 10
    most: Annotated[int, Field(ge=FEWEST)] = 3000
    trees: Annotated[int, Field(ge=10, le=5000)] = 200
    order: Annotated[int, Field(ge=0, le=12)] = 5
    test: Annotated[float, Field(gt=0, lt=1)] = 0.4


def trainings(settings: Settings) -> list[Training]:
    """Return every combination of a region of spirals and one of ellipticals."""
    return [Training(s, e) for e in settings.regions for s in settings.regions]


def forest_step(store: Store, settings: Settings, seed: int) -> Step:
    """Return the step that trains every combination on a split and answers its test galaxies."""
    values = {name: value for name, value in asdict(settings).items() if name != "seeds"}
    return Step(
        "forests",
        f"train forests on photometry, split {seed}",
        {"survey": store.content, "seed": seed, "settings": values},
        partial(_forests, store=store, settings=settings, seed=seed),
        store.needs,
        ("experiments/forests.py", "training/splits.py"),
        ("scikit-learn",),
    )


def _forests(
    folder: Path,
    needs: Sequence[Path],
    reporter: Reporter,
    *,
    store: Store,
    settings: Settings,
    seed: int,
) -> None:
    from sklearn.ensemble import RandomForestClassifier

    survey = Survey.open(store.at(needs))
    ra, dec, labels, table = _table(survey, settings)
    split = SplitSettings(order=settings.order, validation=0.0, test=settings.test, seed=seed)
    roles = without_neighbours(sky_blocked(ra, dec, split), ra, dec)
    rows = np.arange(len(ra))
    known = np.isin(labels, [settings.spiral, settings.elliptical]) & np.isfinite(table).all(axis=1)
    region = np.full(len(ra), -1)
    for k, text in enumerate(settings.regions.values()):
        inside = Region.parse(text).contains(ra, dec)
        if np.any(inside & (region >= 0)):
            raise InputError(f"regions overlap in {text}; a galaxy must lie in one of them")
        region[inside] = k
    spiral = labels == settings.spiral
    member = [
        [np.flatnonzero(known & (region == k) & (spiral == s) & (roles == TRAIN)) for s in (0, 1)]
        for k in range(len(settings.regions))
    ]
    tested = known & (region >= 0) & (roles == TEST)
    fewest = min(len(one) for pair in member for one in pair)
    least = min(
        int(np.sum(tested & (region == k) & (spiral == s)))
        for k in range(len(settings.regions))
        for s in (False, True)
    )
    if min(fewest, least) < FEWEST:
        raise InputError(
            f"a region has {fewest} galaxies of a class to train on and {least} to test on; "
            f"{FEWEST} are needed: choose larger regions, or a finer order"
        )
    count = min(settings.most, fewest)
    said = []
    for training in trainings(settings):
        e, s = (list(settings.regions).index(n) for n in (training.ellipticals, training.spirals))
        chosen = np.concatenate(
            [_drawn(member[e][0], count, seed), _drawn(member[s][1], count, seed)]
        )
        forest = RandomForestClassifier(settings.trees, random_state=seed, n_jobs=1)
        forest.fit(table[chosen], spiral[chosen])
        said.append(forest.predict(table[tested]))
        reporter.progress("forests", len(said), len(settings.regions) ** 2, "trainings")
    tensors = {
        "rows": rows[tested],
        "region": region[tested].astype(np.int64),
        "spiral": spiral[tested],
        "said": np.stack(said),
        "trained": np.array([count]),
    }
    named = {name: torch.from_numpy(values) for name, values in tensors.items()}
    checkpoint.write_tensors(folder / ANSWERS, named, {})


def _drawn(members: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Draw galaxies by their rows; a smaller draw is part of a larger one."""
    roles = at_most(np.full(len(members), TRAIN), np.full(len(members), ""), members, count, seed)
    return np.asarray(members[roles == TRAIN], np.int64)


def _table(
    survey: Survey, settings: Settings
) -> tuple[FloatArray, FloatArray, NDArray[np.str_], FloatArray]:
    """Return positions, labels and the classifier's columns, float64 (rows, columns)."""
    columns = []
    for name in settings.columns:
        values = survey.column(name) if name in survey.column_names else np.array("")
        if values.dtype.kind not in "fiu":
            raise InputError(
                f"{survey.url} has no column of numbers {name!r}; it has "
                f"{', '.join(survey.column_names[:8])} ..."
            )
        columns.append(values.astype(np.float64))
    if settings.label not in survey.column_names:
        raise InputError(f"{survey.url} has no column {settings.label!r} of labels")
    labels = survey.column(settings.label).astype(str)
    return survey.column("ra"), survey.column("dec"), labels, np.column_stack(columns)


def answers_of(folder: Path, settings: Settings, seed: int) -> tuple[list[Answered], int]:
    """Return what the forests of a split say, and how many galaxies of a class they learnt from."""
    values = {k: v.numpy() for k, v in checkpoint.read_tensors(folder / ANSWERS).items()}
    answered = [
        Answered(training, name, f"seed {seed}", values["spiral"][here], said[here])
        for training, said in zip(trainings(settings), values["said"], strict=True)
        for k, name in enumerate(settings.regions)
        for here in [values["region"] == k]
    ]
    return answered, int(values["trained"][0])
