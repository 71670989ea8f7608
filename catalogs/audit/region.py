"""The part of the sky that is compared with the rest: a box or a cap."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from catalogs import sky
from catalogs.errors import InputError

BoolArray = sky.BoolArray

_NUMBER = r"\s*([-+]?\d+(?:\.\d*)?)\s*"
_CAP = re.compile(rf"cap:{_NUMBER},{_NUMBER},{_NUMBER}")
_BOX = re.compile(rf"ra={_NUMBER}:{_NUMBER},\s*dec={_NUMBER}:{_NUMBER}")
_EDGE = 1e-9  # tiles whose centre lies on the edge of a cap belong to it, as in the scan


@dataclass(frozen=True, slots=True)
class Cap:
    """All directions within ``radius`` of a centre; degrees, ICRS."""

    ra: float
    dec: float
    radius: float

    def contains(self, ra: ArrayLike, dec: ArrayLike) -> BoolArray:
        """Say which positions [deg] lie inside."""
        centre = sky.unit_vectors(self.ra, self.dec)[0]
        edge = np.cos(np.radians(self.radius)) - _EDGE
        return np.asarray(sky.unit_vectors(ra, dec) @ centre >= edge, np.bool_)

    def __str__(self) -> str:
        return f"cap:{self.ra:g},{self.dec:g},{self.radius:g}"


Part = sky.Region | Cap


def parse_part(text: str) -> Part:
    """Read ``ra=0:20,dec=0:20``, ``0..20,0..20`` or ``cap:RA,DEC,RADIUS``, in degrees.

    Raises
    ------
    InputError
        The text has another form, or a number lies outside its range.
    """
    if (cap := _CAP.fullmatch(text.strip())) is not None:
        ra, dec, radius = (float(value) for value in cap.groups())
        if not (0 <= ra <= 360 and abs(dec) <= 90 and 0 < radius <= 90):
            raise InputError(
                f"region {text!r}: RA must lie in 0..360, Dec in -90..90, the radius above 0 and "
                "up to 90"
            )
        return Cap(ra, dec, radius)
    if (box := _BOX.fullmatch(text.strip())) is not None:
        ra0, ra1, dec0, dec1 = box.groups()
        return sky.Region.parse(f"{ra0}..{ra1},{dec0}..{dec1}")
    if ".." in text:
        return sky.Region.parse(text)
    raise InputError(
        f"region {text!r} is neither ra=RA0:RA1,dec=DEC0:DEC1 nor cap:RA,DEC,RADIUS in degrees, "
        "such as ra=350:10,dec=0:20 or cap:180,20,15"
    )


def in_words(part: Part, *, cells: int | None = None) -> str:
    """Return the region in words; ``cells`` is their nside where it takes whole ones."""
    if isinstance(part, Cap):
        which = "" if cells is None else f"in cells of nside {cells} whose centres lie "
        return f"{which}within {part.radius:g}° of RA {part.ra:.1f}°, Dec {part.dec:+.1f}°"
    return f"RA {part.ra_min:g}° to {part.ra_max:g}°, Dec {part.dec_min:+g}° to {part.dec_max:+g}°"
