"""What the audit must hold, on simulated skies (a reduced run of the full validation).

A survey-like footprint of 11,000 square degrees, p = .49, counts drawn per cell. Bounds leave
room for the noise of the smaller numbers of skies used here (about three standard errors).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from benchmarks.audit_validation import __main__ as validation
from benchmarks.audit_validation import causes, conditions, left_out
from benchmarks.audit_validation.row import Row, share
from benchmarks.audit_validation.skies import (
    FINE,
    FINE_TILES,
    Lab,
    P,
    alarms,
    errors_of_caps,
    false_discoveries,
    footprint,
    lab,
    overdispersed,
)
from catalogs import sky
from catalogs.audit.settings import AuditSettings
from catalogs.audit.uniformity.battery import Battery
from catalogs.audit.uniformity.tiles import TileAccumulator, TileCounts


@pytest.fixture(scope="module")
def million() -> Lab:
    return lab(1_000_000, 30)


def test_footprint_is_the_stated_one(million: Lab) -> None:
    area = len(FINE_TILES) * 41252.96 / (12 * 4**FINE)
    assert area == pytest.approx(11_000, rel=0.1)
    assert million.battery.order == 3


@pytest.mark.parametrize(("total", "skies"), [(1_000_000, 1000), (20_000, 400)])
def test_isotropic_skies_seldom_alarm(total: int, skies: int) -> None:
    p = (bench := lab(total, 31)).p_values(bench.skies(P, skies))
    noise = 3 * np.sqrt(0.05 * 0.95 / skies)
    assert alarms(p) <= 0.045 + noise
    each = np.mean(p < 0.05, axis=0)
    assert np.all(np.abs(each - 0.05) < noise), each


def test_dipoles_are_found(million: Lab) -> None:
    pattern = million.axes(300) @ million.vectors().T
    half = million.p_values(million.skies(P + 0.005 * pattern, 300))
    assert np.mean(half[:, 1] < 0.05) >= 0.95 - 0.01
    whole = million.p_values(million.skies(P + 0.01 * pattern, 300))
    assert alarms(whole) >= 0.99


def test_a_deviant_region_is_found_where_it_is(million: Lab) -> None:
    k = million.skies(P + 0.02 * million.covered(sky.Region(170, 190, 10, 30)), 300)
    assert np.mean(million.p_values(k)[:, 2] < 0.05) >= 0.95
    assert np.median(errors_of_caps(million, k, sky.unit_vectors(180, 20)[0])) <= 5


def test_extra_variance_is_found(million: Lab) -> None:
    p = million.p_values(million.skies(overdispersed(million, 300, 0.005), 300))
    assert np.mean(p[:, 0] < 0.05) >= 0.95 - 0.01


def test_flagged_tiles_are_seldom_false(million: Lab) -> None:
    false, found = false_discoveries(million, 150, 0.03)
    assert np.mean(false) <= 0.07
    assert np.mean(found) > 0.5


def test_uneven_seeing_is_explained_and_a_dipole_beside_it_found() -> None:
    none = conditions.seeing_skies(0.05, 0.0, 60)
    before, after = none.checks
    assert before.value > 0.5
    assert after.value <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)
    assert conditions.seeing_skies(0.05, 0.01, 30).checks[1].value >= 0.9


@pytest.mark.parametrize("case", causes.CASES)
def test_causes_are_named(case: str) -> None:
    row = causes.attribution(case, 40)
    by_name = {check.what: check.value for check in row.checks}
    noise = 3 * np.sqrt(0.06 * 0.94 / 40)
    assert by_name["right, declared blind, region fixed"] >= 0.94 - noise
    undeclared = by_name["right, undeclared, region fixed"]
    if case in ("null", "classifier"):
        assert undeclared >= 0.94 - noise
    if case == "sky":
        assert by_name["called classifier, declared blind, region found"] <= 0.04 + 0.04
        assert undeclared < 0.8  # what it costs not to know how labels were drawn


def test_no_sky_is_made_by_labels_of_bright_objects_or_by_easier_galaxies() -> None:
    undeclared, read, unread = causes.bright(100).checks
    assert undeclared.value <= 0.04 + 3 * np.sqrt(0.04 * 0.96 / 100)
    assert read.value == 0
    assert unread.value > 0.5
    read, unread, both = causes.easier(60).checks
    assert read.value >= 0.94 - 3 * np.sqrt(0.06 * 0.94 / 60)
    assert unread.value < 0.3 < both.value


def test_no_sky_is_made_by_missing_answers_or_unsure_experts() -> None:
    skies = 30
    for row in (left_out.abstains(skies), left_out.unsure(skies), left_out.learnt(skies)):
        for check in row.checks:
            if check.at_most is not None:
                assert check.value <= check.at_most + 3 * np.sqrt(0.04 * 0.96 / skies)
            if check.at_least is not None:
                assert check.value >= check.at_least - 3 * np.sqrt(0.06 * 0.94 / skies)
    found = left_out.abstains_evenly(skies).checks[0]
    assert found.value >= 0.9 - 3 * np.sqrt(0.1 * 0.9 / skies)


@pytest.mark.parametrize("case", ["poorer", "coin", "lost"])
def test_comparisons_name_no_real_sky(case: str) -> None:
    for check in causes.compared(case, 40).checks:
        assert check.value >= 0.94 - 3 * np.sqrt(0.06 * 0.94 / 40)


def test_rows_are_resumed_and_misses_are_told(tmp_path, monkeypatch, capsys) -> None:
    measured = []

    def measure(skies: int) -> Row:
        measured.append(skies)
        hits = np.arange(skies) < skies // 2
        return Row("a", "a case", skies, [share("found", hits, at_least=0.9)], "a note")

    monkeypatch.setattr(validation, "ROWS", {"a": (measure, 40), "b": (measure, 40)})
    monkeypatch.setattr(validation, "RESULT", tmp_path / "full.md")

    def run(*words: str) -> None:
        monkeypatch.setattr("sys.argv", ["x", "--to", str(tmp_path / "out"), *words])
        validation.main()

    run("--only", "a", "--skies", "10")
    run("--only", "a")
    assert measured == [10, 40]
    assert not (tmp_path / "full.md").exists()
    run()
    run()
    assert measured == [10, 40, 40]
    page = (tmp_path / "full.md").read_text()
    assert page.count("| a case | found | ≥ 0.9 | 0.5 [0.338, 0.662] | **no** | 40 |") == 2
    assert "Not reached: a case, found; a case, found." in page
    assert len((tmp_path / "out/rows.jsonl").read_text().splitlines()) == 3
    assert "a case" in capsys.readouterr().out


def test_summed_probabilities_keep_the_size() -> None:
    rng = np.random.default_rng(33)
    counts = footprint(20_000, rng, order=4)
    cell = np.repeat(np.arange(len(counts.n)), counts.n)
    values = rng.beta(0.5, 0.6, counts.total)
    k = np.stack([np.bincount(cell, rng.permutation(values)) for _ in range(400)])
    drawn = TileCounts(4, counts.tiles, counts.n, k[0], float(values @ values), labels=False)
    assert drawn.variance == pytest.approx(values.var())
    battery = Battery(drawn, 2, AuditSettings())
    null = battery.statistics(battery.permuted(values.sum(), 2000, rng))
    p = Lab(battery, rng, null).p_values(k)
    noise = 3 * np.sqrt(0.05 * 0.95 / 400)
    assert alarms(p) <= 0.045 + noise
    assert np.all(np.abs(np.mean(p < 0.05, axis=0) - 0.05) < noise)


def test_probabilities_that_scatter_unevenly_keep_the_size() -> None:
    """A network is surer in the tiles of a cap than elsewhere, with the same mean."""
    rng = np.random.default_rng(36)
    counts = footprint(60_000, rng, order=4)
    centres = sky.unit_vectors(*sky.tile_centres(counts.tiles >> 2, 3))
    sure = centres @ sky.unit_vectors(190, 35)[0] > np.cos(np.radians(14))
    assert 0.01 < counts.n[sure].sum() / counts.total < 0.2
    scatter = np.where(sure, 0.48, 0.1)
    k = counts.n * 0.45 + rng.standard_normal((400, len(counts.n))) * scatter * np.sqrt(counts.n)
    squares = counts.n * scatter**2 + 0.9 * k[0] - 0.45**2 * counts.n
    whole = float(squares.sum())
    fourth = float(np.sum(counts.n * scatter**4))
    drawn = TileCounts(4, counts.tiles, counts.n, k[0], whole, False, squares, fourth=fourth)
    battery = Battery(drawn, 3, AuditSettings())
    null = battery.statistics(battery.permuted(0.45 * counts.total, 2000, rng))
    p = Lab(battery, rng, null).p_values(k)
    noise = 3 * np.sqrt(0.05 * 0.95 / 400)
    assert alarms(p) <= 0.045 + noise
    assert np.all(np.mean(p < 0.05, axis=0) < 0.05 + noise)
    # One variance for the whole sky takes the sure cap for a signal.
    even = Battery(replace(drawn, spread=None), 3, AuditSettings())
    null = even.statistics(even.permuted(0.45 * counts.total, 2000, rng))
    assert alarms(Lab(even, rng, null).p_values(k)) > 0.3


def test_squares_of_probabilities_are_kept_by_tile() -> None:
    rng = np.random.default_rng(37)
    pixels = rng.integers(0, 12 * 4**29, 5000)
    answers = 0.5 + (rng.random(5000) - 0.5) * np.where(pixels < 6 * 4**29, 1, 0.2)
    made = TileAccumulator(5)
    made.add(pixels, answers)
    coarse = made.counts().merged(0)
    tile = pixels >> 58
    p, s2 = answers.mean(), answers.var()
    about = np.array([np.sum((answers[tile == t] - p) ** 2) for t in range(12)])
    n = np.bincount(tile)
    # Tiles differ: theirs is their own, mixed as their scatter beyond the rows' asks.
    chance = np.sum((answers - p) ** 4) / s2**2 - 5000
    excess = np.sum((about / s2 - n) ** 2) - chance * (1 + 2 * np.sqrt(2 / 12))
    mixed = max(10, chance * np.sum(n**2) / 5000 / excess)
    assert excess > 0
    np.testing.assert_allclose(coarse.loads, n * (about / s2 + mixed) / (n + mixed))
    even = TileAccumulator(5)
    even.add(pixels, rng.permutation(answers))
    np.testing.assert_allclose(even.counts().merged(0).loads, n)
    assert made.counts().take(made.counts().tiles % 2 == 0).loads is not None
    hard = TileAccumulator(5)
    hard.add(pixels, (answers > 0.5).astype(float))
    assert hard.counts().loads is None


def test_permuted_probabilities_have_the_permutations_moments() -> None:
    rng = np.random.default_rng(34)
    counts = footprint(20_000, rng, order=4)
    labels = Battery(counts, 2, AuditSettings())
    gaussian = Battery(
        TileCounts(4, counts.tiles, counts.n, counts.k, float(counts.k.sum()), labels=False),
        2,
        AuditSettings(),
    )
    total = float(counts.k.sum())
    exact, normal = (b.permuted(total, 4000, rng) for b in (labels, gaussian))
    np.testing.assert_allclose(exact.sum(axis=1), round(total))
    np.testing.assert_allclose(normal.sum(axis=1), total)
    np.testing.assert_allclose(normal.mean(axis=0), exact.mean(axis=0), atol=0.25)
    busy = counts.n > 10
    np.testing.assert_allclose(normal.var(axis=0)[busy], exact.var(axis=0)[busy], rtol=0.15)


def test_a_finer_testing_order_changes_only_the_tile_tests() -> None:
    rng = np.random.default_rng(35)
    counts = footprint(200_000, rng)
    coarse, fine = (Battery(counts, order, AuditSettings(min_n=1)) for order in (3, 5))
    assert (coarse.cells.order, fine.cells.order) == (4, 5)
    a = coarse.statistics(coarse.cells.k[None, :])
    b = fine.statistics(fine.cells.k[None, :])
    assert a.dipole == pytest.approx(b.dipole)
    assert a.scan == pytest.approx(b.scan)
    for battery, found in ((coarse, a), (fine, b)):
        k = counts.merged(battery.order).k
        np.testing.assert_array_equal(battery.at_tiles(battery.cells.k), k)
        table = np.stack([k, battery.n - k])
        assert found.x2[0] == pytest.approx(
            chi2_contingency(table, correction=False).statistic, rel=1e-9
        )
