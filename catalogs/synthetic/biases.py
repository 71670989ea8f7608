"""Conditions that a classifier takes for morphology; the galaxies stay what they are.

``imitate``: seeing follows a pattern over the sky, so that galaxies seem smoother along it, as if
the truth had that pattern. ``TrainingRegion``: in a part of the sky a condition goes with the
class, by which a network trained there can tell the classes without looking at the galaxy: what
Dhar & Shamir 2022 suspect.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from catalogs.errors import InputError
from catalogs.sky import FloatArray, Region
from catalogs.synthetic.conditions import Conditions
from catalogs.synthetic.truth import Clustered, Patch, Pattern, pattern_at

ConditionName = Literal["seeing", "background", "depth"]
LOWEST = {"seeing": 0.5, "background": -1.0, "depth": 15.0}
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


def check_imitation(pattern: Pattern | None) -> None:
    """Raise ``InputError`` when seeing cannot follow a pattern of that strength."""
    if pattern is None:
        return
    if isinstance(pattern, Clustered):
        strength = 5 * pattern.rms
    else:
        strength = abs(pattern.excess if isinstance(pattern, Patch) else pattern.amplitude)
    if strength >= 0.9:
        raise InputError(
            f"seeing that follows a pattern of strength {strength:g}: expected less than .9"
        )


def bias(
    conditions: Observed,
    ra: FloatArray,
    dec: FloatArray,
    spiral: NDArray[np.bool_],
    imitate: Pattern | None,
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
        Relative change of the seeing.
    training : TrainingRegion, optional
    seed : int
    """
    if imitate is not None:
        worse = 1 + pattern_at(imitate, ra, dec, seed, "imitation")
        conditions = replace(conditions, seeing=conditions.seeing * worse)
    if training is not None:
        name = training.condition
        side = np.where(spiral, -0.5, 0.5) * training.region.contains(ra, dec)
        moved = getattr(conditions, name) + training.difference * side
        conditions = replace(conditions, **{name: np.maximum(moved, LOWEST[name])})
    return conditions
