"""Dieleman, Willett & Dambre 2015: table 2, figure 8 and section 7, layer by layer."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from scipy.ndimage import affine_transform
from torch import nn

from catalogs.trees.tree import read_tree
from export.convert import INPUT, to_onnx
from training.answers import TreeAnswers
from training.augment import AugmentSettings, augment
from training.models.base import multiply_accumulates, parameter_count
from training.models.dieleman import (
    CROP,
    FIELD,
    PATCH,
    SIDE,
    DielemanNet,
    DielemanShape,
    Maxout,
    UntiedConv,
    viewpoints,
)

OFF = AugmentSettings(False, False, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def network() -> DielemanNet:
    torch.manual_seed(0)
    return DielemanNet().eval()


def smooth_image(side: int = 424, seed: int = 0) -> np.ndarray:
    """A colour image with structure over some ten pixels, uint8 (side, side, 3)."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=(side, side, 3))
    smooth = gaussian_filter(noise, (6, 6, 0))
    return np.clip(128 + smooth * 1200, 0, 255).astype(np.uint8)


def warped(image: np.ndarray, degrees: float) -> np.ndarray:
    """SciPy's crop of the original image: turned, 3 times smaller, 69 px; (3, 69, 69)."""
    turn = np.deg2rad(degrees)
    # Rows and columns; the image turns counter-clockwise.
    matrix = 3 * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    offset = (np.array(image.shape[:2]) - 1) / 2 - matrix @ np.array([34.0, 34.0])
    bands = [
        affine_transform(band, matrix, offset, output_shape=(SIDE, SIDE), order=1)
        for band in image.astype(float).transpose(2, 0, 1)
    ]
    return np.stack(bands)


def test_table_2(network: DielemanNet) -> None:
    seen: list[tuple[int, ...]] = []
    kinds = (UntiedConv, nn.MaxPool2d, Maxout)
    hooks = [
        layer.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape)))
        for layer in network.modules()
        if isinstance(layer, kinds)
    ]
    with torch.no_grad():
        out = network(torch.rand(1, 6, 69, 69))
    for hook in hooks:
        hook.remove()
    assert seen == [
        (16, 32, 40, 40), (16, 32, 20, 20),
        (16, 64, 16, 16), (16, 64, 8, 8),
        (16, 128, 6, 6),
        (16, 128, 4, 4), (16, 128, 2, 2),
        (1, 2048), (1, 2048),
    ]  # fmt: skip
    assert out.shape == (1, 37)


def test_42_377_125_parameters(network: DielemanNet) -> None:
    assert parameter_count(network) == 42_377_125
    of = {name: p.numel() for name, p in network.named_parameters()}
    filters = sum(v for k, v in of.items() if k.startswith("features") and "weight" in k)
    biases = sum(v for k, v in of.items() if k.startswith("features") and "bias" in k)
    assert (filters, biases) == (275_840, 74_240)
    assert sum(v for k, v in of.items() if k.startswith("head")) == 42_027_045
    assert multiply_accumulates(network) == pytest.approx(0.42e9, rel=0.01)


def test_initial_weights_are_those_of_table_2(network: DielemanNet) -> None:
    layers = [layer for layer in network.modules() if isinstance(layer, (UntiedConv, nn.Linear))]
    weights = [
        layer.convolution.weight if isinstance(layer, UntiedConv) else layer.weight
        for layer in layers
    ]
    spreads = [0.01, 0.01, 0.01, 0.1, 0.001, 0.001, 0.01]
    for weight, spread in zip(weights, spreads, strict=True):
        error = 4 / np.sqrt(2 * weight.numel())
        assert float(weight.detach().std()) == pytest.approx(spread, rel=error)
        assert abs(float(weight.detach().mean())) < 4 * spread / np.sqrt(weight.numel())
    biases = [0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.1]
    for layer, bias in zip(layers, biases, strict=True):
        assert (layer.bias == bias).all()


def test_biases_differ_from_pixel_to_pixel() -> None:
    layer = UntiedConv(3, 2, 3, 4, 0.01)
    with torch.no_grad():
        layer.bias.copy_(torch.arange(32.0).reshape(2, 4, 4))
        out = layer(torch.zeros(1, 3, 6, 6))
    torch.testing.assert_close(out[0], torch.arange(32.0).reshape(2, 4, 4))


def test_maxout_is_the_largest_of_two_linear_maps() -> None:
    layer = Maxout(5, 3, 2)
    values = torch.randn(7, 5)
    with torch.no_grad():
        linear = layer.linear(values).numpy()
        got = layer(values).numpy()
    np.testing.assert_array_equal(got, np.maximum(linear[:, 0::2], linear[:, 1::2]))


def test_dropout_before_each_dense_layer(network: DielemanNet) -> None:
    kinds = [type(layer) for layer in network.head]
    assert kinds == [nn.Dropout, Maxout, nn.Dropout, Maxout, nn.Dropout, nn.Linear]
    assert all(layer.p == 0.5 for layer in network.head if isinstance(layer, nn.Dropout))


def test_both_crops_are_warps_of_the_original_image(network: DielemanNet) -> None:
    image = smooth_image()
    edge = (424 - CROP) // 2
    cutout = image[edge : edge + CROP, edge : edge + CROP]
    crops = network.preprocess()(torch.from_numpy(cutout).unsqueeze(0))
    assert crops.shape == (1, 6, SIDE, SIDE)
    assert FIELD == 3 * SIDE
    for k, degrees in enumerate((0.0, 45.0)):
        got = crops[0, 3 * k : 3 * k + 3].numpy() * 255
        np.testing.assert_allclose(got, warped(image, degrees), atol=0.02)


