"""The command ``skytally experiment``: loads an experiment only when it runs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from catalogs.errors import InputError
from catalogs.terminal import Json, need, on_disk, reporter, show
from experiments.listing import entry, lines

HELP = (
    "Run an experiment on a survey and write what it says; run again, it goes on.\n\n"
    f"\b\n{lines()}\n\n"
    "A TOML file given with --config holds the experiment's own settings and these flags by the "
    "same names. OUT/report.html is the page, OUT/results.json the same for programs."
)


def experiment(
    name: Annotated[str, typer.Argument(help="One of the experiments above.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder of the experiment: steps, tables, page.")
    ] = None,
    survey: Annotated[
        Path | None, typer.Option(callback=on_disk, help="Survey store with labels.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Seeds, or splits, of each network.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that simulate and annotate; 2.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of the experiment's settings.")
    ] = None,
    json_: Json = False,
) -> None:
    """Run an experiment on a survey and write what it says; run again, it goes on."""
    listed = entry(name)
    need("torch", "train")
    from catalogs.config import parse, read_toml
    from experiments import lab

    values: dict[str, Any] = {} if config is None else read_toml(config)
    said = {flag: values.pop(flag, None) for flag in ("to", "survey", "workers")}
    to, survey = _path("to", to, said["to"]), _path("survey", survey, said["survey"])
    count = _count(said["workers"] if workers is None else workers)
    if seeds is not None:
        values["seeds"] = seeds
    if to is None:
        raise InputError(f"{name} needs --to OUT, a folder for what it makes")
    settings = parse(lab.load(name).settings, values, str(config or "settings"))
    again = shlex.join(["skytally", *sys.argv[1:]])
    product = lab.run(name, to, survey, settings, count, reporter(), again)
    report = to / "report.html"
    told = [f"{name}: {listed.summary}", product.headline, *product.findings, f"Report: {report}"]
    facts = {"headline": product.headline, "findings": list(product.findings)}
    show(json_, told, {"experiment": name, "report": str(report), **facts, **product.facts})


def _path(flag: str, given: Path | None, said: object) -> Path | None:
    if given is not None or said is None:
        return given
    if not isinstance(said, str):
        raise InputError(f"{flag} {said!r}: expected a path")
    return on_disk(Path(said))


def _count(said: object) -> int:
    if said is None:
        return 2
    if not isinstance(said, int) or said < 1:
        raise InputError(f"workers {said!r}: expected 1 or more processes")
    return said
