"""A sky map of half the page's width: tiles with a class each, as in the main map, to be read."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from catalogs.audit.report.figures.frame import SkyFrame, svg
from catalogs.audit.report.figures.levels import Levels
from catalogs.audit.report.figures.projection import FloatArray, IntArray, Mollweide

_HALF, _MARGIN = 480, 30


@dataclass(frozen=True, slots=True)
class HalfMap:
    """A map with its legend, and a sentence that says what it shows; nothing without tiles."""

    drawing: Markup | None
    legend: list[tuple[str, str]]
    sentence: str


def draw(
    name: str,
    tiles: IntArray,
    order: int,
    values: FloatArray,
    scale: Levels,
    centre: float,
    sentence: str,
) -> HalfMap:
    """Draw tiles by value; those without one (NaN) are hatched.

    Parameters
    ----------
    name : str
        Unique on the page; our own.
    tiles : ndarray of int64, shape (t,)
        Nested.
    order : int
    values : ndarray of float64, shape (t,)
    scale : Levels
    centre : float
        Right ascension of the map's middle [deg].
    sentence : str
        What the map shows, also for who cannot see it.
    """
    frame = SkyFrame(Mollweide(centre), _HALF, _MARGIN)
    parts = [
        frame.ellipse("space"),
        frame.grid(),
        '<g class="tiles">',
        *frame.tiles(tiles, order, scale.codes(values), scale.kind),
        "</g>",
        frame.plane(),
        frame.ellipse("edge"),
        *frame.degrees(),
    ]
    return HalfMap(svg(frame, name, "half", sentence, parts), scale.legend, sentence)
