"""What the cap scan saw: every cap's z at its centre, a small map for each radius."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from catalogs import sky
from catalogs.audit.report.figures import levels
from catalogs.audit.report.figures.frame import SkyFrame, svg
from catalogs.audit.report.figures.projection import Mollweide
from catalogs.audit.uniformity.analysis import Caps
from catalogs.audit.uniformity.battery import cap_order

_HALF, _MARGIN = 240, 6


def draw(caps: Caps, best: dict[str, Any], centre: float) -> list[tuple[float, int, Markup]]:
    """Return radius [deg], number of caps, and map of each radius that was scanned.

    Parameters
    ----------
    caps : Caps
    best : dict
        The test of the scan, whose cap is drawn on its radius' map.
    centre : float
        Right ascension of the maps' middle [deg].
    """
    frame = SkyFrame(Mollweide(centre), _HALF, _MARGIN)
    scale = levels.standard_errors()
    maps = []
    for number, radius in enumerate(sorted(set(caps.radius.tolist()))):
        here = caps.radius == radius
        order = cap_order(radius)
        tiles = sky.tile_of(caps.ra[here], caps.dec[here], order)
        z = caps.z[here]
        extreme = z[np.argmax(np.abs(z))]
        title = (
            f"Caps of {radius:g} degrees: z between {z.min():+.1f} and {z.max():+.1f}, "
            f"most deviant {extreme:+.1f}"
        )
        parts = [
            frame.ellipse("space"),
            '<g class="tiles">',
            *frame.tiles(tiles, order, scale.codes(z), "d"),
            "</g>",
            frame.plane(),
            frame.ellipse("edge"),
        ]
        if radius == best["radius"]:
            parts.append(frame.ring(best["ra"], best["dec"], radius, "cap"))
        maps.append((radius, len(z), svg(frame, f"scan{number}", "small", title, parts)))
    return maps
