"""What this machine offers, what ``auto`` would choose and why, and what is missing."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass

from catalogs.errors import InputError
from engine.machine import CPU_FEATURES, cards, cores, memory_bytes, processor
from engine.placement import DECODER_PACKAGES, place
from export.providers import PROVIDERS, available, runtime, why_not

# What each optional package is for, and the extra that installs it.
PACKAGES = {
    "obstore": ("s3:// surveys and catalogs", "cloud"),
    "dask-cuda": ("--cluster cuda", "gpu"),
    "torch": ("train and export", "train"),
    "lsdb": ("analysing catalogs", "lsdb"),
}
PLACED = ("decoder", "provider", "precision", "workers", "threads")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes
    ----------
    name, value : str
        What was looked for, and what was found.
    remedy : str or None
        How to have what is missing.
    """

    name: str
    value: str
    remedy: str | None = None

    def __str__(self) -> str:
        line = f"{self.name:<20} {self.value}"
        return line if self.remedy is None else f"{line}; {self.remedy}"


def examine() -> list[Finding]:
    """Look at this machine; what is missing is said, not raised."""
    return [*_machine(), *_decoders(), *_providers(), *_packages(), *_choices()]


def _machine() -> list[Finding]:
    name, features = processor()
    found = cards()
    lines = [
        Finding("processor", name),
        Finding("features", ", ".join(f for f in CPU_FEATURES if f in features) or "none"),
        Finding("cores", str(cores())),
        Finding("memory", f"{memory_bytes() / 2**30:.1f} GiB"),
    ]
    lines += [Finding(f"card {i}", str(card)) for i, card in enumerate(found)]
    if not found:
        lines.append(Finding("cards", "none that nvidia-smi finds", "needs NVIDIA's driver"))
    return lines


def _decoders() -> list[Finding]:
    lines = []
    for decoder, package in DECODER_PACKAGES.items():
        release = _release(package)
        if release is None:
            lines.append(Finding(f"decoder {decoder}", "missing", f"pip install {package}"))
        elif decoder == "dali-gpu" and not cards():
            lines.append(
                Finding(f"decoder {decoder}", f"{package} {release}, but there is no card")
            )
        else:
            lines.append(Finding(f"decoder {decoder}", f"{package} {release}"))
    return lines


def _providers() -> list[Finding]:
    try:
        release = str(runtime().__version__)
    except InputError:
        return [Finding("onnxruntime", "missing", "pip install 'skytally[cpu]' or 'skytally[gpu]'")]
    offered = {provider.name for provider in available()}
    lines = [Finding("onnxruntime", release)]
    for name in PROVIDERS:
        if name in offered:
            lines.append(Finding(f"provider {name}", "usable"))
        else:
            lines.append(Finding(f"provider {name}", "not usable", why_not(name)))
    return lines


def _packages() -> list[Finding]:
    lines = []
    for package, (purpose, extra) in PACKAGES.items():
        release = _release(package)
        if release is None:
            remedy = f"for {purpose}: pip install 'skytally[{extra}]'"
            lines.append(Finding(package, "missing", remedy))
        else:
            lines.append(Finding(package, release))
    return lines


def _choices() -> list[Finding]:
    try:
        placement = place()
    except InputError as error:
        return [Finding("auto", f"cannot run: {error}")]
    return [
        Finding(f"auto {choice}", f"{getattr(placement, choice)} ({placement.reasons[choice]})")
        for choice in PLACED
    ]


def _release(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
