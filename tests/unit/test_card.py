"""What of the decoding on a card can be tried without one."""

from __future__ import annotations

import numpy as np
import pytest

from catalogs.cutouts.card import CardPixels
from catalogs.cutouts.decode import open_decoder
from catalogs.errors import InputError
from engine.machine import cards


def test_images_of_one_value_are_told_from_two_numbers() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    images[1], images[3] = 0, 7
    flat = images.reshape(4, -1)
    pixels = CardPixels(images, flat.min(axis=1), flat.max(axis=1), 8)
    assert pixels.constant() == [(1, 0), (3, 7)]
    assert (pixels.shape, pixels.dtype, len(pixels)) == (images.shape, images.dtype, 4)


@pytest.mark.skipif(bool(cards()), reason="there is a card")
def test_without_a_card_the_decoder_says_so_in_a_line() -> None:
    with pytest.raises(InputError, match=r"no NVIDIA card.*--decoder dali") as raised:
        open_decoder("dali-gpu", 32)
    assert "\n" not in str(raised.value)
