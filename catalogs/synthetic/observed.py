"""From galaxies to what a survey has of them: the columns of its table, and the images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.synthetic.artefacts import MISSING
from catalogs.synthetic.biases import bias
from catalogs.synthetic.frame import Image
from catalogs.synthetic.galaxies.columns import catalogue_columns
from catalogs.synthetic.galaxies.record import KINDS, SUBTYPES
from catalogs.synthetic.labels import DISK, SMOOTH, label
from catalogs.synthetic.observation import Observation, expose, observation_of
from catalogs.synthetic.picture import colour_cutout, encode, stamp
from catalogs.synthetic.render import render
from catalogs.synthetic.settings import SimulationSettings
from catalogs.synthetic.streams import stream

Galaxies = NDArray[np.void]
Pictures = list[bytes] | Image

CATEGORIES = {
    "truth": KINDS,
    "subtype": SUBTYPES,
    "human_label": (SMOOTH, DISK),
    "missing_bands": tuple(filter(None, MISSING)),
}
"""The values of the table's text columns."""


def observe_sky(galaxies: Galaxies, settings: SimulationSettings) -> Observation:
    """Return what the survey meets at some galaxies, injected biases included."""
    widths = np.array([settings.frame(radius).width for radius in galaxies["radius"].tolist()])
    honest = observation_of(
        galaxies["index"],
        galaxies["ra"],
        galaxies["dec"],
        widths,
        settings.conditions,
        settings.seed,
        settings.neighbours,
    )
    biased = bias(
        honest.conditions,
        galaxies["ra"],
        galaxies["dec"],
        galaxies["spiral"],
        settings.imitate,
        settings.training,
        settings.seed,
    )
    return replace(honest, conditions=biased)


def table_columns(
    galaxies: Galaxies, observation: Observation, settings: SimulationSettings
) -> dict[str, NDArray[Any]]:
    """Return ``id``, ``ra``, ``dec`` and all that is true of galaxies, observation and labels.

    Parameters
    ----------
    galaxies : ndarray of ``galaxies.record.GALAXY``, shape (n,)
    observation : Observation
        From `observe_sky`.
    settings : SimulationSettings

    Returns
    -------
    dict of str to ndarray, shape (n,)
    """
    catalogued = catalogue_columns(galaxies)
    labels = label(
        galaxies["index"],
        catalogued["truth"],
        galaxies["petro_radius"],
        observation.conditions.seeing,
        settings.labels,
        settings.seed,
    )
    return {
        "id": galaxies["index"],
        "ra": galaxies["ra"],
        "dec": galaxies["dec"],
        **catalogued,
        **observation.columns(),
        **{field.name: getattr(labels, field.name) for field in fields(labels)},
    }


def render_pictures(
    galaxies: Galaxies, observation: Observation, settings: SimulationSettings
) -> Pictures:
    """Return the images of some galaxies; each depends on its own galaxy only.

    Parameters
    ----------
    galaxies : ndarray of ``galaxies.record.GALAXY``, shape (n,)
    observation : Observation
        Of these galaxies.
    settings : SimulationSettings

    Returns
    -------
    list of bytes, or ndarray of float32, shape (n, size, size, 3)
        JPEG files, or stamps of the bands g, r, i in nanomaggies per detector pixel.
    """
    files, stamps = [], []
    for row, galaxy in enumerate(galaxies):
        index = int(galaxy["index"])
        scene_stream = stream(settings.seed, "scene", index)
        frame = settings.frame(float(galaxy["radius"]))
        grid = frame.detector(scene_stream.uniform(-0.5, 0.5, 2))
        scene = render(galaxy, grid, scene_stream)
        # The same galaxy under other conditions is another exposure, with noise of its own.
        noise_stream = stream(settings.seed, f"noise of {settings.conditions_name}", index)
        seen = expose(scene, frame, grid, observation, row, noise_stream)
        if settings.pixels == "jpeg":
            files.append(encode(colour_cutout(seen, frame, grid), settings.quality))
        else:
            stamps.append(stamp(seen, frame, grid))
    return files if settings.pixels == "jpeg" else np.stack(stamps)


def in_batches(
    galaxies: Galaxies, observation: Observation, settings: SimulationSettings, size: int
) -> Iterator[Pictures]:
    """Yield `render_pictures` of ``size`` galaxies at a time."""
    for start in range(0, len(galaxies), size):
        rows = slice(start, start + size)
        yield render_pictures(galaxies[rows], observation[rows], settings)
