"""Weighted answers: Kish's effective number, weighted means, tests that keep their size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import statsmodels.api as sm
from scipy import stats

from catalogs import sky
from catalogs.audit.comparison.paired import Pairs, gather_pairs
from catalogs.audit.conditions.nuisances import Evidence, gather
from catalogs.audit.labels import labelled
from catalogs.audit.labels.prediction_powered import corrected_fraction
from catalogs.audit.run import audit
from catalogs.audit.settings import AuditSettings
from catalogs.audit.uniformity.analysis import analyse
from catalogs.audit.uniformity.battery import Battery
from catalogs.audit.uniformity.tiles import TileAccumulator, TileCounts, order_to_test
from catalogs.errors import InputError


def positions(number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(0, 360, number), np.degrees(np.arcsin(rng.uniform(-1, 1, number)))


def counted(pixels: np.ndarray, y: np.ndarray, w: np.ndarray) -> TileCounts:
    tiles = TileAccumulator(5)
    for part in np.array_split(np.arange(len(y)), 5):
        tiles.add(pixels[part], y[part], w[part])
    return tiles.counts()


def test_numbers_are_effective_and_fractions_weighted_means() -> None:
    rng = np.random.default_rng(70)
    pixels = sky.tile_of(*positions(300_000, rng), 29)
    y, w = (rng.random(300_000) < 0.3).astype(float), rng.lognormal(0, 0.6, 300_000)
    counts = counted(pixels, y, w)
    assert counts.mean == pytest.approx(np.average(y, weights=w))
    assert counts.n.sum() == pytest.approx(w.sum() ** 2 / (w**2).sum())
    fine = counts.merged(3)
    tile = pixels >> (2 * 26)
    whole = np.bincount(tile, w)
    np.testing.assert_allclose(fine.k / fine.n, np.bincount(tile, w * y) / whole)
    np.testing.assert_allclose(fine.n, whole * w.sum() / (w**2).sum())
    assert counts.variance == pytest.approx(counts.mean * (1 - counts.mean))


def test_equal_weights_change_nothing() -> None:
    rng = np.random.default_rng(71)
    pixels = sky.tile_of(*positions(20_000, rng), 29)
    y = (rng.random(20_000) < 0.3).astype(float)
    plain = TileAccumulator(5)
    plain.add(pixels, y)
    found, expected = counted(pixels, y, np.full(20_000, 2.5)), plain.counts()
    np.testing.assert_array_equal(found.n, expected.n)
    np.testing.assert_allclose(found.k, expected.k)
    assert found.variance == pytest.approx(expected.variance)
    assert plain.uneven_weights() == 1


def test_tests_keep_their_size() -> None:
    rng = np.random.default_rng(72)
    pixels = sky.tile_of(*positions(30_000, rng), 29)
    w = rng.lognormal(0, 0.7, 30_000)
    found, tested = [], 0
    for _ in range(80):
        counts = counted(pixels, (rng.random(30_000) < 0.4).astype(float), w)
        battery = Battery(counts, 2, AuditSettings(min_n=50, radii=(90.0,)))
        tested = len(battery.n)
        found.append(battery.statistics(battery.cells.k[None]))
    assert tested > 180
    x2 = np.array([one.x2[0] for one in found])
    assert x2.mean() == pytest.approx(tested - 1, abs=3 * np.sqrt(2 * tested / 80))
    dipole = np.array([one.dipole[0] for one in found])
    assert dipole.mean() == pytest.approx(3, abs=3 * np.sqrt(6 / 80))


def test_tests_do_not_alarm_where_weights_scatter_on_one_side_only() -> None:
    """Answers do not depend on position or weight; errors of one side are 1.6 times as large."""
    rng = np.random.default_rng(76)
    ra, dec = positions(60_000, rng)
    pixels = sky.tile_of(ra, dec, 29)
    found, tested = [], 0
    settings = AuditSettings(min_n=100, radii=(30.0,), simulations=1000)
    for _ in range(20):
        w = np.where(ra < 120, rng.lognormal(0, 1, 60_000), 1.0)
        counts = counted(pixels, (rng.random(60_000) < 0.45).astype(float), w)
        battery = Battery(counts, 1, settings)
        tested += len(battery.n)
        found.append(battery.statistics(battery.cells.k[None]))
    null = battery.statistics(battery.permuted(0.45 * counts.n.sum(), 1000, rng)).scan
    # A few large weights hide that variances differ: then tests are cautious, never the reverse.
    x2 = sum(one.x2[0] for one in found)
    assert 0.7 * (tested - 20) < x2 < tested - 20 + 3 * np.sqrt(2 * tested)
    dipole = np.mean([one.dipole[0] for one in found])
    assert 1.5 < dipole < 3 + 3 * np.sqrt(6 / 20)
    scan = np.mean([one.scan[0] for one in found])
    assert null.mean() - 0.8 < scan < null.mean() + 3 * null.std() / np.sqrt(20)


@pytest.mark.parametrize("kind", ["weights go with the answer", "rare", "surer in one place"])
def test_even_skies_of_skewed_answers_seldom_alarm(kind: str, monkeypatch) -> None:
    """Nothing varies; 1/Vmax weights, a rare class' probabilities, or their spread do."""
    monkeypatch.setattr(Battery, "correlated", lambda *_: None)  # decides nothing, and is slow
    rng, n, skies = np.random.default_rng(77), 40_000, 12
    settings = AuditSettings(simulations=1000, radii=(20.0, 90.0))
    alarms = 0
    for _ in range(skies):
        ra, dec = positions(n, rng)
        y, w = (rng.random(n) < 0.1).astype(float), None
        if kind == "weights go with the answer":
            w = np.where(y > 0, rng.lognormal(1.5, 1, n), rng.lognormal(0, 0.3, n))
        else:
            mean, sd = (0.03, 0.12) if kind == "rare" else (0.45, np.where(dec > 50, 0.48, 0.2))
            size = mean * (1 - mean) / sd**2 - 1
            y = rng.beta(mean * size, (1 - mean) * size, n)
        tiles = TileAccumulator(5)
        tiles.add(sky.tile_of(ra, dec, 29), y, w)
        alarms += analyse(tiles.counts(), settings).verdict.verdict == "anisotropic"
    # Of a level of .05 so many or more come by chance once in a thousand.
    assert alarms < stats.binom(skies, 0.05).isf(1e-3) + 1


