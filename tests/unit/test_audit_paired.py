"""Two networks, or two groups of seeds, on the same objects."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import healpy
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportions_ztest

from catalogs import sky
from catalogs.audit.comparison.paired import (
    difference_over_the_sky,
    difference_tiles,
    gather_pairs,
    in_cap,
    shift,
    skill,
)
from catalogs.audit.comparison.swap import gather_seeds, judge_swap, seeds_in_cap
from catalogs.audit.reading.answers import Tally, find_columns, iter_answers
from catalogs.audit.reading.covariates import Covariates
from catalogs.audit.reading.others import Lookup, Other
from catalogs.audit.reading.table import read as read_all
from catalogs.audit.region import Cap
from catalogs.audit.report import document as documents
from catalogs.audit.report import paired_document
from catalogs.audit.report.figures import differences
from catalogs.audit.report.page import environment
from catalogs.audit.run import audit, summary_lines
from catalogs.audit.settings import AuditSettings
from catalogs.errors import InputError
from catalogs.progress import Silent

FAST = AuditSettings(simulations=1000)
BOX = sky.Region(0, 20, 0, 20)
ROOT = Path(__file__).resolve().parents[2]
NAMES = np.array(["elliptical", "spiral"])


def objects(number: int = 40_000, seed: int = 1, extra: float = 0.0) -> dict[str, np.ndarray]:
    """Positions and truth; ``extra`` spirals in the box."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 50, number), rng.uniform(-15, 25, number)
    spiral = rng.random(number) < 0.49 + extra * BOX.contains(ra, dec)
    return {"id": np.arange(number) + 7, "ra": ra, "dec": dec, "spiral": spiral}


def answers(
    sky_: dict[str, np.ndarray], seed: int, tpr: float = 0.95, lost: float = 0.0
) -> np.ndarray:
    """0/1 of a network that misses ``lost`` more of the spirals in the box."""
    rng = np.random.default_rng(seed)
    inside = BOX.contains(sky_["ra"], sky_["dec"])
    found = rng.random(len(inside)) < np.where(sky_["spiral"], tpr - lost * inside, 0.03)
    return found.astype(np.int64)


def table(sky_: dict[str, np.ndarray], found: np.ndarray, **more: np.ndarray) -> pa.Table:
    places = {name: sky_[name] for name in ("id", "ra", "dec")}
    return pa.table({**places, "label": NAMES[found], **more})


def hats(folder: Path, rows: pa.Table, order: int) -> Path:
    """Write a HATS catalog with the pixels of one order."""
    tile = sky.tile_of(rows["ra"].to_numpy(), rows["dec"].to_numpy(), order)
    for number in np.unique(tile):
        place = folder / "dataset" / f"Norder={order}" / "Dir=0"
        place.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows.filter(pa.array(tile == number)), place / f"Npix={number}.parquet")
    (folder / "hats.properties").write_text(f"hats_nrows={rows.num_rows}\n")
    return folder


def stream(*columns: np.ndarray, sky_: dict[str, np.ndarray]):
    pixels = sky.tile_of(sky_["ra"], sky_["dec"], 29)
    values = np.stack([np.asarray(column, float) for column in columns], axis=1)
    return lambda: iter([(pixels[:9000], values[:9000]), (pixels[9000:], values[9000:])])


def test_shifts_agree_with_statsmodels_and_with_the_papers() -> None:
    # Dhar & Shamir 2022, tables 6 and 3: 7843 and 7394 of 16,000 spirals; the overlap is ours.
    both = 7100
    counts = np.array([[16000 - 7394 - 7843 + both, 7843 - both], [7394 - both, both]])
    found = shift(counts)
    assert found is not None
    assert (found.audited, found.other, found.n) == (7394, 7843, 16000)
    # Golden values: exact two-sided binomial, and two-sample.
    assert found.binomial_p == pytest.approx(1.2260391345556124e-12, rel=1e-6)
    assert found.two_sample_p == pytest.approx(5.016248121122e-07, rel=1e-9)
    assert found.two_sample_p == pytest.approx(proportions_ztest([7394, 7843], [16000] * 2)[1])
    assert found.mcnemar_p == pytest.approx(mcnemar(counts, exact=True).pvalue)
    assert found.mcnemar_z**2 == pytest.approx(
        mcnemar(counts, exact=False, correction=False).statistic
    )
    d = np.repeat([1, -1, 0], [294, 743, 16000 - 1037])
    half = 1.959964 * d.std() / np.sqrt(16000)
    assert found.interval == pytest.approx((d.mean() - half, d.mean() + half), abs=1e-8)
    assert shift(np.zeros((2, 2), np.int64)) is None


