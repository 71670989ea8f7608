"""Regression on observing conditions, against statsmodels on single rows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import healpy
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import statsmodels.api as sm

from catalogs import sky
from catalogs.audit.conditions import nuisances
from catalogs.audit.conditions.explained import explain
from catalogs.audit.conditions.nuisances import Sample, gather
from catalogs.audit.conditions.regression import NotFittedError, design, logistic
from catalogs.audit.reading.covariates import Covariates
from catalogs.audit.run import audit, summary_lines
from catalogs.audit.settings import AuditSettings
from catalogs.errors import InputError

FAST = AuditSettings(simulations=1000)
NAMES = ("alpha", "seeing", "ebv")


def places(number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    ra = rng.uniform(0, 360, 8 * number)
    dec = np.degrees(np.arcsin(rng.uniform(-1, 1, 8 * number)))
    inside = sky.in_survey_footprint(ra, dec)
    return ra[inside][:number], dec[inside][:number]


def conditions(ra: np.ndarray, dec: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Size over seeing, seeing (a dipole of 5% and noise) and an innocent reddening."""
    along = sky.unit_vectors(ra, dec) @ [0.5, 0.6, 0.62]
    seeing = 1.2 * (1 + 0.08 * along + 0.03 * rng.standard_normal(len(ra)))
    alpha = np.exp(rng.normal(2, 0.5, len(ra))) / seeing
    return np.stack([alpha, seeing, np.exp(rng.normal(-3, 0.4, len(ra)))], axis=1)


def unseen_as_smooth(alpha: np.ndarray) -> np.ndarray:
    """Chance to be called spiral: a disk of which resolution shows enough."""
    return 0.75 * (1 - np.exp(-(alpha**2) / (2 * 4**2)))


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Pixels, and answers with their covariates."""
    rng = np.random.default_rng(50)
    ra, dec = places(60_000, rng)
    x = conditions(ra, dec, rng)
    y = rng.random(len(ra)) < unseen_as_smooth(x[:, 0])
    return sky.tile_of(ra, dec, 29), np.column_stack([y, x])


def in_parts(pixels: np.ndarray, values: np.ndarray):
    def parts():
        for part in np.array_split(np.arange(len(pixels)), 7):
            yield pixels[part], values[part]

    return parts


def test_a_sample_of_every_row_is_the_likelihood_of_statsmodels(rows) -> None:
    pixels, values = rows
    found = gather(in_parts(pixels, values), NAMES, 5).evidence
    x = found.design.matrix(values[:, 1:])
    theirs = sm.GLM(values[:, 0], x, family=sm.families.Binomial()).fit(tol=1e-12)
    np.testing.assert_allclose(found.whole.beta, theirs.params, atol=1e-7)
    np.testing.assert_allclose(
        np.linalg.inv(found.whole.information), theirs.cov_params(), rtol=1e-5, atol=1e-12
    )
    assert found.whole.deviance == pytest.approx(theirs.deviance, rel=1e-9)
    assert found.null_deviance == pytest.approx(theirs.null_deviance, rel=1e-9)
    tiles = pixels >> 48
    missed = np.bincount(tiles, theirs.resid_response, 12 * 4**5)
    np.testing.assert_allclose(found.whole.residual, missed[found.cells], atol=1e-5)
    alone = sm.GLM(values[:, 0], x[:, [0, 1, 2]], family=sm.families.Binomial()).fit()
    assert found.alone[0].deviance == pytest.approx(alone.deviance, rel=1e-9)
    wide = explain(found, 3, FAST).effects[0]
    without = sm.GLM(values[:, 0], x[:, [0, 3, 4, 5, 6]], family=sm.families.Binomial()).fit()
    # Wald's approximation to the likelihood ratio, for a covariate of 60 standard errors.
    assert wide.deviance_beyond == pytest.approx(without.deviance - theirs.deviance, rel=0.2)
    marginal = theirs.get_margeff().margeff[0]
    assert wide.per_sd == pytest.approx(marginal, rel=1e-4)


@pytest.mark.parametrize("sampled", [4_000, 16_000])
def test_one_step_from_a_sample_is_nearly_the_likelihood_of_all_rows(
    rows, sampled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the step leaves: a small part of the standard errors, which shrinks with the sample."""
    pixels, values = rows
    monkeypatch.setattr(nuisances.Sample.__init__, "__defaults__", (sampled,))
    found = gather(in_parts(pixels, values), NAMES, 5).evidence
    x, y = found.design.matrix(values[:, 1:]), values[:, 0]
    theirs = sm.GLM(y, x, family=sm.families.Binomial()).fit(tol=1e-12)
    apart = np.abs(found.whole.beta - theirs.params) / theirs.bse
    assert 0 < apart.max() < 2_000 / sampled
    assert found.whole.deviance - theirs.deviance == pytest.approx(0, abs=4_000 / sampled)
    tile = pixels >> 48
    missed = np.bincount(tile, y - theirs.predict(x), 12 * 4**5)[found.cells]
    noise = np.sqrt(found.whole.variance)
    assert np.max(np.abs(found.whole.residual - missed) / noise) < 200 / sampled


