"""The tables and maps of an audit: Parquet, FITS, a HEALPix map and a MOC of flagged tiles."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from mocpy import MOC
from numpy.typing import NDArray

from catalogs import sky
from catalogs.audit.comparison.paired import DifferenceTiles
from catalogs.audit.labels.correction import CorrectedTiles
from catalogs.audit.region import Cap
from catalogs.audit.uniformity.analysis import TileTable, tile_positions
from catalogs.audit.uniformity.battery import CELL_ORDER

FILES = (
    "tiles.parquet",
    "tiles.fits",
    "corrected.fits",
    "differences.fits",
    "flagged.moc.fits",
    "scan.moc.fits",
)
# What the HEALPix FITS convention calls a pixel without a value.
UNSEEN = -1.6375e30
_NAME_LENGTH = 40


def count_column(answer: str) -> str:
    """Return the name of the column that counts an answer, such as ``n_spiral``.

    Short and in ASCII, as FITS asks: accents go, and what has no Latin letters is ``n_answer``.
    """
    latin = unicodedata.normalize("NFKD", answer).encode("ascii", "ignore").decode("ascii")
    name = re.sub(r"[^a-z0-9]+", "_", latin.lower()).strip("_")[:_NAME_LENGTH].strip("_")
    return f"n_{name or 'answer'}"


def columns_of(table: TileTable, answer: str) -> dict[str, NDArray[np.generic]]:
    """Return a tile table's columns by name, in their order on disk."""
    ra, dec = tile_positions(table)
    return {
        "order": np.full(len(table.tiles), table.order, np.int16),
        "tile": table.tiles,
        "ra": ra,
        "dec": dec,
        "n": table.n,
        count_column(answer): table.k,
        "fraction": table.fraction,
        "low": table.low,
        "high": table.high,
        "cp_low": table.cp_low,
        "cp_high": table.cp_high,
        "shrunken": table.shrunken,
        "difference": table.difference,
        "z": table.z,
        "p": table.p,
        "q": table.q,
        "flag": table.flag,
    }


def write_table(
    tables: tuple[TileTable, ...],
    answer: str,
    path: Path,
    corrected: tuple[CorrectedTiles, ...] = (),
) -> None:
    """Write ``tiles.parquet``: the occupied tiles of all orders, the testing order first."""
    parts = [columns_of(table, answer) for table in tables]
    for part, more in zip(parts, corrected, strict=False):
        part |= more.columns()
    arrow = {
        name: pa.array(np.concatenate([part[name] for part in parts]), from_pandas=True)
        for name in parts[0]  # NaN becomes null
    }
    pq.write_table(pa.table(arrow), path)


def write_maps(tables: tuple[TileTable, ...], answer: str, path: Path) -> None:
    """Write ``tiles.fits``: a whole-sky HEALPix map per order, the testing order first.

    One column per quantity, nested and implicit, as healpy, Aladin and TOPCAT read it.
    """
    places = ("order", "tile", "ra", "dec")
    maps = []
    for table in tables:
        columns = columns_of(table, answer)
        shown = {name: values for name, values in columns.items() if name not in places}
        maps.append(_map(shown, table.tiles, table.order))
    fits.HDUList([fits.PrimaryHDU(), *maps]).writeto(path)


def write_corrected(corrected: CorrectedTiles, table: TileTable, path: Path) -> None:
    """Write ``corrected.fits``: the corrected fractions of a table's tiles as such a map."""
    _map(corrected.columns(), table.tiles, table.order).writeto(path)


def write_differences(differences: Sequence[tuple[str, DifferenceTiles]], path: Path) -> None:
    """Write ``differences.fits``: one such map per compared catalog, named in ``CATALOG``.

    Columns: objects in both, mean of audited minus other answer, and the difference of this from
    the rest of the sky in standard errors.

    Parameters
    ----------
    differences : sequence of (str, DifferenceTiles)
        Each catalog, and its differences.
    path : Path
    """
    maps = []
    for catalog, found in differences:
        columns: dict[str, NDArray[np.generic]] = {
            "n": found.n,
            "difference": found.difference,
            "z": found.z,
        }
        made = _map(columns, found.tiles, found.order)
        made.header["CATALOG"] = _printable(catalog)
        maps.append(made)
    fits.HDUList([fits.PrimaryHDU(), *maps]).writeto(path)


def _printable(text: str) -> str:
    """Return text as FITS headers take it: ASCII without control characters."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def _map(
    columns: dict[str, NDArray[np.generic]], tiles: NDArray[np.int64], order: int
) -> fits.BinTableHDU:
    """Return columns of some tiles as a whole-sky map.

    Whole numbers and flags are 0 in all other tiles, other values what the convention calls
    unseen.
    """
    nside = 2**order
    made = []
    for name, values in columns.items():
        if values.dtype.kind in "iub":
            full = np.zeros(12 * nside**2, np.int64)
            full[tiles] = values
        else:
            full = np.full(12 * nside**2, UNSEEN)
            full[tiles] = np.where(np.isnan(values), UNSEEN, values)
        made.append(fits.Column(name, "K" if full.dtype == np.int64 else "D", array=full))
    hdu = fits.BinTableHDU.from_columns(made, name=f"NSIDE{nside}")
    for key, value in {
        "PIXTYPE": "HEALPIX",
        "ORDERING": "NESTED",
        "COORDSYS": "C",
        "NSIDE": nside,
        "FIRSTPIX": 0,
        "LASTPIX": 12 * nside**2 - 1,
        "INDXSCHM": "IMPLICIT",
        "OBJECT": "FULLSKY",
        "BAD_DATA": UNSEEN,
    }.items():
        hdu.header[key] = value
    return hdu


def write_scanned(cap: Cap, path: Path) -> None:
    """Write the cells whose centres lie in a cap of the scan, which it tests, as a MOC."""
    cells = np.arange(12 * 4**CELL_ORDER)
    inside = cells[cap.contains(*sky.tile_centres(cells, CELL_ORDER))].astype(np.uint64)
    depth = np.full(len(inside), CELL_ORDER, np.uint8)
    MOC.from_healpix_cells(inside, depth, CELL_ORDER).save(path, format="fits")


def write_flagged(table: TileTable, path: Path) -> None:
    """Write the flagged tiles as a multi-order coverage map (IVOA MOC 2.0)."""
    tiles = table.tiles[table.flag].astype(np.uint64)
    depth = np.full(len(tiles), table.order, np.uint8)
    moc = (
        MOC.from_healpix_cells(tiles, depth, table.order)
        if len(tiles)
        else MOC.new_empty(table.order)
    )
    moc.save(path, format="fits")
