"""What every sky map of the report shares: its frame, its grid, and how tiles become paths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from catalogs.audit.report.figures.projection import (
    GALACTIC_POLE,
    IntArray,
    Mollweide,
    circle,
    outlines,
    pieces,
)
from catalogs.audit.report.figures.svg import path, whole

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SkyFrame:
    """A Mollweide map of a size: ``half`` units from its middle to its top.

    Parameters
    ----------
    projection : Mollweide
    half : int
        Units of the drawing; more are finer, and longer to write.
    margin : int
        Around the ellipse.
    """

    projection: Mollweide
    half: int
    margin: int

    @property
    def view_box(self) -> str:
        """The drawing's limits, as SVG has them."""
        return f"0 0 {4 * self.half + 2 * self.margin} {2 * self.half + 2 * self.margin}"

    def units(self, xy: FloatArray) -> FloatArray:
        """Turn projected positions into units of the drawing, y downwards."""
        middle = np.array([2 * self.half + self.margin, self.half + self.margin])
        return np.asarray(middle + xy * np.array([self.half, -self.half]))

    def point(self, ra: float, dec: float) -> tuple[int, int]:
        """Return a position [deg] in the drawing."""
        x, y = self.units(np.array(self.projection.point(ra, dec)))
        return round(float(x)), round(float(y))

    def tiles(self, tiles: IntArray, order: int, codes: str, kind: str) -> Iterator[str]:
        """Yield a path per outline, with the class of its tile and, where two, its number.

        Parameters
        ----------
        tiles : ndarray of int64, shape (t,)
        order : int
        codes : str
            A character for each tile.
        kind : str
            Of the classes: ``d`` or ``s``.
        """
        shapes, owner = outlines(tiles, order, self.projection)
        for shape, i in zip(shapes, owner.tolist(), strict=True):
            code = codes[i]
            name = code if code == "u" else kind + code
            yield f'<path class="{name}" d="{path(self.units(shape), closed=True)}"/>'

    def curve(self, ra: FloatArray, dec: FloatArray) -> str:
        """Return the path data of a curve on the sky."""
        lines = pieces(ra, dec, self.projection)
        return "".join(path(self.units(line)) for line in lines)

    def ring(self, ra: float, dec: float, radius: float, kind: str) -> str:
        """Return a circle on the sky."""
        return f'<path class="{kind}" d="{self.curve(*circle(ra, dec, radius))}"/>'

    def plane(self) -> str:
        """Return the Galactic plane."""
        return self.ring(*GALACTIC_POLE, 90.0, "plane")

    def ellipse(self, kind: str) -> str:
        """Return the map's own edge."""
        x, y = 2 * self.half + self.margin, self.half + self.margin
        return f'<ellipse class="{kind}" cx="{x}" cy="{y}" rx="{2 * self.half}" ry="{self.half}"/>'

    def grid(self, step_ra: int = 30, step_dec: int = 30) -> str:
        """Return meridians and parallels."""
        along, across = np.linspace(-90, 90, 61), np.linspace(-180, 180, 3)
        lines = [
            self.projection.xy(np.full(61, float(x)), along)
            for x in range(-180 + step_ra, 180, step_ra)
        ]
        lines += [
            self.projection.xy(across, np.full(3, float(y)))
            for y in range(-90 + step_dec, 90, step_dec)
        ]
        data = "".join(path(self.units(line)) for line in lines)
        return f'<path class="grid" d="{data}"/>'

    def degrees(self) -> Iterator[str]:
        """Yield the numbers along the equator and the map's left edge."""
        for offset in range(-120, 180, 60):
            ra = (self.projection.centre + offset) % 360
            x, y = self.units(self.projection.xy(np.array([float(offset)]), np.array([0.0])))[0]
            yield (
                f'<text class="halo" x="{x:.0f}" y="{y:.0f}" dy="1.1em" '
                f'text-anchor="middle">{ra:.0f}°</text>'
            )
        for dec in (-60, -30, 30, 60):
            x, y = self.units(self.projection.xy(np.array([180.0]), np.array([float(dec)])))[0]
            yield (
                f'<text x="{x:.0f}" y="{y:.0f}" dx="-.3em" dy="{".9em" if dec < 0 else "-.1em"}" '
                f'text-anchor="end">{dec:+d}°</text>'
            )


def svg(
    frame: SkyFrame, name: str, kind: str, title: str, parts: Sequence[str] | Iterable[str]
) -> Markup:
    """Return a map as an image of its own.

    Parameters
    ----------
    frame : SkyFrame
    name : str
        Unique on the page; our own.
    kind : str
        Class of the drawing.
    title : str
        What a screen reader says of it.
    parts : iterable of str
        What is drawn.
    """
    head = (
        f'<svg class="sky {kind}" viewBox="{frame.view_box}" role="img" '
        f'aria-labelledby="{name}-t"><title id="{name}-t">{escape(title)}</title>'
    )
    return whole([head, *parts, "</svg>"])
