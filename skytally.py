"""The command line of skytally: wires the commands together and imports what they need, lazily.

See :mod:`catalogs.terminal` for where results and progress go. Exit status: 0 complete,
2 bad input, 3 too many bad rows, 4 anisotropic with ``--fail-on anisotropic``, 20 a failure that
a retry will not mend, 75 busy, 1 a bug.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from catalogs.config import names_in
from catalogs.errors import InputError
from catalogs.terminal import (
    Config,
    Json,
    MaxBad,
    fields,
    on_disk,
    reporter,
    run_app,
    show,
)
from engine.commands import simulate
from experiments.commands import HELP as EXPERIMENT_HELP
from experiments.commands import experiment
from training.commands import look, train, triage

ANISOTROPIC_STATUS = 4


class Precision(StrEnum):
    """Arithmetic of a network."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


app = typer.Typer(
    name="skytally",
    help="Annotate galaxy surveys with neural networks, and audit the annotated sky for bias.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def ingest(
    table: Annotated[
        Path, typer.Argument(callback=on_disk, help="CSV, Parquet, FITS, VOTable or HATS.")
    ],
    images: Annotated[
        str, typer.Option(help="Folder of ID.jpeg/.png/.fits, column of paths, .npy or FITS cube.")
    ],
    to: Annotated[str, typer.Option("--to", help="Survey store, NAME.zarr: path or URL.")],
    append: Annotated[bool, typer.Option("--append", help="Add to a store that exists.")] = False,
    night: Annotated[
        str | None, typer.Option(help="What these objects are called, such as 2026-11-22.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", help="Column of unique identifiers; id by default.")
    ] = None,
    ra: Annotated[str | None, typer.Option(help="Right ascension column.")] = None,
    dec: Annotated[str | None, typer.Option(help="Declination column.")] = None,
    classes: Annotated[
        str | None, typer.Option(help="spiral=VALUE|VALUE,elliptical=VALUE makes a label.")
    ] = None,
    class_column: Annotated[str | None, typer.Option(help="The column of those values.")] = None,
    crop: Annotated[int | None, typer.Option(min=1, help="Pixels a classifier should see.")] = None,
    max_bad: MaxBad = 0.05,
    json_: Json = False,
    config: Config = None,
) -> None:
    """Put a table and its images into a survey store; rows without a place are quarantined.

    With --append, what is not said is as in the store's first ingest.
    """
    from catalogs.schema import ClassMap
    from catalogs.survey.ingest import IngestSettings
    from catalogs.survey.ingest import ingest as run

    class_map = None if classes is None else ClassMap.parse(classes)
    settings = IngestSettings(
        id_column=id_column,
        ra=ra,
        dec=dec,
        classes=class_map,
        class_column=class_column,
        max_bad=max_bad,
        crop=crop,
        append=append,
        night=night,
    )
    result = run(table, images, to, settings, reporter())
    why = ", ".join(f"{count} {reason}" for reason, count in result.reasons.items())
    lines = [f"{to}: {result.stored} objects stored, {result.quarantined} quarantined"]
    if not result.written:
        what = "these objects are in the survey already" if result.stored else "no objects"
        lines = [f"{to}: {what}: nothing to do"]
    lines += [f"  quarantined: {why}"] if why else []
    lines += [f"  {result.unused_images} images have no row"] if result.unused_images else []
    show(json_, lines, {"store": to, **fields(result)})


app.command()(train)
app.command()(triage)
app.command()(look)


