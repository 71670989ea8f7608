"""From uint8 cutouts to the network's input: the part of the graph before the network.

Training and the exported graph use these modules. The resize is a separable triangle filter
written as two matrix products, W_height X W_width^T, whose weights follow from the cutout's
size: they agree with ``torch.nn.functional.interpolate(mode="bilinear", antialias=True)``, are
the identity at the trained size, and use operators that every runtime has (ONNX Runtime's own
antialiased ``Resize`` differed from it by up to two grey levels, at half the speed).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


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
    pixels = torch.arange(to, dtype=torch.float32, device=from_pixels.device)
    centre = (pixels + 0.5).unsqueeze(1) * scale
    distance = (from_pixels.unsqueeze(0) + 0.5 - centre).abs()
    weights = (1.0 - distance / scale.clamp(min=1.0)).clamp(min=0.0)
    return weights / weights.sum(dim=1, keepdim=True)


def resize(images: Tensor, to: int) -> Tensor:
    """Resize float images (n, c, h, w) to (n, c, to, to), antialiased, pixel centres aligned."""
    height, width = (
        torch.arange(side, dtype=torch.float32, device=images.device) for side in images.shape[2:]
    )
    rows, columns = resize_weights(height, to), resize_weights(width, to)
    return rows @ (images @ columns.T)


class Preprocess(nn.Module):
    """uint8 or float cutouts (n, h, w, 3), grey levels 0 to 255, to float32 (n, 3, size, size).

    Parameters
    ----------
    size : int
        Side of the network's input [px].
    mean, sd : float
        Grey levels are normalised as (x - mean) / sd.

    Attributes
    ----------
    side : int
        Side of what it returns [px].
    frames : Tensor of float32, shape (v, 2, 3)
        The affine maps from what it returns to the cutout, both in coordinates -1..1 from edge to
        edge. A random view of a galaxy for training is one affine warp too, composed with these,
        so that nothing is interpolated twice.
    """

    frames: Tensor

    def __init__(self, size: int, mean: float = 40.0, sd: float = 50.0) -> None:
        super().__init__()
        self.side, self.mean, self.sd = size, mean, sd
        self.register_buffer("frames", torch.eye(2, 3).unsqueeze(0), persistent=False)

    def forward(self, cutouts: Tensor) -> Tensor:
        """Return the network's input."""
        return self.normalise(self.look(cutouts.permute(0, 3, 1, 2).to(torch.float32)))

    def look(self, images: Tensor) -> Tensor:
        """Return grey levels at the network's scale, (n, c, side, side)."""
        return resize(images, self.side)

    def turned(self, cutouts: Tensor, turn: Tensor) -> Tensor:
        """Return the network's input as if the image had been turned.

        Parameters
        ----------
        cutouts : Tensor of uint8 or float, shape (n, h, w, 3)
        turn : Tensor of float32, shape (2, 3)
            Affine map from what is seen to the image, both in coordinates -1..1; beyond the edge
            the image is mirrored, as in training.
        """
        images = self.source(cutouts.permute(0, 3, 1, 2).to(torch.float32))
        line = (2.0 * torch.arange(self.side, dtype=torch.float32) + 1.0) / self.side - 1.0
        y, x = torch.meshgrid(line, line, indexing="ij")
        seen = torch.stack([x, y, torch.ones_like(x)], dim=2).reshape(-1, 3)
        last = torch.tensor([[0.0, 0.0, 1.0]])
        views = []
        for frame in self.frames:
            points = seen @ (turn @ torch.cat([frame, last])).T
            # Adding a view of zeros, not `expand`, leaves the batch free in an exported graph.
            grid = points.reshape(1, self.side, self.side, 2) + images[:, :1, :1, :1] * 0.0
            views.append(
                functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
            )
        return self.normalise(torch.cat(views, dim=1))

    def source(self, images: Tensor) -> Tensor:
        """Return what turned images are sampled from: where it shrinks, images already shrunk."""
        return resize(images, self.side)

    def normalise(self, images: Tensor) -> Tensor:
        """Return the network's input from grey levels at its scale."""
        return (images - self.mean) * (1.0 / self.sd)


class Crops(Preprocess):
    """Several square crops about the centre of the cutout, each one bilinear warp of it.

    They follow each other in the channels: (n, 3 crops, side, side).

    Parameters
    ----------
    size : int
        Side of the cutouts trained on [px].
    side : int
        Side of each crop [px].
    share : float
        What each crop shows of the cutout's side, in 0..1.
    angles : sequence of float
        By how much the image is turned, counter-clockwise, in each crop [deg].
    mean, sd : float
        Grey levels are normalised as (x - mean) / sd.
    """

    grid: Tensor

    def __init__(
        self,
        size: int,
        side: int,
        share: float,
        angles: Sequence[float],
        mean: float = 0.0,
        sd: float = 255.0,
    ) -> None:
        super().__init__(size, mean, sd)
        self.side = side
        turns = [math.radians(angle) for angle in angles]
        frames = torch.tensor(
            [[[math.cos(t), -math.sin(t), 0.0], [math.sin(t), math.cos(t), 0.0]] for t in turns],
            dtype=torch.float64,
        )
        self.frames = (share * frames).to(torch.float32)
        grid = functional.affine_grid(
            share * frames, [len(angles), 1, side, side], align_corners=False
        )
        self.register_buffer("grid", grid.to(torch.float32), persistent=False)

    def source(self, images: Tensor) -> Tensor:
        """Return the image itself, which every crop is one warp of."""
        return images

    def look(self, images: Tensor) -> Tensor:
        """Return the crops in grey levels, (n, c crops, side, side)."""
        crops = [
            functional.grid_sample(
                images, grid.expand(images.shape[0], -1, -1, -1), align_corners=False
            )
            for grid in self.grid.unsqueeze(1)
        ]
        return torch.cat(crops, dim=1)