def test_the_turned_crop_sees_what_the_upright_one_does_not(network: DielemanNet) -> None:
    """Turning the upright crop instead would leave its corners empty."""
    image = np.zeros((CROP, CROP, 3), dtype=np.uint8)
    image[140:154, 5:20] = 255  # left of the upright field of 207 px, in the turned one's corner
    crops = network.preprocess()(torch.from_numpy(image).unsqueeze(0))
    assert crops[0, :3].max() == 0
    assert crops[0, 3:].max() > 0.9


def test_augmentation_and_crops_are_one_warp(network: DielemanNet) -> None:
    """Nothing is interpolated twice: turned by any angle, each crop is one warp of the image."""
    look = network.preprocess()
    image = smooth_image(416)
    wide = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)).unsqueeze(0)
    settings = AugmentSettings(True, False, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    generator = torch.Generator().manual_seed(5)
    views = augment(wide, CROP, settings, generator, look.frames, look.side)
    drawn = torch.rand(1, generator=torch.Generator().manual_seed(5)).item()
    angle = 180.0 * (2 * drawn - 1)
    assert views.shape == (1, 6, SIDE, SIDE)
    for k, degrees in enumerate((0.0, 45.0)):
        expected = warped(image, angle + degrees)
        np.testing.assert_allclose(views[0, 3 * k : 3 * k + 3].numpy(), expected, atol=0.52)


def test_without_augmentation_training_sees_what_inference_sees(network: DielemanNet) -> None:
    look = network.preprocess()
    image = smooth_image(CROP)
    wide = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)).unsqueeze(0)
    views = augment(wide, CROP, OFF, torch.Generator(), look.frames, look.side)
    shown = look(torch.from_numpy(image).unsqueeze(0))
    np.testing.assert_allclose(look.normalise(views).numpy(), shown.numpy(), atol=0.51 / 255)


def test_sixteen_viewpoints_by_indexing_alone() -> None:
    crops = torch.arange(2 * 6 * SIDE * SIDE, dtype=torch.float64).reshape(2, 6, SIDE, SIDE)
    got = viewpoints(crops).numpy()
    assert got.shape == (2, 16, 3, PATCH, PATCH)
    expected = []
    for flip in (False, True):
        for k in (0, 1):
            crop = crops[:, 3 * k : 3 * k + 3].numpy()
            crop = crop[..., ::-1] if flip else crop
            for quarter in range(4):
                # The corner that is top left once the whole crop is turned.
                turned = np.rot90(crop, quarter, axes=(2, 3))
                expected.append(turned[:, :, :PATCH, :PATCH])
    np.testing.assert_array_equal(got, np.stack(expected, axis=1))
    centre = crops[:, :, 34, 34].numpy()
    np.testing.assert_array_equal(got[:, 0, :, 34, 34], centre[:, :3])
    np.testing.assert_array_equal(got[:, 11, :, 34, 34], centre[:, :3])
    np.testing.assert_array_equal(got[:, 7, :, 34, 34], centre[:, 3:])


@pytest.mark.parametrize(
    ("variant", "count"),
    [
        # Without the second maxout layer.
        (DielemanShape(layers=1), 42_377_125 - (2048 * 4096 + 4096)),
        # Filters of 8 and 4, and maps of 38 and 16 px with a bias per pixel.
        (
            DielemanShape(kernels=(8, 4, 3, 3)),
            42_377_125 + 3 * 32 * (64 - 36) + 32 * 64 * (16 - 25) + 32 * (38**2 - 40**2),
        ),
        # Dense layers of 2,048 rectified units.
        (
            DielemanShape(pieces=1),
            42_377_125 - (8192 * 2048 + 2048) - (2048 * 2048 + 2048),
        ),
        # 256 features on top: filters, biases, and what the first dense layer takes in.
        (
            DielemanShape(widths=(32, 64, 128, 256)),
            42_377_125 + 128 * 9 * 128 + 128 * 16 + 8192 * 4096,
        ),
    ],
)
def test_the_papers_variants(variant: DielemanShape, count: int) -> None:
    with torch.device("meta"):
        network = DielemanNet(variant)
        assert network(torch.empty(1, 6, SIDE, SIDE)).shape == (1, 37)
    assert parameter_count(network) == count


class TreeNetwork(nn.Module):
    """Cutouts to one share of all volunteers per answer."""

    def __init__(self, network: DielemanNet, answers: TreeAnswers) -> None:
        super().__init__()
        self.look, self.network, self.answers = network.preprocess(), network, answers

    def forward(self, cutouts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.answers(self.network(self.look(cutouts))).unbind(1)


def test_crops_viewpoints_and_tree_are_inside_the_exported_graph() -> None:
    torch.manual_seed(1)
    tree = read_tree("gz2").with_unscaled(("q06",))
    module = TreeNetwork(DielemanNet(DielemanShape(dense=32)), TreeAnswers(tree)).eval()
    names = [f"p_{name}" for name in tree.names]
    session = onnxruntime.InferenceSession(
        to_onnx(module, names), providers=["CPUExecutionProvider"]
    )
    for count, side in ((3, CROP), (1, 100)):
        cutouts = np.random.default_rng(side).integers(0, 256, (count, side, side, 3), np.uint8)
        with torch.inference_mode():
            expected = [answer.numpy() for answer in module(torch.from_numpy(cutouts))]
        np.testing.assert_allclose(session.run(names, {INPUT: cutouts}), expected, atol=1e-5)
