"""HATS metadata of a finished catalog, built from its receipts and written last."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow.parquet as pq
from jproperties import Properties

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
    ordered = sorted(pixels, key=lambda pixel: pixel.number << 2 * (FINEST_ORDER - pixel.order))
    files = [names.pixel_file(pixel) for pixel in ordered]
    footers = list(each(catalog, partial(_file_footer, catalog), files))
    schema = footers[0].schema.to_arrow_schema()
    return {
        names.METADATA: _footer(schema, footers),
        names.COMMON_METADATA: _footer(schema, []),
        names.PARTITION_INFO: _partition_info(ordered),
        names.PROPERTIES: _properties(facts),
    }


def _partition_info(ordered: Sequence[Pixel]) -> bytes:
    lines = ["Norder,Npix", *(f"{pixel.order},{pixel.number}" for pixel in ordered)]
    return "".join(f"{line}\n" for line in lines).encode()


def _properties(facts: CatalogFacts) -> bytes:
    """Return hats.properties, with the lines that the hats package writes.

    That package itself takes two seconds to import (matplotlib, astropy's WCS, numba), as long as
    all else that a night without new objects does. Tests compare with it.
    """
    properties = Properties(process_escapes_in_values=False)
    for key, value in {
        "obs_collection": facts.name,
        "dataproduct_type": "object",
        "hats_nrows": facts.rows,
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": HEALPIX_COLUMN,
        "hats_col_healpix_order": FINEST_ORDER,
        "hats_npix_suffix": ".parquet",
        "skytally_survey_uuid": facts.survey_uuid,
        "skytally_bundle_sha256": facts.bundle_sha256,
    }.items():
        properties[key] = str(value)
    sink = io.BytesIO()
    properties.store(sink, initial_comments="HATS catalog", encoding="utf-8", timestamp=False)
    return sink.getvalue()


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
