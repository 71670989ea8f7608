"""From a seed to a survey store, of any number of galaxies: drawn, observed and written in parts.

Galaxies are drawn by index and sorted by position on disk; then each small HEALPix pixel is
observed on its own, by whoever is asked to; at last the parts are put together in sky order.
Whatever was done when a simulation was killed is not done again. The store's bytes depend on the
settings alone.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts.partition import Span, rows_per_partition, split_sky
from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import (
    SortedPart,
    SortedSurvey,
    SurveyInfo,
    SurveyTable,
    write_sorted_survey,
)
from catalogs.errors import InputError
from catalogs.progress import Reporter, Silent
from catalogs.storage.disk import Disk, disk_error
from catalogs.synthetic.frame import BANDS
from catalogs.synthetic.observed import CATEGORIES, MEANINGS, Pictures
from catalogs.synthetic.parts import (
    Job,
    Piece,
    bytes_needed,
    draw_table,
    make_part,
    read_columns,
    read_pictures,
    rows_per_part,
    table_names,
    tiles_of,
)
from catalogs.synthetic.picture import SHOWN, SHOWN_UNIT, STAMP_UNIT
from catalogs.synthetic.settings import SimulationSettings

SETTINGS = "settings.json"
LOCK = ".lock"
CORE = ("id", "ra", "dec")

__all__ = ["Simulated", "SimulationSettings", "simulate"]

Hand = Callable[[Callable[..., int], Job, Sequence[Any]], Iterator[int]]
"""Has each item done by ``task(job, item, tick=...)``; yields what they return, in any order."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """A simulated survey; ``made`` is false when it was there already, whole."""

    path: Path
    galaxies: int
    seconds: float
    made: bool


def one_after_another(
    task: Callable[..., int], job: Job, items: Sequence[int] | Sequence[Piece]
) -> Iterator[int]:
    """Do the work in this process."""
    for item in items:
        yield task(job, item)


def simulate(
    to: Path,
    settings: SimulationSettings,
    reporter: Reporter | None = None,
    hand: Hand = one_after_another,
) -> Simulated:
    """Write the survey store of a simulated sky, unless it is there already.

    A store appears under its name only when whole. Until then its parts are in a hidden folder
    beside it, ``.NAME.zarr.simulation``, as large as the store; run again, a simulation goes on
    with them.

    Parameters
    ----------
    to : Path
        The store, ``NAME.zarr``.
    settings : SimulationSettings
    reporter : Reporter, optional
    hand : callable, optional
        Who does the work; this process by default. See `engine.simulate`, which has workers.

    Raises
    ------
    InputError
        Something else is at ``to``, or a simulation with other settings; nothing can be made
        there, or the disk has too little room.
    BusyError
        Another process makes the same store.
    SkytallyError
        The store cannot be written, or workers died.
    """
    reporter = reporter or Silent()
    if to.exists():
        _check_same(to, settings)
        reporter.event("simulation complete already", path=str(to), galaxies=settings.galaxies)
        return Simulated(to, settings.galaxies, 0.0, made=False)
    start = time.perf_counter()
    folder = Disk(to.with_name(f".{to.name}.simulation"))
    _check_place(to, folder, settings)
    with folder.hold(LOCK):
        _start(folder, settings, reporter)
        job = Job(str(folder.path), settings)
        pieces = _make_parts(job, reporter, hand)
        _put_together(to, job, pieces, reporter)
        shutil.rmtree(folder.path, ignore_errors=True)
    seconds = time.perf_counter() - start
    reporter.event(
        "simulated", path=str(to), galaxies=settings.galaxies, rate=settings.galaxies / seconds
    )
    return Simulated(to, settings.galaxies, seconds, made=True)


def _check_place(to: Path, folder: Disk, settings: SimulationSettings) -> None:
    """Make the folder of the parts if it can hold them; else leave nothing."""
    if to.suffix != ".zarr":
        raise InputError(f"{to}: expected a store's name, NAME.zarr")
    if not to.parent.is_dir():
        raise InputError(f"{to.parent} is no folder; make it, or name a store elsewhere")
    usage = shutil.disk_usage(to.parent)
    there = sum(folder.size(name) or 0 for name in folder.names())
    needed = bytes_needed(settings) - there
    if usage.total > 0 and needed > usage.free:  # a system's own folders have no size
        raise InputError(
            f"{settings.galaxies:,} galaxies take about {needed / 1e9:,.0f} GB of disk until they "
            f"are put together, and {to.parent} has {usage.free / 1e9:,.0f} GB free; free some "
            "space, or ask for fewer"
        )
    try:
        folder.path.mkdir(exist_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise disk_error(to, error) from error
        raise InputError(
            f"{to} cannot be made: {error.strerror}; name a store in a folder that you may write to"
        ) from None


def _start(folder: Disk, settings: SimulationSettings, reporter: Reporter) -> None:
    """Make the folder ours; what another simulation left there goes."""
    wanted = json.dumps({"code": _code(), **settings.record()}, sort_keys=True).encode()
    try:
        same = folder.read(SETTINGS) == wanted
    except FileNotFoundError:
        same = False
    if not same:
        if set(folder.names()) - {LOCK}:
            reporter.event("an interrupted simulation with other settings is removed")
        for left in folder.path.iterdir():
            if left.name != LOCK:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        folder.write(SETTINGS, wanted)
    folder.remove_leftovers()


def _code() -> str:
    """Return a digest of what draws the sky: parts made by other code are not gone on with."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _make_parts(job: Job, reporter: Reporter, hand: Hand) -> list[tuple[Span, list[Piece]]]:
    """Make every part that is not there; return the partitions and the pieces of each."""
    settings, folder = job.settings, Disk(Path(job.folder))
    there = set(folder.names())
    missing = [i for i, name in enumerate(table_names(settings.galaxies)) if name not in there]
    done = settings.galaxies if not missing else 0
    for rows in hand(draw_table, job, missing):
        done += rows
        reporter.progress("draw", min(done, settings.galaxies), settings.galaxies, "galaxies")
    pieces = _plan(job)
    every = [(piece, rows) for _, of_span in pieces for piece, rows in of_span]
    left = [piece for piece, _ in every if piece.file not in there]
    done = sum(rows for piece, rows in every if piece.file in there)
    for rows in hand(make_part, job, left):
        done += rows
        reporter.progress("observe", done, settings.galaxies, "galaxies")
    return [(span, [piece for piece, _ in of_span]) for span, of_span in pieces]


