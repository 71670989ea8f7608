"""Images of a survey store, decoded once and kept in memory at the network's scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from catalogs.cutouts.chosen import decoded
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter
from training.preprocess import resize


@dataclass(frozen=True, slots=True)
class Views:
    """Images of selected rows, ready for training and for evaluation.

    Attributes
    ----------
    wide : Tensor of uint8, shape (n, s, s, 3)
        At the network's scale, with a margin beyond the framing so that a turned image has
        corners; s >= the network's size.
    cutouts : Tensor of uint8, shape (n, size, size, 3)
        The framing that inference sees, at the network's size.
    kept : ndarray of int64
        Positions among the requested rows; fewer where images could not be decoded.
    problems : dict of int to str
        Requested row to the reason why it is missing.
    """

    wide: Tensor
    cutouts: Tensor
    kept: NDArray[np.int64]
    problems: dict[int, str]


def read_views(
    survey: Survey,
    rows: NDArray[np.int64],
    crop: int,
    size: int,
    reporter: Reporter,
    threads: int = 1,
) -> Views:
    """Decode the images of some rows of the store and bring them to the network's scale.

    Parameters
    ----------
    survey : Survey
    rows : ndarray of int64, shape (n,)
        Rows in store order, ascending.
    crop : int
        Side of the framing [px].
    size : int
        The network's input size [px].
    reporter : Reporter
    threads : int
        Decoding threads.

    Raises
    ------
    InputError
        None of the images can be decoded.
    """
    side = _margin(crop, size, survey.attributes.image_size)
    wide_size, border = round(side * size / crop), (side - crop) // 2
    wide = torch.empty((len(rows), wide_size, wide_size, 3), dtype=torch.uint8)
    cutouts = torch.empty((len(rows), size, size, 3), dtype=torch.uint8)
    kept: list[int] = []
    problems: dict[int, str] = {}
    done = 0
    for batch in decoded(survey, rows, side, threads):
        problems.update({int(rows[i]): reason for i, reason in batch.problems.items()})
        good = [k for k, i in enumerate(batch.positions) if i not in batch.problems]
        images = torch.from_numpy(batch.pixels[good]).permute(0, 3, 1, 2).to(torch.float32)
        centre = images[:, :, border : border + crop, border : border + crop]
        here = slice(len(kept), len(kept) + len(good))
        wide[here] = _grey_levels(resize(images, wide_size))
        cutouts[here] = _grey_levels(resize(centre, size))
        kept += [batch.positions[k] for k in good]
        done += len(batch.positions)
        reporter.progress("decode", done, len(rows), "images")
    if not kept:
        raise InputError(f"none of the {len(rows)} labelled images of {survey.url} can be decoded")
    return Views(wide[: len(kept)], cutouts[: len(kept)], np.asarray(kept), problems)


def _grey_levels(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _margin(crop: int, size: int, image_size: tuple[int, int] | None) -> int:
    """Return a side that holds the turned framing, lies in the image, and scales to whole pixels.

    Sides that keep the centre aligned before and after scaling: crop plus an even number of
    pixels that scales to an even number.
    """
    wanted = math.ceil(crop * math.sqrt(2.0))
    if image_size is not None:
        wanted = min(wanted, *image_size)
    step = 2 * crop // math.gcd(crop, size)
    return crop + max(0, wanted - crop) // step * step
