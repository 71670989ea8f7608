"""From a seed to a survey store: draw the galaxies, observe them, write them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.errors import InputError, SkytallyError
from catalogs.progress import Reporter, Silent
from catalogs.sky import IntArray
from catalogs.storage.disk import disk_error
from catalogs.synthetic.conditions import Conditions, ConditionsName, check_name, conditions_at
from catalogs.synthetic.frame import FRAME, Frame
from catalogs.synthetic.galaxies.columns import catalogue_columns
from catalogs.synthetic.neighbours import add_neighbours
from catalogs.synthetic.observe import observe
from catalogs.synthetic.picture import compose, encode, resample
from catalogs.synthetic.population import PopulationSettings, draw_population
from catalogs.synthetic.render import render
from catalogs.synthetic.streams import stream
from catalogs.synthetic.truth import Clustered, Dipole, Patch

SKY_VERSION = 3  # grows when the same settings would give other galaxies or other pictures


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """What to simulate.

    Attributes
    ----------
    galaxies : int
        How many.
    seed : int
        Seed of everything random.
    conditions : {"even", "uneven"}
        Observing conditions; the galaxies of a seed are the same under both.
    size : int
        Pixels a side of a cutout; the frame on the sky does not depend on it.
    workers : int
        Processes; the result does not depend on it.
    spiral_fraction, dipole, patch, clustered
        The truth, see :class:`catalogs.synthetic.truth.Truth`.
    neighbours : float
        Stars and galaxies in the field, per square arcmin.
    quality : int
        JPEG quality, 1 to 100.
    """

    galaxies: int = 20_000
    seed: int = 1
    conditions: ConditionsName = "even"
    size: int = 120
    workers: int = 2
    spiral_fraction: float = 0.49
    dipole: Dipole | None = None
    patch: Patch | None = None
    clustered: Clustered | None = None
    neighbours: float = 5.0
    quality: int = 90

    def __post_init__(self) -> None:
        check_name(self.conditions)
        if self.galaxies < 1:
            raise InputError(f"galaxies {self.galaxies}: expected 1 or more")
        if not 32 <= self.size <= 1024:
            raise InputError(f"size {self.size}: expected cutouts of 32 to 1024 pixels")
        if self.workers < 1:
            raise InputError(f"workers {self.workers}: expected 1 or more processes")
        if not 1 <= self.quality <= 100:
            raise InputError(f"quality {self.quality}: expected a JPEG quality of 1 to 100")

    @property
    def population(self) -> PopulationSettings:
        """The part that says what truly is there."""
        return PopulationSettings(
            self.seed, self.spiral_fraction, self.dipole, self.patch, self.clustered
        )

    def record(self) -> dict[str, Any]:
        """Return all that changes the result, for the store's provenance."""
        fields = {name: value for name, value in asdict(self).items() if name != "workers"}
        return {"sky_version": SKY_VERSION, **fields}


@dataclass(frozen=True, slots=True)
class Simulated:
    """A simulated survey; ``made`` is false when it was there already, whole."""

    path: Path
    galaxies: int
    seconds: float
    made: bool


