"""Resolution bias L: its noise floor, known biases, and what leaves are for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import special

from catalogs.audit.conditions.resolution import TooFewError, of_sample, resolution_bias
from catalogs.audit.reading.covariates import Covariates
from catalogs.audit.reading.table import read
from catalogs.audit.report import nuisance_document
from catalogs.audit.settings import AuditSettings
from catalogs.progress import Silent
from catalogs.survey import tables


def test_the_noise_floor_is_the_formulas() -> None:
    """n = 58, N_A = 8, p = .5: .087 (Cabrera-Vives et al. 2018, by arithmetic)."""
    rng = np.random.default_rng(60)
    size = 58 * 8 * 16
    squared = []
    for _ in range(40):
        y = rng.random(40 * size) < 0.5
        found = resolution_bias(
            y, rng.random(len(y)), rng.random((len(y), 2)), rng, depth=4, bootstraps=2
        )
        squared += [found.value**2 + found.sd**2 / 2]
    formula = np.sqrt(2 * 0.25 * 7 / (8 * 58))
    assert formula == pytest.approx(0.087, abs=5e-4)
    assert np.sqrt(np.mean(squared)) == pytest.approx(formula, rel=0.05)
    assert found.noise == pytest.approx(formula, rel=0.02)
    assert found.leaves == 16


def test_a_table_of_few_rows_has_the_floor_of_its_bootstraps() -> None:
    rng = np.random.default_rng(61)
    size = 58 * 8
    found = [
        resolution_bias(rng.random(2 * size) < 0.3, rng.random(2 * size), None, rng, bootstraps=20)
        for _ in range(100)
    ]
    rms = np.sqrt(np.mean([one.value**2 + one.sd**2 * 19 / 20 for one in found]))
    assert rms == pytest.approx(np.mean([one.noise for one in found]), rel=0.05)


def test_a_bias_of_known_size_is_measured() -> None:
    """One leaf, fractions per bin known: L by hand; the same with the other class."""
    rng = np.random.default_rng(62)
    alpha = rng.permutation(np.arange(80_000))
    p = np.array([0.1, 0.2, 0.3, 0.3, 0.4, 0.5, 0.5, 0.5])[alpha // 10_000]
    y = rng.random(80_000) < p
    truth = np.sqrt(np.mean((np.array([0.1, 0.2, 0.3, 0.3, 0.4, 0.5, 0.5, 0.5]) - 0.5) ** 2))
    found = resolution_bias(y, alpha, None, rng)
    assert found.denoised == pytest.approx(truth, abs=0.015)
    assert found.value > found.denoised
    other = resolution_bias(~y, alpha, None, rng)
    assert other.denoised == pytest.approx(found.denoised, abs=0.015)


def test_leaves_take_what_is_intrinsic_for_no_bias() -> None:
    rng = np.random.default_rng(63)
    size = rng.normal(size=60_000)
    y = rng.random(len(size)) < special.expit(3 * size)
    alpha = np.exp(size + 0.3 * rng.normal(size=len(size)))
    one = resolution_bias(y, alpha, None, rng)
    many = resolution_bias(y, alpha, size[:, None], rng, depth=5)
    assert many.denoised < 0.3 * one.denoised
    # Equal values are no order: the table's own must not make one.
    tied = resolution_bias(np.sort(y), np.ones(len(y)), None, rng)
    assert tied.denoised < 0.03


def test_too_few_objects_are_an_error() -> None:
    rng = np.random.default_rng(64)
    with pytest.raises(TooFewError, match="463 objects; 1 leaves of 8 bins of 58 need 464"):
        resolution_bias(np.ones(463), np.ones(463), None, rng)


def test_an_audits_sample_is_measured_as_far_as_it_goes() -> None:
    rng = np.random.default_rng(65)
    size = rng.normal(size=8_000)
    alpha = np.exp(size)
    y = rng.random(len(size)) < special.expit(3 * size)
    sample = np.column_stack([y, size, alpha])
    one = of_sample(sample, ("size", "alpha"), (), 0)
    many = of_sample(sample, ("size", "alpha"), ("size",), 0)
    assert (one.leaves, many.leaves) == (1, 16)
    assert many.denoised < 0.5 * one.denoised
    with pytest.raises(TooFewError, match="no covariate is called alpha"):
        of_sample(sample, ("size", "a"), (), 0)
    with pytest.raises(TooFewError, match="100 objects"):
        of_sample(sample[:100], ("size", "alpha"), ("size",), 0)


# --------------------------------------------------------------------------------------- weights


def biased(number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers that do not follow the resolution, and whole weights that make them."""
    alpha, y = rng.random(number), rng.random(number) < 0.5
    return y, alpha, np.where(y & (alpha > 0.5), 4, 1 + (rng.random(number) < 0.3))


