"""Train what the page of results speaks of, the most valuable first, and write the page.

    python -m benchmarks.trainings [--only RUN …] [--to FOLDER] [--page FILE]

Each run is a folder below FOLDER; one that is complete is not done again, one that was interrupted
goes on, to the same weights. Several of these commands may work on one FOLDER: each takes the runs
that no other has begun. The page is written after every run, and says which are missing; `--only`
without a name does no run and writes it.
"""

from __future__ import annotations

import argparse
import fcntl
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path

from benchmarks.trainings.page import page
from benchmarks.trainings.plan import plan
from benchmarks.trainings.row import Row
from benchmarks.trainings.surveys import Sizes, Surveys


def main() -> int:
    runs = plan(Sizes())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", metavar="RUN", help=f"{', '.join(runs)}; or none")
    parser.add_argument("--to", type=Path, default=Path("out/trainings"))
    parser.add_argument("--page", type=Path, help="FOLDER/training.md by default")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    asked = parser.parse_args()
    unknown = set(asked.only or ()) - runs.keys()
    if unknown:
        parser.error(f"no run is called {', '.join(sorted(unknown))}; see --help")
    return measure(asked.to, asked.data, asked.page, asked.only, Sizes())


def measure(
    to: Path, data: Path, written: Path | None, only: list[str] | None, sizes: Sizes
) -> int:
    """Do the runs that are not done, and write the page; return how many failed."""
    surveys = Surveys(to / "surveys", data, sizes)
    runs = plan(sizes)
    written = written or to / "training.md"
    failed = 0
    for name in runs if only is None else only:
        folder = to / name
        folder.mkdir(parents=True, exist_ok=True)
        row = Row.read(folder)
        if row is not None and not row.facts.get("missing"):
            continue
        with ExitStack() as stack:
            if not taken(folder, stack):
                continue
            print(name, file=sys.stderr, flush=True)
            try:
                runs[name].measure(name, folder, surveys).write(folder)
            except Exception:  # noqa: BLE001  (the other runs are worth having)
                traceback.print_exc()
                failed += 1
        written.write_text(page(to, runs))
    written.write_text(page(to, runs))
    return failed


def taken(folder: Path, stack: ExitStack) -> bool:
    """Say whether this process alone has the folder now, until the stack is closed."""
    file = stack.enter_context((folder / ".lock").open("w"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
