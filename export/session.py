"""A bundle's graph, ready to answer: ONNX Runtime behind one narrow interface."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts.card import CardPixels
from catalogs.errors import InputError, IntegrityError, SkytallyError
from export.bundle import Bundle
from export.providers import Provider, ProviderName, resolve, runtime, told

REMEDY = "see to the bundle, or choose another provider"

Precision = Literal["fp32", "bf16", "fp16", "int8"]
PRECISIONS_OF: dict[ProviderName, tuple[Precision, ...]] = {
    "cpu": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
    "cuda": ("fp32",),
    "tensorrt": ("fp32", "fp16"),
}


class Session:
    """One inference session on one provider, deterministic for a given batch shape.

    Parameters
    ----------
    bundle : Bundle
        An opened bundle; its model is verified again as it is loaded.
    provider : {"cpu", "openvino", "cuda", "tensorrt"}
        Where the network runs; nothing else is used in its place.
    precision : {"fp32", "bf16", "fp16", "int8"}
        Arithmetic of the network; bf16 only by OpenVINO, fp16 only by TensorRT, int8 on CPUs
        with a bundle that has such a model.
    threads : int
        Threads within an operator.

    Attributes
    ----------
    provider : str
        The provider that ONNX Runtime says it uses.
    runtime_version : str
        Version of ONNX Runtime.

    Raises
    ------
    InputError
        The provider or the precision cannot be had on this machine, or does not take the model.
    """

    def __init__(
        self,
        bundle: Bundle,
        provider: str = "cpu",
        precision: Precision = "fp32",
        threads: int = 1,
    ) -> None:
        if threads < 1:
            raise InputError(f"threads is {threads}; it must be 1 or more")
        ort = runtime()
        chosen = resolve(provider)
        if precision not in get_args(Precision):
            raise InputError(f"precision {precision!r} is none of {', '.join(get_args(Precision))}")
        if precision not in PRECISIONS_OF[chosen.name]:
            raise InputError(
                f"provider {provider!r} has no precision {precision}; use one of "
                f"{', '.join(PRECISIONS_OF[chosen.name])}, or another provider"
            )
        self.bundle = bundle
        self._answers = bundle.manifest.answers
        self._input = bundle.manifest.input
        with told(f"{bundle.path} cannot run on provider {provider!r}", REMEDY, InputError):
            self._session = _open(ort, bundle, chosen, precision, threads)
        self.provider: str = self._session.get_providers()[0]
        self.runtime_version: str = ort.__version__
        if self.provider != chosen.onnx_name:
            raise InputError(
                f"provider {provider!r} was asked for but ONNX Runtime uses {self.provider}; "
                "check the card and its libraries, or choose another provider"
            )

    def run(self, cutouts: NDArray[Any] | CardPixels) -> dict[str, NDArray[np.float32]]:
        """Answer for a batch of cutouts.

        Parameters
        ----------
        cutouts : ndarray or CardPixels of the contract's data type, (n, height, width, channels)
            Cropped to the framing that the bundle's input contract names. Pixels on a card are
            not copied; only the answers leave it.

        Returns
        -------
        dict of str to ndarray of float32, shape (n,)
            One probability per answer of the bundle.

        Raises
        ------
        InputError
            The cutouts do not have the contract's type or layout.
        IntegrityError
            The model's answers are not one number per cutout.
        SkytallyError
            The model fails as it runs.
        """
        channels, dtype = self._input.channels, self._input.dtype
        shape = cutouts.shape
        if cutouts.dtype != np.dtype(dtype) or len(shape) != 4 or shape[3] != channels:
            raise InputError(
                f"cutouts are {cutouts.dtype} {shape}; the bundle takes {dtype} "
                f"(n, height, width, {channels})"
            )
        if len(cutouts) == 0:
            # No provider has to know what a product of no matrices is.
            return {name: np.zeros(0, dtype=np.float32) for name in self._answers}
        with told(f"{self.bundle.path} fails on {len(cutouts)} cutouts", REMEDY, SkytallyError):
            if isinstance(cutouts, CardPixels):
                found = self._run_in_place(cutouts)
            else:
                feed = {self._input.name: np.ascontiguousarray(cutouts)}
                found = self._session.run(self._answers, feed)
        for answer, values in zip(self._answers, found, strict=True):
            if values.dtype != np.float32 or values.shape != (len(cutouts),):
                raise IntegrityError(
                    f"{self.bundle.path} answers {len(cutouts)} cutouts with {answer} of "
                    f"{values.dtype} {values.shape}, not float32 ({len(cutouts)},); make the "
                    "bundle again with `skytally export`"
                )
        return dict(zip(self._answers, found, strict=True))

    def _run_in_place(self, pixels: CardPixels) -> list[NDArray[np.float32]]:
        binding = self._session.io_binding()
        value = runtime().OrtValue.from_dlpack(pixels.tensor)
        binding.bind_ortvalue_input(self._input.name, value)
        for answer in self._answers:
            binding.bind_output(answer)
        self._session.run_with_iobinding(binding)
        return list(binding.copy_outputs_to_cpu())


def _open(
    ort: ModuleType, bundle: Bundle, provider: Provider, precision: Precision, threads: int
) -> Any:  # noqa: ANN401  (onnxruntime has no types)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    model = bundle.model_bytes(precision)
    if not provider.devices:
        names: list[Any] = [(provider.onnx_name, _options(provider.name, precision))]
        if provider.name != "cpu":
            # Shape arithmetic of a GPU graph belongs on the CPU; it is not a fallback.
            names.append("CPUExecutionProvider")
        return ort.InferenceSession(model, options, providers=names)
    # A plug-in takes the whole graph or fails: no operator falls back to the CPU provider.
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    hint = "bf16" if precision == "bf16" else "f32"
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        config.write_text(
            json.dumps(
                {"CPU": {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}}
            )
        )
        options.add_provider_for_devices(list(provider.devices), {"load_config": str(config)})
        return ort.InferenceSession(model, options)


def _options(provider: ProviderName, precision: Precision) -> dict[str, str]:
    """Return what makes a card's arithmetic the one asked for, and choose alike every time."""
    if provider == "cuda":
        # By default fp32 would be rounded to TF32, and the fastest algorithm timed at each start.
        return {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}
    if provider == "tensorrt" and precision == "fp16":
        return {"trt_fp16_enable": "1"}
    return {}
