"""Decoding on an NVIDIA card with DALI; the pixels stay there for the network.

Written as far as a machine without a card allows: its speed and pixels are still to be measured
(``make gpu-check``). A card's JPEG decoder rounds otherwise than a processor's, which is why the
plan records ``dali-gpu`` as a decoder of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts.dali import DaliDecoder, pipeline_of
from catalogs.cutouts.decode import Cutouts, Problem
from catalogs.errors import InputError
from catalogs.schema import DECODE_ERROR


@dataclass(frozen=True, slots=True)
class CardPixels:
    """A batch's pixels in the memory of a card, until the next batch is decoded.

    Attributes
    ----------
    tensor : DLPack producer of uint8, shape (n, crop, crop, 3)
        Handed to the network without a copy.
    low, high : ndarray of uint8, shape (n,)
        Each image's smallest and largest sample: all of it that comes back from the card.
    crop : int
        Side of the images [px].
    """

    tensor: Any
    low: NDArray[np.uint8]
    high: NDArray[np.uint8]
    crop: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, height, width, channels."""
        return (len(self.low), self.crop, self.crop, 3)

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """Data type of a sample."""
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.low)

    def constant(self) -> list[tuple[int, Any]]:
        """Return which images have one value everywhere, and that value."""
        return [(int(i), self.low[i]) for i in np.flatnonzero(self.low == self.high)]


class CardDecoder(DaliDecoder):
    """Decodes batches on the card that CUDA calls 0: dask-cuda gives each worker its own.

    Raises
    ------
    InputError
        DALI or the card cannot be used.
    """

    name = "dali-gpu"

    def __init__(self, crop: int, batch: int, threads: int) -> None:
        try:
            super().__init__(crop, batch, threads)
        except RuntimeError as error:
            raise InputError(
                "decoder 'dali-gpu' finds no NVIDIA card that it can use; see to the driver and "
                f"CUDA_VISIBLE_DEVICES, or choose --decoder dali ({str(error).splitlines()[0]})"
            ) from None

    def _build(self, threads: int) -> Any:  # noqa: ANN401  (DALI has no types)
        return pipeline_of(self.crop, self.batch, threads, on_card=True)

    def decode(self, files: Cutouts) -> tuple[CardPixels, dict[int, Problem]]:  # type: ignore[override]
        """Decode one batch; see :class:`catalogs.cutouts.decode.Decoder`.

        A bad image is a black one here, as its placeholder is.
        """
        if not 0 < len(files) <= self.batch:
            raise ValueError(f"a batch of {len(files)} images on the card; 1 to {self.batch} fit")
        (images, low, high), found = self._decode_part(list(files))
        pixels = CardPixels(images.as_tensor(), _numbers(low), _numbers(high), self.crop)
        return pixels, {i: Problem(DECODE_ERROR, reason) for i, reason in found.items()}


def _numbers(on_card: Any) -> NDArray[np.uint8]:  # noqa: ANN401
    return np.asarray(on_card.as_cpu().as_array(), dtype=np.uint8).reshape(-1)
