"""Sky maps of the tiles in Mollweide projection: fraction, z and number of answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Colormap, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import Polygon
from numpy.typing import NDArray

from catalogs.audit.report.figures.projection import Mollweide, central_ra, circle, outlines, pieces
from catalogs.audit.uniformity.analysis import Analysis, tile_positions

FloatArray = NDArray[np.float64]

MAPS = ("fraction", "z", "n")
FILES = tuple(f"map_{name}.{ending}" for name in MAPS for ending in ("png", "svg"))
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "svg.fonttype": "path",
    "svg.hashsalt": "skytally",
}
_GRID: dict[str, Any] = {"color": "0.72", "linewidth": 0.5, "zorder": 1}
_CAP = "#111111"


def draw_maps(analysis: Analysis, answer: str, folder: Path, *, alpha: float) -> None:
    """Write ``map_fraction``, ``map_z`` and ``map_n``, each as PNG and SVG.

    Flagged tiles are outlined; the cap and the pole of tests below ``alpha`` are marked.

    Parameters
    ----------
    analysis : Analysis
    answer : str
        Named on the colour bars.
    folder : Path
        Existing folder to write into.
    alpha : float
        Level below which a Holm-adjusted test is marked.
    """
    with mpl.rc_context(STYLE):
        for name in MAPS:
            figure = _figure(analysis, name, answer, alpha)
            figure.savefig(folder / f"map_{name}.png", dpi=200, metadata={"Software": None})
            figure.savefig(folder / f"map_{name}.svg", metadata={"Date": None, "Creator": None})


def _figure(analysis: Analysis, name: str, answer: str, alpha: float) -> Figure:
    table = analysis.tables[0]
    ra, _ = tile_positions(table)
    projection = Mollweide(central_ra(ra))
    figure = Figure(figsize=(8.0, 5.1), facecolor="white")
    axes = figure.add_axes((0.01, 0.20, 0.98, 0.79))
    _graticule(axes, projection)
    values, norm, colours, label = _quantity(analysis, name, answer)
    shapes, owner = outlines(table.tiles, table.order, projection)
    frame = _frame_patch(axes)
    tiles = PolyCollection(
        shapes,
        array=values[owner],
        cmap=colours,
        norm=norm,
        edgecolors="face",
        linewidths=0.3,
        zorder=2,
    )
    axes.add_collection(tiles)
    tiles.set_clip_path(frame)
    flagged = [shape for shape, i in zip(shapes, owner, strict=True) if table.flag[i]]
    if flagged and name != "n":
        marked = PolyCollection(
            flagged, facecolors="none", edgecolors="black", linewidths=1.1, zorder=4
        )
        axes.add_collection(marked)
        marked.set_clip_path(frame)
    notes = _mark_tests(axes, analysis, projection, alpha) if name != "n" else []
    if flagged and name != "n":
        notes.insert(0, "outlined: flagged tiles")
    if not np.all(np.isfinite(values)):
        notes.append("grey: too few answers")
    bar_axes = figure.add_axes((0.27, 0.155, 0.46, 0.026))
    bar = figure.colorbar(
        tiles, cax=bar_axes, orientation="horizontal", extend="neither" if name == "n" else "both"
    )
    bar.set_label(label, fontsize=9, parse_math=False)
    bar.outline.set_linewidth(0.5)
    bar_axes.tick_params(labelsize=8, width=0.5, length=3)
    notes.insert(0, f"HEALPix nside {2**table.order}, ICRS")
    figure.text(0.5, 0.015, "  ·  ".join(notes), ha="center", fontsize=7.5, color="0.3")
    return figure


def _quantity(
    analysis: Analysis, name: str, answer: str
) -> tuple[FloatArray, Normalize, Colormap, str]:
    table = analysis.tables[0]
    diverging = mpl.colormaps["RdBu_r"].with_extremes(bad="0.85")
    if name == "n":
        values = table.n.astype(np.float64)
        top = float(values.max())
        return values, Normalize(0, top), mpl.colormaps["cividis"], "answers per tile"
    tested = np.isfinite(table.z)
    if name == "z":
        reach = max(4.0, float(np.nanmax(np.abs(table.z), initial=0.0)))
        return (
            table.z,
            TwoSlopeNorm(0, -reach, reach),
            diverging,
            "difference from the rest of the sky [standard errors]",
        )
    values = np.where(tested, table.fraction, np.nan)
    away = np.abs(values[tested] - analysis.fraction)
    # Small tiles at the survey's edge scatter most; they must not wash out the others.
    reach = max(float(np.percentile(away, 98)) if len(away) else 0.0, 1e-3)
    norm = TwoSlopeNorm(analysis.fraction, analysis.fraction - reach, analysis.fraction + reach)
    return (
        values,
        norm,
        diverging,
        (f"fraction {drawable(answer)} (white: whole sky, {analysis.fraction:.4f})"),
    )


def drawable(answer: str) -> str:
    """Return an answer as the font can write it: short, and in general terms without glyphs."""
    font = get_font(findfont(STYLE["font.family"]))
    if not all(font.get_char_index(ord(letter)) for letter in answer):
        return "of the answers asked for"
    return answer if len(answer) <= 40 else f"{answer[:39]}…"


def _frame_patch(axes: Axes) -> Polygon:
    angle = np.linspace(0, 2 * np.pi, 361)
    frame = Polygon(
        np.stack([2 * np.cos(angle), np.sin(angle)], axis=-1),
        closed=True,
        facecolor="none",
        edgecolor="0.3",
        linewidth=0.9,
        zorder=6,
    )
    axes.add_patch(frame)
    return frame


def _graticule(axes: Axes, projection: Mollweide) -> None:
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(-2.12, 2.12)
    axes.set_ylim(-1.06, 1.06)
    along = np.linspace(-90, 90, 91)
    lines = [projection.xy(np.full(91, float(x)), along) for x in range(-150, 180, 30)]
    across = np.linspace(-180, 180, 181)
    lines += [projection.xy(across, np.full(181, float(y))) for y in range(-60, 90, 30)]
    axes.add_collection(LineCollection(lines, **_GRID))
    text: dict[str, Any] = {
        "fontsize": 7.5,
        "color": "0.3",
        "ha": "center",
        "va": "center",
        "zorder": 7,
    }
    halo = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}
    for x in range(-120, 180, 60):
        place = projection.xy(np.array([float(x)]), np.array([-3.5]))[0]
        axes.text(place[0], place[1], f"{(projection.centre + x) % 360:.0f}°", bbox=halo, **text)
    for y in (-60, -30, 30, 60):
        place = projection.xy(np.array([180.0]), np.array([float(y)]))[0]
        axes.text(place[0] - 0.09, place[1] * 1.03, f"{y:+d}°", **text)


def _mark_tests(axes: Axes, analysis: Analysis, projection: Mollweide, alpha: float) -> list[str]:
    """Draw the scan's cap and the dipole's pole where their tests raise the alarm."""
    notes = []
    p_holm = dict(zip((o.name for o in analysis.outcomes), analysis.verdict.p_holm, strict=True))
    by_name = {outcome.name: outcome for outcome in analysis.outcomes}
    if (p := p_holm["scan"]) is not None and p < alpha:
        cap = by_name["scan"].details
        ring = circle(cap["ra"], cap["dec"], cap["radius"])
        lines = list(pieces(*ring, projection))
        axes.add_collection(
            LineCollection(lines, colors=_CAP, linewidths=1.3, linestyles=(0, (4, 2)), zorder=5)
        )
        notes.append("dashed: cap of the scan")
    if (p := p_holm["dipole"]) is not None and p < alpha:
        pole = by_name["dipole"].details
        ra, dec = pole["ra"], pole["dec"]
        for place, marker in (((ra, dec), "P"), ((ra + 180, -dec), "X")):
            at = projection.point(*place)
            axes.plot(
                *at,
                marker,
                color="white",
                markeredgecolor="black",
                markersize=9,
                markeredgewidth=1.0,
                zorder=8,
            )
        notes.append("plus and cross: dipole's maximum and minimum")
    return notes
