import healpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogs.errors import InputError
from catalogs.sky import Region
from training.settings import SplitSettings
from training.splits import (
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    block_order,
    hashed_uniform,
    read_regions,
    restrict_to_regions,
    sky_blocked,
    sky_weights,
    without_neighbours,
)


def sky(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.uniform(0, 360, count), np.degrees(np.arcsin(random.uniform(-1, 1, count)))


@given(order=st.integers(0, 6), seed=st.integers(-(2**31), 2**31))
def test_no_tile_has_two_roles(order: int, seed: int) -> None:
    ra, dec = sky(500)
    roles = sky_blocked(ra, dec, SplitSettings(order=order, seed=seed))
    tiles = healpy.ang2pix(2**order, ra, dec, nest=True, lonlat=True)
    held = [set(tiles[roles == role]) for role in (TRAIN, VALIDATION, TEST)]
    assert sum(len(tiles) for tiles in held) == len(set(tiles))


def test_a_small_field_is_split_into_smaller_blocks() -> None:
    ra, dec = sky(3000)
    assert block_order(ra, dec) == 3
    small = block_order(180 + ra / 36, dec / 18)  # 10 by 10 degrees
    tiles = [
        len(np.unique(healpy.ang2pix(2**o, 180 + ra / 36, dec / 18, nest=True, lonlat=True)))
        for o in (small - 1, small)
    ]
    assert tiles[0] < 64 <= tiles[1]
    assert block_order([10.0, 10.0], [1.0, 1.0]) == 8
    roles = sky_blocked(180 + ra / 36, dec / 18, SplitSettings(validation=0.2, test=0.3))
    assert set(roles) == {TRAIN, VALIDATION, TEST}


def test_shares_are_as_asked() -> None:
    ra, dec = sky(60_000)
    roles = sky_blocked(ra, dec, SplitSettings(order=5, validation=0.1, test=0.25))
    shares = [np.mean(roles == role) for role in (TRAIN, VALIDATION, TEST)]
    np.testing.assert_allclose(shares, [0.65, 0.1, 0.25], atol=0.02)


def test_a_tile_keeps_its_role_when_the_survey_grows() -> None:
    ra, dec = sky(2000)
    settings = SplitSettings(order=4, seed=3)
    some = sky_blocked(ra[:100], dec[:100], settings)
    assert np.array_equal(sky_blocked(ra, dec, settings)[:100], some)


def test_another_seed_gives_other_blocks() -> None:
    ra, dec = sky(2000)
    first, second = (sky_blocked(ra, dec, SplitSettings(seed=seed)) for seed in (0, 1))
    assert np.mean(first != second) > 0.2


def test_splitmix64_is_the_published_generator() -> None:
    # The first outputs of SplitMix64 from state 1234567 (Rosetta Code, "Pseudo-random
    # numbers/Splitmix64"). Key k of our hash is output k + 1 of a generator started at the
    # seed's own output, so the constant step of the state is what is compared here.
    from training.splits import _mix

    golden = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = np.uint64(1234567) + np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert [int(value) for value in _mix(states)] == golden


def test_hashes_are_uniform() -> None:
    from scipy.stats import kstest

    for seed in range(5):
        assert kstest(hashed_uniform(np.arange(5000), seed), "uniform").pvalue > 1e-3


def test_regions_hold_training_and_validation_but_never_the_test() -> None:
    ra, dec = sky(5000)
    classes = np.where(np.arange(5000) % 2 == 0, "spiral", "elliptical").astype(object)
    roles = sky_blocked(ra, dec, SplitSettings(order=3))
    region = Region.parse("100..200,-40..40")
    restricted = restrict_to_regions(roles, classes, ra, dec, {"spiral": region})
    inside = (ra >= 100) & (ra < 200) & (dec >= -40) & (dec < 40)
    spiral = classes == "spiral"
    assert np.array_equal(restricted[~spiral], roles[~spiral])
    assert np.array_equal(restricted[spiral & inside], roles[spiral & inside])
    assert np.array_equal(restricted == TEST, roles == TEST)
    assert np.all(restricted[spiral & ~inside & (roles != TEST)] == UNUSED)


def test_a_region_for_a_class_that_does_not_occur_is_refused() -> None:
    with pytest.raises(InputError, match="'star'"):
        restrict_to_regions(
            np.zeros(1, np.int8),
            np.asarray(["spiral"], object),
            [1.0],
            [1.0],
            {"star": Region(0, 1, 0, 1)},
        )


def test_near_neighbours_are_on_one_side_only() -> None:
    from astropy import units as u
    from astropy.coordinates import SkyCoord, search_around_sky

    random = np.random.default_rng(0)
    ra, dec = random.uniform(0, 360, 400), random.uniform(-80, 80, 400)
    # A second entry of each, 0.5 to 3.5 arcsec away, with a role of its own.
    away = random.uniform(0.5, 3.5, 400) / 3600
    ra, dec = np.concatenate([ra, ra]), np.concatenate([dec, dec + away])
    roles = random.integers(-1, 3, 800).astype(np.int8)
    apart = without_neighbours(roles, ra, dec)
    sky = SkyCoord(ra * u.deg, dec * u.deg)
    a, b, _, _ = search_around_sky(sky, sky, 2 * u.arcsec)
    both = (apart[a] != UNUSED) & (apart[b] != UNUSED)
    assert (apart[a][both] == apart[b][both]).all()
    # Nothing else is lost: a test galaxy never, another only for a neighbour held out further.
    lost = np.flatnonzero(apart != roles)
    assert (roles[lost] != TEST).all()
    assert (apart[lost] == UNUSED).all()
    for i in lost:
        assert (roles[b[a == i]] > roles[i]).any()
    assert 50 < len(lost) < 400


def test_every_tile_weighs_the_same_within_a_class() -> None:
    random = np.random.default_rng(1)
    tiles, classes = random.geometric(0.3, 500), random.choice(["e", "s"], 500, p=[0.8, 0.2])
    weights = sky_weights(tiles, classes)
    for name in ("e", "s"):
        here = classes == name
        assert weights[here].sum() == pytest.approx(here.sum())
        sums = [weights[here & (tiles == t)].sum() for t in np.unique(tiles[here])]
        np.testing.assert_allclose(sums, here.sum() / len(sums))


def test_regions_of_classes_are_read_from_one_line() -> None:
    assert read_regions("spiral=0..20,0..20; merger=350..10,-5..5") == {
        "spiral": "0..20,0..20",
        "merger": "350..10,-5..5",
    }
    for text in ("0..20,0..20", "spiral=", "spiral=0-20"):
        with pytest.raises(InputError, match=r"RA0\.\.RA1"):
            read_regions(text)
