"""A survey of two nights in a few pixels, small enough to be annotated hundreds of times."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from surveys import encode, scattered, small_image

from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.sky import tile_of

NIGHTS = ({0: 30}, {0: 15, 7: 25})  # objects by base pixel; the second rewrites pixel 0


def write_night(to: Path, counts: dict[int, int], first: int, kind: str = "PNG") -> None:
    """Write a survey of one night with so many objects in these base pixels."""
    ra, dec = scattered(20_000, seed=first + 1)
    tiles = tile_of(ra, dec, 0)
    chosen = np.concatenate([np.flatnonzero(tiles == t)[:n] for t, n in counts.items()])
    table = SurveyTable(
        ids=10**15 + first + np.arange(len(chosen)),
        ra=ra[chosen],
        dec=dec[chosen],
        columns={"mag": np.linspace(14, 18, len(chosen))},
    )
    write_survey(
        to,
        table,
        lambda chunks: (
            [encode(small_image(first + row), kind) for row in chunk.tolist()] for chunk in chunks
        ),
        SurveyInfo(name="little"),
    )


def two_nights(folder: Path) -> tuple[Path, Path]:
    """Write the survey as it is after the first night, and after the second."""
    first, other, both = (folder / f"{name}.zarr" for name in ("first", "other", "both"))
    write_night(first, NIGHTS[0], 0)
    write_night(other, NIGHTS[1], 1000)
    shutil.copytree(first, both)
    shutil.move(other / "appends/00000", both / "appends/00001")
    root, added = (json.loads((store / "zarr.json").read_text()) for store in (both, other))
    append = added["attributes"]["skytally"]["appends"][0] | {"name": "00001"}
    root["attributes"]["skytally"]["appends"].append(append)
    (both / "zarr.json").write_text(json.dumps(root))
    shutil.rmtree(other)
    return first, both
