"""Sixty transformations and several networks, against scipy and by hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from catalogs.errors import InputError
from catalogs.trees.tree import read_tree
from training.answers import answer_layer
from training.averaging import Average, transformations
from training.calibrate import Calibration
from training.models.dieleman import FIELD
from training.network import Annotator, Classifier
from training.preprocess import Crops, Preprocess
from training.presets import read_settings

SHAPES = {
    "equivariant": {"fields": [2, 2, 4], "blocks": [0, 0, 1], "features": 8, "size": 24},
    "dieleman": {"widths": (2, 2, 2, 2), "dense": 4},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small images: on a shared machine, two threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def annotator(model: str, seed: int, names: tuple[str, ...] = ("a", "b", "c")) -> Annotator:
    torch.manual_seed(seed)
    settings = read_settings("default", None, {"model": model, "shape": SHAPES[model]})
    return Annotator(Classifier(settings, answer_layer(names)), Calibration(1.3, 0.0)).eval()


def cutouts(count: int, side: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator)


def test_there_are_sixty_and_the_first_changes_nothing() -> None:
    turns = transformations()
    assert turns.shape == (60, 2, 3)
    assert len({tuple(t.flatten().round(decimals=5).tolist()) for t in turns}) == 60
    assert torch.equal(turns[0], torch.eye(2, 3))
    scales = torch.linalg.det(turns[:, :, :2].double()).abs().sqrt()
    assert sorted(set(scales.numpy().round(4))) == pytest.approx([1 / 1.2, 1, 1.2], abs=1e-4)
    assert (torch.linalg.det(turns[:, :, :2]) < 0).sum() == 30


@pytest.mark.parametrize("side", [24, 61])
def test_an_image_that_is_not_turned_is_as_it_is(side: int) -> None:
    for look in (Preprocess(24), Crops(60, 20, 0.6, (0.0, 45.0))):
        batch = cutouts(2, side)
        torch.testing.assert_close(
            look.turned(batch, torch.eye(2, 3)), look(batch), atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("turn", [3, 17, 24, 55])
def test_a_crop_of_a_turned_image_is_scipys_affine_transform(turn: int) -> None:
    matrix = transformations()[turn]
    side, size, share = 23, 101, FIELD / 424
    image = cutouts(1, size)
    got = Crops(size, side, share, (0.0, 45.0), 0.0, 1.0).turned(image, matrix)[0].numpy()
    linear = matrix[:, :2].double().numpy()
    for k, angle in enumerate((0.0, np.pi / 4)):
        c, s = np.cos(angle), np.sin(angle)
        # From output to input pixels, rows first.
        xy = linear @ (share * np.asarray([[c, -s], [s, c]])) * size / side
        rows = xy[::-1, ::-1]
        middle = (size - 1) / 2 - rows @ np.full(2, (side - 1) / 2)
        for channel in range(3):
            expected = affine_transform(
                image[0, :, :, channel].double().numpy(), rows, middle, (side, side), order=1
            )
            np.testing.assert_allclose(got[3 * k + channel], expected, atol=0.02)


def test_the_mean_is_that_of_the_members_and_of_the_turns() -> None:
    members = [annotator("equivariant", seed) for seed in (0, 1)]
    batch = cutouts(3, 40)
    turns = transformations(2)
    with torch.inference_mode():
        alone = torch.stack([torch.stack(m(batch)) for m in members])
        torch.testing.assert_close(torch.stack(Average(members)(batch)), alone.mean(0))
        each = [torch.stack(m(batch, t)) for m in members for t in turns]
        averaged = Average(members, turns)
        torch.testing.assert_close(torch.stack(averaged(batch)), torch.stack(each).mean(0))
    assert averaged.answers == ("a", "b", "c")
    assert averaged.size == 24


def test_turned_galaxies_get_the_same_answer() -> None:
    """By 90 degrees and mirrored: with all of these among the turns the mean cannot change."""
    member = annotator("dieleman", 0)
    with torch.no_grad():
        for weights in member.parameters():
            weights.normal_(0.0, 0.3)
    average = Average([member], transformations(4)).eval()
    batch = cutouts(2, 60)
    with torch.inference_mode():
        plain = torch.stack(average(batch))
        for other in (batch.rot90(1, (1, 2)), batch.flip(2)):
            torch.testing.assert_close(torch.stack(average(other)), plain, atol=1e-5, rtol=1e-4)
        one = torch.stack(average.once(batch))
        assert (torch.stack(average.once(batch.flip(1))) - one).abs().max() > 1e-3


def test_networks_that_answer_otherwise_are_not_averaged() -> None:
    with pytest.raises(InputError, match="cannot be averaged"):
        Average([annotator("equivariant", 0), annotator("equivariant", 0, ("a", "b"))])


def test_a_tree_is_averaged_after_its_questions_are_answered() -> None:
    tree = read_tree("gz2")
    settings = read_settings(
        "default", None, {"model": "equivariant", "shape": SHAPES["equivariant"], "tree": "gz2"}
    )
    members = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        members.append(
            Annotator(Classifier(settings, answer_layer((), tree, "softmax")), Calibration()).eval()
        )
    with torch.inference_mode():
        found = torch.stack(Average(members, transformations(2))(cutouts(2, 30)), dim=1)
    first = found[:, tree.slices[0]]
    torch.testing.assert_close(first.sum(dim=1), torch.ones(2))
    torch.testing.assert_close(found[:, tree.slices[6]].sum(dim=1), first[:, 0])
