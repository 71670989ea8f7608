"""What a network's raw outputs mean: two classes, several, or the answers to a decision tree.

Training fits, and export writes, the probabilities that these layers give; there are no others.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from catalogs.trees.tree import Tree

# So that a question all of whose outputs are negative has zeros, not NaN (authors' code).
TINY = 1e-12
# Dirichlet concentrations lie between 1 and 101 (Walmsley et al. 2022, and Zoobot's code).
LEAST, RANGE = 1.0, 100.0

Normalise = Literal["rectify", "softmax", "dirichlet"]


class AnswerLayer(nn.Module):
    """Raw outputs (n, outputs) to probabilities (n, answers), differentiable.

    Attributes
    ----------
    names : tuple of str
        The answers, in order.
    outputs : int
        How many raw outputs the network must have.
    tree : Tree, optional
        The questions, where the answers belong to several.
    """

    names: tuple[str, ...]
    outputs: int
    tree: Tree | None = None

    def forward(self, raw: Tensor) -> Tensor:
        """Return the probability of each answer, float32 (n, answers)."""
        raise NotImplementedError

    def columns(self, raw: Tensor) -> tuple[Tensor, ...]:
        """Return the same as one tensor (n,) per answer: the outputs of an exported graph."""
        return self.forward(raw).unbind(1)


class TwoClasses(AnswerLayer):
    """One raw output, the log-odds of the second class."""

    outputs = 1

    def __init__(self, names: tuple[str, ...] = ("elliptical", "spiral")) -> None:
        super().__init__()
        self.names = names

    def forward(self, raw: Tensor) -> Tensor:
        """Return the probability of either class, (n, 2)."""
        return torch.stack(self.columns(raw), dim=1)

    def columns(self, raw: Tensor) -> tuple[Tensor, ...]:
        """Return a sigmoid each: 1 - p would lose small probabilities."""
        z = raw.squeeze(1)
        return torch.sigmoid(-z), torch.sigmoid(z)


class Classes(AnswerLayer):
    """One raw output per class, and their softmax."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names, self.outputs = names, len(names)

    def forward(self, raw: Tensor) -> Tensor:
        """Return the probability of each class, (n, classes)."""
        return torch.softmax(raw, dim=1)


class TreeAnswers(AnswerLayer):
    """One raw output per answer, to cumulative fractions.

    Dieleman, Willett & Dambre 2015, section 7.7: rectified, divided by their sum within each
    question, and scaled by the share of volunteers that are asked it, summed over every path.

    Parameters
    ----------
    tree : Tree
        Its ``unscaled`` questions are not scaled.
    normalise : {"rectify", "softmax", "dirichlet"}
        How outputs become fractions of a question; "dirichlet": the means of the distributions
        whose `concentrations` they give.
    """

    leads: Tensor
    tree: Tree

    def __init__(self, tree: Tree, normalise: Normalise = "rectify") -> None:
        super().__init__()
        self.tree, self.normalise = tree, normalise
        self.names, self.outputs = tree.names, len(tree.names)
        # Which answer leads to which question, (answers, questions) of 0 and 1.
        leads = torch.zeros((len(tree.names), len(tree.questions)))
        for question, parents in enumerate(tree.parents):
            leads[list(parents), question] = 1.0
        self.register_buffer("leads", leads, persistent=False)

    def forward(self, raw: Tensor, constrained: bool = True) -> Tensor:
        """Return the share of all volunteers that gives each answer.

        Parameters
        ----------
        raw : Tensor, shape (n, answers)
        constrained : bool
            False: outputs clipped to 0..1 instead, with no normalisation; how the paper's first
            10,000 examples bring the weights to a good scale.

        Returns
        -------
        Tensor of float32, shape (n, answers)
        """
        raw = raw.float()
        if not constrained:
            return raw.clamp(0.0, 1.0)
        shares: dict[int, Tensor] = {}
        for i in self.tree.order:
            share = self.conditional(raw[:, self.tree.slices[i]])
            if not self.tree.counted_of_all(i):
                share = share * self._asked(i, shares)
            shares[i] = share
        return torch.cat([shares[i] for i in range(len(shares))], dim=1)

    def conditional(self, raw: Tensor) -> Tensor:
        """Return the fractions of one question, (n, its answers)."""
        if self.normalise == "softmax":
            return torch.softmax(raw, dim=1)
        if self.normalise == "dirichlet":
            found = self.concentrations(raw)
            return found / found.sum(dim=1, keepdim=True)
        rectified = torch.relu(raw)
        return rectified / (rectified.sum(dim=1, keepdim=True) + TINY)

    @staticmethod
    def concentrations(raw: Tensor) -> Tensor:
        """Return the concentrations of the Dirichlet distributions, 1 to 101, any shape."""
        return LEAST + RANGE * torch.sigmoid(raw)

    def _asked(self, question: int, shares: dict[int, Tensor]) -> Tensor:
        """Return the share of volunteers that come to a question, (n, 1)."""
        parents = {self.tree.question_of[answer] for answer in self.tree.parents[question]}
        asked = [
            shares[i] @ self.leads[self.tree.slices[i], question : question + 1]
            for i in sorted(parents)
        ]
        return torch.stack(asked).sum(dim=0)


def answer_layer(
    names: tuple[str, ...], tree: Tree | None = None, normalise: Normalise = "rectify"
) -> AnswerLayer:
    """Return the layer for a tree's answers, else for two classes, else for several."""
    if tree is not None:
        return TreeAnswers(tree, normalise)
    return TwoClasses(names) if len(names) == 2 else Classes(names)
