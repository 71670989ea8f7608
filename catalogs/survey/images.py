"""The images of a table's rows, whatever they lie in: encoded files, FITS files, or one array.

======================================  =========================================================
a folder, or a column of paths          ``.jpeg .jpg .png``: stored as they are, encoded
the same                                ``.fits .fit .fts .fits.gz``: one image (height, width)
                                        or (channels, height, width) a file, stored raw
one ``.npy`` file                       (n, height, width[, channels]): row i's image is i
one FITS file                           (n, [channels,] height, width): row i's image is i
======================================  =========================================================

Rows of pixels keep the order that they have in the file; nothing is turned, scaled or stretched.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from catalogs.cutouts.blob import SourceImages
from catalogs.cutouts.layout import RawPixels
from catalogs.cutouts.writer import ImageSource
from catalogs.errors import InputError, SkytallyError
from catalogs.parallel import bounded_map
from catalogs.progress import Reporter
from catalogs.sky import IntArray
from catalogs.survey.fits_image import FitsLayout, UnreadableFitsError, find_image, open_whole
from catalogs.survey.image_array import ARRAY_ENDINGS, open_array
from catalogs.survey.image_files import FoundFiles, files_in_column, files_in_folder, is_fits
from catalogs.survey.pixels import UnsuitablePixelsError, check_shape, described

READERS = 4
_HEADERS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class FoundImages:
    """The images of a table's rows.

    Attributes
    ----------
    reasons : ndarray of object, shape (n,)
        Why a row has no image that can be stored: ``no_image``, ``several_images``,
        ``unreadable_image``, ``unsuitable_image``, ``image_too_large``; None where it has one.
    unused : int
        Images that no row names.
    raw : RawPixels or None
        What raw images hold; None for encoded ones.
    read : callable
        Returns the images of some rows: bytes, or arrays (height, width, channels).
    """

    reasons: NDArray[Any]
    unused: int
    raw: RawPixels | None
    read: Callable[[IntArray], SourceImages]

    def source(self, rows: IntArray) -> ImageSource:
        """Return what gives a writer the images of ``rows``, read on a few threads."""

        def images(chunks: Sequence[IntArray]) -> Iterator[Any]:
            with ThreadPoolExecutor(READERS) as executor:
                yield from bounded_map(
                    executor, lambda chunk: self.read(rows[chunk]), chunks, ahead=2 * READERS
                )

        return images


def find_images(
    rows: pa.Table, ids: pa.ChunkedArray, images: str, table: Path, reporter: Reporter
) -> FoundImages:
    """Find each row's image.

    Parameters
    ----------
    rows : pyarrow.Table
        The user's table.
    ids : pyarrow.ChunkedArray
        Its identifiers, the names of files in a folder.
    images : str
        A column of ``rows``, a folder, or a file that holds an array.
    table : Path
        Where the table lies; paths in a column are relative to its folder.
    reporter : Reporter
        Receives progress.

    Raises
    ------
    InputError
        ``images`` is none of these, the array has not one image a row, or the images are of
        several kinds.
    """
    if images in rows.column_names:
        return _of_files(files_in_column(rows.column(images), images, table.parent), reporter)
    where = Path(images)
    if where.is_file() and images.lower().endswith(ARRAY_ENDINGS):
        return _of_array(where, rows.num_rows)
    try:
        is_folder = where.is_dir()
    except OSError as error:
        raise InputError(f"image folder {where} cannot be read: {error.strerror}") from None
    if not is_folder:
        raise InputError(
            f"--images {images!r} is neither a folder, a {' or '.join(ARRAY_ENDINGS)} file, nor a "
            f"column of {table}; columns: {', '.join(rows.column_names[:20])}"
        )
    return _of_files(files_in_folder(where, ids), reporter)


def _of_array(path: Path, rows: int) -> FoundImages:
    array = open_array(path)
    if array.images != rows:
        raise InputError(
            f"{path} holds {array.images} images, the table has {rows} rows; expected image i to "
            "be that of row i: give an array of the same length"
        )
    none = np.full(rows, None, dtype=object)
    return FoundImages(none, 0, array.raw, array.read)


def _of_files(files: FoundFiles, reporter: Reporter) -> FoundImages:
    found = np.flatnonzero([path is not None for path in files.paths])
    fits = np.asarray([is_fits(path) for path in files.paths[found]], dtype=np.bool_)
    if fits.any() and not fits.all():
        one, other = files.paths[found[fits]][0], files.paths[found[~fits]][0]
        raise InputError(
            f"{int(fits.sum())} images are FITS ({one}) and {int((~fits).sum())} are JPEG or PNG "
            f"({other}); a survey holds one kind: ingest them into two"
        )
    if not fits.any():
        paths = files.paths
        return FoundImages(
            files.reasons, files.unused, None, lambda rows: [_bytes(p) for p in paths[rows]]
        )
    return _of_fits(files, found, reporter)


def _of_fits(files: FoundFiles, found: IntArray, reporter: Reporter) -> FoundImages:
    """Look at every header first: a file that cannot be stored must be known before writing."""
    reasons = files.reasons.copy()
    layouts: dict[FitsLayout, int] = {}  # the files of a survey have few
    layout_of = np.full(len(reasons), -1, dtype=np.int32)
    example: dict[RawPixels, str] = {}
    chunks = [found[i : i + _HEADERS_AT_ONCE] for i in range(0, len(found), _HEADERS_AT_ONCE)]
    with warnings.catch_warnings(), ThreadPoolExecutor(READERS) as executor:
        warnings.simplefilter("ignore")  # many writers break the standard in small ways
        looked = bounded_map(
            executor, lambda rows: [_look(p) for p in files.paths[rows]], chunks, 2 * READERS
        )
        for chunk, seen in zip(chunks, looked, strict=True):
            for row, layout in zip(chunk.tolist(), seen, strict=True):
                if isinstance(layout, str):
                    reasons[row] = layout
                else:
                    layout_of[row] = layouts.setdefault(layout, len(layouts))
                    example.setdefault(_type_of(layout), files.paths[row])
            reporter.progress("image headers", int(chunk[-1]) + 1, len(reasons), "files")
    if len(example) > 1:
        one, other = list(example)[:2]
        raise InputError(
            f"{example[one]} holds {described(one)}, {example[other]} {described(other)}; a survey "
            "holds one kind of images: ingest them into two, or convert them"
        )
    by_code = list(layouts)

    def read(rows: IntArray) -> list[NDArray[Any]]:
        return [_image(files.paths[row], by_code[layout_of[row]]) for row in rows.tolist()]

    # Without any image that can be read there is nothing to store, of whichever type.
    raw = next(iter(example), RawPixels("float32", 1))
    return FoundImages(reasons, files.unused, raw, read)


def _look(path: str) -> FitsLayout | str:
    """Return where a file's image lies, or why it cannot be stored."""
    try:
        stream, size = open_whole(path)
        with stream:
            layout = find_image(stream, size)
        height, width, channels = _sides(layout)
        check_shape(height, width, channels, layout.meaning)
    except UnsuitablePixelsError:
        return "unsuitable_image"
    except (UnreadableFitsError, OSError):
        return "unreadable_image"
    return layout


