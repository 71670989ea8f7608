"""The loss of raw outputs against what is known of the galaxies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from training import losses
from training.answers import AnswerLayer, TreeAnswers, TwoClasses
from training.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Sample:
    """Images of one role, and what is known of them; see :class:`training.data.Views`.

    Attributes
    ----------
    wide, cutouts : Tensor of uint8
    targets : Tensor
        Indices of classes, int64 (n,); with a tree, votes, float32 (n, answers).
    cumulative : Tensor of float32, shape (n, answers), optional
        With a tree: shares of all volunteers.
    resolution : Tensor of float32, shape (n,), optional
        alpha, where labels are de-biased.
    weights : Tensor of float64, shape (n,), optional
        How often each is drawn, where not every one is drawn once.
    mix : Tensor of float64, shape (classes,), optional
        Share of each class among all labelled galaxies in the role's tiles, where those of the
        sample were chosen by class.
    """

    wide: Tensor
    cutouts: Tensor
    targets: Tensor
    cumulative: Tensor | None = None
    resolution: Tensor | None = None
    weights: Tensor | None = None
    mix: Tensor | None = None

    def __len__(self) -> int:
        return len(self.cutouts)


class Objective:
    """What training minimises on a sample: the loss that the settings ask for.

    Parameters
    ----------
    answers : AnswerLayer
    settings : TrainSettings
    sample : Sample
    theta : float, optional
        The width of the labelling bias, for the de-biasing loss.
    """

    def __init__(
        self,
        answers: AnswerLayer,
        settings: TrainSettings,
        sample: Sample,
        theta: float | None = None,
    ) -> None:
        self.answers, self.sample, self.theta = answers, sample, theta
        self.kind = settings.objective
        self.disk_first = (
            settings.debias is not None and answers.names.index(settings.debias.disk) == 0
        )
        self.weights = (
            torch.ones(1)
            if isinstance(answers, TreeAnswers)
            else losses.class_weights(sample.targets, settings.weighted, len(answers.names))
        )

        self.odds = self._odds() if self.kind == "debiased" else 0.0

    def _odds(self) -> float:
        """Return how much more often a disk was chosen than the other class, as a logarithm."""
        if self.sample.mix is None:
            return 0.0
        rates = torch.bincount(self.sample.targets, minlength=2) / self.sample.mix
        odds = math.log(rates[1] / rates[0])
        return -odds if self.disk_first else odds

    def __call__(self, raw: Tensor, chosen: Tensor | slice, constrained: bool = True) -> Tensor:
        """Return the mean loss of some of the sample's galaxies.

        Parameters
        ----------
        raw : Tensor, shape (n, outputs)
        chosen : Tensor of int64, shape (n,), or slice
            Which of the sample they are.
        constrained : bool
            See `TreeAnswers.forward`.
        """
        targets = self.sample.targets[chosen]
        if isinstance(self.answers, TreeAnswers):
            if self.kind == "squared_error":
                assert self.sample.cumulative is not None
                shares = self.sample.cumulative[chosen]
                return losses.squared_error(self.answers, raw, shares, constrained)
            if self.kind == "dirichlet":
                return losses.dirichlet_multinomial(self.answers, raw, targets)
            return losses.tree_cross_entropy(self.answers, raw, targets)
        if not isinstance(self.answers, TwoClasses):
            return losses.softmax_cross_entropy(raw, targets, self.weights)
        logits = raw.squeeze(1)
        if self.kind == "cross_entropy":
            return losses.weighted_cross_entropy(logits, targets, self.weights)
        assert self.sample.resolution is not None
        assert self.theta is not None
        if self.disk_first:
            logits, targets = -logits, 1 - targets
        resolution = self.sample.resolution[chosen]
        return losses.debiased(logits, targets, resolution, self.theta, self.odds)
