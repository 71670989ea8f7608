"""Answers averaged over turned images and over several networks, as one network to everybody else.

Dieleman, Willett & Dambre 2015, section 7.8: ten rotations, three scales, mirrored and not, of
each image, and seventeen networks. What is averaged are probabilities, with equal weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from catalogs.errors import InputError
from training.answers import answer_layer
from training.calibrate import Calibration
from training.checkpoint import WEIGHTS, Run, restore
from training.network import Annotator, Classifier
from training.settings import TrainSettings, parse_settings

ROTATIONS, ZOOM = 10, 1.2


def transformations(rotations: int = ROTATIONS, zoom: float = ZOOM) -> Tensor:
    """Return affine maps from what a network looks at to the image, float32 (6 rotations, 2, 3).

    Every multiple of 360 / rotations degrees, at 1 / zoom, 1 and zoom times the scale, mirrored
    and not; the first leaves the image as it is.
    """
    matrices = []
    for scale in (1.0, 1.0 / zoom, zoom):
        for mirror in (1.0, -1.0):
            for k in range(rotations):
                c, s = (scale * f(2.0 * math.pi * k / rotations) for f in (math.cos, math.sin))
                matrices.append([[c * mirror, -s, 0.0], [s * mirror, c, 0.0]])
    return torch.tensor(matrices)


class Average(nn.Module):
    """The mean answer of several annotators, over transformations of the image.

    Parameters
    ----------
    members : sequence of Annotator
        They give the same answers, and are trained on the same size of cutouts.
    turns : Tensor of float32, shape (t, 2, 3), optional
        See `transformations`; without, the image is only taken as it is.

    Attributes
    ----------
    answers, size
        As of `training.network.Annotator`.

    Raises
    ------
    InputError
        The members do not answer the same.
    """

    turns: Tensor | None

    def __init__(self, members: Sequence[Annotator], turns: Tensor | None = None) -> None:
        super().__init__()
        for other in members[1:]:
            if other.answers != members[0].answers or other.size != members[0].size:
                raise InputError(
                    f"networks that answer {', '.join(members[0].answers)} for cutouts of "
                    f"{members[0].size} px cannot be averaged with one that answers "
                    f"{', '.join(other.answers)} for {other.size} px"
                )
        self.members = nn.ModuleList(members)
        self.answers, self.size = members[0].answers, members[0].size
        self.register_buffer("turns", turns, persistent=False)

    def forward(self, cutouts: Tensor) -> tuple[Tensor, ...]:
        """Return one float32 tensor (n,) per answer."""
        if self.turns is None:
            return self.once(cutouts)
        found = [self.once(cutouts, turn) for turn in self.turns]
        return tuple(torch.stack(column).mean(dim=0) for column in zip(*found, strict=True))

    def once(self, cutouts: Tensor, turn: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the members' mean for the image turned in one way, (2, 3), or as it is."""
        found = [member(cutouts, turn) for member in self.members]
        return tuple(torch.stack(column).mean(dim=0) for column in zip(*found, strict=True))


def annotator_of(run: Run) -> Annotator | Average:
    """Return the network, or the networks together, of a complete run, ready to answer."""
    averaged = run.data.averaged
    if averaged is None:
        return _annotator(run, run.settings, run.weights, run.result.calibration).eval()
    members = [
        _annotator(
            run,
            parse_settings(member.settings, f"{run.path}, {member.name}"),
            {k.removeprefix(f"{i}."): v for k, v in run.weights.items() if k.startswith(f"{i}.")},
            member.calibration,
        )
        for i, member in enumerate(averaged.members)
    ]
    return Average(members, transformations() if averaged.turned else None).eval()


def _annotator(
    run: Run, settings: TrainSettings, weights: dict[str, Tensor], calibration: Calibration
) -> Annotator:
    answers = answer_layer(run.data.names, run.data.questions, settings.normalisation)
    classifier = Classifier(settings, answers)
    restore(classifier, weights, run.path / WEIGHTS)
    return Annotator(classifier, calibration)