@app.command()
def export(
    source: Annotated[
        Path | None,
        typer.Argument(help="NAME.run, a foreign model.onnx, or NAME.bundle to add int8 to."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", callback=on_disk, help="NAME.bundle to make.")
    ] = None,
    contract: Annotated[
        Path | None, typer.Option(help="TOML that says what model.onnx takes and answers.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, or fp32,int8.")] = "fp32",
    calibrate: Annotated[
        Path | None,
        typer.Option(callback=on_disk, help="Survey store whose galaxies int8 is calibrated on."),
    ] = None,
    survey: Annotated[
        Path | None,
        typer.Option(callback=on_disk, help="Survey store on whose cutouts answers are compared."),
    ] = None,
    cutouts: Annotated[int, typer.Option(min=64, help="So many cutouts are compared.")] = 4096,
    check: Annotated[Path | None, typer.Option(help="Verify this bundle instead.")] = None,
    replace: Annotated[bool, typer.Option(help="Put it in the place of an old bundle.")] = False,
    json_: Json = False,
    config: Config = None,
) -> None:
    """Turn a network into an ONNX bundle that is proven equal to it; or check one again."""
    from export import commands as run

    if check is not None:
        checked = run.check(check, source, contract, survey, cutouts, reporter())
        show(json_, *run.told_check(check, checked))
        return
    if source is None or to is None:
        raise InputError("export takes NAME.run and --to NAME.bundle, or --check NAME.bundle")
    options = run.ExportOptions(
        contract=contract,
        precisions=names_in(precision),
        calibrate=calibrate,
        survey=survey,
        cutouts=cutouts,
        replace=replace,
    )
    bundle = run.export(source, to, options, reporter())
    show(json_, *run.told(to, bundle))


@app.command()
def annotate(
    survey: Annotated[str, typer.Argument(help="Survey store, NAME.zarr, or its URL.")],
    to: Annotated[str, typer.Option("--to", help="Catalog to make, or to go on with.")],
    model: Annotated[Path | None, typer.Option(help="Bundle; skytally's own by default.")] = None,
    cluster: Annotated[
        str, typer.Option(help="local, cuda, a scheduler's address, or a TOML file.")
    ] = "local",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow a plain-text cluster on other machines.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Local processes.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    provider: Annotated[str | None, typer.Option(help="cpu, openvino, cuda or tensorrt.")] = None,
    precision: Annotated[Precision, typer.Option(help="Arithmetic.")] = Precision.FP32,
    decoder: Annotated[str | None, typer.Option(help="dali, dali-gpu or reference.")] = None,
    crop: Annotated[int | None, typer.Option(min=1, help="Pixels the network sees.")] = None,
    columns: Annotated[
        str | None, typer.Option(help="Survey columns to carry, comma-separated; all by default.")
    ] = None,
    redo: Annotated[
        str | None,
        typer.Option("--redo", help="Statuses, with commas; pixels that have them are done again."),
    ] = None,
    max_bad: MaxBad = 0.05,
    stall_seconds: Annotated[
        float,
        typer.Option(min=1, max=86_400, help="Give up a worker that stands still for so long."),
    ] = 300.0,
    json_: Json = False,
    config: Config = None,
) -> None:
    """Annotate every object exactly once; killed and run again, it goes on where it stopped."""
    from engine.run import AnnotateSettings
    from engine.run import annotate as run

    wanted = None if columns is None else tuple(name for name in names_in(columns) if name)
    settings = AnnotateSettings(
        cluster=cluster,
        insecure=insecure,
        device=device,
        provider=provider,
        precision=precision.value,
        decoder=decoder,
        workers=workers,
        crop=crop,
        columns=wanted,
        redo=names_in(redo or None),
        max_bad=max_bad,
        stall_seconds=stall_seconds,
    )
    result = run(survey, to, model, settings, reporter())
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(result.statuses.items()))
    lines = [f"{to}: {result.rows} objects ({statuses})"]
    if result.annotated:
        lines += [
            f"  annotated {result.annotated} in {result.seconds:.1f} s, {result.rate:.0f} a second",
            f"  {result.limit}",
            f"  {result.placement}",
        ]
    else:
        lines += ["  complete already: nothing to do"]
    lines += [
        f"  damaged in the survey: {chunk}; restore it from a copy" for chunk in result.damaged
    ]
    show(json_, lines, result.to_json() | {"catalog": str(to)})


