"""What training minimises: means over the galaxies of a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.answers import TreeAnswers


def class_weights(targets: Tensor, balanced: bool, classes: int = 2) -> Tensor:
    """Return the weight of each class, shape (classes,), with a mean of one over the galaxies.

    Parameters
    ----------
    targets : Tensor of int64, shape (n,)
        Indices of classes; all occur.
    balanced : bool
        Give the classes the same total weight; else every galaxy has weight one.
    classes : int
    """
    if not balanced:
        return torch.ones(classes)
    counts = torch.bincount(targets, minlength=classes).to(torch.float32)
    return targets.shape[0] / (classes * counts)


def weighted_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of logits (n,) under class weights (2,)."""
    return functional.binary_cross_entropy_with_logits(
        logits, targets.to(logits.dtype), weight=weights[targets]
    )


def softmax_cross_entropy(raw: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the mean cross-entropy of raw outputs (n, classes) under class weights (classes,)."""
    return (functional.cross_entropy(raw, targets, reduction="none") * weights[targets]).mean()


def debiased(
    logits: Tensor, targets: Tensor, resolution: Tensor, theta: float, odds: float = 0.0
) -> Tensor:
    """Return minus the mean log of the marginal likelihood of the observed labels.

    Medina-Rosales & Cabrera-Vives 2021, equations 1 to 4: sum_y p(observed | y, alpha) p(y | x),
    where a disk is called smooth with probability exp(-alpha^2 / (2 theta^2)), and a smooth
    galaxy never a disk. It says how many were missed because no observed class weighs more than
    its galaxies; where they were chosen by observed class, their likelihood is the one given that
    they were chosen (Manski & McFadden 1981).

    Parameters
    ----------
    logits : Tensor, shape (n,)
        Log-odds of a true disk.
    targets : Tensor of int64, shape (n,)
        1: observed as a disk.
    resolution : Tensor, shape (n,)
        alpha > 0.
    theta : float
    odds : float
        Logarithm of how much more often an observed disk was chosen than an observed smooth one.
    """
    half = resolution.to(logits.dtype) ** 2 / (2.0 * theta**2)
    disk, smooth = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    seen = disk + torch.log(-torch.expm1(-half))
    missed = torch.logaddexp(smooth, disk - half)
    if odds:
        seen = seen + odds
        chosen = torch.logaddexp(seen, missed)
        seen, missed = seen - chosen, missed - chosen
    return -torch.where(targets == 1, seen, missed).mean()


def squared_error(
    layer: TreeAnswers, raw: Tensor, cumulative: Tensor, constrained: bool = True
) -> Tensor:
    """Return the mean over galaxies and answers of (predicted - true)^2; its root is the RMSE.

    Dieleman, Willett & Dambre 2015, equation 1, as the Galaxy Challenge scored it.

    Parameters
    ----------
    layer : TreeAnswers
    raw, cumulative : Tensor, shape (n, answers)
        Raw outputs, and the shares of all volunteers.
    constrained : bool
        See `TreeAnswers.forward`.
    """
    predicted = layer(raw, constrained)
    return functional.mse_loss(predicted, cumulative.to(predicted.dtype))


def tree_cross_entropy(layer: TreeAnswers, raw: Tensor, votes: Tensor) -> Tensor:
    """Return minus the mean log likelihood of votes, multinomial in each question.

    Up to the multinomial coefficient, which no weight changes.

    Parameters
    ----------
    layer : TreeAnswers
        Its questions are softmax-normalised.
    raw, votes : Tensor, shape (n, answers)
    """
    logs = [torch.log_softmax(raw[:, s], dim=1) for s in layer.tree.slices]
    return -(torch.cat(logs, dim=1) * votes.to(raw.dtype)).sum(dim=1).mean()


def dirichlet_multinomial(layer: TreeAnswers, raw: Tensor, votes: Tensor) -> Tensor:
    """Return minus the mean log likelihood of votes, Dirichlet-multinomial in each question.

    Walmsley et al. 2022 (MNRAS 509, 3966): the probabilities of a question's answers follow a
    Dirichlet distribution whose concentrations the network gives; the votes, given these, are
    multinomial; questions add. A question that nobody was asked says nothing. Votes that are no
    whole numbers (fractions times totals) are interpolated by the gamma function.

    Parameters
    ----------
    layer : TreeAnswers
    raw, votes : Tensor, shape (n, answers)
    """
    total = raw.new_zeros(len(raw))
    for s in layer.tree.slices:
        alpha, k = layer.concentrations(raw[:, s]), votes[:, s].to(raw.dtype)
        whole, n = alpha.sum(dim=1), k.sum(dim=1)
        total = total + torch.lgamma(whole) + torch.lgamma(n + 1.0) - torch.lgamma(n + whole)
        each = torch.lgamma(k + alpha) - torch.lgamma(alpha) - torch.lgamma(k + 1.0)
        total = total + each.sum(dim=1)
    return -total.mean()
