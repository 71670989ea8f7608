"""What this machine is: cores, memory, what its processor can do, cards."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CPU_FEATURES = (
    "avx2",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
)
_MINUTE = 60


def began(process: int) -> int | None:
    """Return when a process of this machine began, in the system's ticks; None without one."""
    try:
        said = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    return int(said.rpartition(")")[2].split()[19])  # proc(5): field 22, after the name


@dataclass(frozen=True, slots=True)
class Card:
    """An NVIDIA card.

    Attributes
    ----------
    name, driver : str
        The card's name and its driver's release.
    memory : str
        With its unit.
    """

    name: str
    driver: str
    memory: str

    def __str__(self) -> str:
        return f"{self.name}, {self.memory}, driver {self.driver}"


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Return the memory of this machine, or of the control group that this process is in."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def processor() -> tuple[str, frozenset[str]]:
    """Return the processor's name, and which of `CPU_FEATURES` it has."""
    name, flags = "unknown", set[str]()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() == "flags":
            flags.update(value.split())
    return name, frozenset(flags & set(CPU_FEATURES))


def cards() -> tuple[Card, ...]:
    """Return the NVIDIA cards that this process may use, as ``nvidia-smi`` knows them."""
    command = shutil.which("nvidia-smi")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if command is None or visible in ("", "-1", "NoDevFiles"):
        return ()
    query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        result = subprocess.run(  # noqa: S603  (nvidia-smi from the path, fixed arguments)
            [command, *query], capture_output=True, text=True, timeout=_MINUTE, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = csv.reader(result.stdout.splitlines(), skipinitialspace=True)
    found = tuple(Card(*row) for row in rows if len(row) == 3)
    if visible is None:
        return found
    return found[: len([name for name in visible.split(",") if name.strip()])]
