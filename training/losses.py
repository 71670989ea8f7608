"""What training minimises."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def class_weights(targets: Tensor, balanced: bool) -> Tensor:
    """Return the weight of each class, shape (2,), with a mean of one over the galaxies.

    Parameters
    ----------
    targets : Tensor of int64, shape (n,)
        0 or 1; both occur.
    balanced : bool
        Give both classes the same total weight; else every galaxy has weight one.
    """
    if not balanced:
        return torch.ones(2)
    counts = torch.bincount(targets, minlength=2).to(torch.float32)
    return targets.shape[0] / (2.0 * counts)


def weighted_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of logits (n,) under class weights (2,)."""
    return functional.binary_cross_entropy_with_logits(
        logits, targets.to(torch.float32), weight=weights[targets]
    )