def test_pairs_are_made_by_id_in_memory_and_pixel_by_pixel(tmp_path: Path) -> None:
    sky_ = objects(20_000)
    mine, theirs = answers(sky_, 2), answers(sky_, 3)
    rng = np.random.default_rng(4)
    rows = rng.permutation(20_000)[:15_000]  # in another order, and not all of them
    status = np.where(rng.random(15_000) < 0.1, "blank", "ok")
    other = table(sky_, theirs).take(rows)
    pq.write_table(other, tmp_path / "other.parquet")
    pq.write_table(table(sky_, mine), tmp_path / "mine.parquet")
    asked = other.append_column("status", pa.array(status)).append_column(
        "_healpix_29", pa.array(sky.tile_of(*(other[c].to_numpy() for c in ("ra", "dec")), 29))
    )
    text = other.set_column(0, "id", other["id"].cast(pa.string()))
    pq.write_table(text, tmp_path / "text.parquet")
    cases = {
        "other.parquet": np.ones(15_000, bool),
        "text.parquet": np.ones(15_000, bool),
        "fine": status == "ok",
        "coarse": status == "ok",
    }
    hats(tmp_path / "fine", asked, 4)
    hats(tmp_path / "coarse", asked, 1)
    for name, usable in cases.items():
        beside = Other(str(tmp_path / name), tmp_path / "mine.parquet", FAST)
        source = hats(tmp_path / f"mine_{name}", table(sky_, mine), 2)
        columns = find_columns(source, FAST)
        kept = list(iter_answers(source, columns, FAST, Tally(), [beside]))
        pixels, values, _ = (np.concatenate(part) for part in zip(*kept, strict=True))
        assert beside._source.__class__.__name__ == (
            "ParquetTable" if name.endswith("parquet") else "HatsCatalog"
        )
        expected = dict(
            zip(
                sky.tile_of(sky_["ra"], sky_["dec"], 29)[rows[usable]],
                theirs[rows[usable]],
                strict=True,
            )
        )
        assert len(pixels) == 20_000
        for pixel, value in zip(pixels.tolist(), values[:, 1].tolist(), strict=True):
            assert expected.get(pixel, -1) == (-1 if np.isnan(value) else value)


def test_the_first_of_an_id_counts() -> None:
    lookup = Lookup(pa.array([5, 3, 5]), np.array([1.0, 0.0, 0.0]))
    np.testing.assert_array_equal(lookup.find(pa.array([5, 4, 3, None])), [1, np.nan, 0, np.nan])
    words = Lookup(pa.array(["b", "a", "b", None]), np.array([1.0, 0.0, 0.0, 1.0]))
    np.testing.assert_array_equal(
        words.find(pa.array(["a", "c", "b", None])), [0, np.nan, 1, np.nan]
    )
    # 7 is "7" and not "007"; a number may be looked up among words, and the other way round.
    mixed = Lookup(pa.array(["7", "007", "x"]), np.array([0.0, 1.0, 0.5]))
    assert not mixed.ids.whole_numbers
    np.testing.assert_array_equal(mixed.find(pa.array([7, 8])), [0, np.nan])
    digits = Lookup(pa.array(["12", "7"]), np.array([0.0, 1.0]))
    assert digits.ids.whole_numbers
    np.testing.assert_array_equal(digits.find(pa.array([7, 12, -1])), [1, 0, np.nan])
    np.testing.assert_array_equal(digits.find(pa.array(["07", "7"])), [np.nan, 1])


