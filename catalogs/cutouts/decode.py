"""From stored images to pixels of one size: one interface, four decoders.

DALI decodes whole batches and fails whole batches; the reference decoder (simplejpeg for JPEG,
Pillow for PNG) takes one image at a time. It says what is wrong with an image that DALI refused,
is the oracle in tests, and serves platforms that DALI does not. The two are never swapped in
silence: which one runs is the caller's choice, and recorded. Surveys of raw pixels have nothing
to decode; the raw decoder only crops and pads, as the others do.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from catalogs.cutouts.blob import ImageBytes
from catalogs.cutouts.header import UnreadableImageError, check_structure
from catalogs.errors import InputError
from catalogs.schema import DECODE_ERROR

Pixels = NDArray[Any]
Cutouts = Sequence[NDArray[Any]] | NDArray[Any]
DECODERS = ("dali", "dali-gpu", "reference", "raw")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an image has no pixels: the status of its row, and the reason in a few words."""

    status: str
    reason: str


class Decoder(Protocol):
    """Turns stored images into one array of centre-cropped pixels."""

    name: str

    def decode(self, files: Cutouts) -> tuple[Pixels, dict[int, Problem]]:
        """Decode a batch.

        Parameters
        ----------
        files : sequence of arrays
            Images of any sizes: encoded ones (JPEG or PNG) as uint8 of shape (bytes,), raw ones
            as (height, width, channels). An array (n, height, width, channels) is such a
            sequence.

        Returns
        -------
        pixels : ndarray, shape (len(files), crop, crop, channels)
            Channels last; RGB of uint8 from encoded images, the stored data type from raw ones.
            Larger images are cropped around the centre, smaller ones padded with zeros. An image
            with a problem is all zeros here. ``dali-gpu`` gives
            :class:`catalogs.cutouts.card.CardPixels` instead. May be the decoder's own memory,
            and good until its next call only.
        problems : dict of int to Problem
            What is wrong with the images at these positions.
        """


def open_decoder(
    name: str,
    crop: int,
    batch: int = 64,
    threads: int = 1,
    channels: int = 3,
    dtype: str = "uint8",
) -> Decoder:
    """Return the decoder called ``name``.

    Parameters
    ----------
    name : {"dali", "dali-gpu", "reference", "raw"}
        Which decoder; the caller decides and records it.
    crop : int
        Side of the square kept around the centre [px].
    batch : int
        Most images that DALI takes at once.
    threads : int
        DALI's decoding threads.
    channels, dtype : int, str
        What raw images hold; encoded ones become RGB of uint8.

    Raises
    ------
    InputError
        No such decoder, or DALI is not installed here.
    """
    if crop < 1:
        raise InputError(f"crop {crop} px is no size; give a positive number of pixels")
    if name == "raw":
        from catalogs.cutouts.raw import RawDecoder

        return RawDecoder(crop, channels, dtype)
    if name == "reference":
        return ReferenceDecoder(crop)
    if name == "dali":
        from catalogs.cutouts.dali import DaliDecoder

        return DaliDecoder(crop, batch, threads)
    if name == "dali-gpu":
        from catalogs.cutouts.card import CardDecoder

        # Its CardPixels are like an array to the network, and to nobody else.
        return cast(Decoder, CardDecoder(crop, batch, threads))
    raise InputError(f"no decoder {name!r}; choose one of {', '.join(DECODERS)}")


class ReferenceDecoder:
    """One image at a time with simplejpeg and Pillow."""

    name = "reference"

    def __init__(self, crop: int) -> None:
        self.crop = crop

    def decode(self, files: Cutouts) -> tuple[Pixels, dict[int, Problem]]:
        """Decode a batch; see :class:`Decoder`."""
        pixels = np.zeros((len(files), self.crop, self.crop, 3), dtype=np.uint8)
        problems = {}
        for i, data in enumerate(files):
            try:
                place(decode_one(data), pixels[i])
            except UnreadableImageError as error:
                problems[i] = Problem(DECODE_ERROR, str(error))
        return pixels, problems


def decode_one(data: ImageBytes) -> Pixels:
    """Decode one JPEG or PNG to RGB, uint8 of shape (height, width, 3).

    Raises
    ------
    UnreadableImageError
        Empty, damaged, truncated, too large, or neither JPEG nor PNG.
    """
    header = check_structure(data.data)
    if header.format == "jpeg":
        try:
            return np.asarray(simplejpeg.decode_jpeg(data.data, "RGB"))
        except (ValueError, KeyError) as error:
            raise UnreadableImageError(f"JPEG: {error}") from None
    try:
        with Image.open(io.BytesIO(data.tobytes()), formats=["PNG"]) as image:
            if image.mode.startswith("I"):  # 16 bits a sample: keep the upper ones, rounded
                wide = np.asarray(image).astype(np.float64)
                grey = np.rint(wide / 257.0).astype(np.uint8)
                return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
            if image.mode in ("RGBA", "LA", "PA"):
                # Transparency is dropped, not blended: the stored samples are the pixels.
                return np.asarray(image.convert("RGBA"))[:, :, :3]
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:  # its message holds an address, other ones at every run
        raise UnreadableImageError("PNG: cannot be identified") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableImageError(f"PNG: {error}") from None


def place(images: NDArray[Any], target: NDArray[Any]) -> None:
    """Copy the centre of images (..., h, w, c) into ``target`` (..., crop, crop, c), in place.

    Offsets are truncated towards zero, as in DALI's ``crop`` with ``rounding="truncate"``.
    """
    crop = target.shape[-2]
    source, into = [], []
    for size in images.shape[-3:-1]:
        offset = int((size - crop) * 0.5)
        source.append(slice(max(offset, 0), min(offset + crop, size)))
        into.append(slice(max(-offset, 0), max(-offset, 0) + min(size, crop)))
    target[..., into[0], into[1], :] = images[..., source[0], source[1], :]
