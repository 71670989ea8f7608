"""Compare simulated galaxies with real ones: pictures, distributions, networks.

    python -m benchmarks.realism [--store out/realism/sky.zarr] [--only pages distances networks]

The real galaxies are those of ``../shared/data``. Pages and tables go to ``--to``; the pages hold
real pictures and must not be committed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.realism import networks
from benchmarks.realism.distances import distances, told_apart
from benchmarks.realism.measures import MEASURES, measure_kept
from benchmarks.realism.pages import CREDIT, histograms, pairs, sheet, write_page
from benchmarks.realism.samples import (
    CLASSES,
    Sample,
    Simulated,
    draw,
    nearest,
    observed_again,
    real_sample,
    real_table,
)
from catalogs.synthetic.neighbours import REAL_DENSITY
from catalogs.synthetic.settings import SimulationSettings
from engine.simulate import simulate

# Two measures that say the same: only one of them may count.
INDEPENDENT = [name for name in MEASURES if name != "half-light over frame"]


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A real and a simulated sample of one class."""

    name: str
    kind: str
    real: Sample
    simulated: Sample


def samples(given: argparse.Namespace, simulated: Simulated) -> list[Pair]:
    """Return both comparisons of both classes: paired by catalogued size, and as drawn."""
    table = real_table(given.data)
    found = []
    for kind in CLASSES:
        members = table[table["kind"] == kind]
        sized = members[members["radius"].notna()]
        sized = sized.iloc[draw(np.arange(len(sized)), given.limit, given.seed)]
        rows = simulated.rows_of(kind)
        partner = nearest(sized["radius"].to_numpy(), simulated.radius[rows])
        found.append(
            Pair(
                "same size",
                kind,
                real_sample(given.data, sized, simulated.size),
                simulated.sample(rows[np.concatenate(partner)]),
            )
        )
        drawn = members.iloc[draw(np.arange(len(members)), given.limit, given.seed)]
        found.append(
            Pair(
                "as drawn",
                kind,
                real_sample(given.data, drawn, simulated.size),
                simulated.sample(draw(rows, given.limit, given.seed)),
            )
        )
    return found


def write_pages(given: argparse.Namespace, simulated: Simulated, chosen: list[Pair]) -> None:
    """Write the gallery and the pairs."""
    parts = {}
    for kind in np.unique(simulated.classes):
        rows = draw(simulated.rows_of(kind), 72, given.seed)
        pictures = list(simulated.sample(rows).pictures)
        parts[str(kind)] = (f"{len(rows)} drawn at random", sheet(pictures, 8), "sheet")
    again = observed_again(8, given.seed, simulated.size)
    parts["the same galaxies under several conditions"] = (
        "By row: " + ", ".join(again),
        sheet(list(np.concatenate(list(again.values()))), 8),
        "sheet",
    )
    write_page(
        given.to / "gallery.html", "Simulated galaxies", simulated.store.attributes.name, parts
    )
    parts = {}
    for pair in chosen:
        few = draw(np.arange(len(pair.real)), 40, given.seed)
        others = few if pair.name == "same size" else few[few < len(pair.simulated)]
        image = pairs(pair.real[few], pair.simulated[others], 8)
        note = "Odd rows are real; below each, a simulated galaxy"
        note += " of its size." if pair.name == "same size" else ", any of this class."
        parts[f"{pair.kind} {pair.name}"] = (note, image, "sheet")
    write_page(given.to / "pairs.html", "Real and simulated galaxies", CREDIT, parts)


