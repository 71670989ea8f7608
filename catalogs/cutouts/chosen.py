"""Cutouts of chosen rows of a survey, by the reader and the decoder that inference uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts.decode import Decoder, Pixels, open_decoder
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError

BATCH = 64


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """Some of the rows that were asked for.

    Attributes
    ----------
    pixels : ndarray, shape (m, crop, crop, channels)
        Zeros where an image has a problem.
    positions : list of int
        Where each image's row stands among the rows asked for.
    problems : dict of int to str
        Position to the reason why it has no pixels.
    """

    pixels: Pixels
    positions: list[int]
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


def read_cutouts(survey: Survey, rows: NDArray[np.int64], crop: int) -> Pixels:
    """Decode the framing of some rows, as inference sees it, (n, crop, crop, channels).

    Parameters
    ----------
    survey : Survey
    rows : ndarray of int64, shape (n,)
        Rows in store order, ascending.
    crop : int
        Side of the central square [px].

    Returns
    -------
    ndarray of the survey's data type
        Images that cannot be decoded are left out.
    """
    return read_usable(survey, rows, crop)[0]


def read_usable(
    survey: Survey, rows: NDArray[np.int64], crop: int
) -> tuple[Pixels, NDArray[np.int64]]:
    """Return what `read_cutouts` does, and the rows of the cutouts, shape (n,)."""
    pixels = survey.attributes
    parts = [np.zeros((0, crop, crop, pixels.channels), dtype=pixels.dtype)]
    kept: list[int] = []
    for batch in decoded(survey, rows, crop):
        good = [i not in batch.problems for i in batch.positions]
        parts.append(batch.pixels[good])
        kept += [i for i in batch.positions if i not in batch.problems]
    return np.concatenate(parts), rows[np.asarray(kept, dtype=np.int64)]


def decoded(
    survey: Survey, rows: NDArray[np.int64], crop: int, threads: int = 1
) -> Iterator[DecodedBatch]:
    """Yield the cutouts of some rows (ascending, in store order), batch by batch."""
    decoder = _decoder(survey, crop, threads)
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
                found, failed = decoder.decode([block.files[k] for _, k in batch])
                reasons = {batch[j][0]: problem.reason for j, problem in failed.items()}
                reasons |= {i: block.problems[k] for i, k in batch if k in block.problems}
                yield DecodedBatch(found, [i for i, _ in batch], reasons)


def _decoder(survey: Survey, crop: int, threads: int) -> Decoder:
    pixels = survey.attributes
    if pixels.raw is not None:
        return open_decoder("raw", crop, BATCH, threads, pixels.channels, pixels.dtype)
    try:
        return open_decoder("dali", crop, BATCH, threads)
    except InputError:  # a platform that DALI does not serve
        return open_decoder("reference", crop)
