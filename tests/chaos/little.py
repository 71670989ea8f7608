"""A survey of two nights in a few pixels, small enough to be annotated hundreds of times."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from surveys import encode, scattered, small_image

from catalogs.cutouts.append import SurveyTable
from catalogs.cutouts.writer import SurveyInfo, append_survey, write_survey
from catalogs.sky import tile_of

NIGHTS = ({0: 30}, {0: 15, 7: 25})  # objects by base pixel; the second night rewrites pixel 0


def _table(counts: dict[int, int], first: int) -> SurveyTable:
    ra, dec = scattered(20_000, seed=first + 1)
    tiles = tile_of(ra, dec, 0)
    chosen = np.concatenate([np.flatnonzero(tiles == t)[:n] for t, n in counts.items()])
    return SurveyTable(
        ids=10**15 + first + np.arange(len(chosen)),
        ra=ra[chosen],
        dec=dec[chosen],
        columns={"mag": np.linspace(14, 18, len(chosen))},
    )


def _images(chunks: Sequence[NDArray[np.int64]]) -> Iterator[list[bytes]]:
    for chunk in chunks:
        yield [encode(small_image(row)) for row in chunk.tolist()]


def two_nights(folder: Path) -> tuple[Path, Path]:
    """Write the survey as it is after the first night, and as it is after the second."""
    first, both = (folder / f"{name}.zarr" for name in ("first", "both"))
    write_survey(first, _table(NIGHTS[0], 0), _images, SurveyInfo(name="little"))
    shutil.copytree(first, both)
    append_survey(both, _table(NIGHTS[1], 1000), _images)
    return first, both
