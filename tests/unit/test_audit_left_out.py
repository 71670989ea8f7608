"""What has no answer, or a label that tells no shape, is no sky."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ppi_py import ppi_mean_ci
from scipy import stats

from catalogs import sky
from catalogs.audit.labels import labelled
from catalogs.audit.labels.census import NO_SHAPE, Census, same_share_p
from catalogs.audit.labels.labelled import Attribution
from catalogs.audit.reading.covariates import Covariates
from catalogs.audit.reading.table import Read
from catalogs.audit.reading.table import read as read_all
from catalogs.audit.region import parse_part
from catalogs.audit.report import label_document, left_out_document
from catalogs.audit.report.cause_words import of_the_sky
from catalogs.audit.settings import AuditSettings
from catalogs.progress import Silent

NAMED = "ra=0:20,dec=0:20"
BOX = sky.Region(0, 20, 0, 20)
NAMES = np.array(["elliptical", "spiral"])


class World:
    """30,000 objects, a third in the box; 45% are spirals, and the classifier sees all alike."""

    def __init__(self, seed: int = 1, excess: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        self.rng, number = rng, 30_000
        third = number // 3
        self.ra = np.r_[rng.uniform(0, 20, third), rng.uniform(20, 60, number - third)]
        self.dec = np.r_[rng.uniform(0, 20, third), rng.uniform(-20, 20, number - third)]
        self.inside = BOX.contains(self.ra, self.dec)
        self.spiral = self.chance(0.45 + excess * self.inside)
        self.called = self.chance(np.where(self.spiral, 0.95, 0.03))
        self.known = self.chance(0.2)

    def chance(self, p: Any) -> np.ndarray:
        return np.asarray(self.rng.random(30_000) < p)

    def table(self, unanswered: Any = False, word: str | None = "unknown") -> pa.Table:
        said = np.where(unanswered, word, NAMES[self.called * 1].astype(object))
        told = np.where(self.known, NAMES[self.spiral * 1].astype(object), None)
        return pa.table({"ra": self.ra, "dec": self.dec, "label": said, "truth": told})


def reading(folder: Path, table: pa.Table, **asked: Any) -> Read:
    pq.write_table(table, folder / "sky.parquet")
    settings = AuditSettings(**({"truth": "truth", "region": NAMED} | asked))
    none = Covariates((), [], "")
    return read_all(folder / "sky.parquet", settings, none, Silent())


def judged(folder: Path, table: pa.Table, **asked: Any) -> Attribution:
    found = reading(folder, table, **asked).labelled
    assert found is not None
    return labelled.attribute(found, parse_part(NAMED), named=True)


@pytest.mark.parametrize("word", ["unknown", "nan", None])
def test_spirals_without_an_answer_are_no_sky(word: str | None, tmp_path: Path) -> None:
    world = World()
    left = world.chance(np.where(world.inside & world.spiral, 0.25, 0.1))
    table = world.table(left, word)
    found = judged(tmp_path, table, labels_blind=True)
    assert found.cause == "classifier"
    missing, difference = found.left_out, found.sky
    assert missing is not None
    assert difference is not None
    counts = [[np.sum(side & left), np.sum(side)] for side in (world.inside, ~world.inside)]
    assert [[s.unanswered, s.objects] for s in (missing.inside, missing.outside)] == counts
    expected = stats.chi2_contingency([[k, n - k] for k, n in counts], correction=False).pvalue
    assert missing.p_share == pytest.approx(expected, rel=1e-6)
    assert found.p_rates is not None
    assert found.p_rates > 0.025 > missing.p_kinds
    # The sky's difference is of all objects, the missing answers being one number.
    f = np.where(left, world.called[~left].mean(), world.called)
    y = world.spiral.astype(float)
    slope = np.cov(y[world.known], f[world.known], bias=True)[0, 1] / f.var(ddof=1)
    theirs = []
    for side in (world.inside, ~world.inside):
        mine, rest = side & world.known, side & ~world.known
        t = slope * rest.sum() / side.sum()
        low, high = ppi_mean_ci(y[mine], f[mine], f[rest], alpha=0.05, lam=t)
        theirs.append(float(np.squeeze(low + high)) / 2)
    assert float(difference.value) == pytest.approx(theirs[0] - theirs[1], abs=2e-5)
    assert difference.p > 0.025
    # Asked for, unknown is an answer, and true spirals that get it are mistakes.
    if word == "unknown":
        whole = judged(tmp_path, table, labels_blind=True, among="all")
        assert whole.left_out is not None
        assert whole.left_out.inside.unanswered == 0
        assert whole.cause == "classifier"
    # Labels of answered objects only do not speak of the others: nothing is named.
    world.known &= ~left
    found = judged(tmp_path, world.table(left, word), labels_blind=True)
    assert found.cause == "undetermined"
    assert "of the objects inside have no answer" in found.obstacles[-1]


def test_a_sky_with_even_gaps_is_a_sky(tmp_path: Path) -> None:
    world = World(excess=0.1)
    table = world.table(world.chance(0.1))
    assert judged(tmp_path, table, labels_blind=True).cause == "sky"
    world = World(seed=3, excess=0.1)
    left = world.chance(np.where(world.inside & world.spiral, 0.3, 0.1))
    assert judged(tmp_path, world.table(left), labels_blind=True).cause == "both"


def test_experts_who_cannot_tell_make_labels_no_blind_draw(tmp_path: Path) -> None:
    """The classifier misses faint spirals in the box, of which experts say unknown."""
    world = World()
    faint = world.chance(0.5)
    world.called &= ~(world.inside & faint & world.chance(0.4))
    unsure = world.known & faint & world.chance(0.85)
    table = world.table()
    told = np.where(unsure, "unknown", np.array(table["truth"].to_pylist(), object))
    table = table.set_column(3, "truth", pa.array(list(told)))
    by_column = judged(tmp_path, table, labels_blind=True)
    assert by_column.cause not in ("sky", "both")
    missing = by_column.left_out
    assert missing is not None
    assert missing.inside.no_shape == np.sum(unsure & world.inside)
    assert missing.outside.labels == np.sum(world.known & ~world.inside)
    said = left_out_document.place_text(left_out_document.of_a_place(missing), "spiral")
    assert f"labels that tell no shape: {missing.inside.no_shape:,} of" in said[-1]
    # By position or id they are the same objects.
    labels = table.filter(pa.array(world.known)).select(["ra", "dec", "truth"])
    pq.write_table(labels, tmp_path / "l.parquet")
    bare = table.drop_columns("truth")
    place = reading(tmp_path, bare, truth=str(tmp_path / "l.parquet"))
    ids = pa.array(np.arange(30_000))
    known = labels.append_column("id", ids.filter(pa.array(world.known)))
    # A label that tells no shape yields to one that does.
    again = pa.concat_tables(
        [known, known.set_column(2, "truth", pa.array(["unknown"] * len(known)))]
    )
    pq.write_table(again, tmp_path / "l.parquet")
    by_id = reading(tmp_path, bare.append_column("id", ids), truth=str(tmp_path / "l.parquet"))
    for found in (place, by_id):
        assert found.labelled is not None
        assert found.matched is not None
        assert found.matched.no_shape == unsure.sum()
        assert found.matched.matched == np.sum(world.known & ~unsure)
        where = labelled.attribute(found.labelled, parse_part(NAMED), named=True)
        assert where.left_out == missing


def test_labels_on_the_training_sky_are_told(tmp_path: Path) -> None:
    world = World()
    found = reading(tmp_path, world.table()).labelled
    assert found is not None
    tiles = np.unique(sky.tile_of(world.ra, world.dec, 4))[::2]
    share = np.isin(sky.tile_of(world.ra, world.dec, 4), tiles)[world.known].mean()
    assert f"{share:.0%} of the labels lie on" in label_document.seen_note(found, tiles)


def test_words_for_no_value_are_no_labels(tmp_path: Path) -> None:
    world = World()
    table = world.table()
    told = [truth or "nan" for truth in table["truth"].to_pylist()]
    found = reading(tmp_path, table.set_column(3, "truth", pa.array(told))).matched
    assert found is not None
    assert (found.matched, found.no_shape) == (world.known.sum(), 0)
    said = dict(found.values)
    assert said["nan"] == np.sum(~world.known)
    assert said["spiral"] == np.sum(world.known & world.spiral)


def test_a_sky_that_goes_with_the_seeing_says_what_labels_may_share() -> None:
    seeing, mag = ({"name": name, "dropped": None} for name in ("seeing", "mag"))
    document: dict[str, Any] = {
        "cause": "sky",
        "cause_basis": "labels",
        "cause_places": [{"where": "there", "cause": "sky"}],
        "settings": {"labels_blind": True, "intrinsic": ["mag"]},
        "nuisances": {"covariates": [seeing, mag], "alarm": {"before": 0.001, "after": 0.4}},
    }
    document["nuisances"]["alarm"]["alpha"] = 0.05
    assert "the alarm goes after regression on seeing: this may be so" in of_the_sky(document)
    document["nuisances"]["alarm"]["after"] = 0.01
    assert of_the_sky(document).endswith("made from the same images may share what these hide")
    document["cause_places"][0]["cause"] = document["cause"] = "classifier"
    assert "images" not in of_the_sky(document)


def test_shares_are_compared_as_others_do() -> None:
    for k, n, other_k, other_n in ((3, 40, 5, 50), (120, 1000, 90, 1200)):
        table = [[k, n - k], [other_k, other_n - other_k]]
        few = min(stats.contingency.expected_freq(table).ravel()) < 5
        oracle = stats.fisher_exact(table) if few else stats.chi2_contingency(table, False)
        assert same_share_p(k, n, other_k, other_n) == pytest.approx(oracle.pvalue)
    assert same_share_p(0, 5, 0, 9) == same_share_p(1, 5, 0, 0) == 1


def test_a_census_tells_where_answers_are_missing() -> None:
    rng = np.random.default_rng(2)
    ra, dec = rng.uniform(0, 60, 20_000), rng.uniform(-30, 30, 20_000)
    pixels = sky.tile_of(ra, dec, 29)
    even, odd = (rng.random(20_000) < p for p in (0.1, np.where(ra < 15, 0.2, 0.1)))
    for left in (even, odd):
        census = Census(5)
        truth = np.where(rng.random(20_000) < 0.1, NO_SHAPE, np.nan)
        census.add(pixels, np.where(left, np.nan, 1.0), truth)
        part = left_out_document.of_the_sky(census, 2)
        _, at = np.unique(sky.tile_of(ra, dec, 2), return_inverse=True)
        table = np.array([np.bincount(at, left), np.bincount(at, ~left)])
        table = table[:, (table.sum(axis=0) * left.mean() >= 5)]
        assert part["p"] == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue)
        assert (part["unanswered"], part["tiles"]) == (left.sum(), table.shape[1])
        assert census.no_shape == np.sum(truth == NO_SHAPE)
        varies = "varies more than chance allows" in left_out_document.sky_text(part)
        assert varies == (left is odd)
    assert left_out_document.sky_text(left_out_document.of_the_sky(Census(4), 2)) == ""
