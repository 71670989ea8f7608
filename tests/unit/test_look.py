"""What a page tells of a network is what the network computes; the oracle is torch."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from training.look import inside, page
from training.models.registry import NETWORKS
from training.network import Classifier
from training.presets import read_settings

SMALL = {
    "shamir": {"widths": [4, 4, 4, 4, 4], "dense": 6},
    "dieleman": {"widths": [4, 4, 4, 4], "dense": 6},
    "resnet50": {"blocks": [1, 1, 1, 1], "width": 4, "dense": 6, "size": 32},
    "resnet101": {"blocks": [1, 1, 2, 1], "width": 4, "dense": 0, "size": 32},
    "deepgalaxy": {"filters": 4, "dense": 6, "size": 32},
    "equivariant": {"fields": [2, 2], "blocks": [0, 1], "features": 6, "size": 32},
}


def small(network: str, **more: object) -> Classifier:
    torch.manual_seed(0)
    settings = read_settings("default", None, {"model": network, "shape": SMALL[network], **more})
    return Classifier(settings).eval()


@pytest.mark.parametrize("network", NETWORKS)
def test_answers_are_sums_of_the_last_units(network: str) -> None:
    classifier = small(network)
    cutouts = torch.randint(0, 256, (3, classifier.size, classifier.size, 3), dtype=torch.uint8)
    found = inside.answer(classifier, cutouts)
    last = [layer for layer in classifier.network.modules() if isinstance(layer, torch.nn.Linear)]
    with torch.inference_mode():
        expected = classifier(cutouts).numpy()
    np.testing.assert_allclose(found.raw, expected, atol=1e-6)
    sums = found.top @ found.weights.T + last[-1].bias.detach().numpy()
    np.testing.assert_allclose(sums, expected, atol=1e-5)
    filters = inside.first_filters(classifier.network)
    assert filters is not None
    assert filters.shape[1] == 3
    layers = inside.maps(classifier, cutouts[0])
    assert 1 <= len(layers) <= inside.LAYERS
    for layer in layers:
        assert layer.strongest.shape[1:] == layer.shape[1:]
        means = layer.strongest.mean(axis=(1, 2))
        assert (np.diff(means) <= 1e-6).all()


def test_views_are_averaged_in_the_last_units_too() -> None:
    classifier = small("shamir", views=2)
    cutouts = torch.randint(0, 256, (2, 120, 120, 3), dtype=torch.uint8)
    found = inside.answer(classifier, cutouts)
    assert found.top.shape == (2, 6)
    mirrored = inside.answer(classifier, cutouts.transpose(1, 2).contiguous())
    np.testing.assert_allclose(found.top, mirrored.top, atol=1e-5)


def test_filters_are_shown_about_grey_in_every_orientation() -> None:
    filters = inside.first_filters(small("equivariant").network)
    assert filters is not None
    assert filters.shape[0] == 16
    # The four turned copies of the first field's filter.
    for quarter in range(4):
        np.testing.assert_allclose(filters[quarter], np.rot90(filters[0], quarter, (1, 2)))
    data = re.fullmatch(r"data:image/png;base64,(.*)", page.filter_sheet(filters))
    assert data is not None
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))))
    k = filters.shape[-1]
    assert sheet.shape == (k, 16 * (k + 1) - 1, 4)
    first = filters[0].transpose(1, 2, 0)
    expected = np.round(127.5 + 127.5 * first / np.abs(first).max())
    np.testing.assert_allclose(sheet[:k, :k, :3].astype(float), expected, atol=1)
