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

from catalogs.config import parse
from catalogs.errors import InputError
from catalogs.sky import Region, Regions
from experiments import fields, swap_audit, swap_plan, swaps, worlds
from experiments.networks import Store
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
    assert swaps.resampled_t([0.1, 0.1], 0.25) is None


def test_one_network_on_two_regions():
    # Table 6 against 7: the same network; z 1.07, not significant.
    six = answered(HOME, "1", [[7749, 251], [408, 7592]])
    seven = answered(HOME, "2", [[7791, 209], [462, 7538]])
    (row,) = swaps.two_regions([six, seven], 0.2)
    assert row["difference"] == pytest.approx(0.006, abs=1e-9)
    assert row["z"] == pytest.approx(1.07, abs=0.01)
    assert row["true_difference"] == 0


def test_spread_over_splits():
    pair = [answered(HOME, "1", [[90, 10], [20 + k, 80 - k]], f"seed {k}") for k in (0, 4)]
    (row,) = swaps.spread(swaps.matrices(pair))
    assert (row["splits"], row["se_mean"], row["se_most"], row["es_most"]) == (2, 22, 24, 10)
    assert row["tpr_sd"] == pytest.approx(np.std([0.8, 0.76], ddof=1))


def test_fields_are_measured_as_they_are():
    regions = {"a": Region.parse("350..10,-10..30"), "b": Region.parse("180..200,20..40")}
    a, b = SkyCoord([0, 190] * u.deg, [10, 30] * u.deg)
    assert fields.apart(*regions.values()) == pytest.approx(a.separation(b).deg)
    assert fields.square_degrees(Region(0, 360, -90, 90)) == pytest.approx(41252.96, abs=0.01)
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
    mixed = [{"region": str(k), "quantity": "q", "mean": float(k**2)} for k in range(5)]
    bias = {(str(i), str(j)): float(j - i) for i in range(5) for j in range(i + 1, 5)}
    (row,) = fields.against_bias(mixed, bias)
    sizes = [int(j) ** 2 - int(i) ** 2 for i, j in bias]
    assert row["rank_correlation"] == pytest.approx(
        stats.spearmanr(sizes, list(bias.values())).statistic
    )


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
