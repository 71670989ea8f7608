"""Whether ONNX Runtime answers what torch answers: on real, random and extreme images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from catalogs.errors import IntegrityError
from export.bundle import Parity
from export.providers import runtime

TOLERANCE = 1e-4
BATCH = 32

Cutouts = NDArray[np.uint8]


def compare(
    model: bytes,
    module: nn.Module,
    answers: Sequence[str],
    examples: Cutouts,
    trained_size: int,
    threshold: float = 0.5,
) -> Parity:
    """Compare an ONNX model with the torch module that it was made from.

    Parameters
    ----------
    model : bytes
        ONNX; run by ONNX Runtime's CPU provider.
    module : nn.Module
        The oracle, in evaluation mode; one output per answer.
    answers : sequence of str
        Names of the model's outputs.
    examples : ndarray of uint8, shape (n, crop, crop, 3)
        Real cutouts. They are also compared cut to ``trained_size``, where nothing is scaled.
    trained_size : int
    threshold : float
        Labels must agree on both sides of it.

    Raises
    ------
    IntegrityError
        A probability differs by more than 1e-4, is not finite, or a label differs.
    """
    ort = runtime()
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    largest, flipped, images, sizes = 0.0, 0, 0, set()
    for cutouts in _inputs(examples, trained_size):
        for start in range(0, len(cutouts), BATCH):
            batch = cutouts[start : start + BATCH]
            with torch.inference_mode():
                expected = [output.numpy() for output in module(torch.from_numpy(batch))]
            for got, want in zip(session.run(list(answers), {name: batch}), expected, strict=True):
                if got.shape != want.shape or not np.isfinite(got).all():
                    raise IntegrityError(
                        f"the exported graph gives {got.shape}, {np.isfinite(got).sum()} of them "
                        f"finite, where torch gives {want.shape}; no bundle was written"
                    )
                largest = max(largest, float(np.abs(got - want).max()))
                flipped += int(((got >= threshold) != (want >= threshold)).sum())
        images += len(cutouts)
        sizes.add(cutouts.shape[1])
    if largest > TOLERANCE or flipped:
        raise IntegrityError(
            f"ONNX Runtime and torch differ by {largest:.2g} (at most {TOLERANCE:g} allowed) and "
            f"in {flipped} labels of {images} images; no bundle was written"
        )
    return Parity(
        images=images,
        sizes=sorted(sizes),
        max_abs_difference=largest,
        label_differences=flipped,
        tolerance=TOLERANCE,
        runtime=f"onnxruntime {ort.__version__} CPUExecutionProvider, torch {torch.__version__}",
    )


def _inputs(examples: Cutouts, trained_size: int) -> Iterator[Cutouts]:
    """Yield real cutouts and made ones, at the survey's size and at the network's own."""
    crop = examples.shape[1]
    yield examples
    if crop > trained_size:
        edge = (crop - trained_size) // 2
        inner = slice(edge, edge + trained_size)
        yield np.ascontiguousarray(examples[:, inner, inner])
    random = np.random.default_rng(0)
    for size in sorted({crop, trained_size}):
        shape = (size, size, 3)
        yield random.integers(0, 256, (8, *shape), dtype=np.uint8)
        checks = (np.indices((size, size)).sum(0) % 2 * 255).astype(np.uint8)
        yield np.stack(
            [np.full(shape, level, dtype=np.uint8) for level in (0, 1, 128, 255)]
            + [np.repeat(checks[:, :, None], 3, axis=2)]
        )
