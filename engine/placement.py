"""Where the work runs, and why: decoder, provider, precision, workers. Decided once."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from catalogs.errors import InputError, IntegrityError
from engine.machine import cards, cores
from export.providers import available, resolve, runtime
from export.session import PRECISIONS_OF, Precision

Device = Literal["auto", "cpu", "cuda"]
DEVICES = ("auto", "cpu", "cuda")
DALI = "nvidia-dali-cuda130"
DECODER_PACKAGES = {"dali": DALI, "dali-gpu": DALI, "reference": "simplejpeg"}
RAW_VERSION = "1"  # raw pixels are cropped by skytally alone
GPU_PROVIDERS = ("tensorrt", "cuda")
HERE = ("local", "cuda")
CODE = ("catalogs", "engine", "export")  # packages of which an answer or a file may depend


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
        Processes started here (0: the cluster has its own), and threads within one operator.
    reasons : mapping of str to str
        Why, by choice. Says nothing on the answers, so no plan holds it.
    """

    decoder: str
    decoder_version: str
    provider: str
    precision: Precision
    runtime_version: str
    workers: int
    threads: int
    reasons: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        who = f"{self.workers} workers" if self.workers else "the cluster's workers"
        return (
            f"{who} x {self.threads} threads, decoder {self.decoder} "
            f"{self.decoder_version}, provider {self.provider} {self.precision} "
            f"(ONNX Runtime {self.runtime_version})"
        )


def place(
    device: str = "auto",
    provider: str | None = None,
    precision: Precision = "fp32",
    decoder: str | None = None,
    workers: int | None = None,
    *,
    raw: bool = False,
    cluster: str = "local",
) -> Placement:
    """Decide where the work runs.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        ``auto`` is the CPU unless ONNX Runtime and this machine offer a card.
    provider : {"cpu", "openvino", "cuda", "tensorrt"}, optional
        By default ``cpu`` on CPUs and ``cuda`` on GPUs.
    precision : {"fp32", "bf16", "fp16", "int8"}
        Arithmetic of the network; never another one than asked for.
    decoder : {"dali", "dali-gpu", "reference"}, optional
        By default DALI, on the device of the network, where DALI is installed, and the reference
        decoder on platforms for which it does not exist; recorded either way.
    workers : int, optional
        Processes of the local cluster; one per core that this process may use by default.
    raw : bool
        The survey's images are pixels: there is nothing to decode.
    cluster : str
        Where the workers are; only those of ``local`` and ``cuda`` share this machine's cards.

    Raises
    ------
    InputError
        What was asked for cannot be had here. Nothing else is used in its place.
    """
    if device not in DEVICES:
        raise InputError(f"device {device!r} is none of {', '.join(DEVICES)}")
    if cluster == "cuda":
        check_cuda()
    why: dict[str, str] = {}
    if provider is None:
        provider, why["provider"] = _provider(device, cluster)
    else:
        why["provider"] = "asked for"
    on_card = provider in GPU_PROVIDERS
    if device == "cpu" and on_card:
        raise InputError(
            f"provider {provider!r} does not run on device 'cpu'; leave one of them out"
        )
    if device == "cuda" and not on_card:
        raise InputError(
            f"provider {provider!r} does not run on device 'cuda'; use cuda or tensorrt"
        )
    found = resolve(provider)
    if on_card and cluster in HERE and not cards():
        raise InputError(
            f"provider {provider!r} needs an NVIDIA card, and nvidia-smi finds none here; see to "
            "the driver and CUDA_VISIBLE_DEVICES, or use --device cpu"
        )
    if precision not in PRECISIONS_OF[found.name]:
        raise InputError(
            f"provider {provider!r} has no precision {precision}; use one of "
            f"{', '.join(PRECISIONS_OF[found.name])}, or another provider"
        )
    why["precision"] = (
        "as trained; others answer slightly differently" if precision == "fp32" else "asked for"
    )
    decoder, why["decoder"] = _decoder(decoder, raw=raw, on_card=on_card)
    workers, why["workers"] = _workers(workers, cluster, on_card=on_card)
    why["threads"] = "a worker for each core beats threads within an operator"
    return Placement(
        decoder=decoder,
        decoder_version=_release(decoder),
        provider=provider,
        precision=precision,
        runtime_version=runtime().__version__,
        workers=workers,
        threads=1,
        reasons=why,
    )


