"""Annotate a simulated survey on the processor and on the card, and compare the catalogs.

For a person with an NVIDIA card and `pip install 'skytally[gpu]'`:

    python -m benchmarks.gpu_check [--galaxies 20000] [--cluster local|cuda]

Prints the share of equal labels, the largest difference of a probability, and the rates of the
stages of both. Ends with 0 when the catalogs agree, 1 when they do not, 2 without a usable card.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from catalogs.errors import InputError
from catalogs.survey.tables import read_table
from catalogs.synthetic.simulate import SimulationSettings, simulate
from engine.placement import place
from engine.run import AnnotateSettings, annotate
from engine.summary import AnnotateResult

LABELS_EQUAL = 0.999  # a card decodes and adds up otherwise; labels at the threshold may differ


@dataclass(frozen=True)
class Comparison:
    """How two catalogs of one survey differ."""

    rows: int
    labels_equal: float
    largest_difference: float
    statuses_equal: bool

    @property
    def agree(self) -> bool:
        return self.statuses_equal and self.labels_equal >= LABELS_EQUAL


def compare(first: Path, second: Path) -> Comparison:
    """Compare labels, statuses and probabilities, object by object."""
    tables = [read_table(path).sort_by("input_row") for path in (first, second)]
    one, other = tables
    if one["id"] != other["id"]:
        raise InputError(f"{first} and {second} do not hold the same objects")
    names = [name for name in one.column_names if name.startswith("p_")]
    differences = [
        np.abs(one[name].to_numpy() - other[name].to_numpy(), dtype=np.float64) for name in names
    ]
    equal = np.asarray(
        [a == b for a, b in zip(one["label"].to_pylist(), other["label"].to_pylist(), strict=True)]
    )
    return Comparison(
        rows=len(equal),
        labels_equal=float(equal.mean()),
        largest_difference=float(max(np.nanmax(d, initial=0.0) for d in differences)),
        statuses_equal=one["status"] == other["status"],
    )


def rates(result: AnnotateResult) -> list[str]:
    """Return lines with the rate of every stage: objects per second of its own time."""
    lines = [f"  {result.placement}", f"  {result.rate:,.0f} objects/s, start-up included"]
    for stage, seconds in asdict(result.stages).items():
        rate = f"{result.annotated / seconds:>12,.0f} objects/s" if seconds else "           -"
        lines.append(f"  {stage:<8} {rate}")
    return lines


def check(folder: Path, galaxies: int, cluster: str, device: str = "cuda") -> Comparison:
    """Annotate on the processor and on the device, print both, and compare."""
    survey = folder / "sky.zarr"
    simulate(survey, SimulationSettings(galaxies=galaxies))
    catalogs = []
    for name, settings in (
        ("processor", AnnotateSettings(device="cpu")),
        ("card", AnnotateSettings(device=device, cluster=cluster)),
    ):
        catalogs.append(folder / name)
        result = annotate(survey, catalogs[-1], settings=settings)
        print("\n".join([f"{name}:", *rates(result)]), flush=True)
    found = compare(*catalogs)
    print(
        f"{found.rows} objects: {found.labels_equal:.5%} of the labels equal, largest difference "
        f"of a probability {found.largest_difference:.2g}"
    )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--galaxies", type=int, default=20_000)
    parser.add_argument("--cluster", default="local", help="local (one card) or cuda (all)")
    arguments = parser.parse_args()
    try:
        place("cuda", cluster=arguments.cluster)
        with tempfile.TemporaryDirectory() as folder:
            found = check(Path(folder), arguments.galaxies, arguments.cluster)
    except InputError as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        return 2
    return 0 if found.agree else 1


if __name__ == "__main__":
    sys.exit(main())
