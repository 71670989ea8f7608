"""Observing conditions beside the answers: columns of the table, and HEALPix maps in FITS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from catalogs.audit.reading.sky_map import COORDINATES, LARGEST, SkyMap, read_map
from catalogs.errors import InputError
from catalogs.storage.place import is_remote
from catalogs.survey import tables

FloatArray = NDArray[np.float64]

_PETROSIAN, _SEEING = "petrorad", ("fwhm", "psffwhm", "psf_fwhm", "seeing")
_SMALLEST = 1e-100  # of a weight
_NO_VALUE = (-999.0, -9999.0, -99999.0)  # as surveys write that there is none
SIGMA_PER_FWHM = 1 / (2 * np.sqrt(2 * np.log(2)))


class Covariates:
    """The covariates asked for, each a column of the table or a map.

    Parameters
    ----------
    asked : sequence of str
        ``COLUMN``; or ``NAME=PATH``, a HEALPix map in FITS, with ``:C``, ``:G`` or ``:E`` where
        the file does not say its coordinates. What is the whole name of a column is that column,
        whatever signs are in it. ``alpha``, where it is no column, is 2 sqrt(2 ln 2)
        petroRad/FWHM of the columns of these names: the size over the point spread function's
        standard deviation (Medina-Rosales & Cabrera-Vives 2021).
    names : sequence of str
        Columns of the table.
    where : str
        The table, for messages.
    intrinsic : sequence of str
        Those of them that are properties of the galaxies.

    Raises
    ------
    InputError
        A column or map does not exist, a map cannot be read, two have one name, or an intrinsic
        property is none of them.
    """

    def __init__(
        self,
        asked: Sequence[str],
        names: Sequence[str],
        where: str,
        intrinsic: Sequence[str] = (),
    ) -> None:
        self.names: list[str] = []
        self._of: list[tuple[str, ...] | SkyMap] = []
        for one in asked:
            name, is_map, path = one.partition("=")
            if one in names or not is_map:
                name = one
                alpha = name == "alpha" and name not in names
                if not alpha:
                    tables.require_column(name, list(names), where)
                self._of.append(_alpha_columns(names, where) if alpha else (name,))
            else:
                self._of.append(_map(one, path, where))
            if not name or name in self.names:
                raise InputError(f"covariate {one!r}: expected a name that is not taken; rename it")
            self.names.append(name)
        for name in intrinsic:
            if name not in self.names or name == "alpha":
                raise InputError(
                    f"intrinsic {name!r}: expected covariates other than alpha, of "
                    f"{', '.join(self.names) or 'none'}"
                )

    @property
    def columns(self) -> list[str]:
        """The columns of the table that are needed."""
        return [name for of in self._of if not isinstance(of, SkyMap) for name in of]

    @property
    def maps(self) -> dict[str, str]:
        """Names and files of the maps."""
        each = zip(self.names, self._of, strict=True)
        return {name: of.path for name, of in each if isinstance(of, SkyMap)}

    @property
    def sources(self) -> list[str]:
        """Where each comes from, in words."""
        return [
            f"map {Path(of.path).name}, nside {of.nside}, {COORDINATES[of.coordinates]}"
            if isinstance(of, SkyMap)
            else f"column {of[0]}"
            if len(of) == 1
            else f"2 sqrt(2 ln 2) {of[0]}/{of[1]}"
            for of in self._of
        ]

    def values(self, batch: pa.RecordBatch, ra: FloatArray, dec: FloatArray) -> FloatArray:
        """Return the covariates of rows, shape (m, d); NaN where missing (-9999, too)."""
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
                with np.errstate(over="ignore"):  # what is no number is missing
                    ratio = size[ok] / (fwhm[ok] * SIGMA_PER_FWHM)
                found[ok, at] = np.where(ratio < LARGEST, ratio, np.nan)
        found[np.isin(found, _NO_VALUE)] = np.nan
        return found


def _map(one: str, path: str, where: str) -> SkyMap:
    """Return the map of ``NAME=PATH`` or ``NAME=PATH:C``."""
    coordinates = None
    if path[-2:] in [f":{letter}" for letter in COORDINATES] and not Path(path).exists():
        path, coordinates = path[:-2], path[-1]
    if not is_remote(path) and not Path(path).exists():
        raise InputError(
            f"covariate {one!r} is neither a column of {where} nor a map: {path!r} is not there"
        )
    return read_map(path, coordinates)


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
    return np.where(np.abs(values) < LARGEST, values, np.nan)


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
            The column does not hold numbers, or a negative one, or one whose square is 0.
        """
        name = self.columns[0]
        found = numbers(batch.column(name), name)
        strange = (found < 0) | ((found > 0) & (found < _SMALLEST))
        if np.any(strange):
            raise InputError(
                f"weights {name!r} holds {found[strange][0]:g}; expected 0, or {_SMALLEST:g} and "
                "more"
            )
        return np.where(found > 0, found, np.nan)[:, None]
