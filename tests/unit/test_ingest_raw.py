"""Raw images and hundreds of columns travel from their files into a store unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from surveys import scattered

from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.survey.ingest import IngestSettings, ingest

ROWS = 50


def write_table(folder: Path, rows: int = ROWS, **columns) -> Path:
    ra, dec = scattered(rows)
    table = pa.table({"id": np.arange(rows), "ra": ra, "dec": dec, **columns})
    pq.write_table(table, folder / "table.parquet")
    return folder / "table.parquet"


def images_in(survey: Survey) -> dict[int, np.ndarray]:
    """Each stored image, by the row of the table that it belongs to."""
    found = {}
    for partition in survey.partitions:
        rows = survey.read_rows(partition)
        for block in survey.read_images(partition, rows):
            assert not block.problems
            for i, image in enumerate(block.files):
                found[int(rows.input_row[block.start + i])] = np.array(image)
    return found


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("kind", ["npy", "cube", "files"])
def test_raw_images_are_stored_as_they_are(tmp_path, dtype, kind):
    rng = np.random.default_rng(1)
    array = rng.integers(0, 255, (ROWS, 9, 7, 3)).astype(dtype)
    if dtype == "float32":
        array[3, 2, 2, 1] = np.nan
        array[4, 0, 0, 0] = -np.inf
    images = tmp_path / {"npy": "all.npy", "cube": "all.fits", "files": "images"}[kind]
    channels_first = np.moveaxis(array, -1, 1)
    if kind == "npy":
        np.save(images, array)
    elif kind == "cube":
        fits.PrimaryHDU(channels_first).writeto(images)
    else:
        images.mkdir()
        for i, image in enumerate(channels_first):
            fits.PrimaryHDU(image).writeto(images / f"{i}.fits")
    table = write_table(tmp_path)
    result = ingest(table, str(images), tmp_path / "survey.zarr", IngestSettings())
    assert (result.stored, result.quarantined) == (ROWS, 0)
    survey = Survey.open(tmp_path / "survey.zarr")
    attributes = survey.attributes
    assert (attributes.encoding, attributes.dtype, attributes.channels) == ("raw", dtype, 3)
    assert attributes.image_size == (9, 7)
    stored = images_in(survey)
    assert sorted(stored) == list(range(ROWS))
    for row, image in stored.items():
        np.testing.assert_array_equal(image, array[row])


def test_sizes_may_differ_and_bad_files_are_quarantined(tmp_path):
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(2)
    arrays = [rng.normal(size=(5 + i % 4, 8)).astype(np.float32) for i in range(ROWS)]
    for i, image in enumerate(arrays):
        fits.PrimaryHDU(image).writeto(tmp_path / f"images/{i}.fits")
    whole = (tmp_path / "images/7.fits").read_bytes()
    (tmp_path / "images/7.fits").write_bytes(whole[:2900])
    table = write_table(tmp_path)
    result = ingest(table, str(tmp_path / "images"), tmp_path / "survey.zarr", IngestSettings())
    assert result.reasons == {"unreadable_image": 1}
    survey = Survey.open(tmp_path / "survey.zarr")
    assert survey.attributes.image_size is None
    stored = images_in(survey)
    assert sorted(stored) == [i for i in range(ROWS) if i != 7]
    for row, image in stored.items():
        np.testing.assert_array_equal(image[:, :, 0], arrays[row])


def test_a_night_of_raw_images_must_be_of_the_same_type(tmp_path):
    table = write_table(tmp_path)
    np.save(tmp_path / "all.npy", np.ones((ROWS, 8, 8), np.float32))
    ingest(table, str(tmp_path / "all.npy"), tmp_path / "survey.zarr", IngestSettings())
    pq.write_table(
        pa.table({"id": np.arange(ROWS, 2 * ROWS), "ra": np.ones(ROWS), "dec": np.ones(ROWS)}),
        tmp_path / "second.parquet",
    )
    settings = IngestSettings(append=True, night="second")
    np.save(tmp_path / "other.npy", np.ones((ROWS, 8, 8), np.uint8))
    arguments = (tmp_path / "survey.zarr", settings)
    with pytest.raises(InputError, match=r"uint8 with 1 channel, those of .* float32 with 1 chan"):
        ingest(tmp_path / "second.parquet", str(tmp_path / "other.npy"), *arguments)
    np.save(tmp_path / "other.npy", np.full((ROWS, 6, 6), 2, np.float64))
    ingest(tmp_path / "second.parquet", str(tmp_path / "other.npy"), *arguments)
    survey = Survey.open(tmp_path / "survey.zarr")
    assert survey.rows == 2 * ROWS
    assert survey.attributes.image_size is None


def many_columns() -> dict[str, pa.Array]:
    """400 columns of every type that tables have, a third of them with nulls."""
    rng = np.random.default_rng(3)
    numbers = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "float32", "float64"]
    made = {}
    for i in range(400):
        missing = rng.random(ROWS) < 0.1 if i % 3 == 0 else np.zeros(ROWS, bool)
        kind = [*numbers, "bool", "text"][i % 11]
        if kind == "text":
            values = np.asarray(
                [f"ä{rng.integers(10 ** (1 + i % 9))}" for _ in range(ROWS)], object
            )
        elif kind == "bool":
            values = rng.random(ROWS) < 0.5
        elif kind.startswith("float"):
            values = rng.normal(size=ROWS).astype(kind)
        else:
            ends = np.iinfo(kind)
            largest = min(int(ends.max), 2**53) if missing.any() else int(ends.max)
            values = rng.integers(max(int(ends.min), -(2**53)), largest, ROWS).astype(kind)
        made[f"{kind}_{i}"] = pa.array(values, mask=missing)
    return made


def test_400_columns_travel_through(tmp_path):
    columns = many_columns()
    table = write_table(tmp_path, **columns)
    np.save(tmp_path / "all.npy", np.ones((ROWS, 4, 4), np.uint8))
    ingest(table, str(tmp_path / "all.npy"), tmp_path / "survey.zarr", IngestSettings())
    survey = Survey.open(tmp_path / "survey.zarr")
    assert set(survey.column_names) == set(columns)
    order = np.argsort(survey.column("input_row"))
    for name, values in columns.items():
        stored = survey.column(name)[order]
        if stored.dtype == object:
            assert stored.tolist() == values.to_pylist()
        elif values.null_count:
            expected = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
            np.testing.assert_array_equal(stored, expected, err_msg=name)
        else:
            assert stored.dtype == values.type.to_pandas_dtype(), name
            np.testing.assert_array_equal(stored, values.to_numpy(zero_copy_only=False))


def test_400_fits_columns_are_what_astropy_reads(tmp_path):
    ra, dec = scattered(ROWS)
    columns = {
        name: values.to_numpy(zero_copy_only=False)
        for name, values in many_columns().items()
        if not values.null_count and not name.startswith("text")  # FITS knows no UTF-8
    }
    Table({"id": np.arange(ROWS), "ra": ra, "dec": dec, **columns}).write(tmp_path / "table.fits")
    np.save(tmp_path / "all.npy", np.ones((ROWS, 4, 4), np.uint8))
    images = str(tmp_path / "all.npy")
    ingest(tmp_path / "table.fits", images, tmp_path / "survey.zarr", IngestSettings())
    survey = Survey.open(tmp_path / "survey.zarr")
    order = np.argsort(survey.column("input_row"))
    expected = Table.read(tmp_path / "table.fits")
    assert set(survey.column_names) == set(expected.colnames) - {"id", "ra", "dec"}
    for name in survey.column_names:
        np.testing.assert_array_equal(survey.column(name)[order], expected[name], err_msg=name)
