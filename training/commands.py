"""The commands ``skytally train``, ``triage`` and ``look``: import torch only when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from catalogs.config import names_in
from catalogs.errors import InputError
from catalogs.terminal import Config, Json, fields, need, on_disk, reporter, show


def train(
    survey: Annotated[
        Path, typer.Argument(callback=on_disk, help="Survey store with a label column.")
    ],
    to: Annotated[
        Path, typer.Option("--to", callback=on_disk, help="Run to make, or go on with: NAME.run.")
    ],
    label: Annotated[
        str | None, typer.Option(help="Column of class names, two or more; 'label' by default.")
    ] = None,
    tree: Annotated[
        str | None,
        typer.Option(help="Answer a decision tree's questions instead: gz2, or a TOML file."),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="cross_entropy (the default) or debiased for classes; squared_error (the "
            "default), dirichlet or cross_entropy for a tree."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="shamir (the default), dieleman, resnet50, resnet101, deepgalaxy, equivariant, "
            "or a class of your own, package.module:Class."
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="default, or paper: as the network's paper trains it.")
    ] = "default",
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="TOML of every training setting.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the galaxies.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", help="CLASS=RA0..RA1,DEC0..DEC1 where a class is learnt; further after ;."
        ),
    ] = None,
    spiral_from: Annotated[
        str | None, typer.Option(help="Region RA0..RA1,DEC0..DEC1 of the training spirals.")
    ] = None,
    elliptical_from: Annotated[
        str | None, typer.Option(help="The same for the training ellipticals.")
    ] = None,
    average: Annotated[
        str | None,
        typer.Option(help="Train nothing: the mean of these runs, with commas, judged anew."),
    ] = None,
    turned: Annotated[
        bool, typer.Option("--turned", help="With --average: of 60 views of each image, too.")
    ] = False,
    json_: Json = False,
    config: Config = None,  # noqa: ARG001  (acts in its callback, before the command)
) -> None:
    """Train a network on sky-blocked splits; run again, it goes on where it stopped."""
    need("torch", "train")
    from training.ensemble import average as mean_of
    from training.presets import read_settings
    from training.run import train as run
    from training.splits import read_regions

    regions = {} if from_ is None else read_regions(from_)
    named = {"spiral": spiral_from, "elliptical": elliptical_from}
    regions |= {name: region for name, region in named.items() if region is not None}
    chosen = {
        "model": model,
        "label": label,
        "tree": tree,
        "loss": loss,
        "epochs": epochs,
        "seed": seed,
        "regions": regions,
    }
    given = {name: value for name, value in chosen.items() if value not in (None, {})}
    if average is None:
        if turned:
            raise InputError("--turned needs --average with the runs to see from 60 sides")
        result = run(survey, to, read_settings(preset, settings_file, given), reporter())
    else:
        settled = [*given, *(["settings"] if settings_file else [])]
        settled += ["preset"] if preset != "default" else []
        if settled:
            said = ", ".join(settled)
            raise InputError(f"--average takes its settings from the runs; leave out {said}")
        runs = [Path(name) for name in names_in(average)]
        result = mean_of(survey, runs, to, turned, reporter())
    lines = [f"{to}: complete, hold-out of {_count_of(result.counts, 'test')} galaxies"]
    lines += [f"  votes are known as {result.votes}"] if result.votes else []
    lines += [
        f"  {name:<22} {m.value:.4f}  (95% {m.low:.4f} to {m.high:.4f})"
        for name, m in result.metrics.items()
    ]
    show(json_, lines, fields(result))


def triage(
    run: Annotated[Path, typer.Argument(callback=on_disk, help="NAME.run, complete.")],
    accuracy: Annotated[
        float | None, typer.Option(help="Accept what is right this often, with 95% confidence.")
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Accept from this confidence on instead.")
    ] = None,
    question: Annotated[
        str | None, typer.Option(help="Of a tree, such as q01; its first by default.")
    ] = None,
    catalog: Annotated[
        str | None, typer.Option(help="Catalog that the run's bundle annotated: path or URL.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", callback=on_disk, help="CSV of the galaxies for experts.")
    ] = None,
    json_: Json = False,
    config: Config = None,  # noqa: ARG001  (acts in its callback, before the command)
) -> None:
    """Say how often a run is right by confidence; list a catalog's galaxies for experts."""
    need("torch", "train")
    from training.experts import for_experts, read_levels
    from training.triage import lowest

    if (catalog is None) != (to is None):
        raise InputError("--catalog and --to LIST.csv go together")
    if accuracy is not None and confidence is not None:
        raise InputError("give --accuracy or --confidence, not both")
    levels, asked = read_levels(run, question)
    chosen = None if accuracy is None else lowest(levels, accuracy)
    threshold = confidence if chosen is None else chosen.confidence
    if catalog is not None and threshold is None:
        raise InputError("--catalog needs --accuracy or --confidence")
    of = "" if asked is None else f", {asked}"
    lines = [f"{run}{of}: {levels[-1].accuracy.n} held-out galaxies"]
    lines += ["  confidence  accepted  right among these (exact 95%)"]
    lines += [
        f"  {level.confidence:10.4f}  {level.accepted.value:7.0%}  {level.accuracy.value:.4f}  "
        f"({level.accuracy.low:.4f} to {level.accuracy.high:.4f})"
        for level in levels
    ]
    if chosen is not None:
        lines += [
            f"  from {chosen.confidence:.4f} on {accuracy:g} or more are right, with 95% confidence"
        ]
    result: dict[str, Any] = {
        "run": run,
        "question": asked,
        "levels": [level.plain() for level in levels],
        "confidence": threshold,
    }
    if catalog is not None and to is not None and threshold is not None:
        counts = for_experts(catalog, to, threshold, asked)
        result |= {"to": to, **counts}
        listed, accepted, without = counts["listed"], counts["accepted"], counts["without"]
        lines += [f"{to}: {listed} for experts, {accepted} accepted, {without} without an answer"]
    show(json_, lines, result)


def _count_of(counts: dict[str, dict[str, int]], role: str) -> int:
    return sum(counts.get(role, {}).values())


def look(
    run: Annotated[Path, typer.Argument(callback=on_disk, help="NAME.run, complete.")],
    survey: Annotated[
        Path, typer.Option(callback=on_disk, help="Survey store that it was trained on.")
    ],
    to: Annotated[Path, typer.Option("--to", callback=on_disk, help="HTML page to make.")],
    json_: Json = False,
    config: Config = None,  # noqa: ARG001  (acts in its callback, before the command)
) -> None:
    """Show what a network has learnt, in one page: filters, maps, units, hard and easy galaxies."""
    need("torch", "train")
    from training.look.run import look as write

    galaxies = write(run, survey, to, reporter())
    lines = [f"{to}: {run.name} seen on {galaxies} held-out galaxies, {to.stat().st_size:,} bytes"]
    show(json_, lines, {"to": to, "galaxies": galaxies})
