"""Random views of galaxies: what does not change a galaxy's class.

Everything works on a whole batch at once and draws only from the generator given, so a batch is
reproduced by its seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

Uniform = Callable[..., Tensor]
# Images that the principal colour is taken from, about.
COLOURED = 512
WHOLE = torch.eye(2, 3).unsqueeze(0)


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """Ranges of the random changes; 0 (or 1 for ``zoom``) turns one off.

    Parameters
    ----------
    rotate, flip : bool
        Turn by any angle; mirror every second image.
    zoom : float
        Sizes are multiplied by ``zoom ** u``, u uniform in -1..1.
    shift : float
        Largest shift of the centre in x and in y, as a fraction of the framing's side.
    gain, colour : float
        Brightness is multiplied by ``exp(gain u)``, and each channel by ``exp(colour u)``.
    saturation : float
        Colour contrast about the grey image is multiplied by ``1 + saturation u``.
    background : float
        Largest grey level added to, or taken from, the whole image.
    noise : float
        Largest standard deviation of added Gaussian noise, grey levels.
    blur : float
        Largest standard deviation of a Gaussian blur, output pixels.
    brightness : float
        Standard deviation of a normal number of times `principal_colour` that is added.
    """

    rotate: bool = True
    flip: bool = True
    zoom: float = 1.2
    shift: float = 0.04
    gain: float = 0.25
    colour: float = 0.08
    saturation: float = 0.3
    background: float = 6.0
    noise: float = 6.0
    blur: float = 1.0
    brightness: float = 0.0


def augment(
    images: Tensor,
    size: int,
    settings: AugmentSettings,
    generator: Generator,
    frames: Tensor = WHOLE,
    side: int | None = None,
    colour: Tensor | None = None,
) -> Tensor:
    """Return one random view of each image, as the network looks at it, on the images' device.

    Parameters
    ----------
    images : Tensor of float32, shape (n, 3, s, s)
        Grey levels 0 to 255; s >= size, at the scale at which ``size`` pixels are the framing,
        so that the margin fills the corners of a turned image (mirrored where it does not).
    size : int
        Side of the framing, pixels of ``images``.
    settings : AugmentSettings
    generator : torch.Generator
        On the CPU, so that a seed shows the same views on every device.
    frames : Tensor of float32, shape (v, 2, 3)
        What the network looks at of the framing, see `training.preprocess.Preprocess`; one affine
        warp makes each of it from the image.
    side : int, optional
        Side of what it looks at, pixels; the framing's by default.
    colour : Tensor of float32, shape (3,), optional
        The `principal_colour` of the training images, for the brightness.

    Returns
    -------
    Tensor of float32, shape (n, 3 v, side, side)
        Rounded to whole grey levels, like the cutouts that inference sees.
    """
    count = images.shape[0]

    def uniform(*shape: int) -> Tensor:
        """Draw from -1..1."""
        drawn = torch.rand(count, *shape, generator=generator) * 2.0 - 1.0
        return drawn.to(images.device)

    # (n, v, 3, side, side): all crops of an image are lit alike.
    views = _warp(images, size, side or size, frames, settings, uniform)
    views = _blur(views, settings.blur, uniform)
    if settings.saturation:
        grey = views.mean(dim=2, keepdim=True)
        views = grey + (views - grey) * (1.0 + settings.saturation * uniform(1, 1, 1, 1))
    gain = torch.exp(settings.gain * uniform(1, 1, 1, 1) + settings.colour * uniform(1, 3, 1, 1))
    views = views * gain + settings.background * uniform(1, 1, 1, 1)
    if settings.brightness and colour is not None:
        steps = settings.brightness * torch.randn(count, 1, 1, 1, 1, generator=generator)
        views = views + (steps * colour.reshape(1, 1, 3, 1, 1)).to(images.device)
    if settings.noise:
        sigma = settings.noise * uniform(1, 1, 1, 1).clamp(min=0.0)
        noise = torch.randn(views.shape, generator=generator)
        views = views + sigma * noise.to(images.device)
    return views.flatten(1, 2).clamp(0.0, 255.0).round()


def principal_colour(cutouts: Tensor) -> Tensor:
    """Return the first eigenvector of the colours' covariance, times its eigenvalue.

    Krizhevsky, Sutskever & Hinton 2012, section 4.1, of which Dieleman, Willett & Dambre 2015,
    section 7.4, keep the first component: in galaxies a change of brightness.

    Parameters
    ----------
    cutouts : Tensor of uint8, shape (n, h, w, 3)

    Returns
    -------
    Tensor of float32, shape (3,)
        Grey levels: the eigenvalue is that of values in 0..1, which 255 brings back.
    """
    some = cutouts[:: max(1, len(cutouts) // COLOURED)].reshape(-1, 3).to(torch.float64) / 255.0
    values, vectors = torch.linalg.eigh(torch.cov(some.T))
    first = vectors[:, -1] * torch.sign(vectors[:, -1].sum())
    colour: Tensor = 255.0 * values[-1] * first
    return colour.to(torch.float32)


def _warp(
    images: Tensor,
    size: int,
    side: int,
    frames: Tensor,
    settings: AugmentSettings,
    uniform: Uniform,
) -> Tensor:
    """Turn, mirror, zoom and shift, and cut out each frame, by one bilinear interpolation."""
    count, _, _, width = images.shape
    angle = math.pi * uniform() if settings.rotate else images.new_zeros(count)
    mirror = torch.sign(uniform()) if settings.flip else images.new_ones(count)
    scale = size / width * settings.zoom ** uniform()
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = settings.shift * uniform(2) * (size / width) * 2.0
    linear = torch.stack(
        [
            torch.stack([cosine * mirror, -sine], dim=1),
            torch.stack([sine * mirror, cosine], dim=1),
        ],
        dim=1,
    )
    views = []
    for frame in frames.to(images.device):
        matrix = linear @ frame
        matrix = torch.cat([matrix[:, :, :2], matrix[:, :, 2:] + shift.unsqueeze(2)], dim=2)
        grid = functional.affine_grid(matrix, [count, 3, side, side], align_corners=False)
        views.append(
            functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        )
    return torch.stack(views, dim=1)


def _blur(images: Tensor, largest: float, uniform: Uniform) -> Tensor:
    """Blur half of the images by Gaussians of standard deviation up to ``largest`` pixels."""
    if not largest:
        return images
    sigma = largest * uniform().clamp(min=1e-3)
    reach = math.ceil(3 * largest)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma.unsqueeze(1)) ** 2)
    count, crops, channels, height, width = images.shape
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    kernel = kernel.repeat_interleave(crops * channels, dim=0)
    groups = count * crops * channels
    flat = images.reshape(1, groups, height, width)
    flat = functional.pad(flat, [reach] * 4, mode="reflect")
    flat = functional.conv2d(flat, kernel[:, None, :, None], groups=groups)
    flat = functional.conv2d(flat, kernel[:, None, None, :], groups=groups)
    return flat.reshape(images.shape)
