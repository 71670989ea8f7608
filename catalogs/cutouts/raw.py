"""Raw pixels: nothing to decode, only the centre to keep."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts.decode import Cutouts, Pixels, Problem, place
from catalogs.schema import BAD_PIXELS, DECODE_ERROR


class RawDecoder:
    """Crops and pads raw cutouts; see :class:`catalogs.cutouts.decode.Decoder`.

    Samples keep their data type. A cutout with a sample that is no finite number is a problem:
    networks answer such an image with nonsense, or with no number at all.
    """

    name = "raw"

    def __init__(self, crop: int, channels: int, dtype: str) -> None:
        self.crop = crop
        self.channels = channels
        self.dtype = np.dtype(dtype)

    def decode(self, files: Cutouts) -> tuple[Pixels, dict[int, Problem]]:
        """Crop a batch of any length; see :class:`catalogs.cutouts.decode.Decoder`."""
        pixels = np.zeros((len(files), self.crop, self.crop, self.channels), dtype=self.dtype)
        problems: dict[int, Problem] = {}
        if isinstance(files, np.ndarray) and files.size:
            place(files, pixels)
        else:
            for i, image in enumerate(files):
                if image.size:
                    place(image, pixels[i])
                else:
                    problems[i] = Problem(DECODE_ERROR, "empty image")
        if self.dtype.kind == "f":  # only what the network would see counts
            for i in _not_finite(pixels):
                samples = int(pixels[i].size - np.isfinite(pixels[i]).sum())
                problems[i] = Problem(BAD_PIXELS, f"{samples} samples are not finite numbers")
                pixels[i] = 0
        return pixels, problems


def _not_finite(pixels: NDArray[np.float32]) -> list[int]:
    finite = np.isfinite(pixels).reshape(len(pixels), -1).all(axis=1)
    return np.flatnonzero(~finite).tolist()
