"""The demonstration on many seeds: how often is the even sky uniform and the uneven anisotropic?

    python benchmarks/demo_seeds.py --seeds 20 --to out/seeds

Verdicts are kept in ``verdicts.jsonl`` with the bundle that gave them, so an interrupted run goes
on where it stopped. By chance alone an even sky raises an alarm on about one seed in 25.
"""

import argparse
import json
import shutil
from collections import Counter
from pathlib import Path

from experiments.demo import SURVEYS, DemoSettings, run_demo
from export.bundle import Bundle, shipped

EXPECTED = {"even": "uniform", "uneven": "anisotropic"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="seeds 1 to this")
    parser.add_argument("--first", type=int, default=1, help="first seed")
    parser.add_argument("--galaxies", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--to", type=Path, default=Path("out/seeds"))
    parser.add_argument("--keep", action="store_true", help="keep surveys and catalogs")
    given = parser.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    journal = given.to / "verdicts.jsonl"
    lines = journal.read_text().splitlines() if journal.exists() else []
    bundle = Bundle.open(shipped()).sha256
    done = {
        row["seed"]: row
        for row in map(json.loads, lines)
        if (row["galaxies"], row["bundle"]) == (given.galaxies, bundle)
    }
    rows = []
    for seed in range(given.first, given.seeds + 1):
        row = done.get(seed)
        if row is None:
            row = one_seed(given, seed, bundle)
            with journal.open("a") as file:
                file.write(json.dumps(row) + "\n")
        rows.append(row)
        print(f"seed {seed:3d}  " + "  ".join(describe(row, name) for name in SURVEYS), flush=True)
    for name in SURVEYS:
        counts = Counter(row[name]["verdict"] for row in rows)
        print(
            f"{name}: {counts[EXPECTED[name]]} of {len(rows)} {EXPECTED[name]}"
            f"  ({dict(sorted(counts.items()))})"
        )
    return 0


def one_seed(given: argparse.Namespace, seed: int, bundle: str) -> dict:
    out = given.to / f"seed-{seed:03d}"
    result = run_demo(out, DemoSettings(given.galaxies, seed, given.workers))
    row = {
        "seed": seed,
        "galaxies": given.galaxies,
        "bundle": bundle,
        "seconds": round(result.seconds, 1),
    }
    for outcome in result.surveys:
        row[outcome.conditions] = {
            "verdict": outcome.verdict,
            "p": outcome.alarm_p,
            "dipole": outcome.dipole,
            "fraction": outcome.fraction,
        }
    if not given.keep:
        shutil.rmtree(out)
    return row


def describe(row: dict, name: str) -> str:
    found = row[name]
    return (
        f"{name}: {found['verdict']:<12} p {found['p']:<7.2g} dipole {found['dipole']:.3f} "
        f"spirals {found['fraction']:.3f}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