def _plan(job: Job) -> list[tuple[Span, list[tuple[Piece, int]]]]:
    """Return the store's partitions, and the small pixels that each is made of."""
    tiles = tiles_of(job)
    spans = split_sky(tiles, rows_per_partition(len(tiles)))
    small = split_sky(tiles, rows_per_part(job.settings))
    starts = np.array([piece.start for piece in small])
    found = []
    for span in spans:
        # A pixel with more rows than a part's is split in both, so that pieces never cross spans.
        first, last = np.searchsorted(starts, [span.start, span.stop]).tolist()
        of_span = [(Piece(span.pixel, p.pixel), p.stop - p.start) for p in small[first:last]]
        found.append((span, of_span))
    return found


def _put_together(
    to: Path, job: Job, pieces: list[tuple[Span, list[Piece]]], reporter: Reporter
) -> None:
    settings = job.settings
    colour = settings.pixels == "jpeg"
    info = SurveyInfo(
        name=f"simulated sky, {settings.conditions_name} conditions, seed {settings.seed}",
        provenance={"simulation": settings.record()},
        framing=settings.framing,
        crop=settings.size,
        pixel_scale=settings.pixel_scale,
        encoding="encoded" if colour else "raw",
        dtype="uint8" if colour else "float32",
        bands=SHOWN if colour else BANDS,
        pixel_unit=SHOWN_UNIT if colour else STAMP_UNIT,
        meanings=MEANINGS,
    )
    parts = (_sorted_part(job, of_span) for _, of_span in pieces)
    survey = SortedSurvey([span for span, _ in pieces], parts, CATEGORIES)
    try:
        write_sorted_survey(to, survey, info, reporter)
    except OSError as error:
        raise disk_error(to, error) from error


def _sorted_part(job: Job, pieces: Sequence[Piece]) -> SortedPart:
    table = np.concatenate([read_columns(job, piece) for piece in pieces])
    columns = {name: _nullable(table[name]) for name in table.dtype.names or () if name not in CORE}

    def images() -> Iterator[Pictures]:
        for piece in pieces:
            yield from read_pictures(job, piece)

    return SortedPart(SurveyTable(table["id"], table["ra"], table["dec"], columns), images())


def _nullable(values: NDArray[Any]) -> NDArray[Any]:
    """Return text with null where it is empty; numbers as they are."""
    if values.dtype.kind != "U":
        return values
    text = values.astype(object)
    text[values == ""] = None
    return text


def _check_same(path: Path, settings: SimulationSettings) -> None:
    found = Survey.open(path).attributes.provenance.get("simulation")
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a simulated survey; name another store, or remove it")
    wanted = json.loads(json.dumps(settings.record()))  # tuples are lists there
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise InputError(
                f"{path} was simulated with {name} = {found.get(name)}, not {wanted.get(name)}; "
                "name another store, or remove it"
            )
