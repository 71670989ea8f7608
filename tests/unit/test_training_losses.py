"""The losses, against scipy, scikit-learn, and their definitions in many digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mpmath import mp, mpf
from scipy.optimize import minimize
from scipy.special import expit, softmax
from scipy.stats import dirichlet_multinomial, multinomial
from sklearn.metrics import log_loss, mean_squared_error

from catalogs.errors import InputError
from catalogs.trees.tree import read_tree
from training.answers import TreeAnswers, TwoClasses
from training.losses import (
    class_weights,
    debiased,
    softmax_cross_entropy,
    squared_error,
    tree_cross_entropy,
)
from training.losses import (
    dirichlet_multinomial as dirichlet_loss,
)
from training.objective import Objective, Sample
from training.presets import read_settings
from training.settings import dump, parse_settings

TREE = read_tree("gz2")


def votes(count: int, seed: int = 0) -> np.ndarray:
    """Whole votes, some questions asked of nobody."""
    random = np.random.default_rng(seed)
    found = random.integers(0, 12, (count, 37))
    for s in TREE.slices:
        found[random.random(count) < 0.3, s] = 0
    return found


def raw(count: int, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (count, 37)))


def test_dirichlet_multinomial_is_scipys_summed_over_questions() -> None:
    k, outputs = votes(9), raw(9)
    alpha = 1 + 100 * expit(outputs.numpy())
    expected = -np.mean(
        [
            sum(
                dirichlet_multinomial.logpmf(k[i, s], alpha[i, s], int(k[i, s].sum()))
                for s in TREE.slices
            )
            for i in range(9)
        ]
    )
    got = dirichlet_loss(TreeAnswers(TREE, "dirichlet"), outputs, torch.from_numpy(k))
    assert float(got) == pytest.approx(expected, rel=1e-9)


def test_the_trees_cross_entropy_is_the_multinomial_likelihood_but_for_its_coefficient() -> None:
    k, outputs = votes(9), raw(9)
    layer = TreeAnswers(TREE, "softmax")

    def scipys(values: np.ndarray) -> float:
        return -np.mean(
            [
                sum(
                    multinomial.logpmf(k[i, s], int(k[i, s].sum()), softmax(values[i, s]))
                    for s in TREE.slices
                )
                for i in range(9)
            ]
        )

    counts = torch.from_numpy(k)
    first, second = (tree_cross_entropy(layer, x, counts) for x in (outputs, outputs * 0.3))
    expected = scipys(outputs.numpy()) - scipys(0.3 * outputs.numpy())
    assert float(first - second) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("constrained", [True, False])
def test_the_squared_error_is_scikit_learns_on_what_is_answered(constrained: bool) -> None:
    layer = TreeAnswers(TREE)
    truth = np.random.default_rng(2).random((9, 37))
    got = squared_error(layer, raw(9), torch.from_numpy(truth), constrained)
    answered = layer(raw(9), constrained).numpy()
    assert float(got) == pytest.approx(mean_squared_error(truth, answered), rel=1e-6)


def test_the_cross_entropy_of_classes_is_scikit_learns() -> None:
    random = np.random.default_rng(3)
    outputs, targets = random.normal(0, 3, (50, 4)), random.integers(0, 4, 50)
    for balanced in (True, False):
        weights = class_weights(torch.from_numpy(targets), balanced, 4)
        each = weights.numpy()[targets]
        assert each.mean() == pytest.approx(1, rel=1e-6)
        if balanced:
            assert np.bincount(targets, each) == pytest.approx(np.full(4, 12.5), rel=1e-6)
        got = softmax_cross_entropy(torch.from_numpy(outputs), torch.from_numpy(targets), weights)
        expected = log_loss(targets, softmax(outputs, axis=1), sample_weight=each)
        assert float(got) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("alpha", [1e-3, 0.5, 9.18, 80.0])
@pytest.mark.parametrize("z", [-60.0, -3.0, 0.0, 5.0, 60.0])
@pytest.mark.parametrize("seen", [0, 1])
def test_debiasing_is_its_marginal_likelihood_in_many_digits(
    alpha: float, z: float, seen: int
) -> None:
    theta = 9.18
    with mp.workdps(60):
        disk = 1 / (1 + mp.exp(-mpf(z)))
        missed = mp.exp(-(mpf(alpha) ** 2) / (2 * mpf(theta) ** 2))
        likelihood = disk * (1 - missed) if seen else (1 - disk) + disk * missed
        expected = float(-mp.log(likelihood))
    logits = torch.tensor([z], dtype=torch.float64, requires_grad=True)
    resolution = torch.tensor([alpha], dtype=torch.float64)
    got = debiased(logits, torch.tensor([seen]), resolution, theta)
    assert float(got.detach()) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    got.backward()
    assert torch.isfinite(logits.grad).all()


def test_debiasing_well_resolved_galaxies_is_the_cross_entropy() -> None:
    random = np.random.default_rng(4)
    logits, targets = random.normal(0, 2, 40), random.integers(0, 2, 40)
    far = torch.full((40,), 1e3, dtype=torch.float64)
    got = debiased(torch.from_numpy(logits), torch.from_numpy(targets), far, 9.18)
    assert float(got) == pytest.approx(log_loss(targets, expit(logits)), rel=1e-9)


def fitted(settings, targets, alpha, x, names=("elliptical", "spiral"), mix=None) -> np.ndarray:
    """The logistic model of the second class that is learnt from labels: constant, slope."""
    few = torch.zeros((len(x), 1, 1, 3), dtype=torch.uint8)
    labels, far = torch.from_numpy(targets), torch.from_numpy(alpha).float()
    sample = Sample(few, few, labels, resolution=far, mix=mix)
    objective = Objective(TwoClasses(names), settings, sample, settings.debias.theta)
    design = torch.from_numpy(np.column_stack([np.ones(len(x)), x]))

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        weights = torch.tensor(values[:, None], requires_grad=True)
        value = objective(design @ weights, slice(None))
        value.backward()
        return float(value.detach()), weights.grad.numpy()[:, 0]

    return minimize(loss, np.zeros(2), jac=True).x


@pytest.mark.parametrize("disk", ["spiral", "another"])
def test_debiasing_as_a_user_asks_for_it_recovers_the_number_of_disks(disk: str, tmp_path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(f'''loss = "debiased"
[debias]
disk = "{disk}"
resolution = "alpha"
theta = 9.18
''')
    settings = read_settings("default", file)
    assert not settings.weighted
    random = np.random.default_rng(0)
    x, alpha = random.normal(size=30_000), random.uniform(1, 15, 30_000)
    true = random.random(30_000) < expit(2 * x - 1)
    seen = true & (random.random(30_000) >= np.exp(-(alpha**2) / (2 * 9.18**2)))
    second = disk == "spiral"
    names = ("elliptical", "spiral") if second else ("another", "elliptical")
    targets = (seen == second).astype(np.int64)
    every = np.arange(len(x))
    alike = np.concatenate([np.flatnonzero(seen), np.flatnonzero(~seen)[: seen.sum()]])
    mix = torch.from_numpy(np.bincount(targets) / len(x))
    assert 0.3 < true.mean() < 0.4
    assert seen.mean() < 0.13
    for chosen, known in ((every, None), (alike, mix)):
        given = (targets[chosen], alpha[chosen], x[chosen])
        constant, slope = fitted(settings, *given, names, known) * (1 if second else -1)
        assert expit(constant + slope * x).mean() == pytest.approx(true.mean(), abs=0.02)


def test_classes_are_never_weighted_in_the_debiasing_likelihood() -> None:
    given = {"loss": "debiased", "debias": {"resolution": "alpha", "theta": 9.18}}
    for preset in ("default", "paper"):
        assert not read_settings(preset, None, given).weighted
        assert read_settings(preset).weighted
    with pytest.raises(InputError, match=r"^x: .*balanced: true with the loss debiased [^\n]*$"):
        parse_settings({**given, "balanced": True}, "x")
    assert not read_settings("default", None, {"balanced": False}).weighted
    old = dump(read_settings("default", None, {"tree": "gz2"})) | {"balanced": True}
    assert not parse_settings(old, "an old run").weighted
