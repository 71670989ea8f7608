"""How a tree's answers become columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from catalogs.cutouts.store import Rows
from catalogs.trees.tree import read_tree
from engine.write import PartitionRows, catalog_name, to_table
from export.bundle import Bundle
from export.manifest import Manifest

TREE = read_tree("gz2")


@pytest.fixture
def manifest(brightness: Bundle) -> Manifest:
    answers = [*(f"p_{name}" for name in TREE.names), "p_spiral"]
    said = {**dict(brightness.manifest), "tree": TREE, "labels": [], "answers": answers}
    return Manifest(**said)


def table(manifest: Manifest, answers: np.ndarray, status: list[str]) -> pa.Table:
    n = len(answers)
    numbers, sides = np.arange(n), np.full(n, 8, np.uint16)
    rows = Rows(
        numbers, numbers * 1.0, numbers * 1.0, numbers, numbers, numbers, numbers, sides, sides,
        np.zeros(n, np.uint32),
    )  # fmt: skip
    columns = dict(zip(manifest.answers, answers.T.astype(np.float32), strict=True))
    reason = np.full(n, None, dtype=object)
    mine = {"label_q02": numbers, "brightness": numbers}
    return to_table(
        PartitionRows(rows, "", columns, np.asarray(status, object), reason, mine), manifest
    )


def test_every_question_has_a_label_and_the_galaxy_too(manifest: Manifest) -> None:
    random = np.random.default_rng(0)
    shares = np.concatenate(
        [random.dirichlet(np.ones(s.stop - s.start), 50) for s in TREE.slices], axis=1
    )
    shares[0, TREE.slices[0]] = [0, 0, 1]  # a star: nobody is asked anything else but q06
    cumulative = TREE.cumulative(shares)
    spiral = sum(cumulative[:, TREE.names.index(name)] for name in TREE.spiral)
    status = ["ok"] * 49 + ["blank"]
    found = table(manifest, np.column_stack([cumulative, spiral]), status)
    for question, at in zip(TREE.questions, TREE.slices, strict=True):
        labels = found[f"label_{question.name}"].to_pylist()
        sure = found[f"confidence_{question.name}"].to_pylist()
        p = shares[:, at]
        for row in range(1, 49):
            assert labels[row] == question.answers[p[row].argmax()].name
            entropy = -(p[row] * np.log(p[row])).sum()
            assert sure[row] == pytest.approx(1 - entropy / np.log(p.shape[1]), abs=1e-5)
        asked = question.name == "q01"
        assert (labels[0] is not None) == (sure[0] is not None) == asked
        assert labels[49] is None
        assert sure[49] is None
    expected = np.where(spiral >= manifest.threshold, "spiral", "other")[:49].tolist()
    assert found["label"].to_pylist() == [*expected, None]
    assert set(expected) == {"spiral", "other"}
    assert found["p_spiral"].null_count == 1
    assert found["p_q05_obvious"].type == pa.float32()


def test_a_surveys_own_column_gives_way(manifest: Manifest, brightness: Bundle) -> None:
    assert catalog_name("label_q02", manifest) == "survey_label_q02"
    assert catalog_name("label_q02", brightness.manifest) == "label_q02"
    assert catalog_name("label", brightness.manifest) == "survey_label"


def test_a_tree_that_calls_nothing_spiral_gives_no_label(manifest: Manifest) -> None:
    names = [f"p_{name}" for name in TREE.names]
    said = Manifest(**{**dict(manifest), "answers": names, "spiral": None})
    found = table(said, np.full((2, len(names)), 0.2), ["ok", "ok"])
    assert "label" not in found.column_names
    assert "p_spiral" not in found.column_names
    assert found["label_q01"].to_pylist() == ["smooth", "smooth"]