def _sides(layout: FitsLayout) -> tuple[int, int, int]:
    if len(layout.shape) not in (2, 3):
        raise UnsuitablePixelsError(f"it has {len(layout.shape)} axes")
    height, width = layout.shape[-2:]
    return height, width, layout.shape[0] if len(layout.shape) == 3 else 1


def _type_of(layout: FitsLayout) -> RawPixels:
    return RawPixels(layout.meaning, _sides(layout)[2])


def _image(path: str, layout: FitsLayout) -> NDArray[Any]:
    try:
        stream, _ = open_whole(path)
        with stream:
            stream.seek(layout.offset)
            content = stream.read(layout.size)
    except OSError as error:
        raise SkytallyError(f"image {path} cannot be read: {error.strerror}") from None
    except (UnreadableFitsError, UnsuitablePixelsError) as error:
        raise SkytallyError(f"image {path} cannot be read: {error}") from None
    if len(content) != layout.size:
        raise SkytallyError(f"image {path} became shorter while it was read; ingest again")
    stored = np.frombuffer(content, layout.dtype).reshape(layout.shape)
    if stored.ndim == 2:
        stored = stored[np.newaxis]
    return layout.values(np.moveaxis(stored, 0, -1))


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:  # noqa: PTH123  (once a file: a Path costs more)
            return stream.read()
    except OSError as error:
        raise SkytallyError(f"image {path} cannot be read: {error.strerror}") from None
