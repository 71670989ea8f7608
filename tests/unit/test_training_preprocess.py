import numpy as np
import pytest
import torch
from torch.nn import functional

from training.preprocess import Preprocess, resize


@pytest.mark.parametrize("shape", [(240, 240), (121, 119), (423, 300), (60, 250), (120, 120)])
def test_resize_is_torchs_antialiased_bilinear(shape: tuple[int, int]) -> None:
    images = torch.randint(0, 256, (2, 3, *shape), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.float32)
    expected = functional.interpolate(
        images, (120, 120), mode="bilinear", antialias=True, align_corners=False
    )
    torch.testing.assert_close(resize(images, 120), expected, atol=2e-3, rtol=0)


def test_resize_to_the_same_size_changes_no_bit() -> None:
    images = torch.randint(0, 256, (2, 3, 120, 120)).to(torch.float32)
    assert torch.equal(resize(images, 120), images)


def test_preprocess_normalises_and_puts_channels_first() -> None:
    cutouts = np.random.default_rng(0).integers(0, 256, (2, 120, 120, 3), dtype=np.uint8)
    got = Preprocess(120, mean=10.0, sd=20.0)(torch.from_numpy(cutouts)).numpy()
    expected = (cutouts.transpose(0, 3, 1, 2).astype(np.float64) - 10.0) / 20.0
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