def test_a_real_dipole_cancels_in_the_difference_and_a_lost_region_does_not() -> None:
    sky_ = objects(extra=0.15)
    mine, same, lost = answers(sky_, 2), answers(sky_, 3), answers(sky_, 4, lost=0.1)
    cap = Cap(10, 10, 12)
    rows = stream(mine, same, lost, sky_=sky_)
    real = gather_pairs(rows, 1, None, 5)
    found = difference_over_the_sky(real, 3, FAST)
    assert found is not None
    assert found.scan_p > 0.05
    assert found.dipole_p > 0.05
    seen = in_cap(real, cap)
    assert seen is not None
    assert seen.audited > 0.05
    assert seen.shared
    assert not paired_document.explained([seen])
    changed = gather_pairs(rows, 2, None, 5)
    found = difference_over_the_sky(changed, 3, FAST)
    assert found is not None
    assert found.scan_p < 0.01
    assert found.cap is not None
    assert found.cap.contains(10, 10).all()
    assert found.cap_difference == pytest.approx(0.06, abs=0.02)
    # Counts are those of a plain table of both.
    assert changed.counts is not None
    plain = np.histogram2d(mine, lost, bins=2)[0]
    np.testing.assert_array_equal(changed.counts[0], plain)
    assert difference_over_the_sky(gather_pairs(rows, 0, None, 5), 3, FAST) is None


@pytest.mark.parametrize("rates", [(0.7, 0.68), (0.45, 0.55)])
def test_a_poorer_network_or_a_coin_explains_no_real_patch(rates: tuple[float, float]) -> None:
    """A real patch shows less in poorer answers; their rates are the same everywhere."""
    sky_ = objects(extra=0.15)
    spiral, rng = sky_["spiral"], np.random.default_rng(5)
    poor = (rng.random(len(spiral)) < np.where(spiral, rates[0], 1 - rates[1])).astype(int)
    label = np.where(rng.random(len(spiral)) < 0.1, spiral, np.nan)
    pairs = gather_pairs(stream(answers(sky_, 2), poor, label, sky_=sky_), 1, 2, 5)
    seen = in_cap(pairs, Cap(10, 10, 12))
    assert seen is not None
    assert seen.other_interval[1] < seen.audited / 2
    assert seen.shared
    assert not paired_document.explained([seen])
    found = skill(pairs.counts)
    assert found is not None
    assert found.other == pytest.approx(sum(rates) - 1, abs=4 * found.errors[1])
    assert found.usable == (sum(rates) > 1.1)
    if found.usable:
        assert seen.difference_p is not None
        picked = in_cap(pairs, Cap(10, 10, 12), among=3)
        assert picked == replace(seen, difference_p=min(1.0, 3 * seen.difference_p))
    # The same by labels drawn anew: a and b are independent given the truth.
    drawn = rng.binomial(np.array([[2000], [2000]]), [[rates[0]], [1 - rates[1]]], (2, 4000))
    spread = (drawn[0] - drawn[1]).std() / 2000
    n = pairs.counts[1:].sum() / 2
    assert found.errors[1] == pytest.approx(spread * np.sqrt(2000 / n), rel=0.05)
    # Without labels nothing says how poor it is.
    unknown = in_cap(pairs, Cap(10, 10, 12), blind=False)
    assert unknown is not None
    assert (unknown.difference_p, unknown.shared) == (None, True)


@pytest.mark.parametrize("south", [0.95, 0.6])
def test_seeds_of_unequal_skill_explain_no_real_patch(south: float) -> None:
    sky_ = objects(12_000, extra=0.2)
    truth = sky_["spiral"].astype(float)
    found = [answers(sky_, 80 + i, 0.95 if i < 6 else south) for i in range(12)]
    seen = gather_seeds(stream(found[0], truth, *found, sky_=sky_), slice(2, 14), 1, 5)
    cap = seeds_in_cap(seen, ["north"] * 6 + ["south"] * 6, Cap(10, 10, 12), 0)
    assert cap is not None
    assert cap.true_audited == pytest.approx(cap.audited / (0.95 - 0.03), rel=0.05)
    assert not paired_document.explained([cap])


