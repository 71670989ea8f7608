"""From encoded images to answers: decode, ask the network, and say of each row how it went."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts.decode import Decoder
from catalogs.cutouts.header import UnreadableImageError, read_header
from catalogs.cutouts.store import ImageBytes, Images
from catalogs.schema import BLANK, CHECKSUM_ERROR, NO_ANSWER, OK, TOO_SMALL
from export.session import Session


@dataclass(slots=True)
class StageTimes:
    """Seconds spent in each stage of a partition."""

    read: float = 0.0
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
    smallest: int = 0,
) -> Answers:
    """Answer for every image of a partition.

    Batches are consecutive rows, and a cutout that cannot be used keeps its place in its batch as
    a black one whose answer is thrown away: neighbours' numbers do not change by a bit.

    Parameters
    ----------
    blocks : iterable of Images
        The partition's encoded images in row order.
    rows : int
        How many there are.
    decoder, session
        What decodes and what answers.
    batch : int
        Cutouts per inference call.
    times : StageTimes
        Seconds are added here, in place.
    smallest : int
        Images with a side below this many pixels get no answer: padding would show the network a
        framing that it was not trained on. 0 where all images are known to be large enough.

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
    clock = time.perf_counter()
    for block in blocks:
        clock = _lap(times, "read", clock)
        for i, why in block.problems.items():
            status[block.start + i], reason[block.start + i] = CHECKSUM_ERROR, why
        for first in range(0, len(block.files), batch):
            files = block.files[first : first + batch]
            at = slice(block.start + first, block.start + first + len(files))
            # Bytes that are not those that were stored never reach the decoder.
            files = [
                np.zeros(0, dtype=np.uint8) if first + i in block.problems else data
                for i, data in enumerate(files)
            ]
            for i, data in enumerate(files):
                small = _too_small(data, smallest)
                if small is not None and status[at.start + i] == OK:
                    status[at.start + i], reason[at.start + i] = TOO_SMALL, small
            pixels, problems = decoder.decode(files)
            for i, problem in problems.items():
                if status[at.start + i] == OK:
                    status[at.start + i] = problem.status
                    reason[at.start + i] = problem.reason
            flat = pixels.reshape(len(pixels), -1)
            for i in np.flatnonzero(flat.min(axis=1) == flat.max(axis=1)).tolist():
                if status[at.start + i] == OK:
                    status[at.start + i] = BLANK
                    reason[at.start + i] = f"every sample is {flat[i, 0]}"
            clock = _lap(times, "decode", clock)
            for answer, values in session.run(pixels).items():
                probabilities[answer][at] = values
            clock = _lap(times, "infer", clock)
    answers = np.stack(list(probabilities.values()), axis=1)
    for i in np.flatnonzero(~np.isfinite(answers).all(axis=1) & (status == OK)).tolist():
        status[i], reason[i] = NO_ANSWER, "the network's answer is not a finite number"
    bad = status != OK
    for values in probabilities.values():
        values[bad] = np.nan
    return Answers(probabilities, status, reason)


def _too_small(data: ImageBytes, smallest: int) -> str | None:
    if not smallest:
        return None
    try:
        header = read_header(data.data)
    except UnreadableImageError:
        return None  # the decoder says so itself
    if min(header.height, header.width) >= smallest:
        return None
    return f"{header.width}x{header.height} px, the network looks at {smallest} px"


def _lap(times: StageTimes, stage: str, since: float) -> float:
    now = time.perf_counter()
    setattr(times, stage, getattr(times, stage) + now - since)
    return now