def test_errors_are_those_of_a_quasi_binomial_regression_of_tiles() -> None:
    """Covariates that belong to tiles: statsmodels' grouped GLM with the scale of Pearson's X^2."""
    rng = np.random.default_rng(51)
    tiles = sky.survey_footprint_tiles(3)
    seeing, depth = rng.normal(1.2, 0.1, len(tiles)), rng.normal(22, 0.3, len(tiles))
    n = rng.integers(150, 500, len(tiles))
    p = 0.45 + 0.3 * (seeing - 1.2) + 0.04 * rng.standard_normal(len(tiles))
    pixels = np.repeat(tiles, n) << 52
    values = np.column_stack(
        [rng.random(n.sum()) < np.repeat(p, n), np.repeat(seeing, n), np.repeat(depth, n)]
    )
    evidence = gather(in_parts(pixels, values), ("seeing", "depth"), 5).evidence
    found = explain(evidence, 3, FAST)
    k = np.bincount(np.repeat(np.arange(len(tiles)), n), values[:, 0])
    x = evidence.design.matrix(np.column_stack([seeing, depth]))
    theirs = sm.GLM(k / n, x, family=sm.families.Binomial(), var_weights=n).fit(
        scale="X2", use_t=True
    )
    assert found.dispersion[0] == pytest.approx(theirs.scale, rel=1e-6)
    assert found.dispersion[0] > 1.5
    assert found.dispersion[1] == pytest.approx(theirs.df_resid, rel=1e-6)
    for at, effect in enumerate(found.effects):
        linear, quadratic = 1 + 2 * at, 2 + 2 * at
        assert effect.coefficient == pytest.approx(
            (theirs.params[linear], theirs.bse[linear]), rel=1e-5
        )
        assert effect.quadratic[1] == pytest.approx(theirs.bse[quadratic], rel=1e-5)
        test = theirs.f_test(np.eye(5)[[linear, quadratic]])
        assert effect.p == pytest.approx(float(test.pvalue), rel=1e-4)


def test_sums_of_probabilities_scatter_less_than_labels(rows) -> None:
    pixels, values = rows
    soft = values.copy()
    rng = np.random.default_rng(52)
    mean = unseen_as_smooth(values[:, 1])
    soft[:, 0] = rng.beta(10 * mean, 10 * (1 - mean))
    found = gather(in_parts(pixels, soft), NAMES, 5).evidence
    x = found.design.matrix(soft[:, 1:])
    theirs = sm.GLM(soft[:, 0], x, family=sm.families.Binomial()).fit(scale="X2")
    np.testing.assert_allclose(found.whole.beta, theirs.params, atol=1e-6)
    assert found.dispersion == pytest.approx(1 / 11, rel=0.1)
    assert explain(found, 3, FAST).after.p["global"] > 1e-3


def test_residual_tests_keep_their_size_and_find_what_conditions_do_not_explain() -> None:
    rng = np.random.default_rng(53)
    ra, dec = places(20_000, rng)
    pixels = sky.tile_of(ra, dec, 29)
    x = conditions(ra, dec, rng)
    p = unseen_as_smooth(x[:, 0])
    found = []
    for _ in range(16):
        y = rng.random(len(p)) < p
        evidence = gather(in_parts(pixels, np.column_stack([y, x])), NAMES, 5).evidence
        found.append(explain(evidence, 2, AuditSettings(simulations=1000, radii=(30.0,))))
    for name in ("global", "dipole", "scan"):
        after = np.array([one.after.p[name] for one in found])
        assert np.mean(after < 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 16)
        assert 0.3 < after.mean() < 0.7
    assert np.mean([one.before.p["dipole"] < 0.05 for one in found]) > 0.5
    tilted = p + 0.06 * sky.unit_vectors(ra, dec)[:, 2]
    y = rng.random(len(p)) < tilted
    evidence = gather(in_parts(pixels, np.column_stack([y, x])), NAMES, 5).evidence
    after = explain(evidence, 2, FAST).after
    assert after.p["dipole"] < 0.01
    assert after.dipole.vector == pytest.approx([0, 0, 0.06], abs=0.04)


