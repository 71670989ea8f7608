"""HEALPix maps in FITS, as healpy and others write them: whole or partial, in any coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from catalogs import sky
from catalogs.errors import InputError
from catalogs.storage.place import is_remote, open_place
from catalogs.survey.fits_table import complaint, heeded

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# HEALPix maps say -1.6375e30 where they know nothing; no condition of a sky is so large.
LARGEST = 1e30
_LARGEST_NSIDE = 8192
COORDINATES = {"C": "equatorial", "G": "Galactic", "E": "ecliptic"}
_LETTER_OF = {"CELESTIAL": "C", "EQUATORIAL": "C", "ICRS": "C", "FK5": "C", "Q": "C"} | {
    "GALACTIC": "G",
    "ECLIPTIC": "E",
}
_FRAME = {"G": "galactic", "E": "barycentricmeanecliptic"}
_LETTERS = ", ".join(f"{letter} {name}" for letter, name in COORDINATES.items())


@dataclass(frozen=True, slots=True)
class SkyMap:
    """A HEALPix map: ``values`` in the scheme and ``coordinates`` (C, G or E) of its file."""

    path: str
    nside: int
    nested: bool
    coordinates: str
    values: NDArray[np.float32]

    def at(self, ra: FloatArray, dec: FloatArray) -> FloatArray:
        """Return the map's values at finite ICRS positions [deg], shape (m,); NaN for none.

        Ecliptic coordinates are those of the mean equinox and ecliptic of J2000.
        """
        frame = _FRAME.get(self.coordinates)
        lon, lat = (ra, dec) if frame is None else sky.in_frame(ra, dec, frame)
        order = self.nside.bit_length() - 1
        pixel = sky.tile_of(lon, lat, order)
        if not self.nested:
            pixel = sky.ring_of(pixel, order)
        return np.asarray(self.values[pixel], np.float64)


def read_map(path: str, coordinates: str | None = None) -> SkyMap:
    """Read the first column of numbers of a HEALPix map (`NSIDE`, `ORDERING`, `INDXSCHM`).

    Parameters
    ----------
    path : str
        Path or URL.
    coordinates : str, optional
        C, G or E, for a file without ``COORDSYS``.

    Raises
    ------
    InputError
        The file cannot be read or is no such map, its keywords and columns disagree, or nothing
        says which coordinates it is in.
    """
    try:
        with heeded(), _open(path) as file:
            table = next((hdu for hdu in file if isinstance(hdu, fits.BinTableHDU)), None)
            if table is None:
                raise InputError(f"{path}: has no table; expected a HEALPix map in FITS")
            header = table.header
            nside, nested = _pixels_of(path, header)
            coordinates = _coordinates(path, header.get("COORDSYS"), coordinates)
            explicit = _is_explicit(path, header, table.columns.names)
            found = np.asarray(table.data.field(1 if explicit else 0)).ravel()
            place = np.asarray(table.data.field(0)).ravel() if explicit else None
    except (OSError, IndexError, ValueError, TypeError, KeyError, fits.VerifyError) as error:
        raise InputError(
            f"{path}: cannot be read as a HEALPix map in FITS: {complaint(error)}; name another, "
            "or write it again"
        ) from error
    if found.dtype.kind not in "iufb":
        raise InputError(f"{path}: its values are {found.dtype}; expected numbers")
    # Compared before they are made shorter, so that none overflows.
    known = np.where(np.abs(found) < LARGEST, found, np.nan).astype(np.float32)
    size = 12 * nside**2
    if place is not None:
        known = _whole(path, known, place, size)
    if len(known) != size:
        raise InputError(f"{path}: holds {len(known)} values; NSIDE {nside} has {size}")
    return SkyMap(path, nside, nested, coordinates, known)


def _open(path: str) -> fits.HDUList:
    if not is_remote(path):
        return fits.open(path)
    folder, _, name = path.rpartition("/")
    return fits.open(open_place(folder).open(name))


def _pixels_of(path: str, header: Any) -> tuple[int, bool]:  # noqa: ANN401  (astropy has no types)
    """Return NSIDE, and whether pixels are nested."""
    nside, scheme = header.get("NSIDE"), str(header.get("ORDERING", "")).strip().upper()
    whole_number = isinstance(nside, int) and not isinstance(nside, bool)
    if not whole_number or scheme not in ("RING", "NESTED", "NEST"):
        raise InputError(
            f"{path}: says NSIDE {nside!r} and ORDERING {scheme!r}; expected a HEALPix map, RING "
            "or NESTED"
        )
    if nside < 1 or nside & (nside - 1) or nside > _LARGEST_NSIDE:
        raise InputError(f"{path}: NSIDE {nside}; expected a power of two up to {_LARGEST_NSIDE}")
    return nside, scheme != "RING"


def _coordinates(path: str, written: object, said: str | None) -> str:
    """Return the letter of the map's coordinates, which must be known and agree."""
    text = "" if written is None else str(written).strip().upper()
    if not text:
        if said is None:
            raise InputError(
                f"{path}: has no COORDSYS; say which coordinates it is in, {path}:C, {path}:G or "
                f"{path}:E ({_LETTERS})"
            )
        return said
    letter = _LETTER_OF.get(text, text)
    if letter not in COORDINATES:
        raise InputError(f"{path}: COORDSYS {written!r}; expected {_LETTERS}")
    if said not in (None, letter):
        raise InputError(f"{path}: COORDSYS is {written!r}, not {said}; leave out :{said}")
    return letter


def _is_explicit(path: str, header: Any, names: list[str]) -> bool:  # noqa: ANN401
    """Say whether the first column holds pixel numbers (INDXSCHM EXPLICIT), as a partial map's."""
    first = bool(names) and names[0].upper() == "PIXEL"
    scheme = str(header.get("INDXSCHM", "EXPLICIT" if first else "IMPLICIT")).strip().upper()
    if scheme not in ("EXPLICIT", "IMPLICIT") or (scheme == "EXPLICIT") != first:
        raise InputError(
            f"{path}: INDXSCHM {scheme!r} with first column {names[0] if names else None!r}; "
            "expected EXPLICIT with PIXEL, or IMPLICIT without"
        )
    if first and len(names) < 2:
        raise InputError(f"{path}: has pixel numbers and no values; expected a second column")
    return first


def _whole(
    path: str, values: NDArray[np.float32], place: NDArray[Any], size: int
) -> NDArray[np.float32]:
    """Return a partial map's values at their pixels, NaN elsewhere."""
    if place.dtype.kind not in "iu" or len(place) != len(values):
        raise InputError(f"{path}: PIXEL holds no pixel number for each value")
    if len(place) and not 0 <= int(place.min()) <= int(place.max()) < size:
        raise InputError(
            f"{path}: PIXEL runs from {place.min()} to {place.max()}; expected 0 to {size - 1}"
        )
    if len(np.unique(place)) < len(place):
        raise InputError(f"{path}: PIXEL names a pixel twice; expected each once")
    whole = np.full(size, np.nan, np.float32)
    whole[place] = values
    return whole
