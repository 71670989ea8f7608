"""From images to answers: decode, ask the network, and say of each row how it went."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts.blob import Images
from catalogs.cutouts.card import CardPixels
from catalogs.cutouts.decode import Decoder, Problem
from catalogs.schema import BLANK, CHECKSUM_ERROR, NO_ANSWER, OK
from export.session import Session

Tick = Callable[[int, int], None]
"""Told, after each batch, how many rows are done and how many of these are not ``ok``."""

SAMPLED = 61  # so many samples of an image tell at once that it is not blank


@dataclass(slots=True)
class StageTimes:
    """Seconds spent in each stage. Reading and writing run beside decoding and inference.

    ``wait`` is the time in which the network stood still for images that were not read yet.
    """

    read: float = 0.0
    wait: float = 0.0
    decode: float = 0.0
    infer: float = 0.0
    write: float = 0.0


@dataclass(frozen=True, slots=True)
class Answers:
    """What the network said of each row of a partition.

    Attributes
    ----------
    probabilities : dict of str to ndarray of float32, shape (n,)
        One column per answer; NaN where the status is not ``ok``.
    status, reason : ndarray of object, shape (n,)
        ``ok`` and None; or what is wrong with the cutout, in a word and in a sentence.
    """

    probabilities: dict[str, NDArray[np.float32]]
    status: NDArray[Any]
    reason: NDArray[Any]


def classify(
    blocks: Iterable[Images],
    rows: int,
    decoder: Decoder,
    session: Session,
    batch: int,
    times: StageTimes,
    known: Mapping[int, Problem],
    tick: Tick | None = None,
) -> Answers:
    """Answer for every image of a partition.

    Batches are consecutive rows, and a cutout that cannot be used keeps its place in its batch as
    a black one whose answer is thrown away: neighbours' numbers do not change by a bit.

    Parameters
    ----------
    blocks : iterable of Images
        The partition's images in row order.
    rows : int
        How many there are.
    decoder, session
        What decodes and what answers.
    batch : int
        Cutouts per inference call.
    times : StageTimes
        Seconds are added here, in place.
    known : mapping of int to Problem
        Rows of which it is known already that they must not, or cannot, be decoded.
    tick : callable, optional
        Told of the progress after each batch.

    Returns
    -------
    Answers
    """
    probabilities = {
        answer: np.full(rows, np.nan, dtype=np.float32)
        for answer in session.bundle.manifest.answers
    }
    status = np.full(rows, OK, dtype=object)
    reason = np.full(rows, None, dtype=object)
    bad = 0

    def mark(row: int, problem: Problem) -> None:
        nonlocal bad
        if status[row] == OK:
            status[row], reason[row] = problem.status, problem.reason
            bad += 1

    clock = time.perf_counter()
    for block in blocks:
        clock = _lap(times, "wait", clock)
        unusable = {i: Problem(CHECKSUM_ERROR, why) for i, why in block.problems.items()}
        here = range(block.start, block.start + len(block.files))
        unusable |= {row - block.start: known[row] for row in known.keys() & here}
        for i, problem in unusable.items():
            mark(block.start + i, problem)
        for first in range(0, len(block.files), batch):
            at = slice(block.start + first, min(block.start + first + batch, here.stop))
            pixels, problems = decoder.decode(_usable(block, first, batch, unusable))
            for i, problem in problems.items():
                mark(at.start + i, problem)
            for i, sample in _blank(pixels):
                mark(at.start + i, Problem(BLANK, f"every sample is {sample}"))
            clock = _lap(times, "decode", clock)
            for answer, values in session.run(pixels).items():
                probabilities[answer][at] = values
            clock = _lap(times, "infer", clock)
            if tick is not None:
                tick(at.stop, bad)
    answers = np.stack(list(probabilities.values()), axis=1)
    impossible = ~((answers >= 0) & (answers <= 1)).all(axis=1) & (status == OK)  # NaN, too
    for i in np.flatnonzero(impossible).tolist():
        said = ", ".join(f"{value:g}" for value in answers[i])
        mark(i, Problem(NO_ANSWER, f"the network's answer ({said}) is no probability"))
    if bad:
        unanswered = status != OK
        for values in probabilities.values():
            values[unanswered] = np.nan
    return Answers(probabilities, status, reason)


def _usable(
    block: Images, first: int, batch: int, unusable: dict[int, Problem]
) -> list[NDArray[Any]] | NDArray[Any]:
    """Return a batch's images; bytes that must not reach the decoder are left out of it."""
    stop = first + batch
    if block.stack is not None and not unusable:
        return block.stack[first:stop]
    files = list(block.files[first:stop])
    for i, data in enumerate(files):
        if first + i in unusable:
            files[i] = data[:0]
    return files


def _blank(pixels: NDArray[Any] | CardPixels) -> list[tuple[int, Any]]:
    """Return which images have one value everywhere, and that value."""
    if isinstance(pixels, CardPixels):
        return pixels.constant()
    flat = pixels.reshape(len(pixels), -1)
    some = flat[:, :: max(flat.shape[1] // SAMPLED, 1)]
    candidates = np.flatnonzero((some == some[:, :1]).all(axis=1))
    constant = (flat[candidates] == flat[candidates, :1]).all(axis=1)
    return [(int(i), flat[i, 0]) for i in candidates[constant]]


def _lap(times: StageTimes, stage: str, since: float) -> float:
    now = time.perf_counter()
    setattr(times, stage, getattr(times, stage) + now - since)
    return now
