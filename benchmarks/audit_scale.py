"""How time and memory of an audit grow with the rows of a catalog on disk.

    python -m benchmarks.audit_scale [--rows 1e6 1e7 1e8] [--to FOLDER]

A catalog of each size is written pixel by pixel, as ``skytally annotate`` writes them (10^8 rows
take 6 GB), and kept; every audit is a process of its own, on whatever else the machine has to do.
The table goes to FOLDER/audit-scale.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import cdshealpix.nested as cds
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.audit_validation.skies import FINE, FINE_TILES, P
from catalogs.annotated import names
from catalogs.annotated.metadata import CatalogFacts, write_metadata
from catalogs.cutouts.partition import Pixel
from catalogs.schema import DECODE_ERROR, OK
from catalogs.sky import FINEST_ORDER
from catalogs.storage.place import open_place
from engine.write import to_parquet

ORDER = 3
SPOILT, LABELLED = 0.001, 0.01  # of the rows
ASKED = {
    "plain": (),
    "covariates": ("--covariates", "seeing,depth"),
    "labels": ("--truth", "truth", "--correct"),
}


@dataclass
class Measured:
    """One audit: its seconds on the clock and of processors, its largest resident memory."""

    rows: int
    asked: str
    wall: float
    cpu: float
    megabytes: float
    verdict: str


def catalog(rows: int, folder: Path) -> Path:
    """Write a catalog, or find it written; no more than a pixel is in memory."""
    where = folder / f"rows-{rows}"
    if (where / names.PROPERTIES).exists():
        return where
    tiles, area = np.unique(FINE_TILES >> (2 * (FINE - ORDER)), return_counts=True)
    share = np.random.default_rng(rows).multinomial(rows, area / area.sum())
    place, first = open_place(where), 0
    pixels = []
    for tile, count in zip(tiles.tolist(), share.tolist(), strict=True):
        pixel = Pixel(ORDER, tile)
        place.write(names.pixel_file(pixel), to_parquet(_table(pixel, count, first)))
        pixels.append(pixel)
        first += count
    write_metadata(place, pixels, CatalogFacts(f"rows-{rows}", rows, "none", "none"))
    return where


def _table(pixel: Pixel, count: int, first: int) -> pa.Table:
    """Return rows of a pixel, sorted along the sky; answers depend on seeing, truth does not."""
    rng = np.random.default_rng([pixel.number, first])
    fine = FINE_TILES[pixel.number == FINE_TILES >> (2 * (FINE - ORDER))]
    part = 4 ** (FINEST_ORDER - FINE)
    place = np.sort(
        fine[rng.integers(len(fine), size=count)] * part + rng.integers(part, size=count)
    )
    lon, lat = cds.healpix_to_lonlat(place.astype(np.uint64), FINEST_ORDER)
    ra, dec = lon.to_value("deg"), lat.to_value("deg")
    seeing = 1.2 + 0.1 * np.sin(np.radians(4 * ra)) + rng.normal(0, 0.05, count)
    truth = rng.random(count) < P
    spiral = np.where(rng.random(count) < 0.05 * seeing, ~truth, truth)
    sure = rng.uniform(0.5, 1, count)
    p = np.where(spiral, sure, 1 - sure).astype(np.float32)
    spoilt = rng.random(count) < SPOILT
    row = np.arange(first, first + count)
    return pa.table(
        {
            "id": pa.array(1_237_650_000_000_000_000 + row),
            "ra": pa.array(ra),
            "dec": pa.array(dec),
            "_healpix_29": pa.array(place),
            "input_row": pa.array(row),
            "night": _words(np.zeros(count, np.int8), [""]),
            "p_elliptical": pa.array(1 - p, mask=spoilt),
            "p_spiral": pa.array(p, mask=spoilt),
            "label": _words(spiral, ["elliptical", "spiral"], spoilt),
            "confidence": pa.array(sure.astype(np.float32), mask=spoilt),
            "status": _words(spoilt, [OK, DECODE_ERROR]),
            "reason": _words(spoilt, ["", "the JPEG ends early"]),
            "seeing": pa.array(seeing.astype(np.float32)),
            "depth": pa.array(rng.normal(22, 0.1, count).astype(np.float32)),
            "truth": _words(truth, ["elliptical", "spiral"], rng.random(count) >= LABELLED),
        }
    )


def _words(
    which: NDArray[np.generic], words: list[str], missing: NDArray[np.bool_] | None = None
) -> pa.Array:
    at = pa.array(which.astype(np.int8), mask=missing)
    return pa.DictionaryArray.from_arrays(at, pa.array(words)).cast(pa.string())


def measure(source: Path, rows: int, asked: str, to: Path) -> Measured:
    """Audit in a child of its own."""
    command = [sys.executable, "-m", "skytally", "audit", str(source), "--to", str(to), "--json"]
    began = time.perf_counter()
    child = subprocess.Popen(
        [*command, *ASKED[asked]],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - began
    assert status == 0, f"the audit of {source} failed"
    verdict = json.loads((to / "audit.json").read_text())["verdict"]
    return Measured(
        rows, asked, wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, verdict
    )


def markdown(found: Iterable[Measured]) -> str:
    """Return the result page."""
    about = (
        f"skytally {importlib.metadata.version('skytally')}, {os.cpu_count()} cores; whole "
        "commands, from start to report, 2,000 Monte Carlo skies. Made by `make audit-scale`."
    )
    lines = ["# Time and memory of an audit", "", about, ""]
    lines += [
        "| rows | asked | wall, s | processor, s | peak memory, MB |",
        "|---|---|---|---|---|",
    ]
    for m in found:
        flags = " ".join(ASKED[m.asked]) or "nothing more"
        lines.append(
            f"| {m.rows:,} | `{flags}` | {m.wall:.0f} | {m.cpu:.0f} | {m.megabytes:,.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", type=float, default=[1e6, 1e7, 1e8])
    parser.add_argument("--asked", nargs="+", choices=ASKED, default=list(ASKED))
    parser.add_argument("--to", type=Path, default=Path("out/audit-scale"))
    asked = parser.parse_args()
    asked.to.mkdir(parents=True, exist_ok=True)
    log = asked.to / "measured.jsonl"
    for rows in map(int, asked.rows):
        source = catalog(rows, asked.to)
        for what in asked.asked:
            found = measure(source, rows, what, asked.to / f"{rows}-{what}.audit")
            with log.open("a") as file:
                file.write(json.dumps(asdict(found)) + "\n")
            print(found, flush=True)
    latest = {(m["rows"], m["asked"]): m for m in map(json.loads, log.read_text().splitlines())}
    page = markdown(Measured(**latest[key]) for key in sorted(latest))
    (asked.to / "audit-scale.md").write_text(page)


if __name__ == "__main__":
    main()