def test_a_small_alpha_is_decided_or_refused() -> None:
    rng = np.random.default_rng(79)
    ra, dec = positions(100_000, rng)
    y = (rng.random(100_000) < 0.5 + 0.05 * np.sin(np.radians(dec))).astype(float)
    tiles = TileAccumulator(5)
    tiles.add(sky.tile_of(ra, dec, 29), y)
    settings = AuditSettings(alpha=0.001, radii=(90.0,))
    assert settings.simulations == 8000
    assert analyse(tiles.counts(), settings).verdict.verdict == "anisotropic"
    with pytest.raises(InputError, match=r"alpha 1e-300: expected 0\.0001"):
        AuditSettings(alpha=1e-300)


def test_strays_do_not_coarsen_the_tests() -> None:
    rng = np.random.default_rng(80)
    ra, dec = rng.uniform(180, 210, 100_000), rng.uniform(0, 30, 100_000)
    stray = positions(200, rng)
    for more in ((), stray):
        tiles = TileAccumulator(5)
        at = [np.concatenate([x, more[k]]) if more else x for k, x in enumerate((ra, dec))]
        tiles.add(sky.tile_of(*at, 29), (rng.random(len(at[0])) < 0.5).astype(float))
        assert order_to_test(tiles.counts()) == 3


