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
from catalogs.synthetic.galaxies.columns import COLUMNS as GALAXY_COLUMNS
from catalogs.synthetic.galaxies.columns import catalogue_columns
from catalogs.synthetic.galaxies.record import KINDS, SUBTYPES
from catalogs.synthetic.labels import COLUMNS as LABEL_COLUMNS
from catalogs.synthetic.labels import DISK, SMOOTH, label
from catalogs.synthetic.observation import COLUMNS as OBSERVATION_COLUMNS
from catalogs.synthetic.observation import Observation, expose, observation_of
from catalogs.synthetic.picture import colour_cutout, encode, stamp
from catalogs.synthetic.render import render
from catalogs.synthetic.settings import SimulationSettings
from catalogs.synthetic.streams import stream
from catalogs.synthetic.truth import spiral_probability

Galaxies = NDArray[np.void]
Pictures = list[bytes] | Image

CATEGORIES = {
    "truth": KINDS,
    "subtype": SUBTYPES,
    "human_label": (SMOOTH, DISK),
    "missing_bands": tuple(filter(None, MISSING)),
}
"""The values of the table's text columns."""

MEANINGS = {
    "spiral_probability": (
        "",
        "true probability, at its position, that a galaxy neither irregular nor merger is a spiral",
    ),
    **GALAXY_COLUMNS,
    **OBSERVATION_COLUMNS,
    "in_training_region": ("", "whether a condition was made to go with the class here"),
    **LABEL_COLUMNS,
}
"""Unit and meaning of each column of the table but ``id``, ``ra`` and ``dec``."""


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
        settings.exposure_name,
    )
    biased = bias(
        honest.conditions,
        galaxies["ra"],
        galaxies["dec"],
        galaxies["spiral"],
        settings.imitate,
        settings.imitated,
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
        "spiral_probability": spiral_probability(
            galaxies["ra"], galaxies["dec"], settings.population
        ).astype(np.float32),
        **catalogued,
        **observation.columns(),
        "in_training_region": in_training_region(galaxies, settings),
        **{field.name: getattr(labels, field.name) for field in fields(labels)},
    }


def in_training_region(galaxies: Galaxies, settings: SimulationSettings) -> NDArray[np.bool_]:
    """Return which galaxies lie in the training region; none where there is no such region."""
    if settings.training is None:
        return np.zeros(len(galaxies), dtype=np.bool_)
    return settings.training.region.contains(galaxies["ra"], galaxies["dec"])


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
        noise_stream = stream(settings.seed, f"noise of {observation.exposure}", index)
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
