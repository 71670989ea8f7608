"""A network's raw outputs as the answers to a decision tree's questions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from catalogs.trees.tree import Tree

# So that a question all of whose outputs are negative has zeros, not NaN (authors' code).
TINY = 1e-12


class TreeAnswers(nn.Module):
    """Raw outputs (n, answers) to cumulative fractions (n, answers), differentiable.

    Dieleman, Willett & Dambre 2015, section 7.7: rectified, divided by their sum within each
    question, and scaled by the share of volunteers that are asked it, summed over every path.

    Parameters
    ----------
    tree : Tree
        Its ``unscaled`` questions are not scaled.
    normalise : {"rectify", "softmax"}
        How outputs become fractions of a question.
    """

    leads: Tensor

    def __init__(self, tree: Tree, normalise: Literal["rectify", "softmax"] = "rectify") -> None:
        super().__init__()
        self.tree, self.normalise = tree, normalise
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
        rectified = torch.relu(raw)
        return rectified / (rectified.sum(dim=1, keepdim=True) + TINY)

    def _asked(self, question: int, shares: dict[int, Tensor]) -> Tensor:
        """Return the share of volunteers that come to a question, (n, 1)."""
        parents = {self.tree.question_of[answer] for answer in self.tree.parents[question]}
        asked = [
            shares[i] @ self.leads[self.tree.slices[i], question : question + 1]
            for i in sorted(parents)
        ]
        return torch.stack(asked).sum(dim=0)
