"""The command line of skytally: wires the commands together and imports what they need, lazily.

Results go to standard output (as text, or as one JSON object with ``--json``); progress goes to
standard error (a bar on a terminal, one-line JSON events elsewhere). Exit status: 0 complete,
2 bad input, 3 too many bad rows, 4 anisotropic with ``--fail-on anisotropic``, 20 a failure that
a retry will not mend, 75 busy, 1 a bug.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from catalogs.errors import InputError, SkytallyError

if TYPE_CHECKING:
    from catalogs.progress import Reporter

ANISOTROPIC_STATUS = 4
INTERRUPTED_STATUS = 130


class Precision(StrEnum):
    """Arithmetic of a network."""

    FP32 = "fp32"
    BF16 = "bf16"


app = typer.Typer(
    name="skytally",
    help="Annotate galaxy surveys with neural networks, and audit the annotated sky for bias.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make a TOML file's values the defaults of the command's flags."""
    if path is None:
        return None
    from catalogs.config import read_flags

    known = {
        option.lstrip("-"): parameter.name or ""
        for parameter in context.command.params
        for option in (*parameter.opts, parameter.name or "")
        if option.lstrip("-") != "config"
    }
    context.default_map = read_flags(path, context.command.name or "", known)
    return path


Config = Annotated[
    Path | None,
    typer.Option("--config", callback=_load_config, is_eager=True, help="TOML file of flags."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
MaxBad = Annotated[
    float, typer.Option("--max-bad", min=0, max=1, help="Largest fraction of unusable rows.")
]


@app.command()
def ingest(
    table: Annotated[Path, typer.Argument(help="CSV, Parquet, FITS, VOTable or HATS.")],
    images: Annotated[str, typer.Option(help="Folder of ID.jpeg/.jpg/.png, or a column of paths.")],
    to: Annotated[Path, typer.Option("--to", help="Survey store to make, NAME.zarr.")],
    id_column: Annotated[str, typer.Option("--id", help="Column of unique identifiers.")] = "id",
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
    """Put a table and its images into a survey store; rows without a place are quarantined."""
    from catalogs.schema import ClassMap
    from catalogs.survey.ingest import IngestSettings
    from catalogs.survey.ingest import ingest as run

    class_map = None if classes is None else ClassMap.parse(classes)
    settings = IngestSettings(id_column, ra, dec, class_map, class_column, max_bad, crop)
    result = run(table, images, to, settings, _reporter())
    why = ", ".join(f"{count} {reason}" for reason, count in result.reasons.items())
    lines = [f"{to}: {result.stored} objects stored, {result.quarantined} quarantined"]
    lines += [f"  quarantined: {why}"] if why else []
    lines += [f"  {result.unused_images} images have no row"] if result.unused_images else []
    _show(json_, lines, {"store": str(to), **_fields(result)})


@app.command()
def train(
    survey: Annotated[Path, typer.Argument(help="Survey store with a label column.")],
    to: Annotated[Path, typer.Option("--to", help="Run to make, or to go on with: NAME.run.")],
    label: Annotated[
        str | None, typer.Option(help="Column of class names; 'label' by default.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Network; shamir by default.")] = None,
    preset: Annotated[str, typer.Option(help="default, or paper (250 epochs).")] = "default",
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="TOML of every training setting.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the galaxies.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")] = None,
    spiral_from: Annotated[
        str | None, typer.Option(help="Region RA0..RA1,DEC0..DEC1 of the training spirals.")
    ] = None,
    elliptical_from: Annotated[
        str | None, typer.Option(help="The same for the training ellipticals.")
    ] = None,
    json_: Json = False,
    config: Config = None,
) -> None:
    """Train a network on sky-blocked splits; run again, it goes on where it stopped."""
    _need("torch", "train")
    from training.run import train as run
    from training.settings import read_settings

    chosen = {
        "model": model,
        "label": label,
        "epochs": epochs,
        "seed": seed,
        "regions": {
            name: region
            for name, region in (("spiral", spiral_from), ("elliptical", elliptical_from))
            if region is not None
        },
    }
    given = {name: value for name, value in chosen.items() if value not in (None, {})}
    result = run(survey, to, read_settings(preset, settings_file, given), _reporter())
    lines = [f"{to}: trained, hold-out of {_count_of(result.counts, 'test')} galaxies"]
    lines += [
        f"  {name:<22} {m.value:.4f}  (95% {m.low:.4f} to {m.high:.4f})"
        for name, m in result.metrics.items()
    ]
    _show(json_, lines, _fields(result))


@app.command()
def export(
    run: Annotated[Path | None, typer.Argument(help="Trained NAME.run.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="NAME.bundle to make.")] = None,
    check: Annotated[Path | None, typer.Option(help="Verify this bundle instead.")] = None,
    replace: Annotated[bool, typer.Option(help="Put it in the place of an old bundle.")] = False,
    json_: Json = False,
    config: Config = None,
) -> None:
    """Turn a trained network into an ONNX bundle that is proven equal to it."""
    if check is not None:
        from export.check import check as verify

        checked = verify(check)
        lines = [f"{check}: every file is as it was made, sha256 {checked.sha256[:16]}"]
        _show(json_, lines, {"bundle": str(check), "sha256": checked.sha256})
        return
    if run is None or to is None:
        raise InputError("export takes NAME.run and --to NAME.bundle, or --check NAME.bundle")
    _need("torch", "train")
    from export.convert import export as convert_run

    bundle = convert_run(run, to, _reporter(), replace=replace)
    parity = bundle.manifest.parity
    against = (
        f"  PyTorch against ONNX Runtime: largest difference {parity.max_abs_difference:.2g}, "
        f"{parity.label_differences} labels differ, {parity.images} images"
    )
    lines = [f"{to}: exported, sha256 {bundle.sha256[:16]}", against]
    _show(json_, lines, {"bundle": str(to), "sha256": bundle.sha256, **parity.model_dump()})


@app.command()
def annotate(
    survey: Annotated[Path, typer.Argument(help="Survey store, NAME.zarr.")],
    to: Annotated[Path, typer.Option("--to", help="Catalog to make, or to go on with.")],
    model: Annotated[Path | None, typer.Option(help="Bundle; skytally's own by default.")] = None,
    cluster: Annotated[str, typer.Option(help="local, or a scheduler's address.")] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="Local processes.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    provider: Annotated[str | None, typer.Option(help="cpu, openvino, cuda or tensorrt.")] = None,
    precision: Annotated[Precision, typer.Option(help="Arithmetic.")] = Precision.FP32,
    decoder: Annotated[str | None, typer.Option(help="dali or reference.")] = None,
    crop: Annotated[int | None, typer.Option(min=1, help="Pixels the network sees.")] = None,
    columns: Annotated[
        str | None, typer.Option(help="Survey columns to carry, comma-separated; all by default.")
    ] = None,
    max_bad: MaxBad = 0.05,
    json_: Json = False,
    config: Config = None,
) -> None:
    """Annotate every object exactly once; killed and run again, it goes on where it stopped."""
    from dataclasses import asdict

    from engine.run import AnnotateSettings
    from engine.run import annotate as run

    wanted = None if columns is None else tuple(c.strip() for c in columns.split(",") if c.strip())
    settings = AnnotateSettings(
        cluster=cluster,
        device=device,
        provider=provider,
        precision=precision.value,
        decoder=decoder,
        workers=workers,
        crop=crop,
        columns=wanted,
        max_bad=max_bad,
    )
    result = run(survey, to, model, settings, _reporter())
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(result.statuses.items()))
    lines = [f"{to}: {result.rows} objects ({statuses})"]
    if result.annotated:
        stages = ", ".join(f"{k} {v:.1f} s" for k, v in asdict(result.stages).items())
        lines += [
            f"  annotated {result.annotated} in {result.seconds:.1f} s, {result.rate:.0f} a second",
            f"  worker time: {stages}",
            f"  {result.placement}",
        ]
    else:
        lines += ["  complete already: nothing to do"]
    _show(json_, lines, _fields(result) | {"objects_per_second": result.rate})


@app.command()
def audit(
    source: Annotated[Path, typer.Argument(help="Catalog, or any table with an answer column.")],
    to: Annotated[Path, typer.Option("--to", help="NAME.audit to make.")],
    answer: Annotated[str, typer.Option(help="The answer whose fraction is audited.")] = "spiral",
    label: Annotated[str | None, typer.Option(help="Answer column of a foreign table.")] = None,
    ra: Annotated[str | None, typer.Option(help="Right ascension column.")] = None,
    dec: Annotated[str | None, typer.Option(help="Declination column.")] = None,
    probabilities: Annotated[bool, typer.Option(help="Sum probabilities, not labels.")] = False,
    order: Annotated[int | None, typer.Option(help="HEALPix order of the tests.")] = None,
    effect: Annotated[float, typer.Option(help="Dipole that must be detectable.")] = 0.02,
    alpha: Annotated[float, typer.Option(help="Level of the alarm.")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the Monte Carlo.")] = 0,
    fail_on: Annotated[str | None, typer.Option(help="anisotropic: exit 4 when found.")] = None,
    json_: Json = False,
    config: Config = None,
) -> None:
    """Say whether the fraction of an answer is uniform over the sky."""
    from catalogs.audit.run import audit as run
    from catalogs.audit.run import summary_lines
    from catalogs.audit.settings import AuditSettings

    if fail_on not in (None, "anisotropic"):
        raise InputError(f"--fail-on {fail_on!r} is not 'anisotropic'")
    settings = AuditSettings(
        answer=answer,
        label=label,
        ra=ra,
        dec=dec,
        probabilities=probabilities,
        order=order,
        effect=effect,
        alpha=alpha,
        seed=seed,
    )
    result = run(source, to, settings, _reporter())
    _show(json_, summary_lines(result), {"audit": str(to), "verdict": result.verdict})
    if fail_on == "anisotropic" and result.verdict == "anisotropic":
        raise typer.Exit(ANISOTROPIC_STATUS)


@app.command()
def status(
    catalog: Annotated[Path, typer.Argument(help="Annotated catalog.")],
    json_: Json = False,
    config: Config = None,
) -> None:
    """Say how much of a catalog is done, from its receipts."""
    from catalogs.storage.place import open_place
    from engine.ledger import Ledger

    ledger = Ledger(open_place(catalog))
    plan = ledger.plan()
    receipts = ledger.receipts(plan)
    done = sum(receipt.rows for receipt in receipts.values())
    facts = {
        "rows": plan.rows,
        "done": done,
        "pixels": len(plan.work()),
        "pixels_done": len(receipts),
        "complete": done == plan.rows,
    }
    line = (
        f"{catalog}: {done} of {plan.rows} objects, {len(receipts)} of "
        f"{len(plan.work())} pixels done"
    )
    _show(json_, [line], facts)


@app.command()
def convert(
    catalog: Annotated[Path, typer.Argument(help="Complete annotated catalog.")],
    to: Annotated[Path, typer.Option("--to", help="FILE.fits, .vot, .csv or .parquet.")],
    json_: Json = False,
    config: Config = None,
) -> None:
    """Write a catalog as one FITS, VOTable, CSV or Parquet file."""
    from catalogs.annotated.convert import convert as run

    rows = run(catalog, to)
    _show(json_, [f"{to}: {rows} rows"], {"file": str(to), "rows": rows})


@app.command()
def doctor(json_: Json = False, config: Config = None) -> None:
    """Say what this machine offers: decoders, providers, cores."""
    from engine.placement import doctor_report

    facts = doctor_report()
    _show(json_, [f"{name:<20} {value}" for name, value in facts.items()], facts)


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

    result = run_demo(to, DemoSettings(galaxies=galaxies, seed=seed, workers=workers), _reporter())
    _show(json_, demo_lines(result), _fields(result))


def _reporter() -> Reporter:
    from catalogs.progress import Bars, JsonEvents

    if not sys.stderr.isatty():
        return JsonEvents()
    bars = Bars()
    atexit.register(bars.close)  # after an error too, or the terminal's cursor stays hidden
    return bars


def _show(as_json: bool, lines: list[str], facts: dict[str, Any]) -> None:
    text = json.dumps(facts, default=str) if as_json else "\n".join(lines)
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as error:
        # Python's own flush at exit would end in a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # then the reader has seen enough
            _fail(f"the result cannot be printed: {error.strerror}", SkytallyError.exit_status)


def _fields(result: Any) -> dict[str, Any]:  # noqa: ANN401  (any result dataclass)
    from dataclasses import asdict

    return asdict(result)


def _count_of(counts: dict[str, dict[str, int]], role: str) -> int:
    return sum(counts.get(role, {}).values())


def _need(module: str, extra: str) -> None:
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise InputError(f"{module} is not installed; pip install 'skytally[{extra}]'")


def _fail(message: str, exit_status: int) -> NoReturn:
    sys.stderr.write(f"skytally: {' '.join(message.split())}\n")
    raise SystemExit(exit_status)


def main() -> None:
    """Run the command line; every foreseen failure is one line and an exit status."""
    # Typer carries its own copy of click; its base classes are reached through a public one.
    usage_error: Any = typer.BadParameter.__mro__[2]
    try:
        outcome = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except SkytallyError as error:
        _fail(str(error), error.exit_status)
    except usage_error as error:
        _fail(f"{error.format_message().rstrip('.')}; see --help", InputError.exit_status)
    except (typer.Abort, KeyboardInterrupt):
        outcome = INTERRUPTED_STATUS
    if outcome == INTERRUPTED_STATUS:  # also Typer's own answer to Ctrl-C
        _fail("stopped; run the same command again to go on", INTERRUPTED_STATUS)
    raise SystemExit(outcome if isinstance(outcome, int) else 0)


if __name__ == "__main__":
    main()
