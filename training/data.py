"""Images of a survey store, decoded once and kept in memory at the network's scale."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from catalogs.cutouts.decode import Decoder, open_decoder
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter
from training.preprocess import resize

BATCH = 64

# Pixels, their positions among the rows asked for, and the reason of each that has none.
_Batch = tuple[NDArray[np.uint8], list[int], dict[int, str]]


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


def crop_of(survey: Survey, asked: int | None, usual: int) -> int:
    """Return the side [px] of the central square that shows the framing.

    What is asked for, else what the survey asks for, else the network's usual part of Galaxy
    Zoo's 424 px; a survey of smaller cutouts shows the framing in the whole cutout.
    """
    if asked is not None:
        return asked
    if survey.attributes.crop is not None:
        return survey.attributes.crop
    size = survey.attributes.image_size
    return usual if size is None else min(usual, *size)


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
    decoder = open_decoder("dali", side, BATCH, threads)
    wide_size, border = round(side * size / crop), (side - crop) // 2
    wide = torch.empty((len(rows), wide_size, wide_size, 3), dtype=torch.uint8)
    cutouts = torch.empty((len(rows), size, size, 3), dtype=torch.uint8)
    kept: list[int] = []
    problems: dict[int, str] = {}
    done = 0
    for pixels, positions, reasons in _decoded(survey, rows, decoder):
        problems.update({int(rows[i]): reason for i, reason in reasons.items()})
        good = [k for k, i in enumerate(positions) if i not in reasons]
        images = torch.from_numpy(pixels[good]).permute(0, 3, 1, 2).to(torch.float32)
        centre = images[:, :, border : border + crop, border : border + crop]
        here = slice(len(kept), len(kept) + len(good))
        wide[here] = _grey_levels(resize(images, wide_size))
        cutouts[here] = _grey_levels(resize(centre, size))
        kept += [positions[k] for k in good]
        done += len(positions)
        reporter.progress("decode", done, len(rows), "images")
    if not kept:
        raise InputError(f"none of the {len(rows)} labelled images of {survey.url} can be decoded")
    return Views(wide[: len(kept)], cutouts[: len(kept)], np.asarray(kept), problems)


def read_cutouts(survey: Survey, rows: NDArray[np.int64], crop: int) -> NDArray[np.uint8]:
    """Decode the framing of some rows, as inference sees it, uint8 (n, crop, crop, 3).

    Images that cannot be decoded are left out.
    """
    parts = [np.zeros((0, crop, crop, 3), dtype=np.uint8)]
    for pixels, positions, reasons in _decoded(survey, rows, open_decoder("dali", crop, BATCH)):
        parts.append(pixels[[i not in reasons for i in positions]])
    return np.concatenate(parts)


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


def _decoded(survey: Survey, rows: NDArray[np.int64], decoder: Decoder) -> Iterator[_Batch]:
    """Yield decoded batches: pixels, their positions in ``rows``, and what failed by position."""
    starts, total = {}, 0
    for append in survey.attributes.appends:
        starts[append.name] = total
        total += append.rows
    for partition in survey.partitions:
        first = starts[partition.append] + partition.start
        chosen = np.arange(*np.searchsorted(rows, [first, first + partition.rows]))
        if len(chosen) == 0:
            continue
        core = survey.read_rows(partition)
        position_of = {int(rows[i]) - first: int(i) for i in chosen}
        for block in survey.read_images(partition, core):
            wanted = [
                (position_of[block.start + k], k)
                for k in range(len(block.files))
                if block.start + k in position_of
            ]
            for start in range(0, len(wanted), BATCH):
                batch = wanted[start : start + BATCH]
                pixels, failed = decoder.decode([block.files[k] for _, k in batch])
                reasons = {batch[j][0]: problem.reason for j, problem in failed.items()}
                reasons |= {i: block.problems[k] for i, k in batch if k in block.problems}
                yield pixels, [i for i, _ in batch], reasons
