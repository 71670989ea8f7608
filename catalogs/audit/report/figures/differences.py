"""Where two networks differ on the same objects: a map of each other catalog."""

from __future__ import annotations

from math import log2
from typing import Any

import numpy as np

from catalogs import sky
from catalogs.audit.report.figures import half, levels


def draw(catalogs: list[dict[str, Any]], centre: float) -> list[half.HalfMap]:
    """Draw the difference in each tile, beyond that of the whole sky, for each other catalog.

    Parameters
    ----------
    catalogs : list of dict
        As in ``audit.json``.
    centre : float
        Right ascension of the maps' middle [deg].
    """
    return [_draw(number, catalog, centre) for number, catalog in enumerate(catalogs)]


def _draw(number: int, catalog: dict[str, Any], centre: float) -> half.HalfMap:
    part = catalog["tiles"]
    tiles, z = np.asarray(part["tile"], np.int64), np.asarray(part["z"], np.float64)
    if not len(tiles):
        return half.HalfMap(None, [], "No tile holds enough objects that both have answered.")
    order = int(log2(part["nside"]))
    beyond = np.asarray(part["difference"], np.float64) - catalog["difference"]
    scale = levels.excess(beyond)
    most = int(np.argmax(np.abs(z)))
    ra, dec = (float(x[0]) for x in sky.tile_centres(tiles[most : most + 1], order))
    sentence = (
        f"Difference of the answers (audited less other) in {len(tiles):,} tiles at nside "
        f"{part['nside']}, less {catalog['difference']:+.4f}, that of the whole sky. What varies "
        "in the sky itself cancels here only if both tell members from others equally well. From "
        f"{beyond.min():+.4f} to {beyond.max():+.4f}; most deviant for its number of objects: "
        f"{beyond[most]:+.4f} at RA {ra:.1f}°, Dec {dec:+.1f}° (z {z[most]:+.1f}, the largest of "
        f"{len(tiles):,})."
    )
    return half.draw(f"difference{number}", tiles, order, beyond, scale, centre, sentence)
