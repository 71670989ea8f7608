"""The command ``skytally simulate``: a sky has more flags than ``skytally.py`` has room for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from catalogs.terminal import Config, Json, fields, on_disk, reporter, show

Value = TypeVar("Value")
OF_WHICH = ", among what is neither irregular nor merger"


def simulate(
    to: Annotated[Path, typer.Argument(callback=on_disk, help="Survey store to make, NAME.zarr.")],
    galaxies: Annotated[int, typer.Option(min=1, help="How many.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 1,
    conditions: Annotated[
        str, typer.Option(help="even, uneven, survey, or a TOML file of observing conditions.")
    ] = "even",
    spiral_fraction: Annotated[
        float, typer.Option(min=0, max=1, help=f"The truth's mean{OF_WHICH}.")
    ] = 0.49,
    dipole: Annotated[
        str | None, typer.Option(help=f"AMPLITUDE,RA,DEC of the true spiral fraction{OF_WHICH}.")
    ] = None,
    patch: Annotated[
        str | None, typer.Option(help="RA0..RA1,DEC0..DEC1:EXCESS of it, likewise.")
    ] = None,
    clustered: Annotated[
        str | None, typer.Option(help="RMS[,SLOPE[,LMAX]]: a Gaussian field in it, likewise.")
    ] = None,
    irregulars: Annotated[float, typer.Option(min=0, max=1, help="Their share.")] = 0.01,
    mergers: Annotated[float, typer.Option(min=0, max=1, help="Their share.")] = 0.015,
    magnitude_limit: Annotated[
        float | None, typer.Option(help="Of the sample, r band, 14 to 18; 17 by default.")
    ] = None,
    imitate: Annotated[
        str | None, typer.Option(help="dipole:…, patch:… or clustered:… that a condition follows.")
    ] = None,
    imitated: Annotated[
        str, typer.Option(help="That condition: seeing (by a share), background or depth.")
    ] = "seeing",
    training_region: Annotated[
        str | None,
        typer.Option(help="REGION:seeing|background|depth:DIFFERENCE between the classes there."),
    ] = None,
    theta: Annotated[
        float, typer.Option(help="Labelling bias: resolution below which disks look smooth.")
    ] = 9.18,
    voters: Annotated[int, typer.Option(min=1, help="People who label one galaxy.")] = 40,
    neighbours: Annotated[
        float | None,
        typer.Option(help="Stars and galaxies beside each, per square arcmin; the sky's, 9.2."),
    ] = None,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 120,
    pixel_scale: Annotated[
        float | None, typer.Option(help="Arcsec per pixel; else it follows the galaxy's size.")
    ] = None,
    pixels: Annotated[
        str, typer.Option(help="jpeg, or float32: bands g, r, i as numbers.")
    ] = "jpeg",
    exposure: Annotated[
        int, typer.Option(min=0, help="Its number; each has noise and accidents of its own.")
    ] = 0,
    same_noise: Annotated[
        bool, typer.Option("--same-noise", help="Other conditions keep the exposure's noise.")
    ] = False,
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
    from catalogs.synthetic.neighbours import REAL_DENSITY
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
        neighbours=REAL_DENSITY if neighbours is None else neighbours,
        quality=quality,
        imitate=_read(words.read_pattern, imitate),
        imitated=imitated,  # type: ignore[arg-type]
        training=_read(words.read_training, training_region),
        labels=LabelSettings(theta, voters),
        pixel_scale=pixel_scale,
        pixels=pixels,  # type: ignore[arg-type]
        exposure=exposure,
        same_noise=same_noise,
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