def check_cuda() -> None:
    """See that a cluster of one worker a card can be had here.

    Raises
    ------
    InputError
        dask-cuda is not installed, or there is no card.
    """
    if importlib.util.find_spec("dask_cuda") is None:
        raise InputError("cluster 'cuda' needs dask-cuda; pip install 'skytally[gpu]'")
    if not cards():
        raise InputError(
            "cluster 'cuda' needs an NVIDIA card, and nvidia-smi finds none; see to the driver "
            "and CUDA_VISIBLE_DEVICES, or use --cluster local"
        )


@lru_cache
def code_id() -> str:
    """Return the digest of the modules that make a catalog: two releases never share one."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for file in sorted(file for package in CODE for file in (root / package).rglob("*.py")):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def check_code(planned: str) -> None:
    """Compare this process's skytally with the driver's.

    Raises
    ------
    IntegrityError
        It is another one, whose files may differ.
    """
    if code_id() != planned:
        raise IntegrityError(
            f"this worker ({socket.gethostname()}) has another skytally than the driver (code "
            f"{code_id()[:12]}, not {planned[:12]}); install the same release on every worker"
        )


def check_releases(decoder: str, decoder_version: str, runtime_version: str) -> None:
    """Compare this process with a plan: another release would answer with other last digits.

    Raises
    ------
    IntegrityError
        A release differs; the message names it.
    InputError
        The decoder or ONNX Runtime is not installed here.
    """
    for name, here, planned in (
        (f"decoder {decoder}", _release(decoder), decoder_version),
        ("ONNX Runtime", runtime().__version__, runtime_version),
    ):
        if here != planned:
            raise IntegrityError(
                f"this worker has {name} {here}, the plan says {planned}; install the same on "
                "every worker"
            )


def _provider(device: str, cluster: str) -> tuple[str, str]:
    if device == "cuda":
        return "cuda", "device cuda was asked for"
    if device == "cpu":
        return "cpu", "device cpu was asked for"
    if cluster not in HERE:
        return "cpu", "the cluster's cards, if any, are used with --device cuda"
    has_build = any(offered.name in GPU_PROVIDERS for offered in available())
    found = cards()
    if has_build and found:
        return "cuda", f"there is a card ({found[0].name})"
    if found:
        return "cpu", f"there is a card ({found[0].name}), but this ONNX Runtime is built for CPUs"
    return "cpu", "there is no NVIDIA card"


def _decoder(asked: str | None, *, raw: bool, on_card: bool) -> tuple[str, str]:
    if raw:
        if asked is not None:
            raise InputError(f"decoder {asked!r} has nothing to decode in a survey of raw pixels")
        return "raw", "the survey holds pixels"
    if asked is not None:
        if asked not in DECODER_PACKAGES:
            raise InputError(f"decoder {asked!r} is none of {', '.join(DECODER_PACKAGES)}")
        if asked == "dali-gpu" and not on_card:
            raise InputError(
                "decoder 'dali-gpu' leaves its pixels on a card; use --device cuda, or "
                "--decoder dali"
            )
        return asked, "asked for"
    if not _installed(DALI):
        return "reference", f"DALI is not installed ({DALI}, Linux on x86-64 only)"
    if on_card:
        return "dali-gpu", "on the card, where the network wants the pixels"
    return "dali", "the fastest on CPUs"


def _workers(asked: int | None, cluster: str, *, on_card: bool) -> tuple[int, str]:
    if asked is not None and cluster != "local":
        raise InputError(
            f"workers is {asked}, but only the local cluster is given a number; {cluster!r} has "
            "its own workers: leave --workers out"
        )
    if cluster not in HERE:
        return 0, "the cluster's own"
    if asked is not None:
        if asked < 1:
            raise InputError(f"workers is {asked}; it must be 1 or more")
        return asked, "asked for"
    if cluster == "cuda":
        return len(cards()), "one for each card"
    if on_card:
        return 1, "one card is used; --cluster cuda uses all"
    return cores(), "one for each core that this process may use"


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _release(decoder: str) -> str:
    if decoder == "raw":
        return RAW_VERSION
    package = DECODER_PACKAGES[decoder]
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"decoder {decoder!r} is not installed here; install {package}, "
            "or choose --decoder reference"
        ) from None
