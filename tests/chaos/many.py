"""`make chaos`: many runs killed at seeded moments, a line for each, and what came of them all.

Every run is three real commands: one that is killed, one that goes on, and, once, one that was
never interrupted. Lines are kept in ``--to``: the same command goes on after the last of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

from chaos.kills import VICTIMS, Kill, Killed, kill_and_resume
from chaos.runs import Command, Group
from chaos.shim import Shim, library_in
from surveys import brightness_bundle, write_small_survey

from catalogs.errors import SkytallyError

ROWS = 1200


def by_command(command: Command) -> int:
    """Resume as people do; the number of objects that this took."""
    line = command.line("--workers", "2", "--json")
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SkytallyError(f"resuming ended with {done.returncode}: {done.stderr}")
    return int(json.loads(done.stdout)["annotated"])


def one_run(seed: int, clean: Command, operations: int, library: Path) -> Killed:
    """Kill and resume one run in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=clean.survey.parent) as scratch:
        folder = Path(scratch)
        command = replace(clean, catalog=folder / "catalog")
        seen = Shim(library, command.catalog, folder / "notes")
        kill = Kill.of(seed, operations)
        return kill_and_resume(command, clean.catalog, kill, seen, folder / "notes", by_command)


def summary(lines: list[dict]) -> str:
    """Return the table of what was done to whom and how that ended."""
    rows = ["victim      runs  killed  exit statuses          done before  done twice  violations"]
    for victim in (*VICTIMS, None):
        of = [line for line in lines if victim in (line["kill"]["victim"], None)]
        statuses = sorted(Counter(line["status"] for line in of).items())
        rows.append(
            f"{victim or 'all':<11} {len(of):>4}  {sum(line['happened'] for line in of):>6}  "
            f"{', '.join(f'{n} x {s}' for s, n in statuses):<22} "
            f"{sum(line['receipts'] for line in of):>11}  {sum(line['redone'] for line in of):>10}"
            f"  {sum(bool(line['violations']) for line in of):>10}"
        )
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="how many in all")
    parser.add_argument("--seed", type=int, default=0, help="of the first; the next have the next")
    parser.add_argument("--to", type=Path, default=Path("out/chaos.jsonl"), help="a line a run")
    asked = parser.parse_args()
    asked.to.parent.mkdir(parents=True, exist_ok=True)
    done = {}
    if asked.to.exists():
        done = {line["kill"]["seed"]: line for line in map(json.loads, asked.to.open())}
    seeds = range(asked.seed, asked.seed + asked.runs)
    with tempfile.TemporaryDirectory(prefix="skytally-chaos-") as scratch:
        folder = Path(scratch)
        library = library_in(folder)
        write_small_survey(folder / "small.zarr", rows=ROWS)
        model = brightness_bundle(folder / "brightness.bundle").path
        clean = Command(folder / "small.zarr", model, folder / "clean" / "catalog")
        watched = Shim(library, clean.catalog, folder / "notes")
        group = Group(clean.line("--workers", "2"), folder / "clean.said", watched.environment())
        if group.wait() != 0:
            sys.exit(f"the uninterrupted run failed: {group.said}")
        for seed in (seed for seed in seeds if seed not in done):
            began = time.monotonic()
            found = one_run(seed, clean, watched.count, library)
            wrong = found.violations()
            done[seed] = asdict(found) | {"violations": wrong}
            with asked.to.open("a") as stream:
                stream.write(json.dumps(done[seed]) + "\n")
            print(
                f"seed {seed:>4}  {found.kill.victim:<10} at operation {found.kill.at:>3} of "
                f"{watched.count}  {'killed' if found.happened else 'ended before'}, "
                f"exit {found.status:>3}, {found.receipts:>2} pixels done, {found.redone} twice, "
                f"{time.monotonic() - began:4.1f} s  {'; '.join(wrong) or 'same bytes'}",
                flush=True,
            )
    lines = [done[seed] for seed in seeds]
    print(summary(lines))
    return int(any(line["violations"] for line in lines))


if __name__ == "__main__":
    sys.exit(main())
