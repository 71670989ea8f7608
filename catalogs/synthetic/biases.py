"""Conditions that a classifier takes for morphology; the galaxies stay what they are.

``imitate``: seeing, background or depth follows a pattern over the sky; where seeing is worse
galaxies seem smoother, as if the truth had that pattern. ``TrainingRegion``: in a part of the sky a
condition goes with the class, by which a network trained there can tell the classes without looking
at the galaxy: what Dhar & Shamir 2022 suspect.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from catalogs.errors import InputError
from catalogs.sky import FloatArray, Region, in_survey_footprint
from catalogs.synthetic.conditions import Conditions, ObservationSettings, conditions_at
from catalogs.synthetic.truth import Clustered, Patch, Pattern, pattern_at

ConditionName = Literal["seeing", "background", "depth"]
# What a condition may be where it is moved: what a survey may ask for, and 3 mag less depth.
LIMITS = {"seeing": (0.5, 5.0), "background": (-1.0, 10.0), "depth": (15.0, 30.0)}
LATTICE = 64  # positions a side at which a region is examined
Observed = TypeVar("Observed", bound=Conditions)


@dataclass(frozen=True, slots=True)
class TrainingRegion:
    """A region where a condition goes with the class.

    Attributes
    ----------
    region : Region
    condition : {"seeing", "background", "depth"}
    difference : float
        Condition of all others minus that of spirals, in the condition's unit; each class is
        moved by half of it.
    """

    region: Region
    condition: ConditionName
    difference: float

    def __post_init__(self) -> None:
        if self.condition not in get_args(ConditionName):
            raise InputError(
                f"condition {self.condition!r} of a training region: expected "
                f"{', '.join(get_args(ConditionName))}"
            )
        low, high = LIMITS[self.condition]
        if not abs(self.difference) <= high - low:
            raise InputError(
                f"difference {self.difference:g} of a training region: expected {low - high:g} to "
                f"{high - low:g} in {self.condition}"
            )


def lattice(region: Region) -> tuple[FloatArray, FloatArray]:
    """Return the positions [deg] of a lattice over a region that lie in the survey's footprint.

    Raises
    ------
    InputError
        There are none: whatever is done to the region is done to no galaxy.
    """
    steps = (np.arange(LATTICE) + 0.5) / LATTICE
    width = region.ra_max - region.ra_min
    across = region.ra_min + steps * (width if width >= 0 else width + 360)
    up = region.dec_min + steps * (region.dec_max - region.dec_min)
    ra, dec = (axis.ravel() for axis in np.meshgrid(across % 360, up))
    inside = in_survey_footprint(ra, dec) & region.contains(ra, dec)
    if not inside.any():
        raise InputError(
            f"region {region} has no galaxies: the survey covers RA 110..265, Dec -4..65 where "
            "b > 25, and RA 315..45, Dec -10..34 where b < -28; choose a region there"
        )
    return ra[inside], dec[inside]


def check_imitation(pattern: Pattern | None, imitated: ConditionName) -> None:
    """Raise ``InputError`` when a condition cannot follow a pattern of that strength."""
    if imitated not in get_args(ConditionName):
        raise InputError(
            f"condition {imitated!r} that is to imitate: expected "
            f"{', '.join(get_args(ConditionName))}"
        )
    if pattern is None:
        return
    if isinstance(pattern, Clustered):
        strength = 5 * pattern.rms
    else:
        strength = abs(pattern.excess if isinstance(pattern, Patch) else pattern.amplitude)
    if not strength < 0.9:
        raise InputError(
            f"{imitated} that follows a pattern of strength {strength:g}: expected less than .9"
        )


def check_training(
    training: TrainingRegion | None,
    settings: ObservationSettings | str,
    imitate: Pattern | None,
    imitated: ConditionName,
    seed: int,
) -> None:
    """Raise ``InputError`` when a condition cannot be moved as far as a training region asks.

    Looks at the conditions on a lattice over the region: a shift is never cut short.
    """
    if training is None:
        return
    ra, dec = lattice(training.region)
    both = np.array([True, False]).repeat(len(ra))
    ra, dec = np.tile(ra, 2), np.tile(dec, 2)
    conditions = conditions_at(ra, dec, settings, seed)
    biased = bias(conditions, ra, dec, both, imitate, imitated, training, seed)
    moved = getattr(biased, training.condition)
    low, high = LIMITS[training.condition]
    if not (moved.min() >= low and moved.max() <= high):
        raise InputError(
            f"training region's difference {training.difference:g} makes {training.condition} "
            f"{moved.min():.3g} to {moved.max():.3g}: expected {low:g} to {high:g}; choose a "
            "smaller difference"
        )


def bias(
    conditions: Observed,
    ra: FloatArray,
    dec: FloatArray,
    spiral: NDArray[np.bool_],
    imitate: Pattern | None,
    imitated: ConditionName,
    training: TrainingRegion | None,
    seed: int,
) -> Observed:
    """Return conditions with the injected biases.

    Parameters
    ----------
    conditions : Conditions
    ra, dec : ndarray of float64, shape (n,)
        deg.
    spiral : ndarray of bool, shape (n,)
    imitate : Dipole, Patch or Clustered, optional
        How much worse ``imitated`` is.
    imitated : {"seeing", "background", "depth"}
        Seeing is wider by this share; background is brighter, depth is less, by so many of their
        units.
    training : TrainingRegion, optional
    seed : int
    """
    if imitate is not None:
        worse = pattern_at(imitate, ra, dec, seed, "imitation")
        if imitated == "seeing":
            conditions = replace(conditions, seeing=conditions.seeing * (1 + worse))
        elif imitated == "background":
            conditions = replace(conditions, background=conditions.background + worse)
        else:
            conditions = replace(conditions, depth=conditions.depth - worse)
    if training is not None:
        name = training.condition
        side = np.where(spiral, -0.5, 0.5) * training.region.contains(ra, dec)
        moved = getattr(conditions, name) + training.difference * side
        conditions = replace(conditions, **{name: moved})
    return conditions