def test_loads_are_the_linearised_variance_of_a_weighted_fraction() -> None:
    rng = np.random.default_rng(78)
    pixels = sky.tile_of(*positions(40_000, rng), 29)
    y = (rng.random(40_000) < 0.3).astype(float)
    w = np.where(y > 0, rng.lognormal(0.5, 0.7, 40_000), rng.lognormal(0, 0.4, 40_000))
    counts = counted(pixels, y, w)
    assert counts.loads is not None
    error = np.sqrt(counts.variance * counts.loads.sum()) / counts.n.sum()
    drawn = rng.integers(0, 40_000, (400, 40_000))
    bootstrap = np.array([np.average(y[row], weights=w[row]) for row in drawn])
    assert error == pytest.approx(bootstrap.std(), rel=0.12)


def test_an_audit_is_weighted(tmp_path: Path) -> None:
    rng = np.random.default_rng(73)
    ra, dec = positions(40_000, rng)
    w = rng.lognormal(0, 0.5, 40_000)
    w[:100], w[100:300] = np.nan, 0.0
    y = rng.random(40_000) < 0.4
    table = pa.table({"ra": ra, "dec": dec, "spiral": y, "w": w})
    pq.write_table(table, tmp_path / "t.parquet")
    settings = AuditSettings(simulations=1000, weights="w")
    document = audit(tmp_path / "t.parquet", tmp_path / "t.audit", settings).document
    used = w > 0
    assert document["counts"]["no_weight"] == 300
    assert document["counts"]["used"] == 39_700
    effective = w[used].sum() ** 2 / (w[used] ** 2).sum()
    assert document["sky"]["answers"] == pytest.approx(effective, abs=1)
    assert document["sky"]["fraction"] == pytest.approx(
        np.average(y[used], weights=w[used]), abs=1e-4
    )
    assert "weighted by w, 39,700 rows count as" in document["provenance"]["answers"]
    assert "scatter differently" not in document["provenance"]["answers"]


def test_labels_are_weighted() -> None:
    """Oracle: ppi-python with the same weights; the error is that of many draws."""
    from ppi_py import ppi_mean_pointestimate

    rng = np.random.default_rng(75)
    found, errors = [], []
    for draw in range(200):
        rows, known = 4000, np.arange(4000) < 800
        w = rng.lognormal(0, 0.6, rows)
        y = (rng.random(rows) < 0.4).astype(float)
        f = np.where(rng.random(rows) < 0.1, 1 - y, y)
        values = np.column_stack([f, np.where(known, y, np.nan), w])
        unit = (w**2).sum() / w.sum()
        pixels = np.zeros(rows, np.int64)
        labels = labelled.gather(lambda p=pixels, v=values: iter([(p, v)]), 1, 4, None, unit)
        sample = labels.tiles.sum()
        corrected = corrected_fraction(sample)
        found.append(float(corrected.value))
        errors.append(float(corrected.variance))
        if draw < 3:
            theirs = ppi_mean_pointestimate(
                y[known], f[known], f[~known], float(corrected.tuning), None, w[known], w[~known]
            )
            assert found[-1] == pytest.approx(theirs.item(), abs=1e-9)
    assert np.std(found) == pytest.approx(np.sqrt(np.mean(errors)), rel=0.15)
    assert np.mean(found) == pytest.approx(0.4, abs=4 * np.std(found) / np.sqrt(200))


