"""The execution providers of ONNX Runtime: which there are, and one by name, or an error."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, get_args

from catalogs.errors import InputError, SkytallyError

ProviderName = Literal["cpu", "openvino", "cuda", "tensorrt"]

PROVIDERS: tuple[ProviderName, ...] = get_args(ProviderName)
INTEL = 0x8086  # PCI vendor
LONGEST_SAYING = 300  # of ONNX Runtime, in the line of an error

_NAMES: dict[ProviderName, str] = {
    "cpu": "CPUExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider that this machine can use.

    Parameters
    ----------
    name : {"cpu", "openvino", "cuda", "tensorrt"}
    onnx_name : str
        The name by which ONNX Runtime knows it.
    devices : tuple
        ONNX Runtime's devices of a provider that is a plug-in; empty for built-in ones.
    """

    name: ProviderName
    onnx_name: str
    devices: tuple[Any, ...] = ()


def runtime() -> ModuleType:
    """Return the module ``onnxruntime``.

    Raises
    ------
    InputError
        No build of ONNX Runtime is installed.
    """
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise InputError(
            "no ONNX Runtime is installed; install one of its builds with "
            "pip install 'skytally[cpu]' or 'skytally[gpu]'"
        ) from error


@contextmanager
def told(what: str, remedy: str, kind: type[SkytallyError]) -> Iterator[None]:
    """Tell in one line what onnx or ONNX Runtime says; their errors have no base of their own."""
    try:
        yield
    except SkytallyError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:LONGEST_SAYING]
        raise kind(f"{what}: {said}; {remedy}") from error


def available() -> list[Provider]:
    """Return the providers of the installed ONNX Runtime that offer a device here.

    A built-in GPU provider is listed when the build has it; only opening a `Session` tells
    whether its card and libraries work.
    """
    ort = runtime()
    built_in = set(ort.get_available_providers())
    found = [Provider(name, onnx) for name, onnx in _NAMES.items() if onnx in built_in]
    plugin = None if "OpenVINOExecutionProvider" in built_in else _openvino_plugin(ort)
    return found if plugin is None else [*found, plugin]


def resolve(name: str) -> Provider:
    """Return the provider called ``name``; never another one.

    Raises
    ------
    InputError
        No such provider exists, or the installed build and this machine do not offer it.
    """
    if name not in PROVIDERS:
        raise InputError(f"provider {name!r} is none of {', '.join(PROVIDERS)}")
    found = {provider.name: provider for provider in available()}
    if name not in found:
        raise InputError(
            f"provider {name!r} is not usable here (usable: {', '.join(found)}): {why_not(name)}"
        )
    return found[name]


def why_not(name: str) -> str:
    """Return why a provider that `available` does not list cannot be used, and the remedy."""
    if name != "openvino":
        extra = "cpu" if name == "cpu" else "gpu"
        return f"this build of ONNX Runtime does not have it; pip install 'skytally[{extra}]'"
    if importlib.util.find_spec("onnxruntime_ep_openvino") is None:
        return "its plug-in is not installed; pip install onnxruntime-ep-openvino"
    processors = [
        device.device
        for device in runtime().get_ep_devices()
        if device.device.type == runtime().OrtHardwareDeviceType.CPU
    ]
    # The plug-in passes over every device of another vendor, though OpenVINO itself would run.
    if processors and all(device.vendor_id != INTEL for device in processors):
        return (
            f"its plug-in offers Intel processors only, this one is of {processors[0].vendor}; "
            "use provider cpu"
        )
    return "its plug-in finds no processor that it supports; use provider cpu"


def _openvino_plugin(ort: ModuleType) -> Provider | None:
    """Register the plug-in wheel's library, once, and return it if it finds a CPU it supports."""
    try:
        plugin = importlib.import_module("onnxruntime_ep_openvino")
    except ImportError:
        return None
    name = _NAMES["openvino"]
    if not any(device.ep_name == name for device in ort.get_ep_devices()):
        try:
            ort.register_execution_provider_library(name, plugin.get_library_path())
        except Exception as error:
            if "already registered" not in str(error):
                raise
    devices = tuple(
        device
        for device in ort.get_ep_devices()
        if device.ep_name == name and device.device.type == ort.OrtHardwareDeviceType.CPU
    )
    return Provider("openvino", name, devices) if devices else None
