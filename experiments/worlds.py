"""Four worlds in which it is known whether the sky varies, the classifier, both, or neither.

Pure: what to simulate, how to train, what is right, and what can be seen at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings_class

from catalogs import sky
from catalogs.audit.uniformity.dipole import Detectable, DipoleDesign, detectable_amplitude
from catalogs.sky import Region
from catalogs.synthetic.biases import ConditionName, TrainingRegion
from catalogs.synthetic.conditions import ObservationSettings
from catalogs.synthetic.settings import SimulationSettings
from catalogs.synthetic.truth import Dipole
from experiments.networks import CHEAP, based_on
from training.augment import AugmentSettings
from training.settings import SplitSettings, TrainSettings

AXIS = (184.0, 10.0)  # deg; along it the footprint shows a dipole best
TESTS = 4  # of the alarm, over which Holm corrects
ORDER = 3  # of the tiles on which power is computed
MIX = 0.49  # true spirals
SIZE = 64  # px
HONEST, BIASED = "honest", "biased"

UNCHANGED = AugmentSettings(
    zoom=1.0, gain=0.0, colour=0.0, saturation=0.0, background=0.0, noise=0.0, blur=0.0
)
"""Turned, mirrored and shifted only: blur and noise of training would hide the conditions."""

LEARNING = replace(
    CHEAP, label="truth", epochs=10, augment=UNCHANGED, split=SplitSettings(most=500)
)


@dataclass(frozen=True, slots=True)
class World:
    """One of the four, and what an audit should say of it."""

    name: str
    dipole: bool
    bias: bool

    @property
    def right(self) -> tuple[str, str | None]:
        """Verdict and cause."""
        if not (self.dipole or self.bias):
            return "uniform", None
        both = "both" if self.dipole and self.bias else "sky" if self.dipole else "classifier"
        return "anisotropic", both


WORLDS = {
    world.name: world
    for world in (
        World("null", dipole=False, bias=False),
        World("sky", dipole=True, bias=False),
        World("classifier", dipole=False, bias=True),
        World("both", dipole=True, bias=True),
    )
}


@settings_class(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Settings:
    """What is simulated and asked.

    Attributes
    ----------
    seeds : int
        Skies of each world.
    worlds : tuple of str
    galaxies, training_galaxies : int
        Of the survey that is annotated, and of the other galaxies from which networks learn.
    magnitude_limit : float
        Of both. At 18 galaxies are small enough for the seeing to matter.
    dipole : float
        Amplitude of the true spiral fraction where the sky varies.
    seeing : float
        Where nothing is injected [arcsec].
    condition : {"seeing", "background", "depth"}
        By which the classifier is led astray; depth is how noise is injected.
    difference : float
        By how much it is worse for ellipticals than for spirals in the training region, in its
        unit: arcsec, nanomaggies per square arcsec, mag.
    imitation : float
        There it varies over the whole sky as a dipole along the same axis: seeing by this share,
        the others by so many of their unit.
    learnt_from, compared_from : str
        Regions ``RA0..RA1,DEC0..DEC1`` in which the audited network and the other one learn; the
        condition goes with the class in the first. Without a second, there is no other network.
    labels : int
        Galaxies of the survey whose true class the audit is told, drawn blind.
    effect, alpha : float
        Of the audit.
    train : TrainSettings
    """

    seeds: Annotated[int, Field(ge=1)] = 6
    worlds: tuple[str, ...] = tuple(WORLDS)
    galaxies: Annotated[int, Field(ge=500)] = 5000
    training_galaxies: Annotated[int, Field(ge=500)] = 4000
    magnitude_limit: float = 18.0
    dipole: Annotated[float, Field(gt=0, lt=0.45)] = 0.15
    seeing: float = 1.5
    condition: ConditionName = "seeing"
    difference: Annotated[float, Field(gt=0, lt=3)] = 1.0
    imitation: Annotated[float, Field(gt=0, lt=0.9)] = 0.3
    learnt_from: str = "110..187.5,-4..65"
    compared_from: str = "187.5..265,-4..65"
    labels: Annotated[int, Field(ge=200)] = 2000
    effect: Annotated[float, Field(gt=0, lt=1)] = 0.05
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    train: Annotated[TrainSettings, based_on(LEARNING)] = LEARNING


def survey(settings: Settings, world: World, seed: int) -> SimulationSettings:
    """Return the survey that is annotated."""
    made = SimulationSettings(
        galaxies=settings.galaxies,
        seed=2 * seed,
        size=SIZE,
        conditions=ObservationSettings(seeing=settings.seeing),
        spiral_fraction=MIX,
        irregulars=0.0,
        mergers=0.0,
        magnitude_limit=settings.magnitude_limit,
        dipole=Dipole(settings.dipole, *AXIS) if world.dipole else None,
    )
    return _observed(made, settings) if world.bias else made


def training_sky(settings: Settings, seed: int, *, bias: bool) -> SimulationSettings:
    """Return the galaxies from which networks learn: others, of isotropic truth.

    So worlds of the same conditions share their networks, and no annotated galaxy was learnt from.
    """
    made = SimulationSettings(
        galaxies=settings.training_galaxies,
        seed=2 * seed + 1,
        size=SIZE,
        conditions=ObservationSettings(seeing=settings.seeing),
        spiral_fraction=MIX,
        irregulars=0.0,
        mergers=0.0,
        magnitude_limit=settings.magnitude_limit,
    )
    return _observed(made, settings) if bias else made


def _observed(made: SimulationSettings, settings: Settings) -> SimulationSettings:
    """Add the conditions that lead a classifier astray: they add to a true dipole."""
    region = Region.parse(settings.learnt_from)
    worse = -settings.difference if settings.condition == "depth" else settings.difference
    return replace(
        made,
        training=TrainingRegion(region, settings.condition, worse),
        imitate=Dipole(-settings.imitation, *AXIS),  # better where spirals are to seem frequent
        imitated=settings.condition,
    )


def training(settings: Settings, seed: int, *, audited: bool) -> TrainSettings:
    """Return how the audited network learns, or the one that it is compared with."""
    region = settings.learnt_from if audited else settings.compared_from
    return replace(
        settings.train,
        seed=seed if audited else seed + 1000,
        regions={"spiral": region, "elliptical": region},
    )


def power(galaxies: int, alpha: float) -> tuple[Detectable, Detectable]:
    """Return the dipoles of the answers that a survey of the footprint can show with 80% power.

    By the dipole test alone, and by the alarm after Holm's correction over four tests.
    """
    tiles = sky.survey_footprint_tiles(ORDER)
    directions = sky.unit_vectors(*sky.tile_centres(tiles, ORDER))
    design = DipoleDesign(directions, np.full(len(tiles), galaxies / len(tiles)))
    covariance = MIX * (1 - MIX) * np.linalg.inv(design.scatter)
    return detectable_amplitude(covariance, alpha), detectable_amplitude(covariance, alpha / TESTS)
