"""The rows of the table: what was measured, what is to be reached, what bounds it; the machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.machine import cores, memory_bytes, processor

PACKAGES = ("onnxruntime", "nvidia-dali-cuda130", "torch", "zarr", "dask", "numpy", "pyarrow")


@dataclass(slots=True)
class Row:
    """One number to reach.

    Attributes
    ----------
    what : str
    turns : list of float
        One value a turn; the row's value is their median.
    reach : float, optional
        What the value must be at least, or with ``at_most`` at most; None: shown only.
    unit : str
        Of value and limit; "x" is a ratio.
    bound : str
        What it is compared with, or what keeps it from being larger.
    measured : dict
        Everything else that was measured on the way.
    missing : str
        Why there is no value, if there is none.
    """

    what: str
    turns: list[float] = field(default_factory=list)
    reach: float | None = None
    at_most: bool = False
    unit: str = "x"
    bound: str = ""
    measured: dict[str, Any] = field(default_factory=dict)
    missing: str = ""

    @property
    def value(self) -> float | None:
        return statistics.median(self.turns) if self.turns else None

    @property
    def reached(self) -> bool | None:
        if self.value is None or self.reach is None:
            return None
        return self.value <= self.reach if self.at_most else self.value >= self.reach

    def cells(self) -> tuple[str, str, str, str, str]:
        unit = "" if self.unit == "x" else f" {self.unit}"
        if self.value is None:
            shown = self.missing or "not measured"
        elif len(self.turns) == 1:
            shown = f"{self.value:,.2f}{unit}"
        else:
            shown = f"{self.value:,.2f}{unit} ({min(self.turns):,.2f} to {max(self.turns):,.2f})"
        sign = "≤" if self.at_most else "≥"
        limit = "" if self.reach is None else f"{sign} {self.reach:g}{unit}"
        verdict = {True: "yes", False: "NO", None: ""}[self.reached]
        return self.what, shown, limit, verdict, self.bound


HEAD = ("what", "measured (lowest to highest)", "to reach", "reached", "against, or bounded by")


def markdown(rows: list[Row]) -> str:
    lines = [HEAD, ("---",) * len(HEAD), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    name, features = processor()
    root = Path(__file__).resolve().parent.parent
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "missing"
    return {
        "processor": name,
        "features": sorted(features),
        "cores": cores(),
        "memory_gb": round(memory_bytes() / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or "unknown",
        "load_before": os.getloadavg(),
        "versions": versions,
    }


def write(to: Path, facts: dict[str, Any], rows: list[Row]) -> None:
    """Write everything measured as JSON."""
    to.parent.mkdir(parents=True, exist_ok=True)
    values = [asdict(row) | {"value": row.value, "reached": row.reached} for row in rows]
    to.write_text(json.dumps({"machine": facts, "rows": values}, indent=1, default=str) + "\n")
