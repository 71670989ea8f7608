"""The sky on which a classifier was trained, from the coverage map in its bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mocpy import MOC
from numpy.typing import NDArray

from catalogs.errors import InputError

FILE = "training_sky.moc.fits"
ORDER = 4
_MOST_BYTES = 64 << 20


def read_tiles(where: str | Path) -> NDArray[np.int64]:
    """Return the nested tiles of order `ORDER` that a training sky touches.

    Parameters
    ----------
    where : path-like
        A coverage map (MOC) in FITS, or a bundle's or a run's folder with `FILE`.

    Raises
    ------
    InputError
        There is no such file, it is larger than a coverage map is, or no coverage map.
    """
    path = Path(where)
    path = path / FILE if path.is_dir() else path
    try:
        size = path.stat().st_size
        moc = MOC.from_fits(path) if size <= _MOST_BYTES else None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror or error}; name a bundle or a coverage map"
        ) from error
    except Exception as error:  # mocpy raises what its parser does
        raise InputError(f"{path}: is no coverage map (MOC) in FITS: {error}") from error
    if moc is None:
        raise InputError(f"{path}: {size} bytes are more than a coverage map has ({_MOST_BYTES})")
    moc = moc.degrade_to_order(ORDER) if moc.max_order > ORDER else moc.refine_to_order(ORDER)
    return np.asarray(moc.flatten(), np.int64)