def test_the_regression_is_weighted() -> None:
    """Oracle: statsmodels' GLM with these prior weights; weights of one are none."""
    rng = np.random.default_rng(77)
    pixels = sky.tile_of(*positions(20_000, rng), 29)
    x = rng.normal(size=20_000)
    y = (rng.random(20_000) < 1 / (1 + np.exp(0.3 - 0.5 * x))).astype(float)
    w = rng.lognormal(0, 0.6, 20_000)
    unit = (w**2).sum() / w.sum()

    def fitted(w: np.ndarray, unit: float | None) -> Evidence:
        values = np.column_stack([y, x, w])
        found = gather(lambda: iter([(pixels, values)]), ["x"], 5, unit).evidence
        assert found is not None
        return found

    evidence = fitted(w, unit)
    terms = evidence.design.matrix(x[:, None])
    theirs = sm.GLM(y, terms, family=sm.families.Binomial(), var_weights=w / unit).fit(scale=1.0)
    np.testing.assert_allclose(evidence.whole.beta, theirs.params, atol=1e-6)
    covariance = np.linalg.inv(evidence.whole.information)
    np.testing.assert_allclose(covariance, theirs.cov_params(), rtol=1e-4, atol=1e-10)
    assert evidence.n.sum() == pytest.approx(w.sum() ** 2 / (w**2).sum(), abs=1)
    plain, same = fitted(w, None), fitted(np.full(20_000, 3.0), 3.0)
    np.testing.assert_allclose(same.whole.residual, plain.whole.residual, atol=1e-9)
    np.testing.assert_array_equal(same.n, plain.n)


def test_compared_answers_are_weighted() -> None:
    """Oracle: weighted means of numpy; equal weights are no weights."""
    rng = np.random.default_rng(76)
    pixels = sky.tile_of(*positions(5000, rng), 29)
    a, b = rng.random((2, 5000)) < 0.5
    w = rng.lognormal(0, 0.5, 5000)

    def pairs(w: np.ndarray, unit: float | None) -> Pairs:
        values = np.column_stack([a, b, w]).astype(float)
        return gather_pairs(lambda: iter([(pixels, values)]), 1, None, 4, unit)

    plain, same = pairs(w, None), pairs(np.full(5000, 3.0), 3.0)
    np.testing.assert_allclose([same.n, same.a, same.b], [plain.n, plain.a, plain.b])
    unit = (w**2).sum() / w.sum()
    uneven = pairs(w, unit)
    assert uneven.counts is None
    assert uneven.n.sum() == pytest.approx(w.sum() ** 2 / (w**2).sum())
    assert uneven.a.sum() / uneven.n.sum() == pytest.approx(np.average(a, weights=w))
    d = a.astype(float) - b
    assert uneven.difference.variance == pytest.approx(np.cov(d, aweights=w, ddof=0), rel=1e-3)


def test_weights_that_scatter_unevenly_are_told() -> None:
    rng = np.random.default_rng(74)
    ra, dec = positions(20_000, rng)
    w = np.where((ra < 90) & (rng.random(20_000) < 0.1), 10.0, 1.0)
    tiles = TileAccumulator(5)
    tiles.add(sky.tile_of(ra, dec, 29), np.ones(20_000), w)
    there = w[ra < 90]
    worst = np.sqrt((there**2).sum() / there.sum() * w.sum() / (w**2).sum())
    assert tiles.uneven_weights() == pytest.approx(
        max(worst, np.sqrt((w**2).sum() / w.sum())), rel=0.2
    )


@pytest.mark.parametrize(
    ("weights", "settings", "message"),
    [
        (-1.0, {}, "weights 'w' holds -1; expected 0, or 1e-100 and more"),
        (1e-300, {}, "weights 'w' holds 1e-300; expected 0, or 1e-100 and more"),
        (float("nan"), {}, "10 without a weight"),
        ("x", {}, "column 'w' holds string; expected numbers"),
        (1.0, {"weights": "v"}, "no column 'v'"),
        (1.0, {"swap": ("a=x", "b=y")}, "weights 'w' and swap: the unit of a swap is the seed"),
    ],
)
def test_unusable_weights_give_one_line(
    tmp_path: Path, weights: object, settings: dict, message: str
) -> None:
    columns = {"ra": [1.0] * 10, "dec": np.arange(10.0), "spiral": [1, 0] * 5, "w": [weights] * 10}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=message):
        audit(tmp_path / "t.parquet", tmp_path / "a", AuditSettings(**{"weights": "w"} | settings))
