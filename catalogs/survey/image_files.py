"""Which image file belongs to which row of a table, and why a row has none that can be stored."""

from __future__ import annotations

import errno
import os
import stat
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from catalogs.cutouts import layout
from catalogs.errors import InputError
from catalogs.survey.fits_image import FITS_ENDINGS, MOST_FITS_BYTES

ENCODED_ENDINGS = (".jpeg", ".jpg", ".png")
_ENDINGS = (*ENCODED_ENDINGS, *sorted(FITS_ENDINGS, key=len, reverse=True))
_ABSENT = frozenset([errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG])


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """The image files of a table's rows.

    Attributes
    ----------
    paths : ndarray of object, shape (n,)
        Each row's image file (str); None where ``reasons`` says why there is none.
    reasons : ndarray of object, shape (n,)
        ``no_image``, ``several_images``, ``unreadable_image``, ``image_too_large``, or None.
    unused : int
        Image files of the folder that no row names.
    """

    paths: NDArray[Any]
    reasons: NDArray[Any]
    unused: int


def is_fits(path: str) -> bool:
    """Tell a FITS file by its name."""
    return path.lower().endswith(FITS_ENDINGS)


def files_in_folder(folder: Path, ids: pa.ChunkedArray) -> FoundFiles:
    """Find each row's image in a folder: the file named by its identifier.

    Raises
    ------
    InputError
        The folder cannot be read, or holds no image.
    """
    by_stem = _by_stem(folder)
    candidates = [_named(key, by_stem) for key in _as_text(ids)]
    used = {path for found in candidates for path in found}
    everything = {path for found in by_stem.values() for path in found}
    return _checked(candidates, sum(Path(path).is_file() for path in everything - used))


def files_in_column(column: pa.ChunkedArray, name: str, base: Path) -> FoundFiles:
    """Find each row's image through a column of paths, absolute or from the folder ``base``.

    Raises
    ------
    InputError
        The column holds no text.
    """
    if not (pa.types.is_string(column.type) or pa.types.is_null(column.type)):
        raise InputError(
            f"--images {name!r} is a column of {column.type}; expected text, the paths of images: "
            "name another column or a folder"
        )
    names = column.to_pylist()
    return _checked([[str(base / name)] if name else [] for name in names], unused=0)


def _as_text(ids: pa.ChunkedArray) -> list[str | None]:
    found: list[str | None] = ids.cast(pa.string()).to_pylist()
    return found


def _stem(name: str) -> str:
    ending = next((e for e in _ENDINGS if name.lower().endswith(e)), "")
    return name.removesuffix(name[len(name) - len(ending) :]) if ending else name


def _named(key: str | None, by_stem: dict[str, list[str]]) -> list[str]:
    """Return the files of an identifier: it is their name, with or without the ending."""
    if not key:
        return []
    found = by_stem.get(key)
    if found:
        return found
    return [path for path in by_stem.get(_stem(key), []) if path.endswith(f"/{key}")]


def _by_stem(folder: Path) -> dict[str, list[str]]:
    by_stem: dict[str, list[str]] = defaultdict(list)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.lower().endswith(_ENDINGS):
                    by_stem[_stem(entry.name)].append(entry.path)
    except OSError as error:
        raise InputError(f"image folder {folder} cannot be read: {error.strerror}") from None
    if not by_stem:
        raise InputError(
            f"image folder {folder} holds no {', '.join(_ENDINGS)} file; name another folder"
        )
    return by_stem


def _checked(candidates: list[list[str]], unused: int) -> FoundFiles:
    paths = np.full(len(candidates), None, dtype=object)
    reasons = np.full(len(candidates), None, dtype=object)
    for i, found in enumerate(candidates):
        if len(found) == 1:
            reasons[i] = _problem(found[0])
        else:
            reasons[i] = "several_images" if found else "no_image"
        if reasons[i] is None:
            paths[i] = found[0]
    return FoundFiles(paths, reasons, unused)


def _problem(path: str) -> str | None:
    """Return why a file cannot be stored, as far as can be told without reading it."""
    try:
        status = os.stat(path)  # noqa: PTH116  (one call a file: a Path costs more than this)
    except ValueError:  # a name with a null byte
        return "no_image"
    except OSError as error:  # a symbolic link to nothing is no image, too
        return "no_image" if error.errno in _ABSENT else "unreadable_image"
    if not stat.S_ISREG(status.st_mode) or not os.access(path, os.R_OK):
        return "unreadable_image"
    most = MOST_FITS_BYTES if is_fits(path) else layout.MOST_IMAGE_BYTES
    return "image_too_large" if status.st_size > most else None
