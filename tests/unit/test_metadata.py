"""The metadata of a catalog are what the hats package writes."""

from __future__ import annotations

from pathlib import Path

import hats
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hats.catalog import PartitionInfo, TableProperties
from hats.pixel_math.healpix_pixel import HealpixPixel

from catalogs.annotated import names
from catalogs.annotated.metadata import CatalogFacts, metadata, name_of, write_metadata
from catalogs.cutouts.partition import Pixel
from catalogs.storage.disk import Disk

ODD = " =:#!\\ näme\u2606 "


def described(folder: Path, pixels: list[Pixel], name: str) -> dict[str, bytes]:
    for pixel in pixels:
        file = folder / names.pixel_file(pixel)
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"_healpix_29": [pixel.number << 2 * (29 - pixel.order)]}), file)
    facts = CatalogFacts(name, len(pixels), "a uuid", "a digest")
    return metadata(Disk(folder), pixels, facts)


@pytest.mark.parametrize("name", ["sky", "two words", ODD])
def test_properties_and_partitions_are_those_of_hats(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(3)
    numbers = rng.permutation(48)[:20].tolist()
    pixels = [Pixel(1, n) for n in numbers[:10]] + [Pixel(2, 4 * n + 3) for n in numbers[10:]]
    found = described(tmp_path / "catalog", pixels, name)
    oracle = tmp_path / "oracle"
    oracle.mkdir()
    PartitionInfo.from_healpix([HealpixPixel(p.order, p.number) for p in pixels]).write_to_file(
        catalog_path=oracle
    )
    TableProperties(
        catalog_name=name,
        catalog_type="object",
        total_rows=20,
        ra_column="ra",
        dec_column="dec",
        healpix_column="_healpix_29",
        healpix_order=29,
        npix_suffix=".parquet",
        skytally_survey_uuid="a uuid",
        skytally_bundle_sha256="a digest",
    ).to_properties_file(oracle)
    assert found[names.PARTITION_INFO] == (oracle / names.PARTITION_INFO).read_bytes()
    lines = found[names.PROPERTIES].split(b"\n")
    assert sorted(lines) == sorted((oracle / names.PROPERTIES).read_bytes().split(b"\n"))


def test_hats_reads_them_back(tmp_path: Path) -> None:
    pixels = [Pixel(3, 5), Pixel(1, 7), Pixel(3, 4)]
    described(tmp_path, pixels, "sky")
    write_metadata(Disk(tmp_path), pixels, CatalogFacts("sky", 3, "a uuid", "a digest"))
    catalog = hats.read_hats(tmp_path)
    assert [(pixel.order, pixel.pixel) for pixel in catalog.get_healpix_pixels()] == [
        (3, 4),
        (3, 5),
        (1, 7),
    ]
    assert name_of(Disk(tmp_path)) == catalog.catalog_name == "sky"