def test_terms_are_chosen_from_what_varies() -> None:
    rng = np.random.default_rng(54)
    a, b = rng.normal(5, 2, (2, 3000))
    flag = rng.random(3000) < 0.0005
    flag[0] = True
    rare, half = flag.astype(float), (rng.random(3000) < 0.5).astype(float)
    found = design(
        np.column_stack([a, b, np.full(3000, 7.0), a - 2 * b + 1, half, rare]), list("abcdef")
    )
    dropped = {c.name: c.dropped for c in found.covariates if c.dropped}
    assert dropped == {
        "c": "it is 7 in every row",
        "d": "it is a linear function of a, b",
    }
    terms = {c.name: (c.linear is not None, c.quadratic is not None) for c in found.covariates}
    assert terms["a"] == terms["b"] == (True, True)
    assert terms["e"] == terms["f"] == (True, False)
    x = found.matrix(np.column_stack([a, b, a, a, half, rare]))
    assert np.linalg.matrix_rank(x) == found.width == 7


def test_a_sample_is_the_same_in_any_order_and_even() -> None:
    rng = np.random.default_rng(55)
    pixels = np.arange(20_000) + (5 << 50)
    values = rng.random((20_000, 2))
    straight, turned = Sample(2, 2_000), Sample(2, 2_000)
    for part in np.array_split(np.arange(20_000), 9):
        straight.add(pixels[part], values[part])
    mixed = rng.permutation(20_000)
    turned.add(pixels[mixed], values[mixed])
    np.testing.assert_array_equal(straight.values(), turned.values())
    assert len(straight.values()) == 2_000
    chosen = np.searchsorted(np.sort(values[:, 0]), straight.values()[:, 0])
    counts = np.bincount(chosen // 2_000, minlength=10)
    assert np.sum((counts - 200) ** 2 / 200) < 30


@pytest.mark.parametrize("tile", [None, 300])
def test_few_rows_have_the_errors_of_single_answers(tile: int | None) -> None:
    """No tile is full, or one holds all: there is no overdispersion. Oracle: statsmodels."""
    rng = np.random.default_rng(64)
    pixels = rng.integers(0, 4**29, 600) if tile is None else rng.integers(0, 4**26, 600)
    pixels += 0 if tile is None else tile * 4**26
    x = rng.normal(size=600)
    y = rng.random(600) < 1 / (1 + np.exp(-0.3 * x))
    evidence = gather(in_parts(pixels, np.column_stack([y, x])), ["x"], 5).evidence
    assert evidence is not None
    found = explain(evidence, 3, FAST)
    assert found.dispersion == (1.0, np.inf)
    (effect,) = found.effects
    covariate = effect.covariate
    z = (np.clip(x, covariate.low, covariate.high) - covariate.mean) / covariate.sd
    fitted = sm.Logit(y, np.column_stack([np.ones(600), z, z**2 - 1])).fit(disp=0)
    test = fitted.wald_test(np.eye(3)[1:], use_f=False, scalar=True)
    assert effect.coefficient == pytest.approx((fitted.params[1], fitted.bse[1]), rel=1e-3)
    assert effect.p == pytest.approx(float(test.pvalue), rel=1e-2)


def test_perfect_covariates_are_told() -> None:
    x = np.column_stack([np.ones(200), np.linspace(-1, 1, 200)])
    with pytest.raises(NotFittedError, match="without error"):
        logistic(x, x[:, 1] > 0, np.ones(200))
    with pytest.raises(NotFittedError, match="without error"):
        logistic(x, np.zeros(200), np.ones(200))
    none = gather(in_parts(np.arange(9), np.full((9, 2), np.nan)), ["x"], 5)
    assert (none.complete, none.missing, none.evidence) == (0, (9,), None)
    assert none.reason == "no row has all covariates"
    few = gather(in_parts(np.arange(49), np.arange(147.0).reshape(49, 3) % 2), ["x", "y"], 5)
    assert (few.complete, few.evidence) == (49, None)
    assert few.reason == "49 rows have all covariates, 50 are needed"


# -------------------------------------------------------------------------------------- columns


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("seeinng",), "no column 'seeinng'; did you mean 'seeing'"),
        (("name",), "column 'name' holds string; expected numbers"),
        (("alpha",), "no column 'alpha', nor one petroRad and one FWHM"),
        (("ebv=nowhere.fits",), "neither a column of .* nor a map: 'nowhere.fits' is not there"),
        (("seeing", "seeing"), "covariate 'seeing': expected a name that is not taken"),
        (("=nowhere.fits",), "'=nowhere.fits' is neither a column"),
        (("seeing",), "intrinsic 'mass': expected covariates other than alpha, of seeing"),
    ],
)
def test_unusable_covariates_give_one_line(tmp_path: Path, asked: tuple, message: str) -> None:
    table = pa.table({"ra": [1.0, 2], "dec": [1.0, 2], "label": ["spiral", "x"]})
    table = table.append_column("seeing", pa.array([1.0, 2])).append_column("name", [["a", "b"]])
    pq.write_table(table, tmp_path / "t.parquet")
    intrinsic = ("mass",) if "mass" in message else ()
    with pytest.raises(InputError, match=message) as caught:
        audit(
            tmp_path / "t.parquet",
            tmp_path / "a",
            AuditSettings(covariates=asked, intrinsic=intrinsic),
        )
    assert "\n" not in str(caught.value)


