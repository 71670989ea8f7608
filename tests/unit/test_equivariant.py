"""Group convolutions: equivariant layer by layer, one answer for the eight symmetries."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from export.convert import INPUT, fold_batch_norm, to_onnx
from training.calibrate import Calibration
from training.models.base import Plain, multiply_accumulates, parameter_count
from training.models.equivariant import (
    EquivariantNet,
    EquivariantShape,
    FieldNorm,
    GroupConv,
    LiftingConv,
    SpatialConv,
    symmetries,
)
from training.models.shamir import ShamirNet
from training.network import Annotator, Classifier
from training.settings import TrainSettings

SMALL = EquivariantShape(fields=(2, 3, 4), blocks=(1, 1, 1), features=8, size=60)


def eight(images: np.ndarray) -> list[np.ndarray]:
    """NumPy's eight turned and mirrored copies of images (..., s, s)."""
    return [
        np.rot90(copy, quarter, axes=(-2, -1))
        for copy in (images, np.flip(images, -1))
        for quarter in range(4)
    ]


def acted(fields: Tensor, g: int) -> np.ndarray:
    """Turn every map by symmetry g, and move it to the orientation that it then has."""
    count, channels, height, width = fields.shape
    maps = fields.detach().numpy().reshape(count, channels // 8, 8, height, width)
    turned = eight(maps)[g]
    # Orientation h becomes g h: found by what the symmetries do to a lopsided image.
    lopsided = np.arange(9).reshape(3, 3)
    result = np.empty_like(turned)
    for h, copy in enumerate(eight(lopsided)):
        both = eight(copy)[g]
        to = next(i for i, other in enumerate(eight(lopsided)) if np.array_equal(other, both))
        result[:, :, to] = turned[:, :, h]
    return result.reshape(count, channels, height, width)


def test_the_symmetries_are_numpys() -> None:
    images = torch.randn(2, 3, 5, 5)
    for mine, numpys in zip(symmetries(images), eight(images.numpy()), strict=True):
        np.testing.assert_array_equal(mine.numpy(), numpys)
    assert len({copy.numpy().tobytes() for copy in symmetries(images)}) == 8


@pytest.mark.parametrize(
    ("kernel", "stride", "side"), [(3, 1, 7), (2, 2, 8), (3, 2, 7), (6, 2, 12)]
)
def test_lifting_turns_with_the_image(kernel: int, stride: int, side: int) -> None:
    torch.manual_seed(0)
    layer = LiftingConv(3, 2, kernel, stride, (kernel - 1) // 2)
    images = torch.randn(2, 3, side, side)
    out = layer(images)
    for g, turned in enumerate(eight(images.numpy())):
        got = layer(torch.from_numpy(turned.copy())).detach().numpy()
        np.testing.assert_allclose(got, acted(out, g), atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "side"),
    [
        (lambda: GroupConv(2, 3), 5),
        (lambda: GroupConv(2, 3, 3, 1, 1), 6),
        (lambda: GroupConv(2, 3, 2, 2), 6),
        (lambda: GroupConv(2, 3, 3, 2, 1), 7),
        (lambda: SpatialConv(2, 5), 6),
        (lambda: FieldNorm(2), 4),
    ],
)
def test_fields_turn_with_their_input(layer, side: int) -> None:
    torch.manual_seed(1)
    made: Plain = layer()
    fields = torch.randn(2, 16, side, side)
    out = made(fields)
    for g in range(8):
        got = made(torch.from_numpy(acted(fields, g))).detach().numpy()
        np.testing.assert_allclose(got, acted(out, g), atol=2e-5)


@pytest.mark.parametrize(
    "layer", [LiftingConv(3, 2, 3, 1, 1), GroupConv(2, 3, 3, 1, 1), SpatialConv(2, 3), FieldNorm(2)]
)
def test_a_layer_written_out_computes_the_same(layer: Plain) -> None:
    fields = torch.randn(3, 3 if isinstance(layer, LiftingConv) else 16, 6, 6)
    layer.train()
    layer(fields)  # statistics that are not the initial ones
    plain = layer.plain().eval()
    assert type(plain) in (nn.Conv2d, nn.BatchNorm2d)
    torch.testing.assert_close(plain(fields), layer.eval()(fields), atol=1e-5, rtol=1e-5)


def trained_a_little(size: int | None = None) -> Classifier:
    """A classifier whose weights and statistics are not the initial ones."""
    torch.manual_seed(2)
    shape = EquivariantShape() if size is None else SMALL
    classifier = Classifier(TrainSettings(model="equivariant", shape=shape))
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=0.01)
    for _ in range(3):
        cutouts = torch.randint(0, 256, (4, classifier.size, classifier.size, 3))
        loss = classifier(cutouts.to(torch.uint8)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return classifier.eval()


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return trained_a_little()


def test_one_answer_for_eight_symmetries(classifier: Classifier) -> None:
    for side in (classifier.size, 101):
        cutouts = np.random.default_rng(side).integers(0, 256, (3, 3, side, side), np.uint8)
        with torch.inference_mode():
            logits = [
                classifier(torch.from_numpy(copy.transpose(0, 2, 3, 1).copy())).numpy()
                for copy in eight(cutouts)
            ]
        np.testing.assert_allclose(logits, np.broadcast_to(logits[0], (8, 3, 1)), atol=2e-5)
        # And not because it answers the same to everything.
        assert np.ptp(logits[0]) > 1e-3


def test_one_answer_in_training_too() -> None:
    """By construction: with batch statistics, and for the gradient."""
    network = EquivariantNet(EquivariantShape(SMALL.fields, SMALL.blocks, dropout=0.0, size=60))
    images = torch.randn(4, 3, 60, 60)
    answers, slopes = [], []
    for copy in symmetries(images):
        network.zero_grad()
        out = network(copy)
        out.square().sum().backward()
        answers.append(out.detach())
        slopes.append(next(network.parameters()).grad.clone())
    for answer, slope in zip(answers, slopes, strict=True):
        torch.testing.assert_close(answer, answers[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(slope, slopes[0], atol=1e-2, rtol=1e-2)


def test_the_exported_graph_is_plain_and_has_one_answer_for_eight_symmetries(
    classifier: Classifier,
) -> None:
    answers = Annotator(classifier, Calibration(1.3, 0.2)).eval()
    names = ["p_elliptical", "p_spiral"]
    model = to_onnx(answers, names)
    graph = onnx.load_from_string(model)
    onnx.checker.check_model(graph, full_check=True)
    kinds = {node.op_type for node in graph.graph.node}
    assert "BatchNormalization" not in kinds
    assert not {"Gather", "GatherElements", "ScatterND", "Loop", "GridSample"} & kinds
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    cutouts = np.random.default_rng(4).integers(0, 256, (2, 3, 240, 240), np.uint8)
    spiral = []
    for copy in eight(cutouts):
        batch = np.ascontiguousarray(copy.transpose(0, 2, 3, 1))
        got = session.run(names, {INPUT: batch})
        with torch.inference_mode():
            expected = answers(torch.from_numpy(batch))
        for mine, torchs in zip(got, expected, strict=True):
            np.testing.assert_allclose(mine, torchs.numpy(), atol=1e-5)
        spiral.append(got[1])
    np.testing.assert_allclose(spiral, np.broadcast_to(spiral[0], (8, 2)), atol=1e-5)


def test_written_out_it_has_no_layer_of_its_own_left() -> None:
    classifier = trained_a_little(60)
    folded = fold_batch_norm(classifier)
    assert not any(isinstance(m, (Plain, nn.BatchNorm2d)) for m in folded.modules())
    batch = torch.randint(0, 256, (3, 60, 60, 3), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(folded(batch), classifier(batch), atol=1e-4, rtol=1e-4)


def test_small_enough_for_processors() -> None:
    network = EquivariantNet()
    # Near the plain network's cost, so that the two compare at equal FLOPs; a fraction of its size.
    assert multiply_accumulates(network) < 1.2 * multiply_accumulates(ShamirNet())
    assert parameter_count(network) < 0.1 * parameter_count(ShamirNet())
    assert len(network.fields) == 20
    sides = []
    maps = torch.zeros(1, 3, 120, 120)
    for layer in network.fields:
        maps = layer(maps)
        sides.append(maps.shape[1:])
    assert sides[0] == (32, 60, 60)
    assert sides[3] == (64, 30, 30)
    assert sides[7] == (96, 15, 15)
    assert sides[12] == (128, 8, 8)
    assert sides[-1] == (512, 8, 8)