def test_the_sky_of_equal_networks_seldom_alarms() -> None:
    sky_ = objects(6000)
    fast = AuditSettings(simulations=1000, radii=(15.0, 30.0))
    p = []
    for seed in range(40):
        rows = stream(answers(sky_, 2 * seed), answers(sky_, 2 * seed + 1), sky_=sky_)
        found = difference_over_the_sky(gather_pairs(rows, 1, None, 5), 2, fast)
        assert found is not None
        p.append((found.dipole_p, found.scan_p))
    # Forty uniform p values: Kolmogorov-Smirnov for either test.
    for name in (0, 1):
        assert stats.kstest([pair[name] for pair in p], "uniform").pvalue > 0.001


def test_seeds_are_the_unit_of_a_swap() -> None:
    sky_ = objects(12_000)
    truth = sky_["spiral"].astype(float)
    rng = np.random.default_rng(6)
    fast = AuditSettings(simulations=1000, radii=(10.0, 20.0))

    def swap(seeds: int, lost: float):
        # Seeds differ among themselves, too.
        tprs = rng.normal(0.95, 0.01, 2 * seeds)
        found = [answers(sky_, 50 + i, tpr, lost=lost * (i < seeds)) for i, tpr in enumerate(tprs)]
        rows = stream(found[0], truth, *found, sky_=sky_)
        seen = gather_seeds(rows, slice(2, 2 + 2 * seeds), 1, 5)
        groups = ["north"] * seeds + ["south"] * seeds
        cap = seeds_in_cap(seen, groups, Cap(10, 10, 12), 0)
        return judge_swap(seen, groups, 2, fast), np.array(found), cap

    found, by_seed, cap = swap(6, 0.2)
    assert cap is not None
    # The audited catalog is a seed of the north, whose loss the south does not share.
    assert cap.difference_p == pytest.approx(2 / 924)
    assert paired_document.explained([cap])
    # One of fifty comparisons is no longer rare.
    many = [cap, *[replace(cap, difference_p=0.5)] * 49]
    assert not paired_document.explained(many)
    assert paired_document.adjusted(many)[0] == pytest.approx(50 * 2 / 924)
    (told, *_) = paired_document.reasons([("x", one) for one in many])
    assert "(p of the difference 0.11 after Holm over 50)" in told
    cells = healpy.pix2ang(
        16,
        healpy.ang2pix(16, sky_["ra"], sky_["dec"], nest=True, lonlat=True),
        nest=True,
        lonlat=True,
    )
    inside = Cap(10, 10, 12).contains(*cells)
    effects = by_seed[:, inside].mean(axis=1) - by_seed[:, ~inside].mean(axis=1)
    assert cap.audited == pytest.approx(effects[0])
    assert cap.other == pytest.approx(effects[6:].mean())
    assert found.names == ("north", "south")
    assert found.scan_p == pytest.approx(2 / 924)
    assert found.cap is not None
    assert found.cap.contains(10, 10).all()
    rates = (by_seed * truth).sum(axis=1) / truth.sum()
    welch = stats.ttest_ind(rates[:6], rates[6:], equal_var=False)
    assert found.tpr == pytest.approx((rates[:6].mean(), rates[6:].mean(), welch.pvalue))
    # The difference of mean fractions, permuted over seeds, is scipy's permutation test.
    fractions = by_seed.mean(axis=1)
    expected = stats.permutation_test(
        (fractions[:6], fractions[6:]), lambda a, b: np.mean(a) - np.mean(b), n_resamples=np.inf
    )
    assert found.fraction_p == pytest.approx(expected.pvalue)
    even, _, cap = swap(6, 0.0)
    assert even.scan_p > 0.01
    assert cap is not None
    assert not paired_document.explained([cap])
    few, _, cap = swap(5, 0.2)
    assert cap is None
    assert (few.fraction_p, few.dipole_p, few.scan_p) == (None, None, None)


