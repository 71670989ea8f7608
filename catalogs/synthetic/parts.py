"""The two kinds of work that a simulation hands out, each of which leaves a file; no Dask here.

::

    .NAME.zarr.simulation/
      settings.json               of which simulation this is
      table/00000.npy             galaxies of a range of indices, sorted by sky position
      table/00000.healpix.npy     their tiles at order 29
      parts/3-121/5-1941.part     all of one small HEALPix pixel: columns, lengths, images

A part is read by whoever puts the store together, in sky order. Which galaxies share a file
decides nothing about them: every galaxy has random streams of its own.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from catalogs.cutouts.partition import Pixel
from catalogs.sky import FINEST_ORDER, IntArray, tile_of
from catalogs.storage.disk import Disk
from catalogs.synthetic.galaxies.record import GALAXY
from catalogs.synthetic.observed import (
    Galaxies,
    Pictures,
    in_batches,
    observe_sky,
    table_columns,
)
from catalogs.synthetic.population import BLOCK, draw_population
from catalogs.synthetic.settings import SimulationSettings

TABLE = "table"
PARTS = "parts"
FEWEST_IN_TABLE = 16 * BLOCK
MOST_TABLES = 256
MOST_IN_TABLE = 64 * BLOCK  # 114 MB, held three times while it is drawn and sorted
ROW_BYTES = 400  # of a galaxy's columns in a part or a store, about
MOST_IN_PART = 2048
MOST_PART_BYTES = 64 << 20
PICTURES_AT_ONCE = 64

_one_renders = threading.Lock()  # in a process; another thread reads and writes meanwhile
# numpy reads the head of a .npy with ast.literal_eval, which in Python 3.11 fails in one thread
# when another does the same (SystemError, "AST constructor recursion depth mismatch").
_one_reads = threading.Lock()


@dataclass(frozen=True, slots=True)
class Job:
    """A simulation under way: where its files are, and its settings."""

    folder: str
    settings: SimulationSettings


@dataclass(frozen=True, slots=True)
class Piece:
    """A small pixel, of the partition ``within``."""

    within: Pixel
    pixel: Pixel

    @property
    def file(self) -> str:
        """Its part, relative to the job's folder."""
        return f"{PARTS}/{self.within}/{self.pixel}.part"


