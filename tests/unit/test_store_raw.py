"""Raw pixels in a store: the samples that went in, in blocks of bounded size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from surveys import raw_image, write_raw_survey

from catalogs.cutouts import blob, layout
from catalogs.cutouts.store import Rows, Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.errors import InputError, IntegrityError


def write(to: Path, images: list[np.ndarray], dtype: str, channels: int) -> Survey:
    # All in one of the sky's twelve largest pixels.
    ra, dec = np.linspace(44, 46, len(images)), np.linspace(40, 44, len(images))
    info = SurveyInfo(name="raw", encoding="raw", dtype=dtype, channels=channels)

    def source(chunks):
        return ([images[row] for row in chunk.tolist()] for chunk in chunks)

    write_survey(to, SurveyTable(np.arange(len(images)), ra, dec), source, info)
    return Survey.open(to)


def read(survey: Survey, at_once: int = 8192) -> tuple[dict[int, np.ndarray], list[blob.Images]]:
    found, blocks = {}, []
    for partition in survey.partitions:
        rows = survey.read_rows(partition)
        for block in survey.read_images(partition, rows, at_once):
            blocks.append(block)
            for i, image in enumerate(block.files):
                assert i not in block.problems
                assert image.shape[:2] == (
                    rows.height[block.start + i],
                    rows.width[block.start + i],
                )
                found[int(rows.input_row[block.start + i])] = image
    return found, blocks


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_images_of_one_size_come_as_one_array(tmp_path, dtype):
    write_raw_survey(tmp_path / "raw.zarr", rows=700, size=9, dtype=dtype)
    survey = Survey.open(tmp_path / "raw.zarr")
    assert survey.attributes.image_size == (9, 9)
    found, blocks = read(survey, at_once=100)
    assert len(found) == 700
    for row, image in found.items():
        assert image.dtype == dtype
        np.testing.assert_array_equal(image, raw_image(row, 9, dtype))
    for block in blocks:
        assert block.stack.shape == (len(block.files), 9, 9, 3)
        assert block.stack.flags.c_contiguous
        np.testing.assert_array_equal(block.stack, np.stack(list(block.files)))


def test_images_of_several_sizes_and_none(tmp_path):
    sizes = [(4, 7), (7, 4), (1, 1), (0, 0), (5, 5)]
    images = [
        np.random.default_rng(i).random((*sizes[i % 5], 2), dtype=np.float32) for i in range(60)
    ]
    images[4][2, 2, 1] = np.nan
    survey = write(tmp_path / "raw.zarr", images, "float32", 2)
    assert survey.attributes.image_size is None
    found, _ = read(survey)
    for row, image in enumerate(images):
        np.testing.assert_array_equal(found[row], image)


def test_plain_zarr_reads_raw_pixels(tmp_path):
    write_raw_survey(tmp_path / "raw.zarr", rows=50, size=6, dtype="uint16")
    group = zarr.open_group(str(tmp_path / "raw.zarr"), mode="r")["appends/00000"]
    offset, length = int(group["offset"][7]), int(group["length"][7])
    data = group["blob"][offset : offset + length].tobytes()
    row = int(group["input_row"][7])
    shape = (int(group["height"][7]), int(group["width"][7]), 3)
    np.testing.assert_array_equal(
        np.frombuffer(data, "<u2").reshape(shape), raw_image(row, 6, "uint16")
    )


def test_partitions_and_images_share_shards_but_never_straddle_one(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "BLOB_SHARD", 4096)
    monkeypatch.setattr(layout, "BLOB_CHUNK", 512)
    monkeypatch.setattr("catalogs.cutouts.append.rows_per_partition", lambda _: 20)
    rng = np.random.default_rng(1)
    images = [
        rng.integers(0, 255, (*rng.integers(1, 12, 2), 3), dtype=np.uint8) for _ in range(300)
    ]
    survey = write(tmp_path / "raw.zarr", images, "uint8", 3)
    found, blocks = read(survey)
    for row, image in enumerate(images):
        np.testing.assert_array_equal(found[row], image)
    assert all(sum(image.nbytes for image in block.files) <= 4096 for block in blocks)
    for partition in survey.partitions:
        rows = survey.read_rows(partition)
        shards = [rows.offset // 4096, (rows.offset + rows.length - 1) // 4096]
        np.testing.assert_array_equal(*shards)
        needed = -(-int(rows.length.sum()) // 4096)
        assert len(np.unique(shards[0])) <= needed + 1
        if needed == 1:
            assert len(np.unique(shards[0])) == 1
    shards = list((tmp_path / "raw.zarr/appends/00000/blob/c").iterdir())
    assert len(shards) < len(survey.partitions)


def test_blocks_are_bounded_in_bytes(tmp_path, monkeypatch):
    images = [raw_image(row, 10, "uint8") for row in range(400)]
    survey = write(tmp_path / "raw.zarr", images, "uint8", 3)
    monkeypatch.setattr(blob, "MOST_BYTES_AT_ONCE", 300 * 300)
    _, blocks = read(survey)
    assert [len(block.files) for block in blocks] == [256, 144]
    monkeypatch.setattr(blob, "MOST_BYTES_AT_ONCE", 3 * 300)
    _, blocks = read(survey)
    assert {len(block.files) for block in blocks} == {1, 3}
    monkeypatch.setattr(blob, "MOST_BYTES_AT_ONCE", 299)
    _, blocks = read(survey)
    assert {len(block.files) for block in blocks} == {1}


@pytest.mark.parametrize(
    ("name", "values"),
    [("offset", -5), ("offset", 1 << 40), ("length", 1 << 30), ("length", 5), ("height", 9)],
)
def test_impossible_places_of_a_strangers_store_are_refused(tmp_path, name, values):
    """A stranger may have signed them; what they ask for is not read."""
    images = [raw_image(row, 8, "uint8") for row in range(10)]
    survey = write(tmp_path / "raw.zarr", images, "uint8", 3)
    (partition,) = survey.partitions
    rows = survey.read_rows(partition)
    wrong = {field: np.array(getattr(rows, field)) for field in Rows.__slots__}
    wrong[name][3] = values
    with pytest.raises(IntegrityError, match=r"image [34] of a partition"):
        list(survey.read_images(partition, Rows(**wrong)))


def test_images_that_no_store_takes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "MOST_IMAGE_BYTES", 100)
    with pytest.raises(InputError, match="192 bytes, more than the 100"):
        write_raw_survey(tmp_path / "a.zarr", rows=10)
    monkeypatch.undo()
    wide = np.zeros((1, 70_000, 1), dtype=np.uint8)
    with pytest.raises(InputError, match="70000x1 pixels is no cutout"):
        write(tmp_path / "b.zarr", [wide], "uint8", 1)