def test_a_weight_stands_for_so_many_objects() -> None:
    rng = np.random.default_rng(66)
    y, alpha, weights = biased(60_000, rng)
    found = resolution_bias(y, alpha, None, rng, weights=weights)
    repeated = resolution_bias(np.repeat(y, weights), np.repeat(alpha, weights), None, rng)
    error = np.hypot(found.sd, repeated.sd) / 10  # of means over 100 bootstraps
    assert found.value == pytest.approx(repeated.value, abs=4 * error)
    # A fraction of .5 up to alpha = .5, which a third of the weight is, and 4/(4 + 1.3) above.
    share, (low, high) = 0.65 / 1.975, (0.5, 4 / 5.3)
    fraction = low + (high - low) * np.clip(np.arange(1, 9) - 8 * share, 0, 1)
    truth = np.sqrt(np.mean((fraction - high) ** 2))
    assert found.denoised == pytest.approx(truth, abs=0.015)


def test_the_floor_knows_how_few_objects_weights_leave() -> None:
    rng = np.random.default_rng(67)
    size, found = 58 * 8, []
    for _ in range(100):
        weights = rng.exponential(size=4 * size)
        y, alpha = rng.random(4 * size) < 0.3, rng.random(4 * size)
        found.append(resolution_bias(y, alpha, None, rng, weights=weights, bootstraps=20))
    rms = np.sqrt(np.mean([one.value**2 + one.sd**2 * 19 / 20 for one in found]))
    assert rms == pytest.approx(np.mean([one.noise for one in found]), rel=0.05)
    few = np.r_[np.full(10, 1e6), np.ones(4 * size - 10)]
    with pytest.raises(TooFewError, match="10 objects"):
        resolution_bias(y, alpha, None, rng, weights=few)


def test_every_compared_catalog_has_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(68)
    number = 30_000
    y, alpha, weights = biased(number, rng)
    theirs = rng.random(number) < alpha
    sky_ = {"ra": rng.uniform(0, 90, number), "dec": rng.uniform(-40, 40, number)}
    mine = {"id": np.arange(number), **sky_, "spiral": y, "alpha": alpha, "w": weights * 1.0}
    pq.write_table(pa.table(mine), tmp_path / "mine.parquet")
    known = rng.random(number) < 0.8
    other = pa.table({"id": np.arange(number), **sky_, "spiral": theirs}).filter(pa.array(known))
    pq.write_table(other, tmp_path / "other.parquet")
    for weighted in (None, "w"):
        compare = (str(tmp_path / "other.parquet"),)
        settings = AuditSettings(covariates=("alpha",), compare=compare, weights=weighted)
        table = tmp_path / "mine.parquet"
        covariates = Covariates(settings.covariates, tables.column_names(table), "t")
        found = read(table, settings, covariates, Silent()).gathered
        assert found is not None
        part = nuisance_document.build(found, None, covariates, settings)
        w = weights if weighted else None
        own = resolution_bias(y, alpha, None, rng, weights=w)
        its = resolution_bias(
            theirs[known], alpha[known], None, rng, weights=None if w is None else w[known]
        )
        bias, (compared,) = part["resolution_bias"], part["resolution_bias_compared"]
        assert bias["value"] == pytest.approx(own.value, abs=own.sd)
        assert compared["value"] == pytest.approx(its.value, abs=its.sd)
        assert (compared["catalog"], compared["rows"]) == (compare[0], known.sum())
        assert (
            ("weighted" in bias["method"]) == ("weighted" in compared["method"]) == (w is not None)
        )
