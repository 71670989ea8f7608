"""Answers against chance, and where patches lie: against enumeration, scipy and statsmodels."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from statsmodels.stats.proportion import proportion_confint

from catalogs.audit.comparison.chance import against_chance
from catalogs.errors import InputError
from experiments import sky_probe
from experiments.chance import (
    Permuted,
    balanced_accuracy,
    confusion,
    detectable,
    permuted_blocks,
)
from experiments.patches import Geometry
from experiments.pictures import Answered as Told


def test_a_confusion_matrix_against_chance():
    random = np.random.default_rng(1)
    targets = random.integers(0, 2, 301)
    answers = np.where(random.random(301) < 0.2, targets, random.integers(0, 2, 301))
    table = confusion(targets, answers, 2)
    assert np.array_equal(table, confusion_matrix(targets, answers))
    test = against_chance(table)
    right = int(np.sum(targets == answers))
    chance = max(np.mean(targets), 1 - np.mean(targets))
    assert (test.right, test.n, test.chance) == (right, 301, pytest.approx(chance))
    assert test.p == pytest.approx(float(stats.binom.sf(right - 1, 301, chance)), rel=1e-9)
    low, high = proportion_confint(right, 301, method="beta")
    assert (test.low, test.high) == (pytest.approx(low), pytest.approx(high))
    tail = stats.hypergeom.sf(table[1, 1] - 1, 301, table[1].sum(), table[:, 1].sum())
    assert test.fisher_p == pytest.approx(float(tail), rel=1e-9)
    assert balanced_accuracy(table) == pytest.approx(balanced_accuracy_score(targets, answers))


@pytest.mark.parametrize(("n", "chance"), [(300, 0.5), (2000, 0.52), (6, 0.5), (7, 0.5)])
def test_the_accuracy_that_would_have_been_found(n, chance):
    found = detectable(n, chance, 0.01)
    # The fewest right answers that scipy's own test finds, and how often so many are given.
    ps = [
        stats.binomtest(k, n, chance, alternative="greater").pvalue
        for k in range(int(n * chance), n + 1)
    ]
    below = [int(n * chance) + i for i, p in enumerate(ps) if p < 0.01]
    if not below:
        assert np.isnan(found)
        return
    assert stats.binom.sf(below[0] - 1, n, found) == pytest.approx(0.8, abs=1e-9)


def test_the_power_of_exchanged_blocks():
    drawn = stats.norm(0.34, 0.02)
    found = Permuted(0.4, 0.01, 0.34, 0.02, 0.01, 0, 5).detectable(0.01)
    assert stats.norm(found, 0.02).sf(drawn.isf(0.01)) == pytest.approx(0.8)


def test_answers_that_are_all_alike_have_no_power():
    random = np.random.default_rng(3)
    blocks = np.repeat(np.arange(60), 10)
    targets, folds = random.integers(0, 3, 60)[blocks], blocks // 30
    spread = random.permutation(targets)
    alike = np.where(folds == 0, 1, spread)
    one, two = (permuted_blocks(targets, a, blocks, folds, 3) for a in (alike, np.ones_like(folds)))
    assert (one.alike, two.alike, one.folds) == (1, 2, 2)
    assert two.sd == pytest.approx(0)
    # Answers drawn in the shares of the classes, fold by fold, scored by scikit-learn.
    drawn = []
    for _ in range(3000):
        scores = []
        for fold in (0, 1):
            true = targets[folds == fold]
            shares = np.bincount(true, minlength=3) / len(true)
            said = random.choice(3, len(true), p=shares)
            scores.append(balanced_accuracy_score(true, said))
        drawn.append(np.mean(scores))
    assert two.spread_sd == pytest.approx(np.std(drawn), rel=0.05)
    assert two.detectable(0.01) == pytest.approx(1 / 3 + 3.168 * np.std(drawn), abs=0.005)


def test_exchanged_blocks_agree_with_all_exchanges():
    random = np.random.default_rng(2)
    blocks = np.repeat(np.arange(10), 8)
    folds = blocks // 5
    kinds = np.array([0, 1, 1, 1, 2, 0, 1, 2, 2, 2])
    targets = kinds[blocks]
    answers = np.where(random.random(len(blocks)) < 0.25, targets, random.integers(0, 3, 80))

    def one_fold(fold: int) -> np.ndarray:
        """The balanced accuracy of every exchange of a fold's blocks, the true one first."""
        here = folds == fold
        orders = permutations(kinds[5 * fold : 5 * fold + 5].tolist())
        said, block = answers[here], blocks[here] - 5 * fold
        return np.array([balanced_accuracy_score(np.array(o)[block], said) for o in orders])

    first, second = one_fold(0), one_fold(1)
    every = (first[:, None] + second[None, :]).ravel() / 2
    exact = float(np.mean(every >= every[0] - 1e-12))
    found = permuted_blocks(targets, answers, blocks, folds, 3, permutations=2000)
    assert found.value == pytest.approx(every[0])
    assert 0.001 < exact < 0.5
    assert abs(found.p - exact) < 4 * np.sqrt(exact * (1 - exact) / 2000) + 1 / 2000
    assert found.mean == pytest.approx(every.mean(), abs=4 * every.std() / np.sqrt(2000))
    assert found.sd == pytest.approx(every.std(), rel=0.1)