@app.command()
def audit(
    source: Annotated[str, typer.Argument(help="Catalog, or any table with an answer column.")],
    to: Annotated[Path, typer.Option("--to", callback=on_disk, help="NAME.audit to make.")],
    answer: Annotated[str, typer.Option(help="The answer whose fraction is audited.")] = "spiral",
    among: Annotated[
        str | None,
        typer.Option(help="What it is a fraction of: spiral|elliptical, or all, mergers too."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Answer column of a foreign table.")] = None,
    ra: Annotated[str | None, typer.Option(help="Right ascension column.")] = None,
    dec: Annotated[str | None, typer.Option(help="Declination column.")] = None,
    probabilities: Annotated[bool, typer.Option(help="Sum probabilities, not labels.")] = False,
    weights: Annotated[str | None, typer.Option(help="Column of weights of the answers.")] = None,
    order: Annotated[int | None, typer.Option(help="HEALPix order of the tests.")] = None,
    effect: Annotated[float, typer.Option(help="Dipole that must be detectable.")] = 0.02,
    covariates: Annotated[
        str | None,
        typer.Option(help="alpha,seeing,ebv=MAP.fits: columns or maps to be regressed on."),
    ] = None,
    intrinsic: Annotated[
        str | None, typer.Option(help="Covariates of the galaxies themselves: mass,colour.")
    ] = None,
    alpha: Annotated[float, typer.Option(help="Level of the alarm.")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the Monte Carlo.")] = 0,
    truth: Annotated[
        str | None, typer.Option(help="Labels: a column, or TABLE[:COLUMN] by id or position.")
    ] = None,
    labels_blind: Annotated[
        bool,
        typer.Option(
            "--labels-blind",
            help="Declare: labelled objects are a random draw in each place, unseen in training.",
        ),
    ] = False,
    region: Annotated[
        str | None,
        typer.Option(help="Where labels are compared: ra=0:20,dec=0:20 or cap:RA,DEC,RADIUS."),
    ] = None,
    correct: Annotated[
        bool, typer.Option("--correct", help="Write fractions corrected by the labels.")
    ] = False,
    precision: Annotated[
        float, typer.Option(help="Half width of a corrected fraction, to count needed labels.")
    ] = 0.01,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Another catalog of the same objects, paired by id; repeatable."),
    ] = None,
    swap: Annotated[
        list[str] | None,
        typer.Option(help="GROUP=CATALOG for every seed of two training skies; repeatable."),
    ] = None,
    experiments: Annotated[
        list[str] | None,
        typer.Option(help="Folder of blank-sky or sky-probe, shown, not judged; repeatable."),
    ] = None,
    cutouts: Annotated[
        str | None, typer.Option(help="Survey store, to show galaxies of deviant tiles.")
    ] = None,
    training_sky: Annotated[
        str | None, typer.Option(help="Bundle, or MOC, of the training sky, to outline it.")
    ] = None,
    fail_on: Annotated[str | None, typer.Option(help="anisotropic: exit 4 when found.")] = None,
    json_: Json = False,
    config: Config = None,
) -> None:
    """Say whether the fraction of an answer is uniform over the sky."""
    from catalogs.audit.run import audit as run
    from catalogs.audit.run import summary_lines
    from catalogs.audit.settings import AuditSettings
    from engine.training_sky import training_sky_of

    if fail_on not in (None, "anisotropic"):
        raise InputError(f"--fail-on {fail_on!r} is not 'anisotropic'")
    settings = AuditSettings(
        answer=answer,
        among=among,
        label=label,
        ra=ra,
        dec=dec,
        probabilities=probabilities,
        weights=weights,
        order=order,
        effect=effect,
        alpha=alpha,
        seed=seed,
        covariates=names_in(covariates),
        intrinsic=names_in(intrinsic),
        truth=truth,
        labels_blind=labels_blind,
        region=region,
        correct=correct,
        precision=precision,
        compare=tuple(compare or ()),
        swap=tuple(swap or ()),
        experiments=tuple(experiments or ()),
        cutouts=cutouts,
        training_sky=training_sky or training_sky_of(source),
    )
    result = run(source, to, settings, reporter())
    found = {"verdict": result.verdict, "cause": result.document["cause"]}
    show(json_, summary_lines(result), {"audit": str(to), **found})
    if fail_on == "anisotropic" and result.verdict == "anisotropic":
        raise typer.Exit(ANISOTROPIC_STATUS)


@app.command()
def status(
    catalog: Annotated[str, typer.Argument(help="Annotated catalog.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file and compare it with its digest.")
    ] = False,
    json_: Json = False,
    config: Config = None,
) -> None:
    """Say how much of a catalog is done, while a run is at work or after it died."""
    from engine.status import catalog_status, verify_catalog

    found = catalog_status(catalog)
    verified = verify_catalog(catalog) if verify else 0
    head, *rest = found.lines()
    rest += [f"  {verified} files are what was written"] if verify else []
    show(
        json_,
        [f"{catalog}: {head}", *rest],
        fields(found) | {"verified": verified if verify else None},
    )


@app.command()
def convert(
    catalog: Annotated[str, typer.Argument(help="Complete annotated catalog.")],
    to: Annotated[
        Path,
        typer.Option("--to", callback=on_disk, help="FILE.fits, .vot, .csv or .parquet."),
    ],
    json_: Json = False,
    config: Config = None,
) -> None:
    """Write a catalog as one FITS, VOTable, CSV or Parquet file."""
    from catalogs.annotated.convert import convert as run

    rows = run(catalog, to)
    show(json_, [f"{to}: {rows} rows"], {"file": str(to), "rows": rows})


@app.command()
def doctor(json_: Json = False, config: Config = None) -> None:
    """Say what this machine offers, what would be chosen and why, and what is missing."""
    from engine.doctor import examine

    found = examine()
    show(json_, [str(finding) for finding in found], {"findings": [fields(f) for f in found]})


app.command()(simulate)


app.command(help=EXPERIMENT_HELP)(experiment)


@app.command()
def demo(
    to: Annotated[Path, typer.Option("--to", help="Folder for surveys and reports.")] = Path("out"),
    galaxies: Annotated[int, typer.Option(min=1000, help="Galaxies of the simulated sky.")] = 20000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sky.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    json_: Json = False,
    config: Config = None,
) -> None:
    """Simulate a sky, observe it evenly and unevenly, annotate both and audit both."""
    from experiments.demo import DemoSettings, demo_lines, run_demo

    result = run_demo(to, DemoSettings(galaxies=galaxies, seed=seed, workers=workers), reporter())
    show(json_, demo_lines(result), fields(result))


def main() -> None:
    """Run the command line."""
    run_app(app)


if __name__ == "__main__":
    main()
