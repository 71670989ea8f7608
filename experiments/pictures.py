"""Networks that learn something else than a survey's labels, from pictures that a step has kept.

What there is to tell (a class from a patch of sky, a tile from a cutout) is kept beside the
pictures; folds of sky blocks make every galaxy a test galaxy of a network that saw none of its
block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from catalogs.errors import InputError
from catalogs.progress import Reporter
from catalogs.sky import tile_of
from experiments.steps import Step
from training import checkpoint
from training.answers import answer_layer
from training.fit import fit, predict
from training.objective import Sample
from training.settings import SplitSettings, TrainSettings, dump
from training.splits import (
    ROLE_NAMES,
    TEST,
    TRAIN,
    VALIDATION,
    Roles,
    at_most,
    sky_blocked,
    without_neighbours,
)

PICTURES, ANSWERS, NETWORK = "pictures.safetensors", "answers.safetensors", "network.run"
FEWEST = 2

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures and what is to be told from them.

    Attributes
    ----------
    wide, cutouts : Tensor of uint8, shape (n, s, s, 3)
        See `training.data.Views`.
    targets, rows : Tensor of int64, shape (n,)
        What is to be told, as an index; and rows of the survey.
    ra, dec : Tensor of float64, shape (n,)
        ICRS, degrees.
    """

    wide: Tensor
    cutouts: Tensor
    targets: Tensor
    rows: Tensor
    ra: Tensor
    dec: Tensor

    def write(self, folder: Path) -> None:
        """Write them into a step's folder."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        checkpoint.write_tensors(folder / PICTURES, tensors, {})

    @classmethod
    def read(cls, folder: Path) -> Pictures:
        """Read what `write` wrote.

        Raises
        ------
        IntegrityError
            The file is missing or damaged.
        """
        return cls(**checkpoint.read_tensors(folder / PICTURES))

    def roles(self, split: SplitSettings) -> Roles:
        """Return which train, validate and test."""
        ra, dec = self.ra.numpy(), self.dec.numpy()
        roles = without_neighbours(sky_blocked(ra, dec, split), ra, dec)
        if split.most is None:
            return roles
        classes = self.targets.numpy().astype(str).astype(object)
        return at_most(roles, classes, self.rows.numpy(), split.most, split.seed)


@dataclass(frozen=True, slots=True)
class Answered:
    """What was told of test galaxies; arrays of shape (n,).

    Attributes
    ----------
    rows, blocks : ndarray of int64
        Rows of the survey, and the tiles that were on one side of the split.
    targets, answers : ndarray of int64
    folds : ndarray of int64
        Which network answered.
    """

    rows: IntArray
    blocks: IntArray
    targets: IntArray
    answers: IntArray
    folds: IntArray

    def write(self, folder: Path) -> None:
        """Write them into a step's folder."""
        tensors = {one.name: torch.from_numpy(getattr(self, one.name)) for one in fields(self)}
        checkpoint.write_tensors(folder / ANSWERS, tensors, {})

    @classmethod
    def read(cls, folders: Sequence[Path]) -> Answered:
        """Read and join what `write` wrote in several folders."""
        parts = [checkpoint.read_tensors(folder / ANSWERS) for folder in folders]
        return cls(**{f.name: np.concatenate([p[f.name] for p in parts]) for f in fields(cls)})


def labelling(train: TrainSettings) -> dict[str, Any]:
    """Return the settings that decide which galaxies have which label, and how they are framed."""
    names = ("label", "tree", "certainty", "min_certainty", "crop", "debias")
    values = dump(train)
    return {name: values[name] for name in names} | {"seed": train.split.seed}


def folded(settings: TrainSettings, fold: int, order: int) -> TrainSettings:
    """Return the settings of one fold, whose test blocks no other fold has.

    What a network can tell is asked, so nothing is to keep it from telling.

    Raises
    ------
    InputError
        There is no such fold.
    """
    test = settings.split.test
    if (fold + 1) * test > 1 + 1e-9:
        raise InputError(
            f"seeds {fold + 1} or more: with [train.split] test = {test:g} there are "
            f"{int(1 / test + 1e-9)} folds; set fewer seeds, or a smaller test"
        )
    split = replace(settings.split, order=order, fold=fold)
    return replace(settings, seed=settings.seed + fold, split=split, adversary=None)


def told(pictures: Pictures, roles: Roles, split: SplitSettings, answers: IntArray) -> Answered:
    """Return the answers on the test pictures, with where these were."""
    assert split.order is not None
    test = roles == TEST
    blocks = tile_of(pictures.ra.numpy()[test], pictures.dec.numpy()[test], split.order)
    return Answered(
        rows=pictures.rows.numpy()[test],
        blocks=blocks,
        targets=pictures.targets.numpy()[test],
        answers=answers.astype(np.int64),
        folds=np.full(len(blocks), split.fold, np.int64),
    )


def network_step(
    pictures: Step, names: tuple[str, ...], settings: TrainSettings, title: str
) -> Step:
    """Return the step that trains a network on pictures and answers for its test blocks.

    Parameters
    ----------
    pictures : Step
        Its folder holds what `Pictures.write` wrote.
    names : tuple of str
        Of the targets.
    settings : TrainSettings
        From `folded`.
    title : str
    """
    return Step(
        "tell",
        title,
        {"names": list(names), "settings": dump(settings)},
        partial(_tell, names=names, settings=settings),
        (pictures,),
        ("training", "experiments/pictures.py"),
        ("torch",),
    )


def _tell(
    folder: Path,
    needs: Sequence[Path],
    reporter: Reporter,
    *,
    names: tuple[str, ...],
    settings: TrainSettings,
) -> None:
    pictures = Pictures.read(needs[0])
    roles = pictures.roles(settings.split)
    check(pictures, roles, names)
    train, validation = (_sample(pictures, roles == role) for role in (TRAIN, VALIDATION))
    (run := folder / NETWORK).mkdir(exist_ok=True)
    answers = answer_layer(names, None, settings.normalisation)
    model = fit(train, validation, settings, run, reporter, answers)
    raw = predict(model, pictures.cutouts[torch.from_numpy(roles == TEST)])
    scores = np.column_stack([np.zeros(len(raw)), raw]) if len(names) == 2 else raw
    told(pictures, roles, settings.split, scores.argmax(axis=1)).write(folder)
    (run / checkpoint.STATE).unlink(missing_ok=True)


def check(pictures: Pictures, roles: Roles, names: tuple[str, ...]) -> None:
    """Raise ``InputError`` where a role lacks pictures of a target."""
    for role, text in ROLE_NAMES.items():
        counts = np.bincount(pictures.targets.numpy()[roles == role], minlength=len(names))
        for name, count in zip(names, counts.tolist(), strict=True):
            if count < FEWEST:
                raise InputError(
                    f"the {text} blocks hold {count} pictures of {name!r}, at least {FEWEST} are "
                    "needed; use more galaxies, or smaller blocks"
                )


def _sample(pictures: Pictures, chosen: NDArray[np.bool_]) -> Sample:
    which = torch.from_numpy(chosen)
    return Sample(pictures.wide[which], pictures.cutouts[which], pictures.targets[which])
