"""The command ``skytally simulate``: a sky has more flags than ``skytally.py`` has room for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from catalogs.terminal import Config, Json, fields, on_disk, reporter, show

Value = TypeVar("Value")


def simulate(
    to: Annotated[Path, typer.Argument(callback=on_disk, help="Survey store to make, NAME.zarr.")],
    galaxies: Annotated[int, typer.Option(min=1, help="How many.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 1,
    conditions: Annotated[
        str, typer.Option(help="even, uneven, survey, or a TOML file of observing conditions.")
    ] = "even",
    spiral_fraction: Annotated[float, typer.Option(min=0, max=1, help="The truth's mean.")] = 0.49,
    dipole: Annotated[
        str | None, typer.Option(help="AMPLITUDE,RA,DEC of the true spiral fraction.")
    ] = None,
    patch: Annotated[
        str | None, typer.Option(help="RA0..RA1,DEC0..DEC1:EXCESS of the true spiral fraction.")
    ] = None,
    clustered: Annotated[
        str | None, typer.Option(help="RMS[,SLOPE[,LMAX]]: the truth as a Gaussian field.")
    ] = None,
    irregulars: Annotated[float, typer.Option(min=0, max=1, help="Their share.")] = 0.01,
    mergers: Annotated[float, typer.Option(min=0, max=1, help="Their share.")] = 0.015,
    magnitude_limit: Annotated[
        float | None, typer.Option(help="Of the sample, r band; 17 by default.")
    ] = None,
    imitate: Annotated[
        str | None, typer.Option(help="dipole:…, patch:… or clustered:… that seeing follows.")
    ] = None,
    training_region: Annotated[
        str | None,
        typer.Option(help="REGION:seeing|background|depth:DIFFERENCE between the classes there."),
    ] = None,
    theta: Annotated[
        float, typer.Option(help="Labelling bias: resolution below which disks look smooth.")
    ] = 9.18,
    voters: Annotated[int, typer.Option(min=1, help="People who label one galaxy.")] = 40,
    neighbours: Annotated[
        float, typer.Option(min=0, help="Stars and galaxies beside each, per square arcmin.")
    ] = 5.0,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 120,
    pixel_scale: Annotated[
        float | None, typer.Option(help="Arcsec per pixel; else it follows the galaxy's size.")
    ] = None,
    pixels: Annotated[
        str, typer.Option(help="jpeg, or float32: bands g, r, i as numbers.")
    ] = "jpeg",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of the JPEG files.")] = 90,
    workers: Annotated[int, typer.Option(min=1, help="Local processes.")] = 2,
    cluster: Annotated[str, typer.Option(help="local, a scheduler, or a TOML file.")] = "local",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow a plain-text cluster on other machines.")
    ] = False,
    json_: Json = False,
    config: Config = None,  # noqa: ARG001  (acts in its callback, before the command)
) -> None:
    """Simulate a sky with known truth; killed and run again, it goes on where it stopped."""
    from catalogs.synthetic import words
    from catalogs.synthetic.labels import LabelSettings
    from catalogs.synthetic.population import MAGNITUDE_LIMIT
    from catalogs.synthetic.settings import SimulationSettings
    from engine.simulate import simulate as run

    settings = SimulationSettings(
        galaxies=galaxies,
        seed=seed,
        conditions=words.read_conditions(conditions),
        size=size,
        workers=workers,
        spiral_fraction=spiral_fraction,
        dipole=_read(words.read_dipole, dipole),
        patch=_read(words.read_patch, patch),
        clustered=_read(words.read_clustered, clustered),
        irregulars=irregulars,
        mergers=mergers,
        magnitude_limit=MAGNITUDE_LIMIT if magnitude_limit is None else magnitude_limit,
        neighbours=neighbours,
        quality=quality,
        imitate=_read(words.read_pattern, imitate),
        training=_read(words.read_training, training_region),
        labels=LabelSettings(theta, voters),
        pixel_scale=pixel_scale,
        pixels=pixels,  # type: ignore[arg-type]
    )
    result = run(to, settings, reporter(), cluster, insecure=insecure)
    lines = [f"{to}: {result.galaxies} simulated galaxies"]
    if result.made:
        rate = result.galaxies / result.seconds
        lines += [f"  simulated in {result.seconds:.1f} s, {rate:.0f} a second"]
    else:
        lines += ["  complete already: nothing to do"]
    show(json_, lines, fields(result))


def _read(reading: Callable[[str], Value], text: str | None) -> Value | None:
    return None if text is None else reading(text)
