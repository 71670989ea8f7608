"""Random streams that depend on names and indices only, never on batches or workers."""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np
from numpy.random import Generator, Philox, SeedSequence


@lru_cache(maxsize=64)
def _key(seed: int, purpose: str) -> int:
    """Mix the seed with the stream's purpose into one 64-bit word."""
    mixed = SeedSequence([seed, zlib.crc32(purpose.encode())]).generate_state(1, np.uint64)
    return int(mixed[0])


def stream(seed: int, purpose: str, number: int) -> Generator:
    """Return the random stream of one numbered thing (a galaxy, a block of galaxies).

    Philox is counter based (Salmon et al. 2011, SC '11): a stream is its key, so that any one
    can be opened without drawing those before it.

    Parameters
    ----------
    seed : int
        Seed of the simulation, not negative.
    purpose : str
        What the numbers are for; streams of different purposes are independent.
    number : int
        Index of the thing, 0 to 2**64 - 1.
    """
    return Generator(Philox(key=np.array([_key(seed, purpose), number], dtype=np.uint64)))
