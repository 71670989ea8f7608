"""Images of every kind reach the store with the samples that astropy or numpy read."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits

from catalogs.cutouts.layout import RawPixels
from catalogs.errors import InputError
from catalogs.progress import Silent
from catalogs.survey.images import FoundImages, find_images

ROWS = 5
ALL = np.arange(ROWS)


def samples(dtype: str, shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    ends = np.iinfo(dtype)
    return rng.integers(ends.min, ends.max, shape, dtype=dtype, endpoint=True)


def found_in(folder: Path, images: str, rows: int = ROWS, **columns) -> FoundImages:
    ids = pa.chunked_array([pa.array(range(rows))])
    table = pa.table({"id": ids, **columns})
    return find_images(table, ids, images, folder / "table.csv", Silent())


def write_fits(folder: Path, images: list[np.ndarray], ending: str = "fits", **header) -> None:
    folder.mkdir(exist_ok=True)
    for i, image in enumerate(images):
        hdu = fits.PrimaryHDU(image)
        hdu.header.update(header)
        hdu.writeto(folder / f"{i}.{ending}")


@pytest.mark.parametrize("ending", ["fits", "fit", "fits.gz"])
@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        ("uint8", "uint8"),
        ("uint16", "uint16"),
        ("float32", "float32"),
        ("int8", "float32"),
        ("int16", "float32"),
        ("int32", "float32"),
        ("float64", "float32"),
    ],
)
def test_fits_files_hold_what_astropy_reads(tmp_path, dtype, stored, ending):
    images = [samples(dtype, (7, 9), seed) for seed in range(ROWS)]
    write_fits(tmp_path / "images", images, ending)
    found = found_in(tmp_path, str(tmp_path / "images"))
    assert found.raw == RawPixels(stored, 1)
    for i, image in enumerate(found.read(ALL)):
        expected = fits.getdata(tmp_path / f"images/{i}.{ending}")
        assert image.dtype == np.dtype(stored)
        assert image.flags.c_contiguous
        np.testing.assert_array_equal(image[:, :, 0], expected.astype(stored))


def test_channels_come_first_in_fits_and_sizes_may_differ(tmp_path):
    images = [samples("uint16", (3, 6 + i, 8), i) for i in range(ROWS)]
    write_fits(tmp_path / "images", images)
    found = found_in(tmp_path, str(tmp_path / "images"))
    assert found.raw == RawPixels("uint16", 3)
    for image, expected in zip(found.read(ALL), images, strict=True):
        np.testing.assert_array_equal(image, np.transpose(expected, (1, 2, 0)))


def test_scaled_and_blank_samples_are_what_astropy_makes_of_them(tmp_path):
    stored = [samples("int16", (7, 9), seed) for seed in range(ROWS)]
    for image in stored:
        image[2, 3] = -32768
    write_fits(tmp_path / "images", stored, BSCALE=0.25, BZERO=100.0, BLANK=-32768)
    found = found_in(tmp_path, str(tmp_path / "images"))
    assert found.raw == RawPixels("float32", 1)
    for i, image in enumerate(found.read(ALL)):
        expected = fits.getdata(tmp_path / f"images/{i}.fits")
        assert np.isnan(image[2, 3, 0])
        np.testing.assert_allclose(image[:, :, 0], expected, rtol=1e-6)


def test_the_image_may_be_an_extension_and_lack_its_padding(tmp_path):
    (tmp_path / "images").mkdir()
    images = [samples("float32", (6, 5), seed) for seed in range(ROWS)]
    for i, image in enumerate(images):
        path = tmp_path / f"images/{i}.fits"
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image)]).writeto(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: 2 * 2880 + image.nbytes])
    found = found_in(tmp_path, str(tmp_path / "images"))
    for image, expected in zip(found.read(ALL), images, strict=True):
        np.testing.assert_array_equal(image[:, :, 0], expected)


def test_what_is_no_image_is_named(tmp_path):
    folder = tmp_path / "images"
    good = [samples("uint8", (40, 90), seed) for seed in range(8)]
    write_fits(folder, good)
    whole = (folder / "1.fits").read_bytes()
    (folder / "1.fits").write_bytes(whole[:-2880])  # cut
    (folder / "2.fits").write_bytes(b"")
    (folder / "3.fits").write_bytes(b"GIF89a" + bytes(5000))
    fits.CompImageHDU(good[4]).writeto(folder / "4.fits", overwrite=True)
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=np.arange(4))])
    table.writeto(folder / "5.fits", overwrite=True)
    fits.PrimaryHDU(np.zeros((2, 2, 5, 5))).writeto(folder / "6.fits", overwrite=True)
    bomb = whole.replace(b"NAXIS1  =                   90", b"NAXIS1  =             99999999")
    (folder / "7.fits.gz").write_bytes(gzip.compress(bomb + bytes(70 << 20), 1, mtime=0))
    (folder / "7.fits").unlink()
    found = found_in(tmp_path, str(folder), rows=9)
    assert found.reasons.tolist() == [
        None,
        "unreadable_image",
        "unreadable_image",
        "unreadable_image",
        "unsuitable_image",
        "unsuitable_image",
        "unsuitable_image",
        "unsuitable_image",
        "no_image",
    ]
    np.testing.assert_array_equal(found.read(ALL[:1])[0][:, :, 0], good[0])


def test_a_column_may_name_fits_files(tmp_path):
    images = [samples("uint8", (4, 6), seed) for seed in range(ROWS)]
    write_fits(tmp_path / "deep", images)
    paths = [f"deep/{i}.fits" for i in range(ROWS - 1)] + ["https://example.org/4.fits"]
    found = found_in(tmp_path, "path", path=paths)
    assert found.reasons.tolist() == [None] * (ROWS - 1) + ["no_image"]
    np.testing.assert_array_equal(found.read(ALL[2:3])[0][:, :, 0], images[2])


def test_mixed_kinds_are_refused_in_one_line(tmp_path):
    folder = tmp_path / "images"
    write_fits(folder, [samples("uint8", (4, 6)), samples("float32", (4, 6))])
    with pytest.raises(InputError, match=r"holds uint8 with 1 channel, .* float32 with 1 channel"):
        found_in(tmp_path, str(folder), rows=2)
    (folder / "1.fits").rename(folder / "1.png")
    with pytest.raises(InputError, match=r"1 images are FITS .*0\.fits.* JPEG or PNG"):
        found_in(tmp_path, str(folder), rows=2)


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("u1", "uint8"), (">u2", "uint16"), ("f4", "float32"), ("<i2", "float32"), (">f8", "float32")],
)
@pytest.mark.parametrize("shape", [(ROWS, 6, 8), (ROWS, 6, 8, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_array_holds_what_numpy_loads(tmp_path, dtype, stored, shape, order):
    array = np.asarray(samples(np.dtype(dtype).newbyteorder("=").name, shape), dtype, order=order)
    np.save(tmp_path / "all.npy", array)
    found = found_in(tmp_path, str(tmp_path / "all.npy"))
    assert found.raw == RawPixels(stored, shape[3] if len(shape) == 4 else 1)
    rows = np.asarray([4, 0, 2])
    images = found.read(rows)
    assert images.dtype == np.dtype(stored)
    assert images.flags.c_contiguous
    expected = np.load(tmp_path / "all.npy")[rows].astype(stored)
    np.testing.assert_array_equal(images.reshape(expected.shape), expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("shape", [(ROWS, 6, 8), (ROWS, 3, 6, 8)])
def test_a_fits_cube_holds_what_astropy_reads(tmp_path, dtype, shape):
    fits.PrimaryHDU(samples(dtype, shape)).writeto(tmp_path / "cube.fits")
    expected = fits.getdata(tmp_path / "cube.fits")
    if len(shape) == 3:
        expected = expected[:, np.newaxis]
    found = found_in(tmp_path, str(tmp_path / "cube.fits"))
    rows = np.asarray([3, 1])
    np.testing.assert_array_equal(found.read(rows), np.moveaxis(expected, 1, -1)[rows])


def test_arrays_that_cannot_be_images_are_refused_in_one_line(tmp_path):
    def refused(name: str, content: np.ndarray | bytes) -> str:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif name.endswith(".npy"):
            np.save(path, content)
        else:
            fits.PrimaryHDU(content).writeto(path)
        with pytest.raises(InputError) as caught, warnings.catch_warnings():
            found_in(tmp_path, str(path))
        message = str(caught.value)
        assert "\n" not in message
        assert name in message
        return message

    assert "4 images, the table has 5 rows" in refused("four.npy", np.zeros((4, 6, 6), "u1"))
    assert "samples are complex128" in refused("complex.npy", np.zeros((5, 6, 6), complex))
    assert "samples are int64" in refused("int64.npy", np.zeros((5, 6, 6), "i8"))
    assert "its shape is (5, 6)" in refused("flat.npy", np.zeros((5, 6)))
    assert "another order" in refused("first.npy", np.zeros((5, 3, 16, 16), "u1"))
    assert "another order" in refused("last.fits", np.zeros((5, 16, 16, 3), "u1"))
    assert "not a cutout" in refused("large.npy", np.zeros((5, 1, 70_000), "u1"))
    whole = (tmp_path / "four.npy").read_bytes()
    assert "cannot be read" in refused("cut.npy", whole[:-3])
    assert "cannot be read" in refused("text.npy", b"not an array")
    np.save(tmp_path / "objects.npy", np.asarray([{}] * 5), allow_pickle=True)
    assert "cannot be read" in refused("pickle.npy", (tmp_path / "objects.npy").read_bytes())
    cube = (tmp_path / "last.fits").read_bytes()
    assert "cut short" in refused("cut.fits", cube[:3000])
