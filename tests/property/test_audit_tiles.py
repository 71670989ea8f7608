"""Counting per tile: any order, any batches, any duplicates; oracles: healpy, dictionaries."""

from __future__ import annotations

import healpy
import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs import sky
from catalogs.audit.reading.duplicates import FirstOfObject
from catalogs.audit.reading.identifiers import NO_ID
from catalogs.audit.uniformity.fractions import (
    benjamini_hochberg,
    clopper_pearson,
    leave_one_out_p,
    wilson,
)
from catalogs.audit.uniformity.tiles import TileAccumulator
from catalogs.audit.uniformity.verdict import holm

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, rows=st.integers(1, 400), order=st.integers(0, 6), parts=st.integers(1, 5))
def test_counts_do_not_depend_on_batches_and_merge_like_healpy(
    seed: int, rows: int, order: int, parts: int
) -> None:
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, rows), np.degrees(np.arcsin(rng.uniform(-1, 1, rows)))
    answers = rng.random(rows)
    pixels = sky.tile_of(ra, dec, 29)
    accumulator = TileAccumulator(6)
    for piece in np.array_split(rng.permutation(rows), parts):
        accumulator.add(pixels[piece], answers[piece])
    counts = accumulator.counts().merged(order)
    theirs = healpy.ang2pix(2**order, ra, dec, nest=True, lonlat=True)
    np.testing.assert_array_equal(counts.tiles, np.unique(theirs))
    np.testing.assert_array_equal(counts.n, np.bincount(theirs)[counts.tiles])
    np.testing.assert_allclose(counts.k, np.bincount(theirs, answers)[counts.tiles])
    assert np.isclose(counts.variance, answers.var(), atol=1e-9)
    assert np.isclose(counts.mean, answers.mean())


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, rows=st.integers(0, 300), limit=st.sampled_from([1, 7, 64, 10**6]))
def test_first_of_each_id_and_position_is_kept_in_memory_or_on_disk(
    seed: int, rows: int, limit: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 12 * 4**29, max(rows // 2, 1))[
        rng.integers(0, max(rows // 2, 1), rows)
    ]
    both = rng.random((rows, 2))
    ids = rng.integers(-(2**62), 2**62, rows + 1)[rng.integers(0, rows + 1, rows)]
    ids[rng.random(rows) < 0.3] = NO_ID
    expected: dict[int, list[float]] = {}
    seen: set[int] = set()
    for pixel, pair, own in zip(pixels.tolist(), both.tolist(), ids.tolist(), strict=True):
        if own == NO_ID or own not in seen:
            expected.setdefault(pixel, pair)
        seen.add(own)
    with (
        FirstOfObject(2, ids=True, in_memory=limit) as first,
        FirstOfObject(2, every=True, in_memory=limit) as every,
    ):
        for piece in np.array_split(np.arange(rows), 4):
            first.add(pixels[piece], both[piece], ids[piece])
            every.add(pixels[piece], both[piece])
        for _ in range(2):
            found: dict[int, list[float]] = {}
            for kept, values in first.unique():
                assert found.keys().isdisjoint(kept.tolist())
                found.update(zip(kept.tolist(), values.tolist(), strict=True))
            assert found == expected
            again_of = np.unique(ids[ids != NO_ID], return_counts=True)[1] - 1
            assert first.same_id == again_of.sum()
            assert first.same_id + first.same_place == rows - len(expected)
            again = [values for _, values in every.unique()]
            assert sorted(np.concatenate([np.empty((0, 2)), *again]).tolist()) == sorted(
                both.tolist()
            )


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, limit=st.sampled_from([1, 30, 300, 10**6]))
def test_rows_within_an_arcsecond_of_an_earlier_one_go(seed: int, limit: int) -> None:
    """In memory or on disk, at the corners of the bins of the hash, where three meet, at a pole."""
    rng = np.random.default_rng(seed)
    poles, threes = [4**10 - 1, 8 * 4**10], [int("01" * 10, 2), int("10" * 10, 2)]
    bins = [*poles, *threes, *rng.integers(0, 12 * 4**10, 8)]
    corners = healpy.boundaries(2**10, np.array(bins), nest=True).transpose(0, 2, 1).reshape(-1, 3)
    ra, dec = healpy.vec2ang(corners[rng.integers(0, len(corners), 300)], lonlat=True)
    near = SkyCoord(ra * u.deg, dec * u.deg).directional_offset_by(
        rng.uniform(0, 360, 300) * u.deg, rng.exponential(1.5, 300) * u.arcsec
    )
    pixels = sky.tile_of(near.ra.deg, near.dec.deg, 29)
    # The search knows a place to 0.4 milliarcseconds.
    near = SkyCoord(*healpy.pix2ang(2**29, pixels, nest=True, lonlat=True), unit="deg")
    first = np.sort(np.unique(pixels >> 18, return_index=True)[1])
    apart = near[first][:, None].separation(near[first][None, :]).arcsec
    earlier = np.tril(apart <= 1.0, -1).any(axis=1)
    expected = sorted(first[~earlier].tolist())
    assert len(expected) < 300
    with FirstOfObject(1, in_memory=limit) as kept:
        for piece in np.array_split(np.arange(300), 4):
            kept.add(pixels[piece], piece[:, None].astype(float))
        found = np.concatenate([values[:, 0] for _, values in kept.unique()])
    assert sorted(found.astype(int).tolist()) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=20))
def test_intervals_hold_their_fraction_and_p_is_a_probability(
    pairs: list[tuple[int, int]],
) -> None:
    k = np.array([min(pair) for pair in pairs])
    n = np.array([max(pair) for pair in pairs])
    for low, high in (wilson(k, n), clopper_pearson(k, n)):
        fraction = k / np.maximum(n, 1)
        assert np.all((low >= 0) & (high <= 1) & (low - 1e-12 <= fraction))
        assert np.all((fraction <= high + 1e-12) | (n == 0))
    p = leave_one_out_p(k, n)
    assert np.all((p >= 0) & (p <= 1))
    q = benjamini_hochberg(p)
    assert np.all((q >= p - 1e-12) & (q <= 1))
    assert np.all(holm(p.tolist()) >= q - 1e-12)
