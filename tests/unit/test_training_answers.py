"""Raw outputs as answers to a decision tree: against NumPy, the paper, and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

from catalogs.trees.tree import Tree, read_tree
from training.answers import TreeAnswers, answer_layer
from training.calibrate import Calibration
from training.network import Annotator, Classifier
from training.presets import read_settings


def conditional(tree: Tree, raw: np.ndarray, normalise: str) -> np.ndarray:
    positive = {
        "rectify": np.maximum(raw, 0),
        "softmax": np.exp(raw),
        "dirichlet": 1 + 100 * expit(raw),
    }[normalise]
    parts = [positive[:, s] for s in tree.slices]
    return np.concatenate([p / (p.sum(axis=1, keepdims=True) + 1e-12) for p in parts], axis=1)


def test_classes_are_a_sigmoid_or_a_softmax() -> None:
    raw = torch.linspace(-40, 40, 21).reshape(7, 3)
    three = answer_layer(("a", "b", "c"))
    assert (three.outputs, three.names) == (3, ("a", "b", "c"))
    np.testing.assert_allclose(three(raw).numpy(), softmax(raw.numpy(), axis=1), rtol=1e-5)
    two = answer_layer(("a", "b"))
    assert two.outputs == 1
    got = two(raw[:, :1]).numpy()
    np.testing.assert_allclose(got, expit(raw.numpy()[:, :1] * [-1, 1]), rtol=1e-5)


@pytest.mark.parametrize(
    ("names", "tree", "loss"),
    [
        (("a", "b"), None, None),
        (("a", "b", "c"), None, None),
        ((), "gz2", None),
        ((), "gz2", "dirichlet"),
    ],
)
def test_whatever_is_asked_there_is_one_named_probability_each(
    names: tuple[str, ...], tree: str | None, loss: str | None
) -> None:
    shape = {"widths": (2, 2, 2, 2, 2), "dense": 4}
    given = {"tree": tree, "loss": loss, "shape": shape, "votes": {"counted": True}}
    settings = read_settings("default", None, given)
    answers = answer_layer(names, tree and read_tree(tree), settings.normalisation)
    annotator = Annotator(Classifier(settings, answers), Calibration(1.5, 0.0)).eval()
    got = annotator(torch.randint(0, 256, (3, 90, 90, 3), dtype=torch.uint8))
    assert len(got) == len(annotator.answers) == (37 if tree else len(names))
    assert all(p.shape == (3,) and bool(((p >= 0) & (p <= 1)).all()) for p in got)
    first = slice(0, 3) if tree else slice(None)
    torch.testing.assert_close(torch.stack(got[first]).sum(0), torch.ones(3))


@pytest.mark.parametrize("normalise", ["rectify", "softmax", "dirichlet"])
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
