"""Decision trees: the shipped one against the papers, any other one against its faults."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from catalogs.errors import InputError
from catalogs.trees.tree import Tree, read_tree

PLAIN = """
name = "shapes"
spiral = ["spiral"]
[[questions]]
name = "shape"
answers = [{ name = "elliptical" }, { name = "spiral" }, { name = "merger" }]
"""


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "tree.toml"
    file.write_text(text)
    return file


def fractions(tree: Tree, count: int, seed: int = 0) -> np.ndarray:
    """Conditional fractions that add to one in every question."""
    random = np.random.default_rng(seed)
    parts = [random.dirichlet(np.ones(len(q.answers)), count) for q in tree.questions]
    return np.concatenate(parts, axis=1)


def by_walking(tree: Tree, conditional: np.ndarray) -> np.ndarray:
    """Cumulative fractions by walking every path, as a volunteer would."""
    total = np.zeros_like(conditional)
    index = {question.name: i for i, question in enumerate(tree.questions)}

    def walk(name: str, arrived: np.ndarray) -> None:
        i = index[name]
        for k, answer in enumerate(tree.questions[i].answers):
            column = tree.slices[i].start + k
            here = arrived * conditional[:, column]
            total[:, column] += here
            if answer.next is not None:
                walk(answer.next, here)

    walk(tree.questions[0].name, np.ones(len(conditional)))
    return total


def test_galaxy_zoo_2_has_11_questions_and_37_answers_as_in_the_paper() -> None:
    tree = read_tree("gz2")
    assert [len(q.answers) for q in tree.questions] == [3, 2, 2, 2, 4, 2, 3, 7, 3, 3, 6]
    assert len(tree.names) == 37
    # Who follows whom, as PAPERS has it from Dieleman et al. 2015, figure 1.
    follows = {q.name: [a.next for a in q.answers] for q in tree.questions}
    assert follows == {
        "q01": ["q07", "q02", None],
        "q02": ["q09", "q03"],
        "q03": ["q04", "q04"],
        "q04": ["q10", "q05"],
        "q05": ["q06"] * 4,
        "q06": ["q08", None],
        "q07": ["q06"] * 3,
        "q08": [None] * 7,
        "q09": ["q06"] * 3,
        "q10": ["q11"] * 3,
        "q11": ["q05"] * 6,
    }


def test_cumulative_fractions_are_sums_over_every_path() -> None:
    tree = read_tree("gz2")
    conditional = fractions(tree, 50)
    got = tree.cumulative(conditional)
    np.testing.assert_allclose(got, by_walking(tree, conditional), rtol=1e-12)


def test_questions_are_scaled_as_in_dieleman_et_al() -> None:
    tree = read_tree("gz2").with_unscaled(("q06",))
    got = tree.cumulative(fractions(tree, 20))
    of = dict(zip(tree.names, got.T, strict=True))
    asked = {
        q.name: got[:, s].sum(axis=1) for q, s in zip(tree.questions, tree.slices, strict=True)
    }
    disk, face_on = of["q01_features_or_disk"], of["q02_no"]
    expected = {
        "q01": np.ones(20),
        "q02": disk,
        "q03": face_on,
        "q04": face_on,
        "q05": face_on,
        "q06": np.ones(20),
        "q07": of["q01_smooth"],
        "q08": of["q06_yes"],
        "q09": of["q02_yes"],
        "q10": of["q04_spiral"],
        "q11": of["q04_spiral"],
    }
    for name, share in expected.items():
        np.testing.assert_allclose(asked[name], share, rtol=1e-12, err_msg=name)


def test_without_the_challenges_exception_nobody_is_asked_of_a_star() -> None:
    tree = read_tree("gz2")
    got = tree.cumulative(fractions(tree, 20))
    odd = got[:, tree.slices[5]].sum(axis=1)
    np.testing.assert_allclose(odd, 1 - got[:, tree.names.index("q01_star_or_artifact")])


@pytest.mark.shared
def test_the_columns_are_those_of_galaxy_zoo_2(shared_data: Path) -> None:
    tree = read_tree("gz2")
    with (shared_data / "gz2" / "objects.csv").open() as stream:
        reader = csv.reader(stream)
        header = next(reader)
        rows = list(reader)
    stems = [answer.column for question in tree.questions for answer in question.answers]
    columns = [header.index(f"{stem}_weighted_fraction") for stem in stems]
    values = np.asarray([[float(row[i] or 0) for i in columns] for row in rows])
    for part in tree.slices:
        total = values[:, part].sum(axis=1)
        answered = total > 0
        assert answered.any()
        np.testing.assert_allclose(total[answered], 1, atol=0.01)


def test_plain_classes_are_a_tree_of_one_question(tmp_path: Path) -> None:
    tree = read_tree(written(tmp_path, PLAIN))
    assert tree.names == ("elliptical", "spiral", "merger")
    values = fractions(tree, 5)
    np.testing.assert_array_equal(tree.cumulative(values), values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("merger", "spiral"), "answer of shape spiral is there twice"),
        (('"spiral" }', '"spiral", next = "q9" }'), "shape leads to q9, which is not there"),
        (('"spiral" }', '"spiral", next = "shape" }'), "shape can follow upon itself"),
        (('spiral = ["spiral"]', 'spiral = ["disk"]'), "spiral names disk, which is no answer"),
        (
            ('spiral = ["spiral"]', 'spiral = ["spiral", "spiral"]'),
            "spiral answer spiral is there tw",
        ),
        (('name = "shapes"', 'name = "a/b"'), "name: String should match"),
        (('name = "shapes"', 'name = "x"\nunscaled = ["z"]'), "z, which is no question"),
        (('name = "shapes"', 'name = "x"\ncolour = 1'), "colour: Extra inputs"),
        (('name = "shapes"', "name = "), "is not TOML"),
    ],
)
def test_a_faulty_tree_is_told_in_one_line(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    file = written(tmp_path, PLAIN.replace(*change, 1))
    with pytest.raises(InputError, match=message) as caught:
        read_tree(file)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


def test_answers_that_one_volunteer_can_give_are_not_added_up() -> None:
    values = read_tree("gz2").model_dump()
    for together in (("q03_bar", "q04_spiral"), ("q01_smooth", "q06_yes")):
        with pytest.raises(ValueError, match="can give both"):
            Tree.model_validate({**values, "spiral": together})
    spiral = Tree.model_validate({**values, "spiral": ("q01_smooth", "q04_spiral", "q02_yes")})
    total = spiral.cumulative(fractions(spiral, 30))
    assert total[:, [spiral.names.index(n) for n in spiral.spiral]].sum(axis=1).max() <= 1


def test_a_missing_tree_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'gz3' is none of gz2"):
        read_tree("gz3")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_tree(tmp_path / "none.toml")
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * (2 << 20))
    with pytest.raises(InputError, match="it is no tree"):
        read_tree(huge)
