"""One survey's look at many galaxies: conditions, neighbours, accidents; and each exposure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from catalogs.sky import FloatArray, IntArray, galactic_latitude
from catalogs.synthetic import stars
from catalogs.synthetic.artefacts import add_light, draw_artefacts, missing_names, spoil
from catalogs.synthetic.conditions import (
    Conditions,
    ObservationSettings,
    conditions_at,
    settings_of,
)
from catalogs.synthetic.frame import Frame, Grid, Image
from catalogs.synthetic.neighbours import (
    REAL_DENSITY,
    Neighbours,
    add_neighbours,
    bright_stars,
    draw_neighbours,
)
from catalogs.synthetic.observe import EXTINCTION_OF_BAND, Exposure, observe


@dataclass(frozen=True, slots=True)
class Observation:
    """What a survey's camera meets at each of n galaxies.

    Attributes
    ----------
    settings : ObservationSettings
    width : ndarray of float64
        Of the cutouts, arcsec.
    latitude : ndarray of float64
        Galactic latitude, deg.
    conditions : Conditions
    neighbours : Neighbours
    artefacts : ndarray of artefacts.ARTEFACT
    unbiased : Conditions
        Before a bias was injected into them.
    density : float
        Of the neighbours, as in `observation_of`.
    exposure : str
        Its name; see `observation_of`.
    """

    settings: ObservationSettings
    width: FloatArray
    latitude: FloatArray
    conditions: Conditions
    neighbours: Neighbours
    artefacts: NDArray[np.void]
    unbiased: Conditions
    density: float
    exposure: str

    def __getitem__(self, rows: slice) -> Observation:
        """Return the part of consecutive galaxies."""
        return Observation(
            self.settings,
            self.width[rows],
            self.latitude[rows],
            self.conditions[rows],
            self.neighbours[rows],
            self.artefacts[rows],
            self.unbiased[rows],
            self.density,
            self.exposure,
        )

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the truth of every row, for the survey's table; :data:`COLUMNS` explains."""
        near, distance, counts = self._brightest()
        return {
            **self.conditions.columns(),
            **{
                f"unbiased_{name}": getattr(self.unbiased, name).astype(np.float32)
                for name in ("seeing", "background", "depth")
            },
            "extinction": EXTINCTION_OF_BAND[1] * self.conditions.ebv,
            "latitude": self.latitude,
            "star_density": self.density
            / REAL_DENSITY
            * stars.density(self._star_latitude())
            / 3600,
            "neighbours": counts,
            "neighbour_mag": near,
            "neighbour_distance": distance,
            "shift_g": np.hypot(*self.artefacts["shift"][:, 0].T),
            "shift_i": np.hypot(*self.artefacts["shift"][:, 1].T),
            "trail": self.artefacts["trail"].astype(np.int64),
            "saturated_column": self.artefacts["column"].astype(np.int64),
            "seam": self.artefacts["seam"].astype(np.int64),
            "missing_bands": missing_names(self.artefacts["missing"]),
        }

    def _star_latitude(self) -> FloatArray:
        return _star_latitude(self.latitude, self.settings)

    def _brightest(self) -> tuple[FloatArray, FloatArray, IntArray]:
        """Return magnitude and distance of the brightest neighbour, and how many there are."""
        objects, counts = self.neighbours.objects, self.neighbours.counts
        order = np.lexsort((objects["mag"], objects["owner"]))
        some = counts > 0
        mag, distance = np.full((2, len(counts)), np.nan)
        first = objects[order[(np.cumsum(counts) - counts)[some]]]
        mag[some], distance[some] = first["mag"], np.hypot(first["x"], first["y"])
        return mag, distance, counts


COLUMNS = {
    "seeing": ("arcsec", "full width at half maximum of the point spread function in r"),
    "background": ("nmgy/arcsec2", "sky left after subtraction in r"),
    "depth": ("mag", "of a point source detected at 5 sigma in r at a seeing of 1.3 arcsec"),
    "sky": ("mag/arcsec2", "brightness of the sky in r"),
    "airmass": ("", "through which the galaxy was seen"),
    "ebv": ("mag", "reddening E(B-V) by the Galaxy's dust"),
    "camera_angle": ("deg", "position angle of the camera's columns, from north through east"),
    "run": ("", "of the drift scan; 0 without"),
    "camcol": ("", "camera column, 1 to 6; 0 without"),
    "unbiased_seeing": ("arcsec", "seeing before an imitation and a training region's difference"),
    "unbiased_background": ("nmgy/arcsec2", "background before a training region's difference"),
    "unbiased_depth": ("mag", "depth before a training region's difference"),
    "extinction": ("mag", "by the Galaxy's dust in r"),
    "latitude": ("deg", "Galactic latitude"),
    "star_density": ("arcmin-2", "mean number of stars down to r = 23"),
    "neighbours": ("", "stars and galaxies in the cutout, and bright stars that light it"),
    "neighbour_mag": ("mag", "r magnitude of the brightest of them; NaN without"),
    "neighbour_distance": ("arcsec", "of the brightest of them"),
    "shift_g": ("arcsec", "by which g is off r"),
    "shift_i": ("arcsec", "by which i is off r"),
    "trail": ("", "1: a satellite or meteor crossed the cutout"),
    "saturated_column": ("", "1: a column saturated by a bright star crosses the cutout"),
    "seam": ("", "1: the edge of a field crosses the cutout"),
    "missing_bands": ("", "bands that the cutout lacks, such as r; empty for none"),
}
"""Unit and meaning of each column."""


