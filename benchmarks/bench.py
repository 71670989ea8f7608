"""Every number that skytally should reach, measured in one run on this machine.

Subject and baseline take turns, since machines are noisy; a row's value is the median of the
ratios of its turns. Steady rates leave out starting and ending; start-up is in the JSON file.

    python -m benchmarks.bench [--quick] [--only decode_bound dask …] [--rows 10_000_000]
"""

from __future__ import annotations

import argparse
import datetime
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks import rows_engine, rows_memory, rows_resume, rows_session, rows_torch
from benchmarks.inputs import QUICK, Inputs, Sizes
from benchmarks.table import Row, machine, markdown, write

RESULTS = Path(__file__).resolve().parent / "results"
GROUPS: dict[str, Callable[[Inputs], list[Row]]] = {
    "compute_bound": rows_engine.compute_bound,
    "decode_bound": rows_engine.decode_bound,
    "against_torch": rows_torch.against_torch,
    "precisions": rows_session.precisions,
    "openvino": rows_session.openvino,
    "workers_memory": rows_memory.workers,
    "plan": rows_memory.plan,
    "dask": rows_engine.dask,
    "resume": rows_resume.resume,
    "raw": rows_memory.raw,
}


def measure(inputs: Inputs, wanted: list[str]) -> list[Row]:
    """Measure groups of rows; one that fails says so and costs only itself."""
    rows = []
    for name in wanted:
        began = time.perf_counter()
        try:
            found = GROUPS[name](inputs)
        except Exception as error:  # noqa: BLE001  (the other rows are worth having)
            traceback.print_exc()
            found = [Row(name, missing=f"failed: {type(error).__name__}: {error}"[:200])]
        for row in found:
            print(" | ".join(row.cells()), file=sys.stderr, flush=True)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        rows += found
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="all rows, small: figures mean little")
    parser.add_argument("--only", nargs="+", choices=GROUPS, help="some groups of rows")
    parser.add_argument("--turns", type=int, help="how often subject and baseline take turns")
    parser.add_argument("--rows", type=int, help="raw cutouts")
    parser.add_argument("--sizes", nargs="+", default=[], help="others: many=200000 …")
    parser.add_argument("--name", default="bench", help="of the file of results")
    parser.add_argument("--to", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--scratch", type=Path, help="folder for surveys, 6 GB")
    chosen = parser.parse_args()
    sizes = QUICK if chosen.quick else Sizes()
    others = {name: int(value) for name, _, value in (s.partition("=") for s in chosen.sizes)}
    given = {"turns": chosen.turns, "raw": chosen.rows} | others
    sizes = replace(sizes, **{name: value for name, value in given.items() if value})
    folder = Path(tempfile.mkdtemp(prefix="skytally-bench-", dir=chosen.scratch))
    facts = machine() | {
        "sizes": sizes,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    try:
        rows = measure(Inputs(folder, sizes), chosen.only or list(GROUPS))
    finally:
        shutil.rmtree(folder)
    print(
        f"{facts['processor']}, {facts['cores']} cores, {', '.join(facts['features'])}; load ",
        end="",
    )
    print(f"{facts['load_before'][0]:.1f} before; {facts['versions']}\n")
    print(markdown(rows))
    to = chosen.to / f"{chosen.name}-{facts['date']}.json"
    write(to, facts, rows)
    print(f"\n{to}")
    return any(row.missing.startswith("failed") for row in rows)


if __name__ == "__main__":
    sys.exit(main())
