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

IMAGE_ENDINGS = (".jpeg", ".jpg", ".png")
_ABSENT = frozenset([errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG])


@dataclass(frozen=True, slots=True)
class FoundImages:
    """The images of a table's rows.

    Attributes
    ----------
    paths : ndarray of object, shape (n,)
        Each row's image file; None where ``reasons`` says why there is none.
    reasons : ndarray of object, shape (n,)
        ``no_image``, ``several_images``, ``unreadable_image``, ``image_too_large``, or None.
    unused : int
        Image files of the folder that no row names.
    """

    paths: NDArray[Any]
    reasons: NDArray[Any]
    unused: int


def find_images(rows: pa.Table, ids: pa.ChunkedArray, images: str, table: Path) -> FoundImages:
    """Find each row's image in a folder, by its identifier, or through a column of paths.

    Raises
    ------
    InputError
        ``images`` is neither a folder with images nor a column of text.
    """
    if images in rows.column_names:
        return _from_column(rows.column(images), images, table.parent)
    by_stem = _by_stem(images, rows, table)
    keys = [None if key is None else str(key) for key in ids.to_pylist()]
    candidates = [_named(key, by_stem) for key in keys]
    used = {path for found in candidates for path in found}
    everything = {path for found in by_stem.values() for path in found}
    return _checked(candidates, sum(path.is_file() for path in everything - used))


def _named(key: str | None, by_stem: dict[str, list[Path]]) -> list[Path]:
    """Return the files of an identifier: it is their name, with or without the ending."""
    if not key:
        return []
    whole = [path for path in by_stem.get(Path(key).stem, []) if path.name == key]
    return by_stem.get(key, []) or whole


def _from_column(column: pa.ChunkedArray, name: str, base: Path) -> FoundImages:
    if not (pa.types.is_string(column.type) or pa.types.is_null(column.type)):
        raise InputError(
            f"--images {name!r} is a column of {column.type}; expected text, the paths of images: "
            "name another column or a folder"
        )
    names = column.to_pylist()
    return _checked([[base / name] if name else [] for name in names], unused=0)


def _by_stem(images: str, rows: pa.Table, table: Path) -> dict[str, list[Path]]:
    folder = Path(images)
    by_stem: dict[str, list[Path]] = defaultdict(list)
    try:
        if not folder.is_dir():
            raise InputError(
                f"--images {images!r} is neither a folder nor a column of {table}; "
                f"columns: {', '.join(rows.column_names[:20])}"
            )
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.lower().endswith(IMAGE_ENDINGS):
                    by_stem[Path(entry.name).stem].append(Path(entry.path))
    except OSError as error:
        raise InputError(f"image folder {folder} cannot be read: {error.strerror}") from None
    if not by_stem:
        raise InputError(
            f"image folder {folder} holds no {', '.join(IMAGE_ENDINGS)} file; name another folder"
        )
    return by_stem


def _checked(candidates: list[list[Path]], unused: int) -> FoundImages:
    paths = np.full(len(candidates), None, dtype=object)
    reasons = np.full(len(candidates), None, dtype=object)
    for i, found in enumerate(candidates):
        if len(found) == 1:
            reasons[i] = _problem(found[0])
        else:
            reasons[i] = "several_images" if found else "no_image"
        if reasons[i] is None:
            paths[i] = found[0]
    return FoundImages(paths, reasons, unused)


def _problem(path: Path) -> str | None:
    """Return why a file cannot be stored, as far as can be told without reading it."""
    try:
        status = path.stat()
    except ValueError:  # a name with a null byte
        return "no_image"
    except OSError as error:  # a symbolic link to nothing is no image, too
        return "no_image" if error.errno in _ABSENT else "unreadable_image"
    if not stat.S_ISREG(status.st_mode) or not os.access(path, os.R_OK):
        return "unreadable_image"
    return "image_too_large" if status.st_size > layout.MOST_IMAGE_BYTES else None
