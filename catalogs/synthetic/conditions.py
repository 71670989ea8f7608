"""Observing conditions over the sky, as functions of position alone.

``even``: the same everywhere. ``uneven``: a survey of many years and two seasons. Winter skies
are less steady, fields far from the zenith are seen through more air, moonlight and haze come and
go with the observing runs, the Galaxy's dust dims and reddens. ``survey``: a drift-scan survey as
it really is, with runs and camera columns, stars by Galactic latitude, and accidents. Nothing
here knows a galaxy: a sky map that follows these fields shows the classifier, not the universe.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from catalogs.errors import InputError
from catalogs.sky import FloatArray, IntArray, cosines, galactic_latitude, unit_vectors
from catalogs.synthetic.drift import Scan, scan_at
from catalogs.synthetic.observe import MOFFAT_BETA, REFERENCE_SEEING
from catalogs.synthetic.streams import stream, uniforms

ConditionsName = Literal["even", "uneven", "survey"]

SITE_LATITUDE = 32.78  # deg; Apache Point
WORST_SEASON = 130.0  # deg of right ascension that culminate at midnight in mid-winter
RUN_SCALE = 25.0  # deg; size of the area that one observing run covers
DUST_SCALES = (15.0, 4.0)  # deg; sizes of dust clouds
WAVES = 24
WITHIN_RUN = 8.0  # deg; how fast seeing changes along a scan


@dataclass(frozen=True, slots=True)
class ObservationSettings:
    """How a survey observes. Plain numbers, so that a TOML table can say them.

    Attributes
    ----------
    seeing : float
        Full width at half maximum in r where conditions are even, arcsec.
    moffat_beta : float
        Exponent of the point spread function's profile; small means broad wings.
    depth : float
        Magnitude of a point source detected at 5 sigma in r, at a seeing of 1.3 arcsec.
    sky : float
        Brightness of the sky in r, mag per square arcsec.
    background : float
        Sky left after subtraction, nanomaggies per square arcsec in r.
    background_scatter : float
        Standard deviation of that from cutout to cutout and band to band, same unit.
    unevenness : float
        Seasons, weather, moonlight and airmass: 0 none, 1 as in ``uneven``.
    drift_scan : bool
        Conditions differ from run to run and from camera column to camera column.
    extinction : float
        Galactic dust: 0 none, 1 as much as there is.
    correlation : float
        Correlation of the noise of adjacent detector pixels, 0 to .5.
    registration : float
        Standard deviation, per axis, of where g and i lie relative to r, arcsec.
    stars_by_latitude : bool
        Stars grow denser towards the Galactic plane; else they are as dense as at b = 50.
    trails, saturated_columns, seams, missing_bands : float
        Shares of the cutouts crossed by a satellite or meteor, by a column that a bright star
        saturated, by the edge of a field; and of those that lack a band.
    """

    seeing: float = REFERENCE_SEEING
    moffat_beta: float = MOFFAT_BETA
    depth: float = 22.52
    sky: float = 21.0
    background: float = 0.0
    background_scatter: float = 0.0
    unevenness: float = 0.0
    drift_scan: bool = False
    extinction: float = 0.0
    correlation: float = 0.0
    registration: float = 0.09
    stars_by_latitude: bool = False
    trails: float = 0.0
    saturated_columns: float = 0.0
    seams: float = 0.0
    missing_bands: float = 0.0

    def __post_init__(self) -> None:
        ranges = {
            "seeing": (0.5, 5.0, "arcsec"),
            "moffat_beta": (1.5, 20.0, "as exponent"),
            "depth": (18.0, 30.0, "mag"),
            "sky": (15.0, 30.0, "mag per square arcsec"),
            "background": (-1.0, 10.0, "nanomaggies per square arcsec"),
            "background_scatter": (0.0, 10.0, "nanomaggies per square arcsec"),
            "unevenness": (0.0, 3.0, "times that of uneven conditions"),
            "extinction": (0.0, 10.0, "times the Galaxy's"),
            "correlation": (0.0, 0.5, "as correlation"),
            "registration": (0.0, 2.0, "arcsec"),
            **dict.fromkeys(RATES, (0.0, 1.0, "of the cutouts")),
        }
        wrong = [
            f"{name} {getattr(self, name)}: expected {low:g} to {high:g} {unit}"
            for name, (low, high, unit) in ranges.items()
            if not low <= getattr(self, name) <= high
        ]
        if wrong:
            raise InputError("; ".join(wrong))


RATES = ("trails", "saturated_columns", "seams", "missing_bands")

EVEN = ObservationSettings()
NAMED: dict[str, ObservationSettings] = {
    "even": EVEN,
    "uneven": ObservationSettings(unevenness=1.0, extinction=1.0),
    "survey": ObservationSettings(
        background_scatter=0.04,
        correlation=0.08,
        unevenness=0.4,
        drift_scan=True,
        extinction=1.0,
        stars_by_latitude=True,
        trails=0.002,
        saturated_columns=0.002,
        seams=0.004,
        missing_bands=0.001,
    ),
}


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditions of many galaxies, shape (n,); units as in :class:`ObservationSettings`.

    Attributes
    ----------
    seeing, background, depth, sky : ndarray of float64
    airmass : ndarray of float64
    ebv : ndarray of float64
        Reddening E(B-V) by the Galaxy's dust, mag.
    camera_angle : ndarray of float64
        Position angle of the camera's columns, from north through east, deg.
    run, camcol : ndarray of int64
        Of the scan; 0 where the survey does not scan.
    """

    seeing: FloatArray
    background: FloatArray
    depth: FloatArray
    sky: FloatArray
    airmass: FloatArray
    ebv: FloatArray
    camera_angle: FloatArray
    run: IntArray
    camcol: IntArray

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> Conditions:
        return Conditions(*(getattr(self, field.name)[rows] for field in fields(self)))

    def columns(self) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """Return all of them as columns of a table, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def check_name(name: str) -> None:
    """Raise ``InputError`` when no conditions have this name."""
    if name not in get_args(ConditionsName):
        raise InputError(f"conditions {name!r}: expected {' or '.join(get_args(ConditionsName))}")


def settings_of(settings: ObservationSettings | str) -> ObservationSettings:
    """Return the settings that a name stands for, or those given."""
    if isinstance(settings, str):
        check_name(settings)
        return NAMED[settings]
    return settings


def conditions_at(
    ra: FloatArray, dec: FloatArray, settings: ObservationSettings | str, seed: int
) -> Conditions:
    """Return the conditions at positions [deg].

    Parameters
    ----------
    ra, dec : ndarray of float64, shape (n,)
    settings : ObservationSettings or {"even", "uneven", "survey"}
    seed : int
        Seed of the weather, the dust and the runs.

    Raises
    ------
    InputError
        No conditions have this name.
    """
    settings = settings_of(settings)
    ra, dec = np.asarray(ra, dtype=np.float64), np.asarray(dec, dtype=np.float64)
    ones = np.ones(len(ra))
    zeros = np.zeros(len(ra), dtype=np.int64)
    conditions = Conditions(
        seeing=settings.seeing * ones,
        background=settings.background * ones,
        depth=settings.depth * ones,
        sky=settings.sky * ones,
        # At the meridian, unless the survey is the same everywhere.
        airmass=ones if settings.unevenness == 0 else _airmass(dec),
        ebv=settings.extinction * dust(ra, dec, seed) if settings.extinction else 0 * ones,
        camera_angle=0 * ones,
        run=zeros,
        camcol=zeros,
    )
    if settings.unevenness:
        conditions = _with_weather(conditions, ra, dec, settings, seed)
    if settings.drift_scan:
        conditions = _with_scans(conditions, scan_at(ra, dec), seed)
    return conditions


def _airmass(dec: FloatArray) -> FloatArray:
    """Return the airmass at the meridian, never beyond a zenith distance of 70 deg."""
    return np.asarray(1 / np.cos(np.radians(np.minimum(np.abs(dec - SITE_LATITUDE), 70.0))))


def _with_weather(
    even: Conditions, ra: FloatArray, dec: FloatArray, settings: ObservationSettings, seed: int
) -> Conditions:
    """Add seasons, weather, moon and air, in the measure of ``settings.unevenness``."""
    winter = np.cos(np.radians(ra - WORST_SEASON))
    weather, moon, haze = (run_field(ra, dec, seed, run) for run in range(3))
    # Seeing grows with airmass to the power .6 (Fried 1966, JOSA 56, 1372), light dims by it.
    seeing = (1.36 + 0.32 * winter + 0.06 * weather) * even.airmass**0.6
    background = 0.030 + 0.020 * winter + 0.008 * moon
    sky = -0.10 * moon - 0.30 * (even.airmass - 1)
    depth = -0.28 * winter - 0.06 * haze - 0.15 * (even.airmass - 1)
    share = settings.unevenness
    return replace(
        even,
        seeing=even.seeing + share * (np.clip(seeing, 1.0, 1.9) - REFERENCE_SEEING),
        background=even.background + share * np.clip(background, 0.0, None),
        sky=even.sky + share * sky,
        depth=even.depth + share * np.clip(depth, -0.4, 0.4),
    )


def _with_scans(conditions: Conditions, scan: Scan, seed: int) -> Conditions:
    """Add what differs between runs, along a run, and between the camera's columns."""

    def offset(numbers: IntArray, purpose: str) -> FloatArray:
        return np.asarray(ndtri(uniforms(seed, purpose, numbers)))

    # Along a run the seeing wanders: waves of the run's own phases.
    wander = np.zeros(len(scan.run))
    for wave in range(1, 5):
        phase = 2 * np.pi * uniforms(seed, "along the run", scan.run, wave)
        wander += np.sin(2 * np.pi * scan.along / (WITHIN_RUN * wave) + phase) / np.sqrt(2)
    optics = offset(scan.camcol, "seeing of a column")
    seeing = 0.06 * offset(scan.run, "seeing of a run") + 0.025 * optics + 0.03 * wander
    moon = offset(scan.run, "sky of a run")
    chip = offset(scan.camcol, "depth of a column")
    return replace(
        conditions,
        seeing=conditions.seeing * np.exp(seeing),
        sky=conditions.sky + 0.12 * moon,
        # Noise is the root of the sky's light.
        depth=conditions.depth + 0.06 * moon + 0.04 * chip,
        camera_angle=scan.angle,
        run=scan.run,
        camcol=scan.camcol,
    )


