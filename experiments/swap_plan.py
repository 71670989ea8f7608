"""What the sky swap asks and trains: regions, combinations, splits and folds. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from typing import Annotated, NamedTuple

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings_class

from catalogs.audit.comparison.swap import FEWEST_SEEDS
from catalogs.errors import InputError
from catalogs.sky import Region
from experiments.networks import CHEAP, Store, train_step
from experiments.networks import Training as TrainingSettings
from experiments.steps import Step
from experiments.swaps import Training
from training.settings import SplitSettings, TrainSettings

# Dhar & Shamir 2022, table 1: three fields of Pan-STARRS.
PAPERS = {"1": "0..20,0..20", "2": "180..200,0..20", "3": "180..200,20..40"}


@settings_class(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Settings:
    """What is asked.

    Attributes
    ----------
    regions : dict of str to str
        Name to ``RA0..RA1,DEC0..DEC1``; two or more.
    spiral, elliptical : str
        Classes of the label column.
    seeds : int
        Random splits of the sky's tiles; 100 in the paper.
    seeds_of : dict of str to int
        More of them for single trainings, ``SPIRALS/ELLIPTICALS``.
    folds : int
        Splits whose test tiles share nothing, besides; 1/``train.split.test`` at most.
    audited : tuple of str, optional
        Two trainings, ``SPIRALS/ELLIPTICALS``, that annotate the whole survey; empty to leave it
        out. By default the first region's spirals with the second's ellipticals, and the other way
        round.
    audited_seeds : int
        Networks of each, which learn from the same galaxies; fewer than 6 allow no p.
    order : int
        Of the tiles that are split; finer ones make more of them in a region.
    effect : float
        Of the audit.
    train : TrainSettings
    """

    regions: dict[str, str] = Field(default_factory=lambda: dict(PAPERS))
    spiral: str = "spiral"
    elliptical: str = "elliptical"
    seeds: Annotated[int, Field(ge=1)] = 20
    seeds_of: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    folds: Annotated[int, Field(ge=0)] = 5
    audited: tuple[str, ...] | None = None
    audited_seeds: Annotated[int, Field(ge=1)] = FEWEST_SEEDS
    order: Annotated[int, Field(ge=0, le=12)] = 5
    effect: Annotated[float, Field(gt=0, lt=1)] = 0.02
    train: TrainingSettings = CHEAP


ALL = "all"  # the regions together


class Split(NamedTuple):
    """A random split, or a fold of the first one."""

    seed: int
    fold: int | None

    @property
    def name(self) -> str:
        """For tables."""
        return f"seed {self.seed}" if self.fold is None else f"fold {self.fold}"


AUDITED_SPLIT = Split(0, None)


class Planned(NamedTuple):
    """A network: what it learnt from, on which split, and its step."""

    training: Training
    split: Split
    step: Step


def regions_of(settings: Settings) -> dict[str, Region]:
    """Return the regions by name; raise ``InputError`` where they cannot be."""
    if len(settings.regions) < 2:
        raise InputError("regions: sky-swap needs two or more, NAME = 'RA0..RA1,DEC0..DEC1'")
    strange = [n for n in settings.regions if "/" in n or not n.strip() or n == ALL]
    if strange:
        raise InputError(f"regions {strange[0]!r}: a name without '/', not {ALL!r}, is expected")
    found = {name: Region.parse(text) for name, text in settings.regions.items()}
    for a, b in combinations(found, 2):
        if _overlap(found[a], found[b]):
            raise InputError(f"regions {a} and {b} overlap; a galaxy must lie in one of them")
    return found


def _overlap(a: Region, b: Region) -> bool:
    """Say whether two boxes share some sky."""
    east, west = (b.ra_min - a.ra_min) % 360, (a.ra_min - b.ra_min) % 360
    in_ra = east < _width(a) or west < _width(b)
    return in_ra and max(a.dec_min, b.dec_min) < min(a.dec_max, b.dec_max)


def _width(region: Region) -> float:
    return (region.ra_max - region.ra_min) % 360 or 360.0


def trainings(settings: Settings) -> list[Training]:
    """Return every combination of a sky of spirals and one of ellipticals (table 16).

    And one that learns both from all regions together (table 5).
    """
    names = list(settings.regions)
    pairs = [Training(spirals, ellipticals) for spirals in names for ellipticals in names]
    return [*pairs, Training(ALL, ALL)]


def audited(settings: Settings) -> list[Training]:
    """Return the two trainings whose catalogs are audited; none if none are asked for."""
    if settings.audited is None:
        first, second = list(settings.regions)[:2]
        return [Training(first, second), Training(second, first)]
    if not settings.audited:
        return []
    known = _known(settings, settings.audited, "audited")
    if len(set(settings.audited)) != 2:
        raise InputError(
            f"audited {', '.join(settings.audited)}: expected two of {', '.join(known)}"
        )
    return [known[name] for name in settings.audited]


def _known(settings: Settings, names: Iterable[str], said: str) -> dict[str, Training]:
    """Return the trainings by name; raise ``InputError`` where one of ``names`` is none of them."""
    known = {str(training): training for training in trainings(settings)}
    for name in names:
        if name not in known:
            raise InputError(f"{said} {name!r}: expected some of {', '.join(known)}")
    return known


def splits_of(settings: Settings) -> dict[Training, list[Split]]:
    """Return the splits of every training: random ones, then folds of the first."""
    known = _known(settings, settings.seeds_of, "seeds_of")
    most = int(1 / settings.train.split.test + 1e-9) if settings.train.split.test else 0
    if settings.folds > most:
        raise InputError(
            f"folds {settings.folds}: with split.test = {settings.train.split.test:g} there are "
            f"{most} whose test tiles share nothing; set fewer folds, or a smaller split.test"
        )
    folds = [Split(0, fold) for fold in range(settings.folds)]
    return {
        one: [
            *(Split(k, None) for k in range(max(settings.seeds, settings.seeds_of.get(name, 0)))),
            *folds,
        ]
        for name, one in known.items()
    }


def plan(store: Store, settings: Settings) -> list[Planned]:
    """Return every network of the tables, those of a split together; see `refuse`."""
    refuse(settings)
    of = splits_of(settings)
    every = sorted({split for splits in of.values() for split in splits}, key=_in_order)
    return [
        Planned(one, split, network(store, settings, one, split))
        for split in every
        for one, splits in of.items()
        if split in splits
    ]


def _in_order(split: Split) -> tuple[bool, int]:
    return (split.fold is not None, split.seed if split.fold is None else split.fold)


def refuse(settings: Settings) -> None:
    """Refuse what cannot be.

    Raises
    ------
    InputError
        Regions, or trainings to be audited, that cannot be, or a training setting that the swap
        decides.
    """
    regions_of(settings)
    audited(settings)
    split = settings.train.split
    said = {
        "regions": settings.train.regions,
        "seed": settings.train.seed,
        "split.seed": split.seed,
        "split.fold": split.fold,
        "split.tested": split.tested,
        "split.order": split.order is not None,
    }
    for name, value in said.items():
        if value:
            instead = "; set order beside [train]" if name == "split.order" else ""
            raise InputError(f"[train] {name}: the swap decides it; leave it out{instead}")


def blocks(settings: Settings, split: Split) -> SplitSettings:
    """Return how the sky is split: tested in all regions."""
    return replace(
        settings.train.split,
        order=settings.order,
        seed=split.seed,
        fold=split.fold or 0,
        tested=tuple(settings.regions.values()),
    )


def sky_of(settings: Settings, name: str) -> str:
    """Return the boxes of a region, or of all together."""
    return " + ".join(settings.regions.values()) if name == ALL else settings.regions[name]


def network(store: Store, settings: Settings, training: Training, split: Split) -> Step:
    """Return the step of a network of the tables."""
    learning = _learning(settings, training, split, split.seed)
    return train_step(store, learning, f"train {training}, {split.name}")


def audited_network(store: Store, settings: Settings, training: Training, seed: int) -> Step:
    """Return the step of a network that is to annotate the survey, exported.

    All learn on one split: what one of them learnt from, none is asked about in the audit.
    """
    learning = _learning(settings, training, AUDITED_SPLIT, seed)
    return train_step(store, learning, f"train {training} to annotate, seed {seed}", bundle=True)


def _learning(settings: Settings, training: Training, split: Split, seed: int) -> TrainSettings:
    regions = {
        settings.spiral: sky_of(settings, training.spirals),
        settings.elliptical: sky_of(settings, training.ellipticals),
    }
    return replace(settings.train, seed=seed, split=blocks(settings, split), regions=regions)
