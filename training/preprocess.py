"""From uint8 cutouts to the network's input: the part of the graph before the network.

Training and the exported graph use this one module. The resize is a separable triangle filter
written as two matrix products, W_height X W_width^T, whose weights follow from the cutout's
size: they agree with ``torch.nn.functional.interpolate(mode="bilinear", antialias=True)``, are
the identity at the trained size, and use operators that every runtime has (ONNX Runtime's own
antialiased ``Resize`` differed from it by up to two grey levels, at half the speed).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def resize_weights(from_pixels: Tensor, to: int) -> Tensor:
    """Return the weights of an antialiased linear resize, shape (to, n).

    Parameters
    ----------
    from_pixels : Tensor, shape (n,)
        ``0, 1, ..., n - 1``; given as a tensor so that n may stay free in an exported graph.
    to : int
        Output pixels.

    Returns
    -------
    Tensor of float32
        Row i is a triangle about the centre of output pixel i, of half-width max(n / to, 1)
        input pixels, cut at the image's edge and normalised to one.
    """
    scale = (from_pixels[-1:] + 1.0) / to
    centre = (torch.arange(to, dtype=torch.float32) + 0.5).unsqueeze(1) * scale
    distance = (from_pixels.unsqueeze(0) + 0.5 - centre).abs()
    weights = (1.0 - distance / scale.clamp(min=1.0)).clamp(min=0.0)
    return weights / weights.sum(dim=1, keepdim=True)


def resize(images: Tensor, to: int) -> Tensor:
    """Resize float images (n, c, h, w) to (n, c, to, to), antialiased, pixel centres aligned."""
    rows = resize_weights(torch.arange(images.shape[2], dtype=torch.float32), to)
    columns = resize_weights(torch.arange(images.shape[3], dtype=torch.float32), to)
    return rows @ (images @ columns.T)


class Preprocess(nn.Module):
    """uint8 or float cutouts (n, h, w, 3), grey levels 0 to 255, to float32 (n, 3, size, size).

    Parameters
    ----------
    size : int
        The network's input size.
    mean, sd : float
        Grey levels are normalised as (x - mean) / sd.
    """

    def __init__(self, size: int, mean: float = 40.0, sd: float = 50.0) -> None:
        super().__init__()
        self.size, self.mean, self.sd = size, mean, sd

    def forward(self, cutouts: Tensor) -> Tensor:
        """Return the network's input."""
        images = resize(cutouts.permute(0, 3, 1, 2).to(torch.float32), self.size)
        return (images - self.mean) * (1.0 / self.sd)
