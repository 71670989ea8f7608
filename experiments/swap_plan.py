"""What the sky swap asks and trains: regions, combinations, splits and folds. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
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
    audited : tuple of str
        Two trainings, ``SPIRALS/ELLIPTICALS``, that annotate the whole survey; none to leave it
        out.
    audited_seeds : int
        Networks of each; fewer than 6 allow no p.
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
    audited: tuple[str, ...] = ("1/2", "2/1")
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


class Planned(NamedTuple):
    """A network: what it learnt from, on which split, and its step."""

    training: Training
    split: Split
    step: Step


def regions_of(settings: Settings) -> dict[str, Region]:
    """Return the regions by name."""
    if len(settings.regions) < 2:
        raise InputError("regions: sky-swap needs two or more, NAME = 'RA0..RA1,DEC0..DEC1'")
    strange = [n for n in settings.regions if "/" in n or not n.strip() or n == ALL]
    if strange:
        raise InputError(f"regions {strange[0]!r}: a name without '/', not {ALL!r}, is expected")
    return {name: Region.parse(text) for name, text in settings.regions.items()}


def trainings(settings: Settings) -> list[Training]:
    """Return every combination of a sky of spirals and one of ellipticals (table 16).

    And one that learns both from all regions together (table 5).
    """
    names = list(settings.regions)
    pairs = [Training(spirals, ellipticals) for spirals in names for ellipticals in names]
    return [*pairs, Training(ALL, ALL)]


def audited(settings: Settings) -> list[Training]:
    """Return the two trainings whose catalogs are audited; none if none are asked for."""
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


def plan(store: Store, settings: Settings) -> list[Planned]:
    """Return every network of the tables."""
    known = _known(settings, settings.seeds_of, "seeds_of")
    seeds = {
        one: max(settings.seeds, settings.seeds_of.get(name, 0)) for name, one in known.items()
    }
    asked = [
        (training, Split(seed, None))
        for seed in range(max(seeds.values()))
        for training in seeds
        if seed < seeds[training]
    ]
    asked += [(one, Split(0, fold)) for fold in range(settings.folds) for one in seeds]
    return [
        Planned(training, split, network(store, settings, training, split))
        for training, split in asked
    ]


def network(store: Store, settings: Settings, training: Training, split: Split) -> Step:
    """Return a network's step; what is to annotate is exported as well."""
    blocks = replace(
        settings.train.split,
        order=settings.order,
        seed=split.seed,
        fold=split.fold or 0,
        tested=tuple(settings.regions.values()),
    )
    named = settings.regions | {ALL: " + ".join(settings.regions.values())}
    regions = {
        settings.spiral: named[training.spirals],
        settings.elliptical: named[training.ellipticals],
    }
    asked = replace(settings.train, seed=split.seed, split=blocks, regions=regions)
    bundle = (
        training in audited(settings) and not split.fold and split.seed < settings.audited_seeds
    )
    return train_step(store, asked, f"train {training}, {split.name}", bundle=bundle)