def table_rows(galaxies: int) -> int:
    """Return how many galaxies share a file of the table: files not too many, nor too large."""
    blocks = -(-galaxies // (MOST_TABLES * BLOCK))
    return min(max(FEWEST_IN_TABLE, blocks * BLOCK), MOST_IN_TABLE)


def bytes_needed(settings: SimulationSettings) -> int:
    """Return about how many bytes of disk a simulation takes: the table, the parts, the store."""
    if settings.pixels == "jpeg":
        detail = float(np.interp(settings.quality, [10, 50, 90, 100], [0.3, 0.7, 1.8, 5.7]))
        image = 600 + detail * settings.size**1.5  # as measured, 32 to 424 px
    else:
        image = 12 * settings.size**2
    return int(settings.galaxies * (GALAXY.itemsize + 8 + 2 * (ROW_BYTES + image)))


def rows_per_part(settings: SimulationSettings) -> int:
    """Return how many galaxies a part may hold, some seconds of work in tens of megabytes."""
    if settings.pixels == "jpeg":
        return MOST_IN_PART
    return int(np.clip(MOST_PART_BYTES // (12 * settings.size**2), 16, MOST_IN_PART))


def table_names(galaxies: int) -> list[str]:
    """Return the table's files of tiles; each is there when its galaxies are."""
    count = -(-galaxies // table_rows(galaxies))
    return [f"{TABLE}/{number:05d}.healpix.npy" for number in range(count)]


def draw_table(job: Job, number: int, tick: object = None) -> int:  # noqa: ARG001
    """Draw the galaxies of one file of the table; return how many."""
    settings = job.settings
    rows = table_rows(settings.galaxies)
    stop = min((number + 1) * rows, settings.galaxies)
    galaxies = draw_population(number * rows, stop, settings.population)
    healpix_29 = tile_of(galaxies["ra"], galaxies["dec"], FINEST_ORDER)
    order = np.argsort(healpix_29, kind="stable")
    place = Disk(Path(job.folder))
    place.write(f"{TABLE}/{number:05d}.npy", _npy(galaxies[order]))
    place.write(f"{TABLE}/{number:05d}.healpix.npy", _npy(healpix_29[order]))
    return len(galaxies)


def gather(job: Job, pixel: Pixel) -> Galaxies:
    """Return all galaxies of a pixel, by tile and index, from the files of the table."""
    shift = 2 * (FINEST_ORDER - pixel.order)
    limits = np.array([pixel.number << shift, (pixel.number + 1) << shift])
    found, tiles = [], []
    for name in table_names(job.settings.galaxies):
        healpix_29 = _mapped(Path(job.folder, name))
        start, stop = healpix_29.searchsorted(limits).tolist()
        if start < stop:
            rows = _mapped(Path(job.folder, name.replace(".healpix", "")))
            found.append(np.array(rows[start:stop]))
            tiles.append(np.array(healpix_29[start:stop]))
    galaxies = np.concatenate(found)
    return np.asarray(galaxies[np.lexsort((galaxies["index"], np.concatenate(tiles)))])


def make_part(job: Job, piece: Piece, tick: object = None) -> int:  # noqa: ARG001
    """Observe the galaxies of one piece; return how many."""
    galaxies = gather(job, piece.pixel)
    with _one_renders:
        observation = observe_sky(galaxies, job.settings)
        columns = table_columns(galaxies, observation, job.settings)
        pictures = list(in_batches(galaxies, observation, job.settings, PICTURES_AT_ONCE))
    content = io.BytesIO()
    table = np.empty(len(galaxies), [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        table[name] = values
    _put(content, table)
    for batch in pictures:
        if isinstance(batch, np.ndarray):
            _put(content, batch)
        else:
            _put(content, np.array([len(file) for file in batch], dtype=np.int64))
            _put(content, np.frombuffer(b"".join(batch), dtype=np.uint8))
    Disk(Path(job.folder)).write(piece.file, content.getbuffer())
    return len(galaxies)


def read_columns(job: Job, piece: Piece) -> NDArray[np.void]:
    """Return the columns of a part, a structured array in sky order."""
    with Path(job.folder, piece.file).open("rb") as stream:
        return np.asarray(_get(stream))


def read_pictures(job: Job, piece: Piece) -> Iterator[Pictures]:
    """Yield the images of a part, batch by batch, in sky order."""
    with Path(job.folder, piece.file).open("rb") as stream:
        left = len(_get(stream))
        while left:
            batch: Pictures = _get(stream)
            if job.settings.pixels == "jpeg":
                ends = np.cumsum(batch)
                data = _get(stream).tobytes()
                batch = [data[end - size : end] for size, end in zip(batch, ends, strict=True)]
            left -= len(batch)
            yield batch


def _mapped(path: Path) -> NDArray[Any]:
    with _one_reads:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _npy(values: NDArray[Any]) -> memoryview:
    content = io.BytesIO()
    _put(content, values)
    return content.getbuffer()


def _put(stream: BinaryIO | io.BytesIO, values: NDArray[Any]) -> None:
    npy.write_array(stream, values, allow_pickle=False)


def _get(stream: BinaryIO) -> NDArray[Any]:
    with _one_reads:
        return np.asarray(npy.read_array(stream, allow_pickle=False))


def tiles_of(job: Job) -> IntArray:
    """Return the tiles at order 29 of all galaxies, sorted: 8 bytes for each."""
    files = [_mapped(Path(job.folder, name)) for name in table_names(job.settings.galaxies)]
    tiles = np.concatenate(files)
    tiles.sort()
    return tiles
