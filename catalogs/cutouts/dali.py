"""Decoding with NVIDIA DALI, on the CPU: batches of JPEG and PNG to centre-cropped RGB."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from catalogs.cutouts.blob import ImageBytes
from catalogs.cutouts.decode import Cutouts, Pixels, Problem, decode_one
from catalogs.cutouts.header import Structures, UnreadableImageError
from catalogs.errors import InputError
from catalogs.schema import DECODE_ERROR


class DaliDecoder:
    """Decodes batches with a DALI pipeline; see :class:`catalogs.cutouts.decode.Decoder`.

    One bad image fails DALI's whole batch. The culprits are then found, and the batch is decoded
    again with a placeholder in their place, so that a neighbour's pixels do not change by a bit.
    """

    name = "dali"

    def __init__(self, crop: int, batch: int, threads: int) -> None:
        self.crop = crop
        self.batch = batch
        self._pipeline = self._build(threads)
        self._pipeline.build()
        self._placeholder = _placeholder()
        self._structures = Structures()

    def _build(self, threads: int) -> Any:  # noqa: ANN401  (DALI has no types)
        return pipeline_of(self.crop, self.batch, threads)

    def decode(self, files: Cutouts) -> tuple[Pixels, dict[int, Problem]]:
        """Decode a batch of any length; see :class:`catalogs.cutouts.decode.Decoder`.

        What fits into one of DALI's batches comes out in DALI's own memory, without a copy.
        """
        if len(files) <= self.batch:
            return self._decode_batch(list(files))
        pixels = np.empty((len(files), self.crop, self.crop, 3), dtype=np.uint8)
        problems: dict[int, Problem] = {}
        for start in range(0, len(files), self.batch):
            part = list(files[start : start + self.batch])
            pixels[start : start + len(part)], found = self._decode_batch(part)
            problems |= {start + i: problem for i, problem in found.items()}
        return pixels, problems

    def _decode_batch(self, files: list[ImageBytes]) -> tuple[Pixels, dict[int, Problem]]:
        if not files:
            return np.zeros((0, self.crop, self.crop, 3), dtype=np.uint8), {}
        (images,), found = self._decode_part(files)
        pixels = np.asarray(images.as_tensor())
        if found:
            pixels = pixels.copy()
            pixels[list(found)] = 0
        return pixels, {i: Problem(DECODE_ERROR, reason) for i, reason in found.items()}

    def _decode_part(self, files: list[ImageBytes]) -> tuple[Any, dict[int, str]]:
        # Neither a decompression bomb nor what DALI's parser would refuse may reach it.
        problems = {}
        for i, data in enumerate(files):
            try:
                self._structures.check(data.data)
            except UnreadableImageError as error:
                problems[i] = str(error)
        try:
            found = self._run(self._without(files, problems))
        except RuntimeError:
            problems |= self._culprits(files, problems)
            found = self._run(self._without(files, problems))
        return found, problems

    def _run(self, files: list[ImageBytes]) -> Any:  # noqa: ANN401
        from nvidia.dali.tensors import TensorCPU

        # DALI would do the same, after asking each array what it is.
        return self._pipeline.run(files=[TensorCPU(data) for data in files])

    def _culprits(self, files: list[ImageBytes], known: dict[int, str]) -> dict[int, str]:
        """Name the images that DALI cannot decode alone; its message on a batch seldom does.

        The reference decoder is asked for the words only: it refuses damage that DALI tolerates,
        and an image's status must not depend on its neighbours.
        """
        found = {}
        for i, data in enumerate(files):
            if i in known:
                continue
            try:
                self._run([data])
            except RuntimeError as error:
                found[i] = _refusal(data) or f"DALI: {_last_line(error)}"
        if found:
            return found
        # DALI refuses the batch, and no image of it: the reference decoder has to name one.
        refused = {i: _refusal(data) for i, data in enumerate(files) if i not in known}
        return {i: reason for i, reason in refused.items() if reason}

    def _without(self, files: list[ImageBytes], problems: dict[int, str]) -> list[ImageBytes]:
        return [self._placeholder if i in problems else data for i, data in enumerate(files)]


def pipeline_of(crop: int, batch: int, threads: int, *, on_card: bool = False) -> Any:  # noqa: ANN401
    """Return DALI's pipeline from encoded images to centre-cropped RGB, not yet built.

    On a card it gives each image's smallest and largest sample, too.

    Raises
    ------
    InputError
        DALI is not installed here.
    """
    try:
        from nvidia.dali import fn, types
        from nvidia.dali.pipeline import pipeline_def
    except ImportError as error:
        raise InputError(
            f"decoder 'dali' is not installed here ({error}); "
            "install nvidia-dali-cuda130 or choose --decoder reference"
        ) from None

    card: Any = 0 if on_card else None

    @pipeline_def(batch_size=batch, num_threads=threads, device_id=card, prefetch_queue_depth=1)
    def cutouts():  # type: ignore[no-untyped-def] # noqa: ANN202
        files = fn.external_source(name="files", no_copy=True)
        images = fn.decoders.image(
            files,
            device="mixed" if on_card else "cpu",
            output_type=types.DALIImageType.RGB,
            adjust_orientation=False,  # the stored pixels, as training and headers see them
            # Used on cards only: with a share of the batch for the hardware decoder, an image's
            # pixels would depend on its neighbours.
            hw_decoder_load=0.0,
        )
        images = fn.crop(
            images,
            crop=(crop, crop),
            crop_pos_x=0.5,
            crop_pos_y=0.5,
            out_of_bounds_policy="pad",
            fill_values=0,
            rounding="truncate",
        )
        if not on_card:
            return images
        extremes = (fn.reductions.min, fn.reductions.max)
        return images, *(extreme(images, axes=(0, 1, 2)) for extreme in extremes)

    return cutouts()


def _placeholder() -> ImageBytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8)


def _refusal(data: ImageBytes) -> str:
    """Return why the reference decoder refuses an image, "" if it does not."""
    try:
        decode_one(data)
    except UnreadableImageError as error:
        return str(error)
    return ""


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if line.startswith(("Error", "["))), lines[-1])[:200]