def test_an_audit_compares_and_names_the_classifier(tmp_path: Path) -> None:
    """The audited network loses spirals in the box, another one on the same objects does not."""
    sky_ = objects(40_000)
    rng = np.random.default_rng(8)
    known = rng.random(40_000) < 0.2
    truth = pa.array(NAMES[sky_["spiral"].astype(int)], mask=~known)
    # Too few labels to compare the region by, enough to measure both networks.
    few = pa.array(NAMES[sky_["spiral"].astype(int)], mask=rng.random(40_000) > 0.008)
    mine, theirs = answers(sky_, 2, lost=0.25), answers(sky_, 3)
    pq.write_table(table(sky_, mine, truth=truth, few=few), tmp_path / "mine.parquet")
    other = hats(tmp_path / "other", table(sky_, theirs), 3)
    seeds = []
    for i in range(4):
        pq.write_table(table(sky_, answers(sky_, 10 + i)), tmp_path / f"s{i}.parquet")
        seeds.append(f"{'ab'[i % 2]}={tmp_path}/s{i}.parquet")
    result = audit(
        tmp_path / "mine.parquet",
        tmp_path / "mine.audit",
        AuditSettings(simulations=1000, compare=(str(other),), swap=tuple(seeds), truth="few"),
    )
    document = json.loads((result.folder / "audit.json").read_text())
    assert document == result.document
    assert (document["verdict"], document["cause"]) == ("anisotropic", "classifier")
    assert document["labels"]["attribution"]["cause"] == "undetermined"
    assert document["cause_basis"] == "comparison"
    assert "whether the sky varies as well was not asked" in documents.headline(document)
    pair = document["compared"]["catalogs"][0]
    assert pair["objects"] == 40_000
    assert pair["answers"]["only_other"] == np.sum((theirs == 1) & (mine == 0))
    assert pair["sky"]["scan_p"] < 0.01
    assert not pair["in_cap"]["shared"]
    path = result.folder / "differences.fits"
    n, difference, z = healpy.read_map(path, field=None, nest=True, dtype=np.float64)
    nside = healpy.npix2nside(len(n))
    tile = healpy.ang2pix(nside, sky_["ra"], sky_["dec"], nest=True, lonlat=True)
    expected = np.bincount(tile, mine - theirs, minlength=len(n))
    np.testing.assert_array_equal(n, np.bincount(tile, minlength=len(n)))
    np.testing.assert_allclose(difference[n > 0], expected[n > 0] / n[n > 0])
    assert np.all(difference[n == 0] == healpy.UNSEEN)
    assert tile[BOX.contains(sky_["ra"], sky_["dec"])][0] in np.flatnonzero(np.abs(z) > 4)
    assert fits.getheader(path, 1)["CATALOG"] == str(other)
    # The report's map has the same at the testing order, of tiles with enough objects.
    part = pair["tiles"]
    at = healpy.ang2pix(part["nside"], sky_["ra"], sky_["dec"], nest=True, lonlat=True)
    count = np.bincount(at)
    assert part["tile"] == np.flatnonzero(count >= 100).tolist()
    mean = np.bincount(at, mine - theirs)[part["tile"]] / count[part["tile"]]
    np.testing.assert_allclose(part["difference"], mean, atol=1e-9)
    most = int(np.argmax(np.abs(part["z"])))
    here, centred = at == part["tile"][most], mine - theirs - np.mean(mine - theirs)
    of_sum = np.where(here, 1.0, 0.0) - here.mean()  # how much an object weighs in tile minus sky
    z = of_sum @ centred / np.sqrt(of_sum**2 @ centred**2)
    assert part["z"][most] == pytest.approx(z, rel=0.05)
    assert document["compared"]["swap"]["scan_p"] is None
    assert "2 and 2 seeds are fewer than 6" in document["compared"]["swap"]["claim"]
    text = result.report.read_text(encoding="utf-8")
    assert "Other networks on the same objects" in text
    assert "Two training skies" in text
    assert f"in {len(mean)} tiles at nside {part['nside']}" in text
    assert 'id="difference0-t"' in text
    assert any("McNemar" in line for line in summary_lines(result))
    # With labels the papers' table is made, too.
    asked = AuditSettings(simulations=1000, compare=(str(other),), truth="truth")
    read = read_all(tmp_path / "mine.parquet", asked, Covariates((), [], ""), Silent())
    tiles = difference_tiles(read.pairs[0], 2, 100)
    pair = paired_document.build_pair("other", read.pairs[0], tiles, None, None)
    t, m, o = sky_["spiral"][known], mine[known], theirs[known]
    for name, found in (("audited", m), ("other", o)):
        matrix = [[int(np.sum((t == i) & (found == j))) for j in (0, 1)] for i in (0, 1)]
        assert pair["confusion"][name]["matrix"] == matrix
        assert pair["confusion"][name]["fraction"] == pytest.approx(found.mean())
    assert pair["members"]["n"] == t.sum()
    assert pair["others"]["audited"] == np.sum(m[~t])
    paired_document.correct_for_number([pair])
    page = (
        environment()
        .get_template("compared.html.j2")
        .render(
            d={
                "compared": {"catalogs": [documents.plain(pair)], "swap": None},
                "settings": {"answer": "<b>"},
            },
            pair_lines=paired_document.pair_lines,
            differences=differences.draw([documents.plain(pair)], 0.0),
        )
    )
    assert f'<td class="r">{np.sum(m[~t]):,}</td>' in page
    assert "true &lt;b&gt;" in page


