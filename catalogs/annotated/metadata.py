"""HATS metadata of a finished catalog, built from its receipts and written last."""

from __future__ import annotations

import io
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow.parquet as pq

from catalogs.annotated import names
from catalogs.cutouts.partition import Pixel
from catalogs.schema import HEALPIX_COLUMN
from catalogs.sky import FINEST_ORDER
from catalogs.storage.place import Place, each


@dataclass(frozen=True, slots=True)
class CatalogFacts:
    """What the properties file says beside the layout."""

    name: str
    rows: int
    survey_uuid: str
    bundle_sha256: str


def write_metadata(catalog: Place, pixels: Sequence[Pixel], facts: CatalogFacts) -> None:
    """Write what `metadata` returns, the properties last: they say that a catalog is whole."""
    for name, content in metadata(catalog, pixels, facts).items():
        catalog.write(name, content)


def metadata(catalog: Place, pixels: Sequence[Pixel], facts: CatalogFacts) -> dict[str, bytes]:
    """Return ``_metadata``, ``_common_metadata``, ``partition_info.csv`` and ``hats.properties``.

    Parameters
    ----------
    catalog : Place
        The catalog; the file of every pixel exists.
    pixels : sequence of Pixel
        Every partition, from the receipts and not from a listing.
    facts : CatalogFacts
        Name, rows and origin. No date: the same inputs give the same bytes.
    """
    # hats brings pandas along, which workers and the command line's help do not need.
    from hats.catalog.catalog_type import CatalogType
    from hats.catalog.dataset.table_properties import TableProperties
    from hats.catalog.partition_info import PartitionInfo
    from hats.pixel_math.healpix_pixel import HealpixPixel
    from hats.pixel_math.healpix_pixel_function import sort_pixels
    from upath import UPath

    ordered = sort_pixels([HealpixPixel(pixel.order, pixel.number) for pixel in pixels])
    files = [names.pixel_file(Pixel(int(pixel.order), int(pixel.pixel))) for pixel in ordered]
    footers = list(each(catalog, partial(_file_footer, catalog), files))
    schema = footers[0].schema.to_arrow_schema()
    properties = TableProperties.model_validate(
        {
            "catalog_name": facts.name,
            "catalog_type": CatalogType.OBJECT,
            "total_rows": facts.rows,
            "ra_column": "ra",
            "dec_column": "dec",
            "healpix_column": HEALPIX_COLUMN,
            "healpix_order": FINEST_ORDER,
            "npix_suffix": ".parquet",
            "skytally_survey_uuid": facts.survey_uuid,
            "skytally_bundle_sha256": facts.bundle_sha256,
        }
    )
    found = {
        names.METADATA: _footer(schema, footers),
        names.COMMON_METADATA: _footer(schema, []),
    }
    # A folder in memory: at the end of a long run, no full disk but the catalog's may matter.
    scratch = UPath(f"memory://{secrets.token_hex(8)}")
    PartitionInfo.from_healpix(ordered).write_to_file(catalog_path=scratch)
    properties.to_properties_file(scratch)
    for name in (names.PARTITION_INFO, names.PROPERTIES):
        found[name] = (scratch / name).read_bytes()
    scratch.fs.rm(scratch.path, recursive=True)
    return found


def name_of(catalog: Place) -> str:
    """Return the name that the properties of a described catalog give it, "" without one."""
    for line in catalog.read(names.PROPERTIES).splitlines():
        key, _, value = line.partition(b"=")
        if key.strip() == b"obs_collection":
            return value.decode(errors="replace").strip()
    return ""


def is_described(catalog: Place, rows: int) -> bool:
    """Say whether the metadata are there and speak of so many rows; they are written last."""
    try:
        properties = catalog.read(names.PROPERTIES)
    except FileNotFoundError:
        return False
    return f"hats_nrows={rows}".encode() in properties.splitlines()


def _file_footer(catalog: Place, name: str) -> pq.FileMetaData:
    with catalog.open(name) as stream:
        footer = pq.read_metadata(stream)
    footer.set_file_path(name.removeprefix(f"{names.DATASET}/"))
    return footer


def _footer(schema: object, footers: list[pq.FileMetaData]) -> bytes:
    sink = io.BytesIO()
    pq.write_metadata(schema, sink, metadata_collector=footers or None)
    return sink.getvalue()
