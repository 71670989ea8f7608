"""The map of the tiles: drawn here, made to answer by the page's script."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from catalogs.audit.reading import training_sky
from catalogs.audit.report.figures import levels
from catalogs.audit.report.figures.frame import SkyFrame, svg
from catalogs.audit.report.figures.projection import Mollweide, boundary, central_ra, outlines
from catalogs.audit.report.figures.svg import path, whole
from catalogs.audit.uniformity.analysis import Analysis, TileTable, tile_positions

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_HATCH = (
    '<pattern id="hatch" width="24" height="24" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><path class="hatch" d="M0 0V24"/></pattern>'
)


@dataclass(frozen=True, slots=True)
class TileMap:
    """The map, its legends by quantity, and the numbers behind it.

    Attributes
    ----------
    drawing : Markup
        Inline SVG: a group of paths per nside, the testing one shown.
    legends : dict of str to list of (class, text)
        Of ``excess``, ``z`` and ``n``.
    data : Markup
        JSON for the page's script, numbers only.
    shown : list of int
        Each nside of the map, the testing one first.
    """

    drawing: Markup
    legends: dict[str, list[tuple[str, str]]]
    data: Markup
    shown: list[int]


def draw(
    analysis: Analysis, marks: Iterable[str] = (), training: IntArray | None = None
) -> TileMap:
    """Draw the tiles of every order, coloured by excess.

    Parameters
    ----------
    analysis : Analysis
    marks : iterable of str
        SVG drawn over the tiles; see :func:`test_marks`.
    training : ndarray of int64, optional
        Nested tiles of order `training_sky.ORDER` on which the classifier was trained.

    Returns
    -------
    TileMap
    """
    tables = [t for t in analysis.tables if t.order == analysis.order or np.any(np.isfinite(t.z))]
    frame = frame_of(analysis)
    values = {t.order: _quantities(t) for t in tables}
    # One scale for all sizes of tiles would leave the largest pale: each has its own.
    scales = {
        t.order: {
            "excess": levels.excess(values[t.order]["excess"]),
            "z": levels.standard_errors(),
            "n": levels.numbers(values[t.order]["n"]),
        }
        for t in tables
    }
    codes = {
        o: {name: scales[o][name].codes(v) for name, v in of_order.items()}
        for o, of_order in values.items()
    }
    parts = [
        _HATCH,
        frame.ellipse("space"),
        frame.grid(),
    ]
    for number, table in enumerate(tables):
        hidden = ' display="none"' if number else ""
        paths = frame.tiles(table.tiles, table.order, codes[table.order]["excess"], "d")
        parts += [f'<g class="tiles" data-nside="{2**table.order}"{hidden}>', *paths, "</g>"]
    parts += [
        _flagged(frame, tables[0]),
        frame.plane(),
        *([] if training is None else [_training(frame, training)]),
        *marks,
        frame.ellipse("edge"),
        *frame.degrees(),
        '<path id="cursor" class="cursor" d=""/>',
    ]
    title = "Mollweide map of the tiles' difference from the rest of the sky"
    data = [
        _data(t, codes[t.order], {k: s.legend for k, s in scales[t.order].items()}, frame)
        for t in tables
    ]
    return TileMap(
        svg(frame, "sky", "main", title, parts),
        {name: scale.legend for name, scale in scales[tables[0].order].items()},
        whole([json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")]),
        [2**table.order for table in tables],
    )


def frame_of(analysis: Analysis, half: int = 950, margin: int = 60) -> SkyFrame:
    """Return a frame whose edge lies where the fewest tiles are."""
    ra, _ = tile_positions(analysis.tables[0])
    return SkyFrame(Mollweide(central_ra(ra)), half, margin)


def test_marks(frame: SkyFrame, tests: Iterable[dict[str, Any]], alpha: float) -> Iterator[str]:
    """Yield the scan's cap and the dipole's poles, of tests below ``alpha`` after Holm."""
    for test in tests:
        if test["p_holm"] is None or test["p_holm"] >= alpha:
            continue
        if test["name"] == "scan":
            yield frame.ring(test["ra"], test["dec"], test["radius"], "cap")
        if test["name"] == "dipole":
            x, y = frame.point(test["ra"], test["dec"])
            yield _pole(f"M{x - 34} {y}h68M{x} {y - 34}v68")
            x, y = frame.point((test["ra"] + 180) % 360, -test["dec"])
            yield _pole(f"M{x - 34} {y}h68")


def _pole(line: str) -> str:
    """Return a mark that stands out from any tile."""
    return f'<path class="pole under" d="{line}"/><path class="pole" d="{line}"/>'


def _quantities(table: TileTable) -> dict[str, FloatArray]:
    tested = np.isfinite(table.z)
    return {
        "excess": np.where(tested, table.difference, np.nan),
        "z": table.z,
        "n": table.n.astype(np.float64),
    }


def _flagged(frame: SkyFrame, table: TileTable) -> str:
    shapes, _ = outlines(table.tiles[table.flag], table.order, frame.projection)
    lines = "".join(path(frame.units(s), closed=True) for s in shapes)
    return f'<path class="flagged" d="{lines}"/>'


def _training(frame: SkyFrame, cells: IntArray) -> str:
    lines = boundary(cells, training_sky.ORDER, frame.projection)
    data = "".join(path(frame.units(line)) for line in lines)
    return f'<path class="training" d="{data}"/>'


def _data(
    table: TileTable,
    codes: dict[str, str],
    legends: dict[str, list[tuple[str, str]]],
    frame: SkyFrame,
) -> dict[str, Any]:
    """Return a table for the script; ``path`` says of which tile each path is."""
    ra, dec = tile_positions(table)
    _, owner = outlines(table.tiles, table.order, frame.projection)
    xy = frame.units(frame.projection.xy(frame.projection.longitude(ra), dec))
    return {
        "nside": 2**table.order,
        "path": owner.tolist() if len(owner) != len(table.tiles) else None,
        "x": np.round(xy[:, 0]).astype(int).tolist(),
        "y": np.round(xy[:, 1]).astype(int).tolist(),
        "tile": table.tiles.tolist(),
        "ra": _digits(ra, 2),
        "dec": _digits(dec, 2),
        "n": table.n.tolist(),
        "fraction": _digits(table.fraction, 4),
        "low": _digits(table.low, 4),
        "high": _digits(table.high, 4),
        "excess": _digits(table.difference, 4),
        "z": _digits(table.z, 2),
        "q": [None if v is None else float(f"{v:.2g}") for v in _digits(table.q, 300)],
        "flagged": np.flatnonzero(table.flag).tolist(),
        "codes": codes,
        "legends": legends,
    }


def _digits(values: FloatArray, digits: int) -> list[float | None]:
    return [round(v, digits) if np.isfinite(v) else None for v in values.tolist()]