def test_alpha_is_made_of_petrosian_radius_and_seeing() -> None:
    made = Covariates(["alpha"], ["petroRad", "FWHM"], "t")
    batch = pa.record_batch({"petroRad": [3.0, -1.0, None], "FWHM": [1.5, 1.0, 1.0]})
    alpha = made.values(batch, np.zeros(3), np.zeros(3))[:, 0]
    assert alpha[0] == pytest.approx(2 * np.sqrt(2 * np.log(2)) * 2)
    assert np.isnan(alpha[1:]).all()


def test_an_audit_says_what_conditions_explain(tmp_path: Path) -> None:
    rng = np.random.default_rng(57)
    ra, dec = places(60_000, rng)
    x = conditions(ra, dec, rng)
    healpix = healpy.ang2pix(32, ra, dec, lonlat=True)
    ebv = rng.random(12 * 32**2).astype(np.float32)
    healpy.write_map(tmp_path / "ebv.fits", ebv, coord="C", dtype=np.float32)
    y = rng.random(len(ra)) < unseen_as_smooth(x[:, 0])
    seeing = np.where(rng.random(len(ra)) < 0.02, np.nan, x[:, 1])
    written = np.where(np.isnan(seeing) & (ra < 180), -9999.0, seeing)  # as SDSS writes it
    table = {"ra": ra, "dec": dec, "spiral": y, "alpha": x[:, 0], "seeing": written}
    pq.write_table(pa.table(table | {"again": 3 * seeing}), tmp_path / "t.parquet")
    asked = ("alpha", "seeing", "again", f"ebv={tmp_path / 'ebv.fits'}")
    result = audit(
        tmp_path / "t.parquet",
        tmp_path / "t.audit",
        AuditSettings(simulations=1000, covariates=asked, intrinsic=("ebv",)),
    )
    part = result.document["nuisances"]
    lost = int(np.isnan(seeing).sum())
    assert part["missing"] == {"alpha": 0, "seeing": lost, "again": lost, "ebv": 0}
    assert part["rows"] - part["complete"] == lost
    by_name = {one["name"]: one for one in part["covariates"]}
    assert by_name["again"]["dropped"] == "it is a linear function of seeing"
    assert by_name["alpha"]["p"] < 1e-10
    assert by_name["ebv"]["p"] > 1e-3
    used = np.isfinite(seeing)
    assert by_name["ebv"]["mean"] == pytest.approx(ebv[healpix][used].mean(), rel=1e-3)
    assert sum(by_name["ebv"]["curve"]["n"]) == part["complete"]
    before, after = (
        {test["name"]: test[when]["p"] for test in part["tests"]} for when in ("before", "after")
    )
    assert before["dipole"] < 0.01 < after["dipole"]
    bias = part["resolution_bias"]
    assert (bias["absent"], bias["method"]) == (None, "CV18, 64 leaves of ebv")
    assert bias["denoised"] > 5 * bias["sd"]
    said = "\n".join(summary_lines(result))
    assert "Resolution bias L = 0." in said
    assert f"{lost:,} lack seeing" in said
    assert "again: left out: it is a linear function of seeing" in said
    html = result.report.read_text(encoding="utf-8")
    assert "Observing conditions" in html
    for one in result.document["provenance"]["inputs"]:
        assert one["sha256"] == hashlib.sha256(Path(one["path"]).read_bytes()).hexdigest()
        assert one["sha256"] in html
    assert "left out: it is a linear function of seeing" in html
    assert (result.folder / "covariates.png").stat().st_size > 10_000
