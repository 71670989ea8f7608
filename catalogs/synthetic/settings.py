"""What to simulate: everything that decides what is in the store."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from catalogs.errors import InputError
from catalogs.synthetic.biases import (
    ConditionName,
    TrainingRegion,
    check_imitation,
    check_training,
    lattice,
)
from catalogs.synthetic.conditions import ConditionsName, ObservationSettings, settings_of
from catalogs.synthetic.frame import FRAME, Frame
from catalogs.synthetic.labels import LabelSettings
from catalogs.synthetic.neighbours import REAL_DENSITY
from catalogs.synthetic.population import MAGNITUDE_LIMIT, PopulationSettings
from catalogs.synthetic.truth import Clustered, Dipole, Patch, Pattern

SKY_VERSION = 9  # grows when the same settings would give other galaxies or other pictures

MOST_GALAXIES = 1_000_000_000  # 8 bytes of each are held
MOST_NEIGHBOURS = 50.0  # those of a part of the largest frames take 2 GB

OBSERVED = ("observation", "imitate", "training")  # of the record: how the sky is observed

Pixels = Literal["jpeg", "float32"]


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """What to simulate.

    Attributes
    ----------
    galaxies : int
        How many. Those of a smaller survey of the same seed are among those of a larger one.
    seed : int
        Seed of everything random.
    conditions : {"even", "uneven", "survey"} or ObservationSettings
        How the sky is observed; the galaxies of a seed are the same under all.
    size : int
        Pixels a side of a cutout; the frame on the sky does not depend on it.
    workers : int
        Processes; the result does not depend on it.
    spiral_fraction, dipole, patch, clustered
        The truth, see :class:`catalogs.synthetic.truth.Truth`.
    irregulars, mergers, magnitude_limit
        See :class:`catalogs.synthetic.population.PopulationSettings`.
    neighbours : float
        Stars and galaxies beside a galaxy, per square arcmin down to r = 23 at Galactic latitude
        50 deg, 0 to 50; the sky's by default, 9.2.
    quality : int
        JPEG quality, 1 to 100.
    imitate : Dipole, Patch or Clustered, optional
        A condition is worse by this much: conditions that imitate a varying truth.
    imitated : {"seeing", "background", "depth"}
        Which one: seeing by this share, background and depth by so many of their units.
    training : TrainingRegion, optional
        A region where a condition goes with the class.
    labels : LabelSettings
        How people label.
    pixel_scale : float, optional
        Arcsec per pixel; by default a cutout's scale follows its galaxy's size.
    pixels : {"jpeg", "float32"}
        Colour pictures, or the three bands g, r, i in nanomaggies per detector pixel.
    exposure : int
        Number of the exposure: others have other noise and accidents, of the same sky.
    same_noise : bool
        Noise and accidents depend on seed and exposure alone, not on the conditions: two surveys
        then differ by their conditions only.
    """

    galaxies: int = 20_000
    seed: int = 1
    conditions: ConditionsName | ObservationSettings = "even"
    size: int = 120
    workers: int = 2
    spiral_fraction: float = 0.49
    dipole: Dipole | None = None
    patch: Patch | None = None
    clustered: Clustered | None = None
    irregulars: float = 0.01
    mergers: float = 0.015
    magnitude_limit: float = MAGNITUDE_LIMIT
    neighbours: float = REAL_DENSITY
    quality: int = 90
    imitate: Pattern | None = None
    imitated: ConditionName = "seeing"
    training: TrainingRegion | None = None
    labels: LabelSettings = field(default_factory=LabelSettings)
    pixel_scale: float | None = None
    pixels: Pixels = "jpeg"
    exposure: int = 0
    same_noise: bool = False

    def __post_init__(self) -> None:
        settings_of(self.conditions)  # says what is no name
        check_imitation(self.imitate, self.imitated)
        if not 1 <= self.galaxies <= MOST_GALAXIES:
            raise InputError(f"galaxies {self.galaxies}: expected 1 to {MOST_GALAXIES:,}")
        if not 0 <= self.neighbours <= MOST_NEIGHBOURS:
            raise InputError(
                f"neighbours {self.neighbours:g}: expected 0 to {MOST_NEIGHBOURS:g} per square "
                f"arcmin; the sky has {REAL_DENSITY:.2g}"
            )
        if not 32 <= self.size <= 1024:
            raise InputError(f"size {self.size}: expected cutouts of 32 to 1024 pixels")
        if self.exposure < 0:
            raise InputError(f"exposure {self.exposure}: expected 0 or a positive whole number")
        if self.workers < 1:
            raise InputError(f"workers {self.workers}: expected 1 or more processes")
        if not 1 <= self.quality <= 100:
            raise InputError(f"quality {self.quality}: expected a JPEG quality of 1 to 100")
        if self.pixels not in get_args(Pixels):
            raise InputError(f"pixels {self.pixels!r}: expected {' or '.join(get_args(Pixels))}")
        if self.pixel_scale is not None and not 0.01 <= self.pixel_scale <= 300 / self.size:
            raise InputError(
                f"pixel scale {self.pixel_scale:g}: expected .01 arcsec or more, and cutouts of "
                f"300 arcsec at most, which {self.size} pixels are at {300 / self.size:.3g}"
            )
        _ = self.population  # says what cannot be there
        for pattern in (self.patch, self.imitate):
            if isinstance(pattern, Patch):
                lattice(pattern.region)
        check_training(self.training, self.conditions, self.imitate, self.imitated, self.seed)

    @property
    def population(self) -> PopulationSettings:
        """The part that says what truly is there."""
        return PopulationSettings(
            self.seed,
            self.spiral_fraction,
            self.dipole,
            self.patch,
            self.clustered,
            irregulars=self.irregulars,
            mergers=self.mergers,
            magnitude_limit=self.magnitude_limit,
        )

    @property
    def conditions_name(self) -> str:
        """The name of the conditions, for people."""
        return self.conditions if isinstance(self.conditions, str) else "chosen"

    @property
    def exposure_name(self) -> str:
        """What noise and accidents belong to: exposure and, unless shared, the conditions."""
        names = ["exposure"] if self.same_noise else ["exposure", *OBSERVED]
        record = self.record()
        what = json.dumps([record[name] for name in names], sort_keys=True)
        return hashlib.sha256(what.encode()).hexdigest()[:16]

    @property
    def framing(self) -> str:
        """How cutouts are framed, in words."""
        if self.pixel_scale is not None:
            return f"{self.pixel_scale:g} arcsec per pixel"
        return (
            f"{FRAME:g} Petrosian radii across, like the central 240 of the 423 pixels "
            "of Galaxy Zoo's cutouts"
        )

    def frame(self, radius: float) -> Frame:
        """Return the cutout of a galaxy of catalogued ``radius`` [arcsec]."""
        if self.pixel_scale is not None:
            return Frame(self.size, self.pixel_scale)
        return Frame.around(radius, self.size)

    def record(self) -> dict[str, Any]:
        """Return all that changes the result, for the store's provenance."""
        left_out = ("workers", "imitated")
        fields = {name: value for name, value in asdict(self).items() if name not in left_out}
        if self.imitate is not None:  # its kind, which its numbers alone do not tell
            fields["imitate"] = {"kind": type(self.imitate).__name__.lower(), **fields["imitate"]}
            if self.imitated != "seeing":  # the only one there was; its skies stay what they are
                fields["imitate"]["condition"] = self.imitated
        fields["observation"] = asdict(settings_of(self.conditions))  # what their name stands for
        return {"sky_version": SKY_VERSION, **fields}
