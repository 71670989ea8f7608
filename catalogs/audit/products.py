"""The tables and maps of an audit: Parquet, FITS, a HEALPix map and a MOC of flagged tiles."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from mocpy import MOC
from numpy.typing import NDArray

from catalogs.audit.analysis import TileTable, tile_positions
from catalogs.audit.correction import CorrectedTiles

FILES = ("tiles.parquet", "tiles.fits", "map.fits", "corrected.fits", "flagged.moc.fits")
# What the HEALPix FITS convention calls a pixel without a value.
UNSEEN = -1.6375e30
_NAME_LENGTH = 40
_UNITS = {"ra": "deg", "dec": "deg"}


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


def write_tables(
    tables: tuple[TileTable, ...],
    answer: str,
    folder: Path,
    corrected: tuple[CorrectedTiles, ...] = (),
) -> None:
    """Write ``tiles.parquet`` and ``tiles.fits``: all orders, the testing order first."""
    parts = [columns_of(table, answer) for table in tables]
    for part, more in zip(parts, corrected, strict=False):
        part |= more.columns()
    merged = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    arrow = {
        name: pa.array(values, from_pandas=True)  # NaN becomes null
        for name, values in merged.items()
    }
    pq.write_table(pa.table(arrow), folder / "tiles.parquet")
    rows = fits.BinTableHDU.from_columns(
        [
            fits.Column(name, _format(values), unit=_UNITS.get(name), array=values)
            for name, values in merged.items()
        ],
        name="TILES",
    )
    rows.header["ORDERING"] = ("NESTED", "HEALPix numbering of column tile")
    rows.header["COORDSYS"] = ("C", "equatorial, ICRS")
    rows.writeto(folder / "tiles.fits")


def write_map(table: TileTable, answer: str, path: Path) -> None:
    """Write one order as a whole-sky HEALPix map (nested, implicit), as healpy reads it."""
    places = ("order", "tile", "ra", "dec")
    columns = columns_of(table, answer)
    shown = {name: values for name, values in columns.items() if name not in places}
    write_sky(shown, table.tiles, table.order, path, zero=("n", "flag"))


def write_sky(
    columns: dict[str, NDArray[np.generic]],
    tiles: NDArray[np.int64],
    order: int,
    path: Path,
    zero: tuple[str, ...] = (),
) -> None:
    """Write columns of some tiles as a whole-sky HEALPix map.

    Parameters
    ----------
    columns : dict of str to ndarray, shape (t,)
    tiles : ndarray of int64, shape (t,)
        Nested tiles of ``order``.
    order : int
    path : Path
    zero : tuple of str
        Columns that are 0, not missing, in all other tiles.
    """
    nside = 2**order
    made = []
    for name, values in columns.items():
        full = np.full(12 * nside**2, 0.0 if name in zero else UNSEEN)
        numbers = values.astype(np.float64)
        full[tiles] = np.where(np.isnan(numbers), UNSEEN, numbers)
        made.append(fits.Column(name, "D", array=full))
    hdu = fits.BinTableHDU.from_columns(made, name="MAP")
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
    hdu.writeto(path)


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


def _format(values: NDArray[np.generic]) -> str:
    return {"i": {2: "I", 8: "K"}.get(values.dtype.itemsize, "K"), "f": "D", "b": "L"}[
        values.dtype.kind
    ]