@pytest.mark.parametrize(("side", "patch", "radius"), [(40, 9, 11.0), (31, 8, 7.5)])
def test_patches_keep_off_the_galaxy(side, patch, radius):
    where = Geometry(side, patch, radius)
    fine = (np.arange(side * 20) + 0.5) / 20 - side / 2
    near = np.hypot(*np.meshgrid(fine, fine)) < radius
    expected = {
        (x, y)
        for x in range(side - patch + 1)
        for y in range(side - patch + 1)
        if not near[20 * y : 20 * (y + patch), 20 * x : 20 * (x + patch)].any()
    }
    found = {(int(x), int(y)) for x, y in where.places("random")}
    differ = found ^ expected  # samples miss points that lie within a twentieth of a pixel
    assert all(abs(where.nearest(*np.array([[x], [y]]))[0] - radius) < 0.1 for x, y in differ)
    last = side - patch
    assert {tuple(p) for p in where.places("corner").tolist()} == {
        (0, 0),
        (last, 0),
        (0, last),
        (last, last),
    }
    middle = (side - where.room) // 2
    for larger, fits in ((0, True), (1, False)):
        one = Geometry(side, where.room + larger, radius)
        assert (one.nearest(np.array([middle]), np.array([0]))[0] >= radius) == fits


def test_patches_anywhere_are_smaller_where_they_must_be():
    assert Geometry(120, 30, 41.7).of_place("random").patch == 18
    assert Geometry(120, 30, 41.7).of_place("corner").patch == 30
    small = Geometry(64, 16, 22.2).of_place("random")
    assert (small.patch, small.repeated) == (9, 2)  # 18 px for a network of at least 16
    with pytest.raises(InputError, match=r"no patch of 8 px fits beside .* ask for corners"):
        Geometry(48, 16, 16.7).of_place("random")


def test_probes_that_learnt_nothing_have_no_power_on_the_page():
    random = np.random.default_rng(5)
    folds = np.repeat([0, 1], 150)
    targets = random.integers(0, 3, 300)
    blocks = np.arange(300) // 5 * 3 + targets
    alike = Told(np.arange(300), blocks, targets, np.ones(300, np.int64), folds)
    spread = replace(alike, answers=random.permutation(targets))
    for found, said in (
        ({"network": alike, "features": alike}, "The probes learnt nothing: they cannot say"),
        (
            {"network": alike, "features": spread},
            "; a network on the cutouts learnt nothing",
        ),
        ({"network": spread, "features": spread}, "Nothing shows that a cutout tells"),
    ):
        page = sky_probe.product(found, ("a", "b", "c"), 900)
        assert said in page.headline
        rows = {row["probe"]: row for row in page.facts["probes"]}
        assert (rows["network"]["detectable"] is None) == (found["network"] is alike)
