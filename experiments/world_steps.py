"""The steps of four worlds: simulate, train, annotate, draw labels without a look, audit."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from catalogs.audit.run import audit
from catalogs.audit.settings import AuditSettings
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter
from catalogs.storage.disk import Disk
from catalogs.synthetic.settings import SimulationSettings
from engine.simulate import simulate
from experiments import worlds
from experiments.networks import BUNDLE, CATALOG, SKY, Store, annotate_step, train_step
from experiments.steps import Step
from experiments.worlds import BIASED, HONEST, WORLDS, Settings, World
from export.manifest import SKY as FOOTPRINT

LABELS, AUDIT = "labels.csv", "audit"


@dataclass(frozen=True, slots=True)
class Planned:
    """One world of one seed: the step whose folder holds its audit."""

    world: World
    seed: int
    audit: Step


def plan(settings: Settings, workers: int) -> list[Planned]:
    """Return every world of every seed, the worlds of a seed after each other."""
    unknown = [name for name in settings.worlds if name not in WORLDS]
    if unknown or not settings.worlds:
        raise InputError(f"worlds {settings.worlds}: expected some of {', '.join(WORLDS)}")
    chosen = [WORLDS[name] for name in settings.worlds]
    return [
        Planned(world, seed, _world(settings, world, seed, workers))
        for seed in range(settings.seeds)
        for world in chosen
    ]


def _world(settings: Settings, world: World, seed: int, workers: int) -> Step:
    said = f"{world.name}, seed {seed}"
    kind = BIASED if world.bias else HONEST
    learnt = _sky(
        worlds.training_sky(settings, seed, bias=world.bias),
        f"simulate the {kind} training sky, seed {seed}",
        workers,
    )
    seen = _sky(worlds.survey(settings, world, seed), f"simulate the survey: {said}", workers)
    networks = [
        train_step(
            learnt,
            worlds.training(settings, seed, audited=audited),
            f"train the {'audited' if audited else 'other'} network, {kind}, seed {seed}",
            bundle=True,
        )
        for audited in ((True, False) if settings.compared_from else (True,))
    ]
    catalogs = [annotate_step(seen, network, f"annotate: {said}", workers) for network in networks]
    labels = Step(
        "labels",
        f"draw labels: {said}",
        {"labels": settings.labels, "seed": seed},
        partial(_draw_labels, count=settings.labels, seed=seed),
        seen.needs,
        ("experiments/world_steps.py",),
    )
    asked = AuditSettings(effect=settings.effect, alpha=settings.alpha, seed=seed)
    return Step(
        "audit",
        f"audit: {said}",
        {"effect": settings.effect, "alpha": settings.alpha, "seed": seed},
        partial(_audit, asked=asked),
        (*catalogs, labels, networks[0]),
        ("catalogs/audit", "experiments/world_steps.py"),
    )


def _sky(settings: SimulationSettings, title: str, workers: int) -> Store:
    """Return the store that a simulation makes."""
    step = Step(
        "simulate",
        title,
        settings.record(),
        partial(_simulate, settings=replace(settings, workers=workers)),
        (),
        ("catalogs/synthetic",),
    )
    return Store(None, step.digest, step)


def _simulate(
    folder: Path, _: Sequence[Path], reporter: Reporter, *, settings: SimulationSettings
) -> None:
    simulate(folder / SKY, settings, reporter)


def _draw_labels(
    folder: Path, needs: Sequence[Path], _: Reporter, *, count: int, seed: int
) -> None:
    """Write the true classes of some galaxies, drawn without a look at any answer."""
    store = Survey.open(needs[0] / SKY)
    chosen = np.random.default_rng([seed, count]).permutation(store.rows)[:count]
    identifiers, truth = store.column("id")[chosen], store.column("truth")[chosen]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("id", "truth"), *zip(identifiers.tolist(), truth.tolist(), strict=True)])
    Disk(folder).write(LABELS, text.getvalue().encode())


def _audit(
    folder: Path, needs: Sequence[Path], reporter: Reporter, *, asked: AuditSettings
) -> None:
    audited, *others, labels, network = needs
    settings = replace(
        asked,
        truth=f"{labels / LABELS}:truth",
        labels_blind=True,
        compare=tuple(str(other / CATALOG) for other in others),
        training_sky=str(network / BUNDLE / FOOTPRINT),
    )
    audit(audited / CATALOG, folder / AUDIT, settings, reporter)
