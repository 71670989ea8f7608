"""Against the loops that a PyTorch user would write, on the same galaxies with the same weights."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.inputs import Inputs
from benchmarks.measure import annotated
from benchmarks.rows_engine import note
from benchmarks.table import Row
from engine.run import AnnotateSettings
from export.session import Precision

SECONDS_TO_COMPILE = 300
BEST_ENVIRONMENT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}


def against_torch(inputs: Inputs) -> list[Row]:
    """Rates and labels of both loops, in turns with ours."""
    fp32 = Row("fp32 against the plain PyTorch loop", reach=5)
    int8 = Row("int8 against the plain PyTorch loop", reach=15)
    best = Row("int8 against the best PyTorch loop", reach=4)
    fair = Row("fp32 against the best PyTorch loop")
    labels = {
        name: Row(f"labels equal, fp32 catalog and {name} loop", reach=99.9, unit="%")
        for name in ("plain", "best")
    }
    eight = Row("labels equal, int8 and fp32 catalogs", reach=99.5, unit="%")
    tuned, tried = _tune(inputs)
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    how = {
        precision: AnnotateSettings(workers=inputs.sizes.workers, precision=precision)
        for precision in precisions
    }
    found = {}
    for precision, settings in how.items():
        catalog = inputs.folder / f"catalog-{precision}"
        annotated(inputs.survey, inputs.network, settings, catalog)
        found[precision] = _catalog_labels(catalog)
    for _ in range(inputs.sizes.turns):
        rates = {
            precision: annotated(inputs.steady, inputs.network, settings).rate
            for precision, settings in how.items()
        }
        for kind, options in (("plain", []), ("best", tuned)):
            said = _loop(inputs, kind, options)
            rates[kind] = said["rate"]
            found[kind] = _csv_labels(inputs.folder / f"{kind}.csv")
            labels[kind].turns.append(_equal(found["fp32"], found[kind]))
        for row, ours, theirs in (
            (fp32, "fp32", "plain"),
            (int8, "int8", "plain"),
            (best, "int8", "best"),
            (fair, "fp32", "best"),
        ):
            row.turns.append(rates[ours] / rates[theirs])
            row.bound = f"{theirs} loop, {rates[theirs]:,.0f}/s"
            note(row, **rates)
    eight.turns.append(_equal(found["int8"], found["fp32"]))
    best.measured["tried"] = tried
    best.bound += f" ({' '.join(tuned)})"
    return [fp32, int8, best, fair, *labels.values(), eight]


def _tune(inputs: Inputs) -> tuple[list[str], list[dict[str, Any]]]:
    """Find the thread counts with which the best loop is best, and whether compiling helps."""
    grid = [
        ["--threads", str(threads), "--loaders", str(loaders)]
        for threads, loaders in product((1, 2), (2, 1))
    ]
    if not inputs.sizes.tuned:
        return grid[0], []
    tried = [(_loop(inputs, "best", options), options) for options in grid]
    said, options = max(tried, key=lambda pair: pair[0]["rate"])
    try:
        tried.append((_loop(inputs, "best", [*options, "--compile"]), [*options, "--compile"]))
    except subprocess.SubprocessError as error:
        said["compile"] = f"does not work here: {type(error).__name__}"
    _, options = max(tried, key=lambda pair: pair[0]["rate"])
    return options, [said for said, _ in tried]


def _loop(inputs: Inputs, kind: str, options: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.baseline", kind, "--run", str(inputs.run)]
    command += ["--images", str(inputs.files), "--to", str(inputs.folder / f"{kind}.csv"), *options]
    environment = os.environ | (BEST_ENVIRONMENT if kind == "best" else {})
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=SECONDS_TO_COMPILE if "--compile" in options else None,
        cwd=Path(__file__).resolve().parent.parent,
    )
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def _catalog_labels(catalog: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    for file in sorted(catalog.rglob("Npix=*.parquet")):
        table = pq.ParquetFile(file).read(["id", "label"])
        found.update(zip(table["id"].to_pylist(), table["label"].to_pylist(), strict=True))
    return found


def _csv_labels(file: Path) -> dict[int, str]:
    with file.open() as stream:
        return {int(row["id"]): row["label"] for row in csv.DictReader(stream)}


def _equal(ours: dict[int, str], theirs: dict[int, str]) -> float:
    """Return how many of the objects that both have are labelled alike [%]."""
    both = ours.keys() & theirs.keys()
    if not both:
        raise ValueError("the catalogs have no object in common")
    return 100 * sum(ours[name] == theirs[name] for name in both) / len(both)