def simulate(to: Path, settings: SimulationSettings, reporter: Reporter | None = None) -> Simulated:
    """Write the survey store of a simulated sky, unless it is there already.

    A store appears under its name only when whole, so an interrupted simulation is made again.

    Parameters
    ----------
    to : Path
        The store, ``NAME.zarr``.
    settings : SimulationSettings
    reporter : Reporter, optional

    Raises
    ------
    InputError
        Something else is at ``to``, or a simulation with other settings.
    SkytallyError
        The store cannot be written, or a process died.
    """
    reporter = reporter or Silent()
    if to.exists():
        _check_same(to, settings)
        reporter.event("simulation complete already", path=str(to), galaxies=settings.galaxies)
        return Simulated(to, settings.galaxies, 0.0, made=False)
    start = time.perf_counter()
    galaxies = draw_population(0, settings.galaxies, settings.population)
    conditions = conditions_at(galaxies["ra"], galaxies["dec"], settings.conditions, settings.seed)

    def images(chunks: Sequence[IntArray]) -> Iterator[list[bytes]]:
        return _in_processes(chunks, galaxies, conditions, settings)

    table = SurveyTable(
        ids=galaxies["index"],
        ra=galaxies["ra"],
        dec=galaxies["dec"],
        columns={
            **catalogue_columns(galaxies),
            "seeing": conditions.seeing,
            "background": conditions.background,
            "depth": conditions.depth,
        },
    )
    info = SurveyInfo(
        name=f"simulated sky, {settings.conditions} conditions, seed {settings.seed}",
        provenance={"simulation": settings.record()},
        framing=f"{FRAME:g} radii of 90% of the light across, like the central 240 of the "
        "423 pixels of Galaxy Zoo's cutouts",
        crop=settings.size,
    )
    try:
        write_survey(to, table, images, info, reporter)
    except OSError as error:
        raise disk_error(to, error) from error
    except BrokenProcessPool as error:
        raise SkytallyError(
            f"{to}: a process that simulates died, perhaps for want of memory; run the same "
            "command again, or with fewer workers"
        ) from error
    seconds = time.perf_counter() - start
    reporter.event(
        "simulated", path=str(to), galaxies=settings.galaxies, rate=settings.galaxies / seconds
    )
    return Simulated(to, settings.galaxies, seconds, made=True)


def render_jpegs(
    galaxies: NDArray[np.void], conditions: Conditions, settings: SimulationSettings
) -> list[bytes]:
    """Return the cutouts of some galaxies as JPEG files; each depends on its own galaxy only.

    Parameters
    ----------
    galaxies : ndarray of ``population.GALAXY``, shape (n,)
    conditions : Conditions
        Of these galaxies.
    settings : SimulationSettings
    """
    files = []
    for row, galaxy in enumerate(galaxies):
        index = int(galaxy["index"])
        scene_stream = stream(settings.seed, "scene", index)
        frame = Frame.around(float(galaxy["radius"]), settings.size)
        grid = frame.detector(scene_stream.uniform(-0.5, 0.5, 2))
        scene = render(galaxy, grid, scene_stream)
        add_neighbours(scene, grid, settings.neighbours, scene_stream)
        # The same galaxy under other conditions is another exposure, with noise of its own.
        noise_stream = stream(settings.seed, f"noise of {settings.conditions}", index)
        seen = observe(scene, grid, conditions.exposure(row), noise_stream)
        files.append(encode(resample(compose(seen), frame, grid), settings.quality))
    return files


def _check_same(path: Path, settings: SimulationSettings) -> None:
    found = Survey.open(path).attributes.provenance.get("simulation")
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a simulated survey; name another store, or remove it")
    # Through JSON's eyes: tuples are lists there.
    wanted = settings.record()
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise InputError(
                f"{path} was simulated with {name} = {found.get(name)}, not {wanted.get(name)}; "
                "name another store, or remove it"
            )


def _in_processes(
    chunks: Sequence[IntArray],
    galaxies: NDArray[np.void],
    conditions: Conditions,
    settings: SimulationSettings,
) -> Iterator[list[bytes]]:
    """Yield the files of each chunk, in order, a few chunks ahead of the reader."""
    if settings.workers == 1:
        for chunk in chunks:
            yield render_jpegs(galaxies[chunk], conditions[chunk], settings)
        return
    waiting: deque[Future[list[bytes]]] = deque()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        settings.workers, mp_context=context, initializer=_end_with_parent
    ) as pool:
        try:
            for chunk in chunks:
                waiting.append(
                    pool.submit(render_jpegs, galaxies[chunk], conditions[chunk], settings)
                )
                if len(waiting) > 3 * settings.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """End with the parent only, and then surely.

    The pool's pipes would keep this process for ever when the parent is killed; a terminal's
    Ctrl-C reaches all processes, and the parent alone deals with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()
