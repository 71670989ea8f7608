"""Where the work runs: decoder, provider, precision, workers. Decided once, shown and recorded."""

from __future__ import annotations

import importlib.metadata
import os
from dataclasses import dataclass
from typing import Literal

from catalogs.errors import InputError
from export.providers import available, resolve, runtime
from export.session import Precision

Device = Literal["auto", "cpu", "cuda"]
DEVICES = ("auto", "cpu", "cuda")
DECODER_PACKAGES = {"dali": "nvidia-dali-cuda130", "reference": "simplejpeg"}
GPU_PROVIDERS = ("tensorrt", "cuda")


@dataclass(frozen=True, slots=True)
class Placement:
    """The resolved choices.

    Attributes
    ----------
    decoder, decoder_version : str
        Which decoder, and its release.
    provider, precision, runtime_version : str
        ONNX Runtime's provider, its arithmetic, its release.
    workers, threads : int
        Processes, and threads within one operator of each.
    """

    decoder: str
    decoder_version: str
    provider: str
    precision: Precision
    runtime_version: str
    workers: int
    threads: int

    def __str__(self) -> str:
        return (
            f"{self.workers} workers x {self.threads} threads, decoder {self.decoder} "
            f"{self.decoder_version}, provider {self.provider} {self.precision} "
            f"(ONNX Runtime {self.runtime_version})"
        )


def place(
    device: str = "auto",
    provider: str | None = None,
    precision: Precision = "fp32",
    decoder: str | None = None,
    workers: int | None = None,
) -> Placement:
    """Decide where the work runs.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        ``auto`` is the CPU unless this build of ONNX Runtime offers a GPU.
    provider : {"cpu", "openvino", "cuda", "tensorrt"}, optional
        By default ``cpu`` on CPUs and ``cuda`` on GPUs.
    precision : {"fp32", "bf16"}
        Arithmetic of the network.
    decoder : {"dali", "reference"}, optional
        By default DALI where it is installed, and the reference decoder on platforms for which
        DALI does not exist; recorded either way.
    workers : int, optional
        Processes; one per core that this process may use by default.

    Raises
    ------
    InputError
        What was asked for cannot be had here. Nothing else is used in its place.
    """
    if device not in DEVICES:
        raise InputError(f"device {device!r} is none of {', '.join(DEVICES)}")
    usable = [p.name for p in available()]
    on_gpu = device == "cuda" or (device == "auto" and any(p in usable for p in GPU_PROVIDERS))
    if provider is None:
        provider = "cuda" if on_gpu else "cpu"
    if device == "cpu" and provider in GPU_PROVIDERS:
        raise InputError(
            f"provider {provider!r} does not run on device 'cpu'; leave one of them out"
        )
    if device == "cuda" and provider not in GPU_PROVIDERS:
        raise InputError(
            f"provider {provider!r} does not run on device 'cuda'; use cuda or tensorrt"
        )
    resolve(provider)
    if decoder is None:
        decoder = "dali" if _installed(DECODER_PACKAGES["dali"]) else "reference"
    if decoder not in DECODER_PACKAGES:
        raise InputError(f"decoder {decoder!r} is none of {', '.join(DECODER_PACKAGES)}")
    if workers is None:
        workers = _cores()
    if workers < 1:
        raise InputError(f"workers is {workers}; it must be 1 or more")
    return Placement(
        decoder=decoder,
        decoder_version=_version(DECODER_PACKAGES[decoder], decoder),
        provider=provider,
        precision=precision,
        runtime_version=runtime().__version__,
        workers=workers,
        threads=1,
    )


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _version(package: str, decoder: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"decoder {decoder!r} is not installed here; install {package}, "
            "or choose --decoder reference"
        ) from None


def doctor_report() -> dict[str, str]:
    """Return what this machine offers, by name; what is missing is said, not raised."""
    facts = {"cores": str(_cores())}
    for decoder, package in DECODER_PACKAGES.items():
        try:
            facts[f"decoder {decoder}"] = f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            facts[f"decoder {decoder}"] = f"missing ({package})"
    try:
        facts["onnxruntime"] = str(runtime().__version__)
        facts["providers"] = ", ".join(provider.name for provider in available())
    except InputError as error:
        facts["onnxruntime"] = str(error)
    for package, extra in (("torch", "train"), ("lsdb", "lsdb")):
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = f"missing (pip install 'skytally[{extra}]')"
    return facts


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