def dust(ra: FloatArray, dec: FloatArray, seed: int) -> FloatArray:
    """Return the Galaxy's reddening E(B-V) [mag]: a flat layer, .018 mag to the pole, in clouds.

    The median where galaxies are surveyed is about .03 mag, as in the map of Schlegel et al.
    1998 (ApJ 500, 525).
    """
    layer = 0.018 / np.maximum(np.abs(np.sin(np.radians(galactic_latitude(ra, dec)))), 0.05)
    large, small = (
        run_field(ra, dec, seed, 3 + number, scale) for number, scale in enumerate(DUST_SCALES)
    )
    return np.asarray(layer * np.exp(0.40 * large + 0.30 * small))


def run_field(
    ra: FloatArray, dec: FloatArray, seed: int, number: int, scale: float = RUN_SCALE
) -> FloatArray:
    """Return a smooth random field of mean 0 and variance 1 over the sky.

    A sum of plane waves through space, read on the unit sphere; their wave vectors are Gaussian,
    so the correlation falls as a Gaussian of the distance, of width ``scale`` [deg].
    """
    rng = stream(seed, "observing runs", number)
    waves = rng.normal(size=(3, WAVES)) / np.radians(scale)
    phases = rng.uniform(0, 2 * np.pi, WAVES)
    vectors = unit_vectors(ra, dec)
    total = np.zeros(len(vectors))
    for wave, phase in zip(waves.T, phases.tolist(), strict=True):
        total += np.cos(cosines(vectors, wave) + phase)
    return np.asarray(np.sqrt(2 / WAVES) * total)