@pytest.mark.parametrize("how", ["compare", "swap"])
def test_the_other_network_may_be_the_one_that_varies(how: str, tmp_path: Path) -> None:
    """The sky varies in the box; the audited network does not, and the other hides it there."""
    sky_ = objects(16_000, extra=0.25)
    rng = np.random.default_rng(9)
    inside = Cap(10, 10, 25).contains(sky_["ra"], sky_["dec"])
    truth = NAMES[sky_["spiral"].astype(int)]
    far = pa.array(truth, mask=inside | (rng.random(16_000) > 0.5))
    mine, hides = answers(sky_, 2), answers(sky_, 3, lost=0.34)
    pq.write_table(table(sky_, mine, truth=far), tmp_path / "mine.parquet")
    pq.write_table(table(sky_, hides), tmp_path / "other.parquet")
    asked: dict[str, tuple[str, ...]] = {"compare": (f"{tmp_path}/other.parquet",)}
    if how == "swap":
        seeds = []
        for i in range(12):
            lost = 0.34 * (i % 2)
            pq.write_table(table(sky_, answers(sky_, 20 + i, lost=lost)), tmp_path / f"{i}.parquet")
            seeds.append(f"{'ab'[i % 2]}={tmp_path}/{i}.parquet")
        asked = {"swap": tuple(seeds)}
    settings = AuditSettings(
        simulations=1000,
        radii=(15.0, 30.0),
        truth="truth",
        **asked,  # type: ignore[arg-type]
    )
    document = audit(tmp_path / "mine.parquet", tmp_path / "mine.audit", settings).document
    assert (document["verdict"], document["cause"]) == ("anisotropic", "undetermined")
    assert document["cause_places"] == []
    assert "one of the networks varies in that cap" in document["reasons"][-1]


