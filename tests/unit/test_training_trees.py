"""Raw outputs as answers to a decision tree: against NumPy, the paper, and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from catalogs.trees.tree import Tree, read_tree
from training.trees import TreeAnswers


def conditional(tree: Tree, raw: np.ndarray, normalise: str) -> np.ndarray:
    positive = np.maximum(raw, 0) if normalise == "rectify" else np.exp(raw)
    parts = [positive[:, s] for s in tree.slices]
    return np.concatenate([p / (p.sum(axis=1, keepdims=True) + 1e-12) for p in parts], axis=1)


@pytest.mark.parametrize("normalise", ["rectify", "softmax"])
@pytest.mark.parametrize("unscaled", [(), ("q06",)])
def test_outputs_are_normalised_and_scaled_down_the_tree(
    normalise: str, unscaled: tuple[str, ...]
) -> None:
    tree = read_tree("gz2").with_unscaled(unscaled)
    raw = np.random.default_rng(0).normal(0.3, 1.0, (40, 37))
    got = TreeAnswers(tree, normalise)(torch.from_numpy(raw)).numpy()  # type: ignore[arg-type]
    np.testing.assert_allclose(got, tree.cumulative(conditional(tree, raw, normalise)), atol=1e-6)
    assert ((got >= 0) & (got <= 1 + 1e-6)).all()


def test_a_question_without_a_positive_output_has_zeros() -> None:
    tree = read_tree("gz2")
    got = TreeAnswers(tree)(torch.full((2, 37), -1.0))
    assert (got == 0).all()


def test_the_first_examples_are_clipped_linear_outputs() -> None:
    raw = torch.randn(5, 37) * 2
    got = TreeAnswers(read_tree("gz2"))(raw, constrained=False)
    np.testing.assert_array_equal(got.numpy(), np.clip(raw.numpy(), 0, 1))


def test_gradients_are_those_of_finite_differences() -> None:
    class Double(TreeAnswers):
        def forward(self, raw, constrained=True):  # float64 all through
            raw.float = lambda: raw
            return super().forward(raw, constrained)

    torch.manual_seed(0)
    raw = (torch.rand(3, 37, dtype=torch.float64) + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(Double(read_tree("gz2")).double(), (raw,))


def test_any_other_tree(tmp_path) -> None:
    file = tmp_path / "two.toml"
    file.write_text(
        'name = "two"\n'
        '[[questions]]\nname = "a"\n'
        'answers = [{ name = "x", next = "b" }, { name = "y" }]\n'
        '[[questions]]\nname = "b"\nanswers = [{ name = "u" }, { name = "v" }]\n'
    )
    raw = torch.tensor([[3.0, 1.0, 1.0, 1.0]])
    got = TreeAnswers(read_tree(file))(raw)
    torch.testing.assert_close(got, torch.tensor([[0.75, 0.25, 0.375, 0.375]]))