def measure_distances(given: argparse.Namespace, chosen: list[Pair]) -> dict[str, object]:
    """Measure all samples, write tables and histograms, and return the numbers."""
    found, plots, lines = {}, {}, []
    for pair in chosen:
        title = f"{pair.kind} {pair.name}"
        real, simulated = (
            measure_kept(title.replace(" ", "-"), sample, given.to)
            for sample in (pair.real, pair.simulated)
        )
        apart = distances(real, simulated, list(MEASURES))
        told = told_apart(real, simulated, INDEPENDENT)
        plots[title] = (
            f"told apart with ROC AUC {told.value:.3f}",
            histograms(real, simulated),
            "plot",
        )
        found[title] = {
            "galaxies": [len(real), len(simulated)],
            "told_apart": dataclasses.asdict(told),
            "measures": apart.to_dict(orient="index"),
        }
        lines.append(
            f"\n{title}: {len(real)} real, {len(simulated)} simulated; told apart with "
            f"ROC AUC {told.value:.3f} ({told.low:.3f} to {told.high:.3f})\n"
        )
        lines.append(markdown(apart))
    write_page(given.to / "distributions.html", "Distributions", CREDIT, plots)
    report = "\n".join(lines)
    (given.to / "distances.md").write_text(report + "\n")
    print(report)
    return found


def markdown(apart: pd.DataFrame) -> str:
    """Return the table of one comparison."""
    lines = [
        "| measure | real | simulated | KS (chance) | Wasserstein / σ (chance) |",
        "|---|---|---|---|---|",
    ]
    for name, row in apart.iterrows():
        lines.append(
            f"| {name} | {row.real:.3g} | {row.simulated:.3g} | {row.ks:.2f} ({row.ks_chance:.2f}) "
            f"| {row.wasserstein:.2f} ({row.wasserstein_chance:.2f}) |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--to", type=Path, default=Path("out/realism"))
    parser.add_argument("--store", type=Path, help="simulated when it is not there yet")
    parser.add_argument("--galaxies", type=int, default=3000)
    parser.add_argument("--size", type=int, default=120)
    parser.add_argument("--label", choices=("truth", "human_label"), default="truth")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--limit", type=int, default=150, help="galaxies per sample")
    parser.add_argument("--tested", type=int, default=1500, help="real galaxies of a network")
    parser.add_argument("--workers", type=int, default=2)
    parts = ("pages", "distances", "networks")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    given = parser.parse_args()
    given.store = given.store or given.to / "sky.zarr"
    sky = SimulationSettings(
        given.galaxies,
        given.seed,
        conditions="survey",  # a drift-scan survey's, with its accidents: what Galaxy Zoo saw
        neighbours=REAL_DENSITY,
        size=given.size,
        workers=given.workers,
    )
    make(given.store, sky)
    simulated = Simulated.open(given.store, given.label)
    result: dict[str, object] = {
        "store": str(given.store),
        "label": given.label,
        "size": simulated.size,
    }
    if {"pages", "distances"} & set(given.only):
        chosen = samples(given, simulated)
        if "pages" in given.only:
            write_pages(given, simulated, chosen)
        if "distances" in given.only:
            result["distances"] = measure_distances(given, chosen)
    if "networks" in given.only:
        auc = networks.shipped_on_simulated(simulated, 3000, given.seed)
        print(f"real to simulated: {told(auc)}", flush=True)
        table = real_table(given.data)
        table = table.iloc[draw(np.arange(len(table)), given.tested, given.seed)]
        # Other galaxies than those measured, and of the two classes only.
        lessons, seed = given.to / "lessons.zarr", given.seed + 1
        make(lessons, dataclasses.replace(sky, seed=seed, irregulars=0.0, mergers=0.0))
        back = networks.simulated_on_real(lessons, given.label, given.data, table, given.to)
        print(f"simulated to real: {told(back)}")
        result["networks"] = {
            "real to simulated": dataclasses.asdict(auc),
            "simulated to real": dataclasses.asdict(back),
        }
    (given.to / "realism.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0


def make(store: Path, settings: SimulationSettings) -> None:
    """Simulate a store, unless there is one."""
    if not store.exists():
        store.parent.mkdir(parents=True, exist_ok=True)
        simulate(store, settings)


def told(auc: networks.Measured) -> str:
    return f"ROC AUC {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f}), {auc.n} galaxies"


if __name__ == "__main__":
    sys.exit(main())
