"""The sky again, of fractions corrected for mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np

from catalogs.audit.report.figures import half, levels
from catalogs.audit.uniformity.analysis import TileTable


def draw(rows: list[dict[str, Any]], table: TileTable, centre: float) -> half.HalfMap | None:
    """Draw the corrected fraction of each tile in the classes of the map of answers.

    Parameters
    ----------
    rows : list of dict
        The corrected tiles, as in ``audit.json``.
    table : TileTable
        All tiles at the testing nside, whose excess gives the classes.
    centre : float
        Right ascension of the map's middle [deg].

    Returns
    -------
    HalfMap or None
        None where no tile has labels enough.
    """
    if not rows:
        return None
    tile, value, objects, low, high = (
        np.array([row[name] for row in rows], np.float64)
        for name in ("tile", "corrected", "objects", "low", "high")
    )
    mean = float(np.average(value, weights=objects))
    excess = np.full(len(table.tiles), np.nan)
    excess[np.searchsorted(table.tiles, tile.astype(np.int64))] = value - mean
    apart = int(np.sum((low > mean) | (high < mean)))
    sentence = (
        f"Corrected fraction in {len(rows)} tiles at nside {2**table.order} less {mean:.4f}, their "
        "mean by objects; classes of colour are those of the map of answers, and tiles with too "
        f"few labels are hatched. Of the {len(rows)} intervals of 95% {apart} do not hold that "
        f"mean; chance alone leaves some {0.05 * len(rows):.1f} out."
    )
    scale = levels.excess(np.where(np.isfinite(table.z), table.difference, np.nan))
    return half.draw("corrected", table.tiles, table.order, excess, scale, centre, sentence)