def _star_latitude(latitude: FloatArray, settings: ObservationSettings) -> FloatArray:
    even = np.full(len(latitude), stars.EVEN_LATITUDE)
    return latitude if settings.stars_by_latitude else even


def observation_of(
    index: IntArray,
    ra: FloatArray,
    dec: FloatArray,
    width: FloatArray,
    settings: ObservationSettings | str,
    seed: int,
    neighbours: float = REAL_DENSITY,
    exposure: str = "",
) -> Observation:
    """Draw what a survey meets at galaxies; each row depends on its own galaxy only.

    Parameters
    ----------
    index : ndarray of int64, shape (n,)
        The galaxies' numbers.
    ra, dec : ndarray of float64, shape (n,)
        Positions, deg.
    width : ndarray of float64, shape (n,)
        Of the cutouts, arcsec.
    settings : ObservationSettings or {"even", "uneven", "survey"}
    seed : int
        Seed of everything random.
    neighbours : float
        Stars and galaxies beside the target, per square arcmin at Galactic latitude 50 deg.
    exposure : str
        Its name: exposures of other names have other noise and accidents, under whatever
        settings; the sky and its weather are the same.

    Raises
    ------
    InputError
        No conditions have this name.
    """
    settings = settings_of(settings)
    latitude = galactic_latitude(ra, dec)
    conditions = conditions_at(ra, dec, settings, seed)
    return Observation(
        settings=settings,
        width=width,
        latitude=latitude,
        conditions=conditions,
        neighbours=draw_neighbours(
            index, width, _star_latitude(latitude, settings), neighbours, seed
        ),
        artefacts=draw_artefacts(index, settings, seed, exposure),
        unbiased=conditions,
        density=neighbours,
        exposure=exposure,
    )


def observation_columns(
    index: IntArray,
    ra: FloatArray,
    dec: FloatArray,
    width: FloatArray,
    settings: ObservationSettings | str,
    seed: int,
    neighbours: float = REAL_DENSITY,
) -> dict[str, NDArray[Any]]:
    """Return the columns of :meth:`Observation.columns` without a picture being made."""
    return observation_of(index, ra, dec, width, settings, seed, neighbours).columns()


def expose(
    scene: Image, frame: Frame, grid: Grid, observation: Observation, row: int, rng: Generator
) -> Image:
    """Return what the camera records of one galaxy and all that lies around it.

    Parameters
    ----------
    scene : ndarray of float32, shape (3, m, m)
        From ``render``, nanomaggies per native pixel. Changed in place.
    frame : Frame
    grid : Grid
        ``frame.detector(...)``.
    observation : Observation
    row : int
        Which galaxy of it.
    rng : Generator
        The stream of this galaxy in this survey, for the noise.

    Returns
    -------
    ndarray of float32, shape (3, m - 2 MARGIN, m - 2 MARGIN)
        NaN where a band is missing.
    """
    settings, conditions = observation.settings, observation.conditions
    artefact = observation.artefacts[row]
    angle = float(conditions.camera_angle[row])
    exposure = Exposure(
        seeing=float(conditions.seeing[row]),
        background=float(conditions.background[row]),
        depth=float(conditions.depth[row]),
        sky=float(conditions.sky[row]),
        ebv=float(conditions.ebv[row]),
        correlation=settings.correlation,
        shift=artefact["shift"],
        beta=settings.moffat_beta,
    )

    def after_telescope(light: Image) -> None:
        for star in bright_stars(observation.neighbours, row):
            stars.add_bright(light, grid, star, exposure, angle)
        add_light(light, grid, frame.width, artefact, angle)

    add_neighbours(scene, grid, observation.neighbours, row)
    seen = observe(scene, grid, exposure, rng, after_telescope)
    spoil(seen, grid, frame.width, artefact, angle)
    return seen
