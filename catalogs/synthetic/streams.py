"""Random streams that depend on names and indices only, never on batches or workers."""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np
from numpy.random import Generator, Philox, SeedSequence
from numpy.typing import NDArray


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


def uniforms(
    seed: int, purpose: str, numbers: NDArray[np.int64], draw: int | NDArray[np.int64] = 0
) -> NDArray[np.float64]:
    """Return one uniform number per numbered thing, the same whatever else is asked for.

    A hash, for many things that need few numbers each: SplitMix64 (Steele et al. 2014, OOPSLA,
    figure 16), its output for the thing serving as the state for the draw.

    Parameters
    ----------
    seed, purpose
        As in :func:`stream`.
    numbers : ndarray of int64, shape (n,)
        Indices of the things.
    draw : int or ndarray of int64, shape (n,)
        Which of a thing's numbers.

    Returns
    -------
    ndarray of float64, shape (n,)
        Greater than 0, less than 1.
    """
    state = _splitmix(np.asarray(numbers).astype(np.uint64), np.uint64(_key(seed, purpose)))
    bits = _splitmix(np.asarray(draw).astype(np.uint64), state) >> np.uint64(11)
    return np.asarray((bits.astype(np.float64) + 0.5) * 2.0**-53)


def _splitmix(
    position: NDArray[np.uint64], state: np.uint64 | NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Return SplitMix64's output at a position after a state; integers wrap."""
    gamma, first, second = (
        np.uint64(0x9E3779B97F4A7C15),
        np.uint64(0xBF58476D1CE4E5B9),
        np.uint64(0x94D049BB133111EB),
    )
    with np.errstate(over="ignore"):
        z = np.atleast_1d(position + np.uint64(1)) * gamma + state
        z = (z ^ (z >> np.uint64(30))) * first
        z = (z ^ (z >> np.uint64(27))) * second
    return np.asarray(z ^ (z >> np.uint64(31)))
