"""The sky swap's statistics: the papers' tables, and libraries that are not ours."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportions_ztest

from catalogs.config import parse
from catalogs.errors import InputError
from catalogs.progress import Silent
from catalogs.sky import Region, Regions, in_survey_footprint
from experiments import (
    fields,
    maps,
    swap_audit,
    swap_plan,
    swap_words,
    swapped,
    swapped_words,
    swaps,
    worlds,
)
from experiments.networks import Store
from experiments.product import p_beside, points
from experiments.swap_plan import Settings, Split
from experiments.swaps import Answered, Training
from training.labels import Labels
from training.models.equivariant import EquivariantShape
from training.run import roles_of
from training.settings import AdversarySettings, parse_settings
from training.splits import TEST, TRAIN, VALIDATION, sky_blocked

HOME, AWAY = Training("1", "1"), Training("2", "1")


def answered(training: Training, region: str, matrix: list[list[int]], split: str = "seed 0"):
    """Answers that make a confusion matrix (truth in rows), ellipticals first."""
    (ee, es), (se, ss) = matrix
    spiral = np.repeat([False, True], [ee + es, se + ss])
    said = np.repeat([False, True, False, True], [ee, es, se, ss])
    return Answered(training, region, split, spiral, said)


# Dhar & Shamir 2022: spirals/ellipticals from 1/1 (table 3), and 1/2 (table 6), on region 1.
TABLE_3 = answered(Training("1", "2"), "1", [[7850, 150], [756, 7244]])
TABLE_6 = answered(HOME, "1", [[7749, 251], [408, 7592]])


def test_the_papers_tables_come_out():
    rows = swaps.matrices([TABLE_3, TABLE_6])
    assert [row["p_spiral"] for row in rows] == [0.462125, 0.4901875]
    assert rows[0]["p_balanced"] == pytest.approx(0.462125, abs=1e-12)  # classes are equally many
    (row,) = swaps.pairs([TABLE_3, TABLE_6])
    assert row["difference"] == pytest.approx(0.462125 - 0.4901875, abs=1e-12)
    expected = stats.binomtest(7394, 16000, 0.4901875).pvalue
    assert row["papers_p"] == pytest.approx(expected, rel=1e-6)
    assert row["papers_p"] == pytest.approx(1.2260391345556124e-12, rel=1e-6)
    assert row["two_sample_p"] == pytest.approx(5.016248121122e-07, rel=1e-6)
    (row,) = swaps.same_galaxies([row], 0.0)
    assert (row["splits"], row["splits_p"], row["papers_share"]) == (1, None, 1.0)


def test_mcnemar_is_of_the_same_galaxies():
    rng = np.random.default_rng(5)
    spiral = rng.random(400) < 0.5
    first, second = (spiral ^ (rng.random(400) < wrong) for wrong in (0.1, 0.2))
    pair = [Answered(t, "1", "seed 0", spiral, s) for t, s in ((HOME, first), (AWAY, second))]
    (row,) = swaps.pairs(pair)
    table = [[np.sum(a & b) for b in (second, ~second)] for a in (first, ~first)]
    assert (row["only_here"], row["only_home"]) == (table[1][0], table[0][1])
    assert row["mcnemar_p"] == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9)


def test_p_over_splits_is_a_t_test_that_allows_for_shared_galaxies():
    values = [0.011, -0.002, 0.013, 0.020, 0.004]
    assert swaps.resampled_t(values, 0.0) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    t = np.mean(values) / np.sqrt((1 / 5 + 0.25) * np.var(values, ddof=1))
    assert swaps.resampled_t(values, 0.25) == pytest.approx(2 * stats.t(4).sf(t))
    error = np.sqrt((1 / 5 + 0.25) * np.var(values, ddof=1))
    reach = swaps.detectable(values, 0.25) / error
    power = stats.nct(4, reach).sf(stats.t(4).isf(0.025))
    assert power == pytest.approx(0.8, abs=0.03)
    assert swaps.resampled_t([0.1], 0.25) is None
    assert swaps.resampled_t([0.1, 0.10001], 0.25) is None  # two may agree by accident
    assert swaps.resampled_t([0.1, 0.1], 0.25) is None


def test_one_network_on_two_regions():
    # Table 6 against 7: the same network; z 1.07, not significant.
    six = answered(HOME, "1", [[7749, 251], [408, 7592]])
    seven = answered(HOME, "2", [[7791, 209], [462, 7538]])
    (row,) = maps.two_regions([six, seven], 0.2)
    assert row["difference"] == pytest.approx(0.006, abs=1e-9)
    assert row["true_difference"] == 0
    (row,) = maps.split_by_split([six, seven])
    assert row["z"] == pytest.approx(1.07, abs=0.01)


def test_one_network_on_two_regions_over_splits():
    random = np.random.default_rng(12)
    found = []
    for k in range(7):
        for region, es, se in (("1", 30, 40), ("2", 55, 15)):
            wrong = np.array([es, se]) + random.integers(-3, 4, 2)
            matrix = [[200 - wrong[0], wrong[0]], [wrong[1], 200 - wrong[1]]]
            found.append(answered(HOME, region, matrix, f"seed {k}"))
    (row,) = maps.two_regions(found, 0.25)
    by = {(one.region, one.split): one.matrix for one in found}

    def expected(value):
        values = [value(by["1", f"seed {k}"]) - value(by["2", f"seed {k}"]) for k in range(7)]
        t = np.mean(values) / np.sqrt((1 / 7 + 0.25) * np.var(values, ddof=1))
        return np.mean(values), 2 * stats.t(6).sf(abs(t))

    for name, value in (
        ("tpr", lambda m: m.tpr),
        ("tnr", lambda m: m.tnr),
        ("balanced", lambda m: (m.es / (m.ee + m.es) + m.ss / (m.se + m.ss)) / 2),
    ):
        pair = (row[f"{name}_difference"], row[f"{name}_p"])
        assert pair == pytest.approx(expected(value))
    assert row["rates_p"] == pytest.approx(2 * min(row["tpr_p"], row["tnr_p"]))
    said = swap_words.maps_in_words([row])[0]
    assert "1 of 1 differences of the balanced fraction and 1 of TPR or TNR" in said


def test_spread_over_splits():
    pair = [answered(HOME, "1", [[90, 10], [20 + k, 80 - k]], f"seed {k}") for k in (0, 4)]
    (row,) = swaps.spread(swaps.matrices(pair))
    assert (row["splits"], row["se_mean"], row["se_most"], row["es_most"]) == (2, 22, 24, 10)
    assert row["tpr_sd"] == pytest.approx(np.std([0.8, 0.76], ddof=1))


def test_fields_are_measured_as_they_are():
    regions = {"a": Region.parse("350..10,-10..30"), "b": Region.parse("180..200,20..40")}
    a, b = SkyCoord([0, 190] * u.deg, [10, 30] * u.deg)
    assert fields.apart(*regions.values()) == pytest.approx(a.separation(b).deg)
    ra, dec = np.array([355.0, 5.0, 190.0]), np.array([0.0, 0.0, 30.0])
    classes = np.array(["spiral", None, "spiral"], dtype=object)
    rows = fields.properties(ra, dec, {"mag": np.array([15.0, 17.0, 9.0])}, classes, regions)
    found = {(row["region"], row["quantity"]): row["mean"] for row in rows}
    assert found["a", "galaxies"] == 2
    assert found["a", "fraction spiral"] == 0.5
    assert found["a", "mag"] == 16
    assert ("b", "mag") not in found  # one galaxy has no spread
    wide = {row["quantity"]: row for row in fields.side_by_side(rows)}
    assert (wide["mag"]["mean a"], wide["galaxies"]["mean b"]) == (16, 1)
    assert wide["mag"]["mean b"] is None


def test_the_density_is_of_the_area_that_is_covered():
    random = np.random.default_rng(4)
    ra, sines = random.uniform(0, 360, 200_000), random.uniform(-1, 1, 200_000)
    dec = np.degrees(np.arcsin(sines))
    there = in_survey_footprint(ra, dec)
    density = 200_000 / 41252.96
    # Boxes that the footprint's edge cuts: half of the one, little of the other.
    for text in ("100..180,-20..65", "180..200,0..20", "320..40,-40..34", "0..360,-90..90"):
        region = Region.parse(text)
        area = np.sum(region.contains(ra, dec) & there) / density
        found = fields.covered(ra[there], dec[there], region)
        assert found == pytest.approx(area, rel=0.03), text
    assert fields.covered(ra[there], dec[there], Region(60, 80, -20, 20)) == 0
    few = np.flatnonzero(there)[:2500]  # tiles of 7 degrees; the boxes themselves are as 0.82
    west, east = (Region.parse(text) for text in ("110..180,-4..65", "180..265,-4..65"))
    ratio = fields.covered(ra[few], dec[few], west) / fields.covered(ra[few], dec[few], east)
    true = [np.sum(one.contains(ra, dec) & there) for one in (west, east)]
    assert ratio == pytest.approx(true[0] / true[1], rel=0.07)


def test_properties_are_set_against_the_shift():
    mixed = [{"region": str(k), "quantity": "q", "mean": float(k**2), "sd": 2.0} for k in range(5)]
    pairs = [
        {"first": str(i), "second": str(j), "apart": 10.0 * (j - i), "shift": (-1) ** i * (j - i)}
        for i in range(5)
        for j in range(i + 1, 5)
    ]
    angle, row = fields.against_bias(mixed, pairs)
    sizes = [int(one["second"]) ** 2 - int(one["first"]) ** 2 for one in pairs]
    shifts = [abs(one["shift"]) for one in pairs]
    expected = stats.spearmanr(sizes, shifts)
    assert row["rank_correlation"] == pytest.approx(expected.statistic)
    assert row["p"] == pytest.approx(expected.pvalue)
    assert (angle["quantity"], angle["rank_correlation"]) == (fields.ANGLE, pytest.approx(1))
    few = [one | {"shift_p": 0.5} for one in pairs[:5]]
    assert fields.against_bias(mixed, few) == []
    beside = fields.beside_bias(mixed, few)
    assert [(one["mean_first"], one["mean_second"]) for one in beside[:2]] == [(0, 1), (0, 4)]
    assert [one["apart_sd"] for one in beside[:2]] == [-0.5, -2.0]


@pytest.mark.parametrize("text", ["200..200,0..20", "0..0,-5..5", "360..0,0..9", "360..360,0..9"])
def test_a_region_without_sky_is_refused_as_empty(text):
    with pytest.raises(InputError, match=r"is empty: .*; all around is 0\.\.360"):
        Region.parse(text)


def test_a_region_may_go_all_around_or_through_zero():
    ra = np.array([0.0, 0.1, 180.0, 359.9])
    assert Region.parse("0..360,-90..90").contains(ra, 0 * ra).all()
    assert Region.parse("360..10,-5..5").contains(ra, 0 * ra).tolist() == [True, True, False, False]
    assert Region.parse("350..0,-5..5").contains(ra, 0 * ra).tolist() == [False, False, False, True]


def test_quantities_of_the_sky_are_told_by_their_names():
    sky = ["galaxies per square degree", "star_density", "psfMag_r", "mag_g", "seeing", "fwhm_r"]
    sky += ["fraction spiral", "fraction E/S0"]
    others = ["run", "handedness", "bar_position_angle", "petro_radius", "absolute_mag", "votes"]
    others += ["bulge_fraction", "vote_fraction"]
    assert all(fields.is_of_the_sky(name) for name in sky)
    assert not any(fields.is_of_the_sky(name) for name in others)


GOLDEN = [
    # Dhar & Shamir 2022: tables (3 against 6 and so on), what is counted, and the one-sided p.
    ([[7791, 209], [462, 7538]], [[7699, 301], [450, 7550]], "es", 7.195e-9),
    ([[2891, 109], [85, 2915]], [[2704, 296], [31, 2969]], "es", 1.273e-38),
    ([[2846, 154], [145, 2855]], [[2505, 495], [923, 2077]], "es", 1.005e-81),
]


@pytest.mark.parametrize(("one", "other", "name", "p"), GOLDEN)
def test_the_papers_tests_of_a_class_come_out(one, other, name, p):
    """Tables 7 against 4 (the same galaxies), 13 against 12 and 15 against 14 (two regions)."""
    network, home = (answered(t, "1", m) for t, m in ((AWAY, one), (HOME, other)))
    found = swaps.errors_apart(network.matrix, home.matrix)
    assert found[f"{name}_papers_p"] == pytest.approx(p, rel=1e-3)
    (row,) = swaps.pairs([network, home])
    assert row[f"{name}_papers_p"] == found[f"{name}_papers_p"]
    # Of two regions the first's rate is the known one.
    regions = [replace(home, training=AWAY), replace(network, region="2")]
    (row,) = maps.split_by_split(regions)
    assert row[f"{name}_papers_p"] == found[f"{name}_papers_p"]
    counts, sizes = [one[0][1], other[0][1]], [sum(one[0]), sum(other[0])]
    assert found["es_two_sample_p"] == pytest.approx(proportions_ztest(counts, sizes)[1], rel=1e-6)
    more = stats.binomtest(other[0][1], sizes[1], one[0][1] / sizes[0], "greater").pvalue
    back = swaps.errors_apart(home.matrix, network.matrix)
    assert back["es_papers_p"] == pytest.approx(more, rel=1e-6)


def test_mistakes_that_compensate_are_seen_in_the_rates():
    """Tables 6 and 8: full swaps, the same fraction called spiral, other errors."""
    random = np.random.default_rng(3)
    found = []
    for k in range(8):
        for training, (es, se) in ((HOME, (251, 408)), (AWAY, (408, 551))):
            wrong = np.array([es, se]) + random.integers(-30, 31, 2)
            matrix = [[8000 - wrong[0], wrong[0]], [wrong[1], 8000 - wrong[1]]]
            found.append(answered(training, "1", matrix, f"seed {k}"))
    rows = swaps.pairs(found)
    (row,) = swaps.same_galaxies(rows, 0.25)
    for name, rate in (("tpr", "tpr"), ("tnr", "tnr")):
        values = [
            getattr(b.matrix, rate) - getattr(a.matrix, rate)
            for a, b in zip(found[::2], found[1::2], strict=True)
        ]
        t = np.mean(values) / np.sqrt((1 / 8 + 0.25) * np.var(values, ddof=1))
        assert row[f"{name}_p"] == pytest.approx(2 * stats.t(7).sf(abs(t)))
    assert row["rates_p"] == pytest.approx(2 * min(row["tpr_p"], row["tnr_p"]))
    assert row["rates_p"] < 1e-4 < 0.05 < row["balanced_p"]
    first, second, _ = swap_words.same_in_words([row])
    assert "0 of 1 shifts are beyond chance" in first
    assert "In 1 of them the fraction alone does not show it (2/1 on 1)" in second


def test_mcnemar_is_of_each_class_too():
    rng = np.random.default_rng(6)
    spiral = rng.random(500) < 0.4
    first, second = (spiral ^ (rng.random(500) < wrong) for wrong in (0.1, 0.2))
    pair = [Answered(t, "1", "seed 0", spiral, s) for t, s in ((HOME, first), (AWAY, second))]
    (row,) = swaps.pairs(pair)
    for name, kind in (("es", ~spiral), ("se", spiral)):
        a, b = first[kind], second[kind]
        table = [[np.sum(x & y) for y in (b, ~b)] for x in (a, ~a)]
        expected = mcnemar(table, exact=True).pvalue
        assert row[f"{name}_mcnemar_p"] == pytest.approx(expected, rel=1e-9)


def test_the_power_told_is_that_of_the_tests_counted():
    random = np.random.default_rng(9)
    trainings = [HOME, Training("1", "2"), AWAY, Training("2", "2")]
    found = [
        answered(t, r, [[200 - wrong, wrong], [40, 160]], f"seed {k}")
        for k in range(6)
        for t in trainings
        for r in ("1", "2")
        for wrong in random.integers(30, 60, 1).tolist()
    ]
    rows = swaps.pairs(found)
    same = swaps.same_galaxies(rows, 0.25)
    assert len(same) == 6
    assert same[0]["level"] == pytest.approx(0.05 / (6 + 6))  # fractions and rates
    of = [
        row["balanced_difference"]
        for row in rows
        if (row["training"], row["region"]) == ("2/1", "1")
    ]
    (row,) = (row for row in same if (row["training"], row["region"]) == ("2/1", "1"))
    error = np.sqrt((1 / 6 + 0.25) * np.var(of, ddof=1))
    power = stats.nct(5, row["detectable"] / error).sf(stats.t(5).isf(0.05 / 12 / 2))
    assert power == pytest.approx(0.8, abs=1e-6)
    low, high = swaps.interval(of, 0.25)
    expected = stats.t(5, np.mean(of), error).interval(0.95)
    assert (low, high) == pytest.approx(expected)
    (swap,) = swapped.full_swaps(found, 0.25)
    at = {(str(one.training), one.region, one.split): one.balanced for one in found}
    values = [
        np.mean([at["1/2", r, f"seed {k}"] - at["2/1", r, f"seed {k}"] for r in "12"])
        for k in range(6)
    ]
    assert swap["shift"] == pytest.approx(np.mean(values))
    assert swap["shift_p"] == pytest.approx(swaps.resampled_t(values, 0.25))
    assert swap["level"] == pytest.approx(0.05 / 3)
    by = {(str(one.training), one.region, one.split): one for one in found}

    def over(value):
        values = [value(k) for k in map("seed {}".format, range(6))]
        return np.mean(values), swaps.resampled_t(values, 0.25)

    half = over(
        lambda k: (
            ((at["1/2", "1", k] - at["2/1", "1", k]) - (at["1/2", "2", k] - at["2/1", "2", k])) / 2
        )
    )
    assert (swap["anisotropy"], swap["anisotropy_p"]) == pytest.approx(half)
    ps = []
    for where, r in (("first", "1"), ("second", "2")):
        for rate in ("tpr", "tnr"):
            expected = over(
                lambda k, rate=rate, r=r: (
                    getattr(by["1/2", r, k].matrix, rate) - getattr(by["2/1", r, k].matrix, rate)
                )
            )
            name = f"{rate}_{where}"
            assert (swap[f"{name}_difference"], swap[f"{name}_p"]) == pytest.approx(expected)
            ps.append(expected[1])
    assert swap["rates_p"] == pytest.approx(min(1, 4 * min(p for p in ps if p is not None)))
    of_pair = [one for key, one in by.items() if key[0] in ("1/2", "2/1")]
    skill = np.mean([one.matrix.tpr + one.matrix.tnr - 1 for one in of_pair])
    assert swap["skill"] == pytest.approx(skill)
    assert swapped.by_angle(found, {("1", "2"): 90.0}, 0.25) is None
    whole = {(row["training"], row["region"]): row for row in swaps.summed(found)}
    ee = sum(one.matrix.ee for one in found if (str(one.training), one.region) == ("2/1", "2"))
    assert (whole["2/1", "2"]["ee"], whole["2/1", "2"]["splits"]) == (ee, 6)
    told = swapped_words.pairs_in_words([swap | {"apart": 60.0}], None)
    assert "no comparison" in told[-1]


def test_no_power_is_beyond_what_fractions_can_differ_by():
    assert [points(share) for share in (0.1234, -0.5, 1.0, 2.294)] == [
        "12.3",
        "50.0",
        "100.0",
        "more than 100",
    ]


def three_regions(random: np.random.Generator, splits: int) -> list[Answered]:
    """Spirals learnt in region 1 are seen less; regions 2 and 3 are near each other."""
    found = []
    for k in range(splits):
        for training in (Training(a, b) for a in "123" for b in "123"):
            for region in "123":
                lost = 30 * (training.spirals == "1") - 30 * (training.ellipticals == "1")
                es, se = np.array([50 - lost, 50 + lost]) + random.integers(-9, 10, 2)
                matrix = [[300 - es, es], [se, 300 - se]]
                found.append(answered(training, region, matrix, f"seed {k}"))
    return found


ANGLES = {("1", "2"): 160.0, ("1", "3"): 150.0, ("2", "3"): 20.0}


@pytest.mark.parametrize(
    ("p", "level", "told"),
    [
        (0.049989, 0.05, "0.04999"),
        (0.0500001, 0.05, "0.05"),
        (None, 0.05, "–"),
        (0.0123, 0.05, "0.012"),
        (4.6e-4, 0.0166667, "0.00046"),
        (0.016664, 0.05 / 3, "0.01666"),
    ],
)
def test_a_p_is_not_rounded_over_its_level(p, level, told):
    assert p_beside(p, level) == told


def test_a_bias_of_one_region_is_in_its_swaps_and_no_other():
    found = three_regions(np.random.default_rng(4), 6)
    rows = swapped.full_swaps(found, 0.25)
    assert [(row["first"], row["second"]) for row in rows] == list(ANGLES)
    assert all(row["level"] == pytest.approx(0.05 / 9) for row in rows)  # three measures each
    assert [bool(swapped_words.standing(row)) for row in rows] == [True, True, False]
    said = swapped_words.headline(rows)
    assert said.startswith(
        "The training sky matters: 2 of 3 swaps of two regions stand (1 and 2, 1 and 3). The "
        "largest: spirals/ellipticals from 1/"
    )
    told = swapped_words.pairs_in_words([row | {"apart": 9.0} for row in rows], None)
    assert "2 of 3 stand" in told[0]
    assert "1/2 instead of 2/1 (9 degrees apart): -" in told[1]
    none = swapped_words.headline(rows[2:])
    assert none.startswith("None of 1 swap of two regions is beyond")
    few = swapped.full_swaps(three_regions(np.random.default_rng(4), 2), 0)
    assert "fewer than 3 splits" in swapped_words.headline(few)


def pair_of(moved: dict[str, tuple[int, int]], noise: int) -> list[Answered]:
    """Six splits of 1/2 and 2/1; what 1/2 calls spiral more, of ellipticals and spirals."""
    random = np.random.default_rng(8)
    found = []
    for k in range(6):
        for training, sign in ((Training("1", "2"), 1), (AWAY, -1)):
            for region, (es, se) in moved.items():
                e, s = random.integers(-noise, noise + 1, 2)
                matrix = [[250 - sign * es - e, 50 + sign * es + e]]
                matrix.append([50 - sign * se - s, 250 + sign * se + s])
                found.append(answered(training, region, matrix, f"seed {k}"))
    return found


@pytest.mark.parametrize(
    ("moved", "stands"),
    [
        ({"1": (20, 20), "2": (20, 20)}, "shift"),
        ({"1": (30, 30), "2": (-30, -30)}, "anisotropy"),  # opposite in both regions
        ({"1": (-20, 20), "2": (-20, 20)}, "rates"),  # mistakes of both classes compensate
        ({"1": (-20, 20), "2": (20, -20)}, "rates"),  # one is better in 1, the other one in 2
    ],
)
def test_what_cancels_in_the_mean_shift_is_tested_too(moved, stands):
    (row,) = swapped.full_swaps(pair_of(moved, 4), 0.25)
    assert stands in swapped_words.standing(row)
    assert ("shift" in swapped_words.standing(row)) == (stands == "shift")
    assert swapped_words.headline([row]).startswith(
        "The training sky matters: 1 of 1 swap of two regions stands"
    )


def test_networks_that_learnt_nothing_are_said_to():
    (row,) = swapped.full_swaps(pair_of({"1": (0, 0), "2": (0, 0)}, 4), 0.25)
    assert "hardly better than chance" not in swapped_words.headline([row])
    nothing = row | {"skill": 0.01}
    assert "hardly better than chance" in swapped_words.headline([nothing])
    told = swapped_words.pairs_in_words([nothing | {"apart": 9.0}], None)
    assert "would have been found" not in told[1]
    (row,) = swapped.full_swaps(pair_of({"1": (0, 0), "2": (0, 0)}, 0), 0.25)
    assert "both networks answer alike" in swapped_words.headline([row])
    told = swapped_words.pairs_in_words([row | {"apart": 9.0}], None)
    assert "nothing was tested" in told[0]


def test_far_regions_against_near_ones_is_a_line_through_the_pairs():
    found = three_regions(np.random.default_rng(4), 6)
    rows = swapped.full_swaps(found, 0.25)
    angle = swapped.by_angle(found, ANGLES, 0.25)
    sizes = [abs(row["shift"]) for row in rows]
    line = 140 * np.polyfit(list(ANGLES.values()), sizes, 1)[0]
    assert angle["change"] == pytest.approx(line)
    of = swapped.swaps_of(found)
    slopes = [
        140
        * np.polyfit(
            list(ANGLES.values()),
            [of[pair][k].shift * np.sign(rows[i]["shift"]) for i, pair in enumerate(ANGLES)],
            1,
        )[0]
        for k in range(6)
    ]
    assert (angle["change_low"], angle["change_high"]) == pytest.approx(
        swaps.interval(slopes, 0.25)
    )
    assert (angle["pairs"], angle["nearest"], angle["farthest"]) == (3, 20, pytest.approx(160))
    told = swapped_words.pairs_in_words([row | {"apart": 9.0} for row in rows], angle)
    assert f"changes by {100 * line:+.1f} points" in told[-1]
    even = dict.fromkeys(ANGLES, 120.0) | {("2", "3"): 120.00000000000001}
    assert swapped.by_angle(found, even, 0.25) is None


def test_a_plan_has_every_combination_and_shares_what_it_can():
    store = Store(None, "content")
    settings = Settings(regions={"1": "0..20,0..20", "2": "180..200,0..20"}, seeds=2, folds=2)
    planned = swap_plan.plan(store, settings)
    assert len(planned) == 5 * (2 + 2)
    assert {str(one.training) for one in planned} == {"1/1", "1/2", "2/1", "2/2", "all/all"}
    (whole,) = {
        one.step.decides["settings"]["regions"]["spiral"]
        for one in planned
        if str(one.training) == "all/all"
    }
    ra, dec = np.array([5.0, 190.0, 100.0]), np.array([5.0, 5.0, 5.0])
    assert Regions.parse(whole).contains(ra, dec).tolist() == [True, True, False]
    digest = {(one.training, one.split): one.step.digest for one in planned}
    assert digest[AWAY, Split(0, None)] == digest[AWAY, Split(0, 0)]
    assert len(set(digest.values())) == 5 * 3
    assert not any(one.step.decides["bundle"] for one in planned)
    whole = swap_audit.audit_step(store, settings, workers=1)
    assert whole is not None
    networks = [step.needs[-1] for step in whole.needs]
    assert len({one.digest for one in networks}) == 2 * settings.audited_seeds
    assert all(one.decides["bundle"] for one in networks)
    splits = [one.decides["settings"]["split"] for one in networks]
    assert all(split == splits[0] for split in splits)
    assert [one.decides["settings"]["seed"] for one in networks] == [*range(6), *range(6)]


@pytest.fixture(scope="module")
def sky() -> Labels:
    """Galaxies of both classes over two regions and the sky around them."""
    random = np.random.default_rng(8)
    ra, dec = random.uniform(0, 60, 4000), random.uniform(0, 40, 4000)
    classes = np.where(random.random(4000) < 0.4, "spiral", "elliptical").astype(object)
    return Labels(np.arange(4000), classes, ("elliptical", "spiral"), ra, dec, "")


def test_what_is_audited_no_audited_network_learnt_from(sky):
    regions = {"a": "0..20,0..20", "b": "20..40,10..30", "c": "45..55,0..30"}
    settings = Settings(
        regions=regions, audited=("a/b", "all/all"), audited_seeds=2, train={"split": {"most": 300}}
    )
    left = swap_audit.unseen(sky.ra, sky.dec, settings)
    whole = swap_audit.audit_step(Store(None, "content"), settings, workers=1)
    networks = [parse_settings(step.needs[-1].decides["settings"], "x") for step in whole.needs]
    for network in networks:
        roles = roles_of(sky, network)
        assert min(np.sum(roles == role) for role in (TRAIN, VALIDATION)) > 50
        assert not np.any(left & np.isin(roles, [TRAIN, VALIDATION]))
        inside = Regions.parse(" + ".join(regions.values())).contains(sky.ra, sky.dec)
        assert np.array_equal(left[inside], roles[inside] == TEST)
        assert left[~inside].all()
    only = replace(settings, audited=("a/b", "b/a"))
    beyond = Regions.parse(regions["c"]).contains(sky.ra, sky.dec)
    assert swap_audit.unseen(sky.ra, sky.dec, only)[beyond].all()
    assert swap_plan.audited(Settings(regions=regions)) == [Training("a", "b"), Training("b", "a")]
    # A network that is to hide the part of the sky sees galaxies of all training tiles.
    hiding = replace(only, train=replace(only.train, adversary=AdversarySettings(order=1)))
    tested = sky_blocked(sky.ra, sky.dec, swap_plan.blocks(hiding, Split(0, None))) == TEST
    assert np.array_equal(swap_audit.unseen(sky.ra, sky.dec, hiding), tested)


def test_the_audited_rows_are_those_of_the_catalog(sky, tmp_path):
    settings = Settings(regions={"a": "0..20,0..20", "b": "20..40,10..30"})
    table = pa.table({"id": sky.rows, "ra": sky.ra, "dec": sky.dec, "label": sky.classes.tolist()})
    pq.write_table(table, tmp_path / "all.parquet", row_group_size=700)
    swap_audit.write_unseen(str(tmp_path / "all.parquet"), tmp_path / "left.parquet", settings)
    left = pq.read_table(tmp_path / "left.parquet")
    assert left.equals(table.filter(pa.array(swap_audit.unseen(sky.ra, sky.dec, settings))))


def test_what_networks_remember_is_not_in_the_audit(sky, tmp_path):
    """Memory makes both trainings differ in training tiles, and there only; the audit sees none."""
    settings = Settings(
        regions={"a": "0..20,0..20", "b": "20..40,10..30"}, audited_seeds=2, effect=0.5
    )
    left = swap_audit.unseen(sky.ra, sky.dec, settings)
    random = np.random.default_rng(1)
    needs, fractions = [], []
    for k in range(4):
        said = np.where(random.random(4000) < 0.1, "spiral", sky.classes)
        said[~left] = "spiral" if k < 2 else "elliptical"
        fractions.append(np.mean(said[left] == "spiral"))
        columns = {"id": sky.rows, "ra": sky.ra, "dec": sky.dec, "label": said.tolist()}
        needs.append(tmp_path / f"annotate-{k}")
        (needs[k] / "catalog").mkdir(parents=True)
        pq.write_table(pa.table(columns), needs[k] / "catalog" / "part.parquet")
    whole = swap_audit.audit_step(Store(None, "content"), settings, workers=1)
    whole.make(tmp_path, needs, Silent())
    document = swap_audit.read_audit(tmp_path)
    swap = document["compared"]["swap"]
    assert swap["objects"] == left.sum()
    difference = np.mean(fractions[:2]) - np.mean(fractions[2:])
    assert swap["difference"] == pytest.approx(difference, abs=1e-9)
    told = swap_audit.in_words(document, settings, 4000)
    assert f"Audited are the {left.sum():,} of 4,000 galaxies" in told[0]
    assert f"{100 * difference:+.1f} points" in told[1]


def test_a_single_training_may_have_more_splits_than_the_others():
    regions = {"1": "0..20,0..20", "2": "180..200,0..20"}
    few = Settings(regions=regions, seeds=2, folds=1)
    more = swap_plan.plan(Store(None, "content"), replace(few, seeds_of={"1/2": 5, "2/1": 1}))
    splits = Counter(str(one.training) for one in more)
    assert splits == {"1/1": 3, "1/2": 6, "2/1": 3, "2/2": 3, "all/all": 3}
    there = {one.step.digest for one in swap_plan.plan(Store(None, "content"), few)}
    assert there < {one.step.digest for one in more}
    with pytest.raises(InputError, match=r"seeds_of '1/9': expected some of 1/1, 1/2"):
        swap_plan.plan(Store(None, "content"), replace(few, seeds_of={"1/9": 5}))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(regions={"1": "0..20,0..20"}), "two or more"),
        (Settings(regions={"a/b": "0..20,0..20", "c": "0..20,20..30"}), "without '/'"),
        (Settings(regions={"a": "0..20", "c": "0..20,20..30"}), "is not RA0..RA1"),
        (Settings(regions={"a": "110..180,0..9", "b": "120..190,5..20"}), "a and b overlap"),
        (Settings(regions={"a": "350..10,0..9", "b": "5..20,0..9"}), "a and b overlap"),
        (Settings(regions={"a": "0..9,0..9", "b": "0..9,0..9"}), "a and b overlap"),
    ],
)
def test_regions_that_cannot_be_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        swap_plan.regions_of(settings)


def test_regions_that_touch_do_not_overlap():
    swap_plan.regions_of(Settings(regions={"a": "350..10,0..9", "b": "10..20,0..9"}))
    swap_plan.regions_of(Settings(regions={"a": "0..10,0..9", "b": "0..10,9..20"}))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"folds": 6}, "folds 6: with split.test = 0.2 there are 5"),
        ({"train": {"regions": {"spiral": "0..20,0..20"}}}, r"\[train\] regions: the swap decides"),
        ({"train": {"seed": 3}}, r"\[train\] seed: the swap decides"),
        ({"train": {"split": {"order": 4}}}, "set order beside"),
        ({"train": {"split": {"tested": ["0..20,0..20"]}}}, r"\[train\] split.tested"),
    ],
)
def test_settings_that_the_swap_decides_are_refused(changed, said):
    settings = parse(Settings, changed, "x.toml")
    with pytest.raises(InputError, match=said):
        swap_plan.plan(Store(None, "content"), settings)


def test_another_network_has_its_own_sizes():
    settings = parse(Settings, {"train": {"model": "equivariant", "epochs": 3}}, "x.toml")
    assert (settings.train.model, settings.train.shape) == ("equivariant", EquivariantShape())
    assert (settings.train.epochs, settings.train.split.most) == (3, 1000)
    sized = {"train": {"model": "equivariant", "shape": {"size": 32}}}
    assert parse(Settings, sized, "x.toml").train.shape.size == 32
    same = parse(Settings, {"train": {"model": "shamir"}}, "x.toml")
    assert same.train == Settings().train


def test_a_training_of_no_region_is_refused():
    with pytest.raises(InputError, match=r"audited '1/9': expected some of 1/1, 1/2"):
        swap_plan.audited(Settings(audited=("1/9", "2/1")))


@pytest.mark.parametrize(("condition", "sign"), [("seeing", 1), ("background", 1), ("depth", -1)])
def test_a_condition_is_worse_for_ellipticals_and_where_few_spirals_are_to_seem(condition, sign):
    settings = worlds.Settings(condition=condition, difference=0.2, imitation=0.1)
    seen = worlds.survey(settings, worlds.WORLDS["classifier"], 0)
    assert (seen.training.condition, seen.imitated) == (condition, condition)
    assert seen.training.difference == sign * 0.2
    assert (seen.imitate.amplitude, seen.imitate.ra) == (-0.1, worlds.AXIS[0])


def test_the_worlds_are_what_they_say():
    settings = worlds.Settings()
    rights = {name: world.right for name, world in worlds.WORLDS.items()}
    assert rights == {
        "null": ("uniform", None),
        "sky": ("anisotropic", "sky"),
        "classifier": ("anisotropic", "classifier"),
        "both": ("anisotropic", "both"),
    }
    for name, world in worlds.WORLDS.items():
        seen = worlds.survey(settings, world, 3)
        assert (seen.dipole is not None) == (name in ("sky", "both"))
        assert (seen.training is not None) == (name in ("classifier", "both"))
        learnt = worlds.training_sky(settings, 3, bias=world.bias)
        assert learnt.dipole is None
        assert (learnt.imitate, learnt.training) == (seen.imitate, seen.training)
        assert learnt.seed != seen.seed


def test_the_default_worlds_can_be_told_apart():
    settings = worlds.Settings()
    alone, alarm = worlds.power(settings.galaxies, settings.alpha)
    assert alone.mean < settings.effect  # else the null could not be called uniform
    assert alarm.best < settings.dipole / 2
    quarter, _ = worlds.power(4 * settings.galaxies, settings.alpha)
    assert quarter.mean == pytest.approx(alone.mean / 2, rel=1e-6)
