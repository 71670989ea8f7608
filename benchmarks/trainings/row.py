"""What one run measured, on disk."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from training.metrics import Measured

FILE, CLOCK = "row.json", "clock.json"


@dataclass(frozen=True)
class Row:
    """One run, complete.

    Attributes
    ----------
    name : str
    network : str
    seconds : float
        Processor time, of all its sessions.
    parameters, macs : int
        Trained numbers; multiply-accumulates of one image, views of the bundle included.
    trained, shown : int
        Galaxies of the training tiles, and images that training looked at.
    metrics : dict of str to Measured
    facts : dict of str to JSON values
        What only this kind of run has.
    """

    name: str
    network: str = ""
    seconds: float = 0.0
    parameters: int = 0
    macs: int = 0
    trained: int = 0
    shown: int = 0
    metrics: dict[str, Measured] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Say that the run is complete."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Row | None:
        """Return the run of a folder; None where it is not complete."""
        if not (folder / FILE).is_file():
            return None
        values = json.loads((folder / FILE).read_text())
        values["metrics"] = {k: Measured(**m) for k, m in values["metrics"].items()}
        return cls(**values)


class Clock:
    """A reporter that tells of epochs, and keeps the processor time of a run over its sessions."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / CLOCK
        self.before = json.loads(self.file.read_text()) if self.file.is_file() else 0.0
        self.began = time.process_time()

    @property
    def seconds(self) -> float:
        """Processor time until now."""
        return self.before + time.process_time() - self.began

    def event(self, name: str, **fields: object) -> None:
        """Keep the time of an epoch."""
        if name != "epoch":
            return
        self.file.write_text(json.dumps(self.seconds))
        told = "  ".join(f"{k} {v:.4g}" for k, v in fields.items() if isinstance(v, int | float))
        print(f"  {told}  ({self.seconds:.0f} s)", file=sys.stderr, flush=True)

    def progress(self, stage: str, done: int, total: int, unit: str, **facts: object) -> None:
        """Say nothing: epochs tell enough."""
