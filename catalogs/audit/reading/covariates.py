"""Observing conditions beside the answers: columns of the table, and HEALPix maps in FITS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from astropy.io import fits
from numpy.typing import NDArray

from catalogs import sky
from catalogs.errors import InputError
from catalogs.survey import tables

FloatArray = NDArray[np.float64]

# HEALPix maps say -1.6375e30 where they know nothing; no condition of a sky is so large.
_LARGEST = 1e30
_LARGEST_NSIDE = 8192
_PETROSIAN, _SEEING = "petrorad", ("fwhm", "psffwhm", "psf_fwhm", "seeing")
SIGMA_PER_FWHM = 1 / (2 * np.sqrt(2 * np.log(2)))


@dataclass(frozen=True, slots=True)
class SkyMap:
    """A HEALPix map: ``values`` in the scheme and coordinates (``C`` or ``G``) of its file."""

    path: str
    nside: int
    nested: bool
    galactic: bool
    values: NDArray[np.float32]

    def at(self, ra: FloatArray, dec: FloatArray) -> FloatArray:
        """Return the map's values at finite ICRS positions [deg], shape (m,)."""
        lon, lat = sky.galactic(ra, dec) if self.galactic else (ra, dec)
        order = self.nside.bit_length() - 1
        pixel = sky.tile_of(lon, lat, order)
        if not self.nested:
            pixel = sky.ring_of(pixel, order)
        return np.asarray(self.values[pixel], np.float64)


def read_map(path: str) -> SkyMap:
    """Read the first column of a HEALPix map as healpy and others write it: whole or partial.

    Raises
    ------
    InputError
        The file cannot be read, or is no such map.
    """
    try:
        with fits.open(path) as file:
            table = next((hdu for hdu in file if isinstance(hdu, fits.BinTableHDU)), None)
            if table is None:
                raise InputError(f"{path}: has no table; expected a HEALPix map in FITS")
            header, columns = table.header, table.columns
            nside, scheme = header.get("NSIDE"), str(header.get("ORDERING", "")).upper()
            if not isinstance(nside, int) or scheme not in ("RING", "NESTED", "NEST"):
                raise InputError(
                    f"{path}: says NSIDE {nside!r} and ORDERING {scheme!r}; expected a HEALPix "
                    "map, RING or NESTED"
                )
            if nside < 1 or nside & (nside - 1) or nside > _LARGEST_NSIDE:
                raise InputError(
                    f"{path}: NSIDE {nside}; expected a power of two up to {_LARGEST_NSIDE}"
                )
            partial = "PIXEL" in columns.names[:1]
            values = np.asarray(table.data.field(1 if partial else 0), np.float32).ravel()
            if partial:
                whole = np.full(12 * nside**2, np.nan, np.float32)
                whole[np.asarray(table.data.field(0), np.int64).ravel()] = values
                values = whole
    except (OSError, IndexError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as a HEALPix map in FITS: {error}") from error
    if len(values) != 12 * nside**2:
        raise InputError(f"{path}: holds {len(values)} values; NSIDE {nside} has {12 * nside**2}")
    system = str(header.get("COORDSYS", "C")).strip().upper()[:1] or "C"
    if system not in ("C", "G"):
        raise InputError(
            f"{path}: COORDSYS {header['COORDSYS']!r}; expected C (equatorial) or G (Galactic)"
        )
    known = np.where(np.abs(values) < _LARGEST, values, np.float32(np.nan))
    return SkyMap(path, nside, scheme != "RING", system == "G", known)


class Covariates:
    """The covariates asked for, each a column of the table or a map.

    Parameters
    ----------
    asked : sequence of str
        ``NAME``, a column; or ``NAME=PATH``, a HEALPix map in FITS. ``alpha``, where it is no
        column, is 2 sqrt(2 ln 2) petroRad/FWHM of the columns of these names: the size over the
        point spread function's standard deviation (Medina-Rosales & Cabrera-Vives 2021).
    names : sequence of str
        Columns of the table.
    where : str
        The table, for messages.

    Raises
    ------
    InputError
        A column does not exist, or a map cannot be read.
    """

    def __init__(self, asked: Sequence[str], names: Sequence[str], where: str) -> None:
        self.names: list[str] = []
        self._of: list[tuple[str, ...] | SkyMap] = []
        for one in asked:
            name, is_map, path = one.partition("=")
            self.names.append(name)
            if is_map:
                self._of.append(read_map(path))
            elif name == "alpha" and name not in names:
                self._of.append(_alpha_columns(names, where))
            else:
                tables.require_column(name, list(names), where)
                self._of.append((name,))

    @property
    def columns(self) -> list[str]:
        """The columns of the table that are needed."""
        return [name for of in self._of if not isinstance(of, SkyMap) for name in of]

    @property
    def sources(self) -> list[str]:
        """Where each comes from, in words."""
        return [
            f"map {Path(of.path).name}, nside {of.nside}"
            if isinstance(of, SkyMap)
            else f"column {of[0]}"
            if len(of) == 1
            else f"2 sqrt(2 ln 2) {of[0]}/{of[1]}"
            for of in self._of
        ]

    def values(self, batch: pa.RecordBatch, ra: FloatArray, dec: FloatArray) -> FloatArray:
        """Return the covariates of a batch of rows, shape (m, d); NaN where missing."""
        found = np.full((batch.num_rows, len(self._of)), np.nan)
        placed = np.isfinite(ra) & (np.abs(dec) <= 90) & (np.abs(ra) <= 360)
        for at, of in enumerate(self._of):
            if isinstance(of, SkyMap):
                found[placed, at] = of.at(ra[placed], dec[placed])
            elif len(of) == 1:
                found[:, at] = numbers(batch.column(of[0]), of[0])
            else:
                size, fwhm = (numbers(batch.column(name), name) for name in of)
                ok = (size > 0) & (fwhm > 0)
                found[ok, at] = size[ok] / (fwhm[ok] * SIGMA_PER_FWHM)
        return found


def _alpha_columns(names: Sequence[str], where: str) -> tuple[str, str]:
    sizes = [name for name in names if name.lower() == _PETROSIAN]
    seeing = [name for name in names if name.lower() in _SEEING]
    if len(sizes) == len(seeing) == 1:
        return sizes[0], seeing[0]
    raise InputError(
        f"{where}: no column 'alpha', nor one petroRad and one FWHM to make it of; name a "
        "covariate that exists"
    )


def numbers(column: pa.Array, name: str) -> FloatArray:
    """Return a column of numbers, NaN where it says none.

    Raises
    ------
    InputError
        It holds something else.
    """
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise InputError(f"column {name!r} holds {kind}; expected numbers")
    values = np.asarray(
        column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64
    )
    return np.where(np.abs(values) < _LARGEST, values, np.nan)


class Weights:
    """The weights of the answers, from a column; 0 is as good as none.

    Raises
    ------
    InputError
        The column does not exist.
    """

    def __init__(self, name: str, names: Sequence[str], where: str) -> None:
        tables.require_column(name, list(names), where)
        self.columns = [name]

    def values(self, batch: pa.RecordBatch, ra: FloatArray, dec: FloatArray) -> FloatArray:  # noqa: ARG002
        """Return the weights of a batch of rows, shape (m, 1); NaN where missing.

        Raises
        ------
        InputError
            The column does not hold numbers, or a negative one.
        """
        name = self.columns[0]
        found = numbers(batch.column(name), name)
        if np.any(found < 0):
            raise InputError(f"weights {name!r} holds {found[found < 0][0]:g}; expected 0 or more")
        return np.where(found > 0, found, np.nan)[:, None]