def test_several_comparisons_are_several_chances() -> None:
    sky_ = objects(6000)
    rows = stream(*(answers(sky_, seed) for seed in (2, 3, 4)), np.arange(6000) % 2, sky_=sky_)
    found = []
    for column in (1, 2, 0, 3):
        pairs = gather_pairs(rows, column, None, 5)
        tiles, sky_test = difference_tiles(pairs, 2, 100), difference_over_the_sky(pairs, 2, FAST)
        found.append(paired_document.build_pair("other", pairs, tiles, sky_test, None))
    paired_document.correct_for_number(found)
    p = [pair["answers"]["mcnemar_p"] for pair in found]
    after = [pair["answers"]["mcnemar_p_holm"] for pair in found]
    np.testing.assert_allclose(after, multipletests(p, method="holm")[1])
    varying = [pair["sky"] for pair in found if pair["sky"] is not None]
    assert len(varying) == 3  # a network does not differ from itself
    p = [one["scan_p"] for one in varying]
    after = [one["scan_p_holm"] for one in varying]
    np.testing.assert_allclose(after, multipletests(p, method="holm")[1])
    told = paired_document.pair_lines(found[0], len(found))[0]
    p_holm = found[0]["answers"]["mcnemar_p_holm"]
    assert told.endswith(f", after Holm over the 4 comparisons {p_holm:.3g}")
    assert "after Holm" not in "".join(paired_document.pair_lines(found[0]))


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    sky_ = objects(500)
    pq.write_table(table(sky_, answers(sky_, 2)), tmp_path / "mine.parquet")
    pq.write_table(table(sky_, answers(sky_, 2)).drop_columns("id"), tmp_path / "no.parquet")
    with pytest.raises(InputError, match="no id column"):
        Other(str(tmp_path / "no.parquet"), tmp_path / "mine.parquet", FAST)
    with pytest.raises(InputError, match=r"none\.parquet"):
        Other(str(tmp_path / "none.parquet"), tmp_path / "mine.parquet", FAST)
    strangers = table({**sky_, "id": sky_["id"] + 10**6}, answers(sky_, 2))
    pq.write_table(strangers, tmp_path / "far.parquet")
    far = str(tmp_path / "far.parquet")
    for asked, message in (
        (AuditSettings(compare=(far,)), "no object of"),
        (AuditSettings(swap=(f"a={far}", f"b={far}")), "answered by all"),
    ):
        with pytest.raises(InputError, match=message):
            read_all(tmp_path / "mine.parquet", asked, Covariates((), [], ""), Silent())
    for swap in (("a=x", "b=y", "c=z"), ("a",), ("a=x",)):
        with pytest.raises(InputError, match="two groups"):
            AuditSettings(swap=swap)


def test_repeated_flags_come_from_a_file_too(tmp_path: Path) -> None:
    sky_ = objects(3000)
    for name, seed in (("mine", 2), ("b", 3), ("c", 4)):
        pq.write_table(table(sky_, answers(sky_, seed)), tmp_path / f"{name}.parquet")
    others = [str(tmp_path / f"{name}.parquet") for name in "bc"]
    (tmp_path / "run.toml").write_text(
        f"compare = {others!r}\nswap = ['x={others[0]}', 'y={others[1]}']"
    )
    command = [sys.executable, "-m", "skytally", "audit", f"{tmp_path}/mine.parquet"]
    command += ["--to", f"{tmp_path}/a.audit", "--config", f"{tmp_path}/run.toml", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout.splitlines()[-1])["verdict"] in ("uniform", "insufficient")
    compared = json.loads((tmp_path / "a.audit" / "audit.json").read_text())["compared"]
    assert [pair["catalog"] for pair in compared["catalogs"]] == others
    assert compared["swap"]["seeds"] == [1, 1]


def test_few_objects_that_differ_one_way_are_no_pattern_on_the_sky() -> None:
    """The other network says yes of 1% of objects more, wherever they lie."""
    rng = np.random.default_rng(90)
    found = 0
    for _ in range(12):
        ra, dec = rng.uniform(110, 265, 60_000), rng.uniform(0, 60, 60_000)
        a = (rng.random(60_000) < 0.5).astype(float)
        b = np.where((a == 0) & (rng.random(60_000) < 0.02), 1.0, a)
        rows = [(sky.tile_of(ra, dec, 29), np.column_stack([a, b]))]
        pairs = gather_pairs(lambda rows=rows: iter(rows), 1, None, 5)
        tested = difference_over_the_sky(pairs, 3, replace(FAST, radii=(10.0, 20.0, 90.0)))
        assert tested is not None
        found += tested.scan_p is not None and tested.scan_p < 0.05
    assert found < stats.binom(12, 0.05).isf(1e-3) + 1
