"""Splitting the sky into partitions: every object once, in pixels that hold it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from astropy import units as u
from astropy_healpix import HEALPix
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs.cutouts.partition import Pixel, rows_per_partition, split_sky
from catalogs.sky import FINEST_ORDER, Region, tile_of


@given(
    st.lists(st.tuples(st.floats(0, 359.999), st.floats(-90, 90)), min_size=1, max_size=200),
    st.integers(1, 50),
)
@settings(deadline=None, max_examples=60)
def test_spans_cover_every_row_once_and_hold_only_their_pixel(positions, most_rows):
    ra, dec = (np.asarray(v) for v in zip(*positions, strict=True))
    healpix = np.sort(tile_of(ra, dec, FINEST_ORDER))
    spans = split_sky(healpix, most_rows)
    assert [s.start for s in spans] == [0, *(s.stop for s in spans[:-1])]
    assert spans[-1].stop == len(ra)
    for span in spans:
        inside = healpix[span.start : span.stop] >> (2 * (FINEST_ORDER - span.pixel.order))
        assert set(inside.tolist()) == {span.pixel.number}
        assert span.stop - span.start <= most_rows or span.pixel.order == FINEST_ORDER


positions_on_the_sky = st.lists(
    st.tuples(st.floats(0, 359.999), st.floats(-90, 90)), min_size=1, max_size=80
)


@given(st.lists(positions_on_the_sky, min_size=2, max_size=4), st.integers(1, 30))
@settings(deadline=None, max_examples=60)
def test_later_appends_keep_one_tiling_of_the_sky(appends, most_rows):
    """Oracle: the sets of order-29 pixels that pixels hold, as intervals of integers."""
    used: set[Pixel] = set()
    for positions in appends:
        ra, dec = (np.asarray(v) for v in zip(*positions, strict=True))
        healpix = np.sort(tile_of(ra, dec, FINEST_ORDER))
        spans = split_sky(healpix, most_rows, used)
        assert split_sky(healpix, most_rows, used | {s.pixel for s in spans}) == spans
        assert [s.start for s in spans] == [0, *(s.stop for s in spans[:-1])]
        assert spans[-1].stop == len(ra)
        for span in spans:
            inside = healpix[span.start : span.stop] >> (2 * (FINEST_ORDER - span.pixel.order))
            assert set(inside.tolist()) == {span.pixel.number}
            small = span.stop - span.start <= most_rows
            assert small or span.pixel in used or span.pixel.order == FINEST_ORDER
        used |= {span.pixel for span in spans}
        limits = sorted(
            (
                p.number << 2 * (FINEST_ORDER - p.order),
                (p.number + 1) << 2 * (FINEST_ORDER - p.order),
            )
            for p in used
        )
        for (_, stop), (start, _) in pairwise(limits):
            assert stop <= start


@given(
    st.lists(st.tuples(st.floats(0, 359.999), st.floats(-90, 90)), min_size=1, max_size=50),
    st.integers(0, 12),
)
@settings(deadline=None, max_examples=60)
def test_tiles_are_astropy_healpix_nested_pixels(positions, order):
    ra, dec = (np.asarray(v) for v in zip(*positions, strict=True))
    oracle = HEALPix(2**order, order="nested").lonlat_to_healpix(ra * u.deg, dec * u.deg)
    ours = tile_of(ra, dec, order)
    # Positions on a pixel's border may fall to either side in the last bit.
    differ = ours != oracle
    if differ.any():
        nudged = tile_of(np.mod(ra + 1e-9, 360), np.clip(dec + 1e-9, -90, 90), order)
        nudged2 = tile_of(np.mod(ra - 1e-9, 360), np.clip(dec - 1e-9, -90, 90), order)
        assert np.all((nudged != ours)[differ] | (nudged2 != ours)[differ])


def test_partition_sizes_at_both_ends():
    assert rows_per_partition(100) == 2048
    assert rows_per_partition(20_000) == 2048
    assert rows_per_partition(10**8) == 65_536


def test_pixels_are_ordered_and_printable():
    assert str(Pixel(3, 17)) == "3-17"
    assert Pixel(2, 100) < Pixel(3, 1)


def test_a_region_may_cross_zero():
    region = Region.parse("350..10,-5..5")
    assert region.contains([355, 5, 20, 350, 10], [0, 0, 0, 0, 0]).tolist() == [
        True,
        True,
        False,
        True,
        False,
    ]
