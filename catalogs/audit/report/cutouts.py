"""Example cutouts: galaxies of the most deviant tiles beside like ones of tiles that are not.

A look for a person, not a test. Stored images are foreign bytes: they are decoded, scaled and
encoded anew, and no byte of them reaches the page.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from catalogs.audit.reading.answers import Columns, Tally, iter_answers
from catalogs.audit.settings import AuditSettings
from catalogs.audit.uniformity.analysis import TileTable
from catalogs.cutouts.decode import decode_one
from catalogs.cutouts.header import UnreadableImageError
from catalogs.cutouts.store import Partition, Rows, Survey
from catalogs.sky import FINEST_ORDER

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

STRIPS, ACROSS = 3, 8
SIDE = 96  # px
_QUALITY = 82
# Columns by which controls are matched: the first that the survey has.
_MAGNITUDES = ("mag_r", "mag", "petroMag_r", "modelMag_r", "magnitude")
MATCHED = (*_MAGNITUDES, "petro_radius", "petroRad_r", "radius", "size")


@dataclass(frozen=True, slots=True)
class Cutout:
    """One galaxy: what it is called, what was answered, and its picture as a data URL.

    ``picture`` is None where the stored image cannot be used. ``answer`` is 1 or 0, a
    probability, or None for an object without one; ``match`` is the column of `MATCHED`.
    """

    name: str
    answer: float | None
    match: float | None
    picture: str | None


@dataclass(frozen=True, slots=True)
class Strip:
    """Galaxies of a deviant tile, and of its control."""

    tile: int
    difference: float
    z: float
    galaxies: tuple[Cutout, ...]
    control_tile: int
    controls: tuple[Cutout, ...]


@dataclass(frozen=True, slots=True)
class Gallery:
    """All strips, and the column by which controls were matched (None: drawn at random)."""

    strips: tuple[Strip, ...]
    matched: str | None


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The store's objects in a tile; arrays share the first dimension."""

    name: list[str]
    healpix: IntArray
    match: FloatArray
    partition: list[Partition]
    row: IntArray  # within its partition

    def __len__(self) -> int:
        return len(self.name)


def gather(
    store: str | Path,
    source: str | Path,
    columns: Columns,
    table: TileTable,
    settings: AuditSettings,
) -> Gallery:
    """Choose and read the cutouts.

    Parameters
    ----------
    store : path-like
        Survey store with the images.
    source : path-like
        The audited table.
    columns : Columns
        Of that table.
    table : TileTable
        Of the testing order.
    settings : AuditSettings
        Its seed draws the galaxies.

    Returns
    -------
    Gallery
        Without strips where no tile was tested, or the store holds none of its objects.

    Raises
    ------
    InputError
        There is no store.
    IntegrityError
        It is damaged.
    """
    survey = Survey.open(store)
    rows_of = lru_cache(maxsize=16)(survey.read_rows)
    matched = next((name for name in MATCHED if name in survey.column_names), None)
    chosen = []
    for deviant, control in _pairs_of_tiles(table):
        here = _candidates(survey, int(table.tiles[deviant]), table.order, matched)
        there = _candidates(survey, int(table.tiles[control]), table.order, matched)
        rng = np.random.default_rng([settings.seed, int(table.tiles[deviant])])
        drawn = np.sort(rng.permutation(len(here))[:ACROSS])
        like = _like(here.match[drawn], there.match, rng)
        if len(drawn) and len(like):
            chosen.append((deviant, control, here, drawn, there, like))
    wanted = [c.healpix[rows] for *_, a, i, b, j in chosen for c, rows in ((a, i), (b, j))]
    answers = _answers(source, columns, settings, wanted)
    strips = tuple(
        Strip(
            int(table.tiles[deviant]),
            float(table.difference[deviant]),
            float(table.z[deviant]),
            tuple(_cutout(survey, rows_of, here, i, answers) for i in drawn.tolist()),
            int(table.tiles[control]),
            tuple(_cutout(survey, rows_of, there, i, answers) for i in like.tolist()),
        )
        for deviant, control, here, drawn, there, like in chosen
    )
    return Gallery(strips, matched)


