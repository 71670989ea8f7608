from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from surveys import encode, scattered
from torch.nn import functional

from catalogs.cutouts.chosen import crop_of, read_cutouts
from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.errors import InputError
from catalogs.progress import Silent
from training.data import read_views
from training.labels import read_labels
from training.settings import TrainSettings

ROWS, SIZE = 90, 64


def image(row: int) -> NDArray[np.uint8]:
    return np.random.default_rng(row).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def write(path: Path, labels: list[str | None], crop: int | None = None) -> Survey:
    def images(chunks: Sequence[NDArray[np.int64]]) -> Iterator[list[bytes]]:
        for chunk in chunks:
            yield [b"broken" if row == 7 else encode(image(row)) for row in chunk.tolist()]

    ra, dec = scattered(len(labels))
    table = SurveyTable(
        ids=np.arange(len(labels)),
        ra=ra,
        dec=dec,
        columns={"label": np.asarray(labels, dtype=object)},
    )
    write_survey(path, table, images, SurveyInfo(name="noise", crop=crop))
    return Survey.open(path)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    labels = [(None, "", "spiral", "elliptical", "spiral")[i % 5] for i in range(ROWS)]
    return write(tmp_path_factory.mktemp("surveys") / "noise.zarr", labels)


def test_rows_without_a_label_are_left_out(survey: Survey) -> None:
    labels = read_labels(survey, TrainSettings())
    assert labels.names == ("elliptical", "spiral")
    assert len(labels.rows) == ROWS * 3 // 5
    input_row = survey.column("input_row")[labels.rows]
    assert np.array_equal(labels.targets, (input_row % 5 != 3).astype(int))


def test_views_are_antialiased_centres_of_the_right_rows(survey: Survey) -> None:
    rows = read_labels(survey, TrainSettings()).rows
    crop, size = 40, 20
    views = read_views(survey, rows, crop, size, Silent())
    input_row = survey.column("input_row")[rows]
    assert list(views.problems) == [rows[list(input_row).index(7)]]
    assert np.array_equal(views.kept, np.flatnonzero(input_row != 7))
    # The margin: 40 sqrt(2) = 57 px fit in 64; the largest aligned step gives 56, scaled to 28.
    assert views.wide.shape == (len(views.kept), 28, 28, 3)
    for k, row in enumerate(input_row[views.kept]):
        for got, side in ((views.cutouts[k], crop), (views.wide[k], 56)):
            edge = (SIZE - side) // 2
            centre = torch.from_numpy(image(row)[edge : edge + side, edge : edge + side])
            expected = functional.interpolate(
                centre.permute(2, 0, 1)[None].float(),
                (side // 2, side // 2),
                mode="bilinear",
                antialias=True,
            )[0].permute(1, 2, 0)
            assert (got.float() - expected).abs().max() <= 0.501


def test_cutouts_are_the_pixels_of_the_images(survey: Survey) -> None:
    rows = np.asarray([3, 11, 40])
    got = read_cutouts(survey, rows, 32)
    for pixels, row in zip(got, survey.column("input_row")[rows], strict=True):
        assert np.array_equal(pixels, image(row)[16:48, 16:48])


def test_the_framing_is_what_is_asked_else_the_surveys_else_galaxy_zoos(
    survey: Survey, tmp_path: Path
) -> None:
    assert crop_of(survey, 30, 240) == 30
    assert crop_of(survey, None, 240) == SIZE
    assert crop_of(survey, None, 20) == 20
    asking = write(tmp_path / "asking.zarr", ["a", "b"], crop=48)
    assert crop_of(asking, None, 240) == 48


def test_small_cutouts_are_taken_whole(survey: Survey) -> None:
    rows = np.arange(4)
    views = read_views(survey, rows, SIZE, SIZE, Silent())
    assert torch.equal(views.wide, views.cutouts)


@pytest.mark.parametrize("labels", [[None, None], ["a", "a"]])
def test_fewer_than_two_classes_is_refused(tmp_path: Path, labels: list[str | None]) -> None:
    with pytest.raises(InputError, match="training needs two or more"):
        read_labels(write(tmp_path / "x.zarr", labels), TrainSettings())


def test_the_fingerprint_follows_labels_and_images(tmp_path: Path) -> None:
    labels: list[str | None] = ["a", "b", "a", "b"]
    first = read_labels(write(tmp_path / "1.zarr", labels), TrainSettings()).fingerprint
    again = read_labels(write(tmp_path / "2.zarr", labels), TrainSettings()).fingerprint
    other = read_labels(
        write(tmp_path / "3.zarr", ["b", "a", "a", "b"]), TrainSettings()
    ).fingerprint
    assert first == again
    assert first != other


def test_images_that_cannot_be_decoded_at_all_are_an_error(survey: Survey) -> None:
    broken = np.flatnonzero(survey.column("input_row") == 7)
    with pytest.raises(InputError, match="none of the 1"):
        read_views(survey, broken, 40, 20, Silent())
