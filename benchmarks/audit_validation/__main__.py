"""Measure every row of what the audit must hold, and write the table.

    python -m benchmarks.audit_validation [--only ROW …] [--skies N] [--to FOLDER]

Each finished row is a line of FOLDER/rows.jsonl, and is not done again; remove its line, or the
file, to have it done again. The table goes to docs/results/audit-validation.md when all rows have
been measured with their full number of skies.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.audit_validation import (
    bias,
    causes,
    clustered,
    conditions,
    detection,
    left_out,
    table,
)
from benchmarks.audit_validation.row import Row

RESULT = Path("docs/results/audit-validation.md")

# In the order of the table: how a row is measured, and with how many skies.
ROWS: dict[str, tuple[Callable[[int], Row], int]] = {
    "isotropic": (detection.isotropic, 4000),
    "uneven": (detection.uneven, 400),
    **{f"weights-{kind}": (partial(detection.weighted, kind), 400) for kind in detection.WEIGHTED},
    "dipole-half": (partial(detection.dipole, 0.005), 1000),
    "dipole-one": (partial(detection.dipole, 0.01), 1000),
    "region": (detection.fixed_region, 1000),
    "region-random": (detection.random_region, 1000),
    "overdispersion": (detection.extra_variance, 1000),
    "unclustered": (partial(clustered.clustered, 0.0), 200),
    "unclustered-dipole": (partial(clustered.clustered, 0.0, dipole=0.005), 200),
    "clustered-half": (partial(clustered.clustered, 0.005), 200),
    "clustered-one": (partial(clustered.clustered, 0.01), 200),
    "clustered-dipole": (partial(clustered.clustered, 0.005, dipole=0.01), 100),
    "seeing-two": (partial(conditions.seeing_skies, 0.02, 0.0, at_most=0.08), 4000),
    "seeing-five": (partial(conditions.seeing_skies, 0.05, 0.0, at_most=0.08), 4000),
    "seeing-dipole-half": (partial(conditions.seeing_skies, 0.05, 0.005), 1000),
    "seeing-dipole-one": (partial(conditions.seeing_skies, 0.05, 0.01, at_least=0.95), 1000),
    **{f"cause-{name}": (partial(causes.attribution, name), 1000) for name in causes.CASES},
    "cause-bright": (causes.bright, 1000),
    "cause-easier": (causes.easier, 1000),
    "cause-answers-missing": (left_out.abstains, 1000),
    "cause-sky-answers-missing": (left_out.abstains_evenly, 1000),
    "cause-experts-unsure": (left_out.unsure, 1000),
    "cause-learnt-from": (left_out.learnt, 1000),
    **{f"compared-{name}": (partial(causes.compared, name), 2000) for name in causes.COMPARED},
    "discoveries": (detection.discoveries, 1000),
    "theta": (bias.theta, 40),
    "noise-floor": (bias.noise_floor, 100),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--skies", type=int, help="at most so many of each row")
    parser.add_argument("--to", type=Path, default=Path("out/audit-validation"))
    asked = parser.parse_args()
    asked.to.mkdir(parents=True, exist_ok=True)
    log = asked.to / "rows.jsonl"
    done = read(log)
    for name in asked.only or ROWS:
        measure, skies = ROWS[name]
        skies = min(skies, asked.skies or skies)
        if name in done and done[name].skies >= skies:
            continue
        start = time.process_time()
        row = measure(skies)
        row.seconds = round(time.process_time() - start, 1)
        done[name] = row
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": name} | row.to_json()) + "\n")
        print("\n".join(table.lines(row)), flush=True)
    page = table.page([done[name] for name in ROWS if name in done])
    full = all(name in done and done[name].skies >= skies for name, (_, skies) in ROWS.items())
    target = RESULT if full else asked.to / RESULT.name
    target.write_text(page, encoding="utf-8")
    print(target)


def read(log: Path) -> dict[str, Row]:
    """Return the rows that were measured; the last of each counts."""
    done = {}
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else []:
        data = json.loads(line)
        key = data.pop("key")
        done[key] = Row.from_json(data)
    return done


if __name__ == "__main__":
    main()