def _pairs_of_tiles(table: TileTable) -> list[tuple[int, int]]:
    """Return the most deviant tested tiles, each with one of the least deviant."""
    tested = np.flatnonzero(np.isfinite(table.z))
    rank = tested[np.argsort(-np.abs(table.z[tested]), kind="stable")].tolist()
    number = min(STRIPS, len(rank) // 2)
    return list(zip(rank[:number], rank[::-1][:number], strict=True))


def _candidates(survey: Survey, tile: int, order: int, matched: str | None) -> _Candidates:
    names: list[str] = []
    healpix, match, row = [], [], []
    partitions: list[Partition] = []
    for partition in survey.partitions:
        if not _meet(partition, tile, order):
            continue
        asked = ["id", "healpix_29", *([matched] if matched else [])]
        found = survey.read_columns(partition, asked)
        inside = np.flatnonzero(found["healpix_29"] >> (2 * (FINEST_ORDER - order)) == tile)
        names += [_text(name) for name in found["id"][inside].tolist()]
        healpix.append(np.asarray(found["healpix_29"])[inside])
        match.append(_numbers(found[matched][inside]) if matched else np.full(len(inside), np.nan))
        row.append(inside)
        partitions += [partition] * len(inside)
    empty: list[IntArray] = [np.zeros(0, np.int64)]
    return _Candidates(
        names,
        np.concatenate(healpix or empty),
        np.concatenate(match or [np.zeros(0)]),
        partitions,
        np.concatenate(row or empty),
    )


def _meet(partition: Partition, tile: int, order: int) -> bool:
    pixel = partition.pixel
    if pixel.order <= order:
        return tile >> (2 * (order - pixel.order)) == pixel.number
    return pixel.number >> (2 * (pixel.order - order)) == tile


def _like(wanted: FloatArray, available: FloatArray, rng: np.random.Generator) -> IntArray:
    """Return for each wanted value the nearest that is left; any where there is none to match."""
    order = rng.permutation(len(available))
    if not np.any(np.isfinite(wanted)) or not np.any(np.isfinite(available)):
        return np.sort(order[: len(wanted)])
    left = [i for i in order.tolist() if np.isfinite(available[i])]
    found = []
    for value in wanted.tolist():
        if left and np.isfinite(value):
            nearest = min(left, key=lambda i: abs(float(available[i]) - value))
            left.remove(nearest)
            found.append(nearest)
    return np.asarray(found, np.int64)


def _answers(
    source: str | Path, columns: Columns, settings: AuditSettings, wanted: list[IntArray]
) -> dict[int, float]:
    """Return the answers of some objects, by their place on the sky."""
    places = np.unique(np.concatenate(wanted)) if wanted else np.zeros(0, np.int64)
    found: dict[int, float] = {}
    if not len(places):
        return found
    for pixels, values, _ in iter_answers(source, columns, settings, Tally()):
        here = np.isin(pixels, places)
        found |= dict(zip(pixels[here].tolist(), values[here, 0].tolist(), strict=True))
    return found


_RowsOf = Callable[[Partition], Rows]


def _cutout(
    survey: Survey,
    rows_of: _RowsOf,
    candidates: _Candidates,
    i: int,
    answers: dict[int, float],
) -> Cutout:
    match = float(candidates.match[i])
    return Cutout(
        candidates.name[i],
        answers.get(int(candidates.healpix[i])),
        match if np.isfinite(match) else None,
        _picture(survey, rows_of, candidates.partition[i], int(candidates.row[i])),
    )


def _picture(survey: Survey, rows_of: _RowsOf, partition: Partition, row: int) -> str | None:
    """Return one image of the store as a JPEG of our own; None where it cannot be used."""
    whole = rows_of(partition)
    one = Rows(**{name: getattr(whole, name)[row : row + 1] for name in Rows.__dataclass_fields__})
    images = next(survey.read_images(partition, one))
    if images.problems:
        return None
    stored = images.files[0]
    if survey.attributes.raw is None:
        try:
            pixels = decode_one(stored)
        except UnreadableImageError:
            return None
    else:
        pixels = stretched(stored)
    return encoded(pixels)


def stretched(samples: NDArray[Any]) -> NDArray[np.uint8]:
    """Return raw samples (height, width, channels) as RGB, linear between percentiles."""
    shown = np.asarray(samples[..., :3] if samples.shape[-1] >= 3 else samples[..., :1], np.float64)
    shown = np.nan_to_num(shown, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = np.percentile(shown, (1.0, 99.7))
    grey = np.clip((shown - low) / max(high - low, 1e-300), 0, 1)
    return np.asarray(np.broadcast_to(np.round(grey * 255), (*shown.shape[:2], 3)), np.uint8)


def encoded(pixels: NDArray[np.uint8]) -> str:
    """Return the central square of RGB pixels, scaled to `SIDE`, as a data URL."""
    height, width, _ = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(np.ascontiguousarray(pixels[top : top + side, left : left + side]))
    small = np.asarray(square.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    content = simplejpeg.encode_jpeg(np.ascontiguousarray(small), _QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode('ascii')}"


def _numbers(values: NDArray[Any]) -> FloatArray:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError):  # a column of text may have such a name, too
        return np.full(len(values), np.nan)


def _text(name: object) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
