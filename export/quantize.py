"""A variant of a bundle in 8 bits: ranges from training galaxies, measured on held-out ones.

Static quantisation after Nagel et al. 2021, "A white paper on neural network quantization",
arXiv:2106.08295: one scale per output channel of a kernel and one per activation, from the
extremes over eight calibration galaxies, on average; then the mean error of the log-odds that
remains is taken out (section 3.3). Dense layers, a hundredth of the work, stay in float, and of
the convolutions as many of the first as the answers need.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import TypeAdapter
from scipy.stats import norm

from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter, Silent
from export.bundle import Bundle
from export.manifest import CARD, INT8_MODEL, PARITY_TILES, Manifest, Provenance, Variant
from export.parity.gate import Gate, own_fp32
from export.parity.views import Galaxies, Views, of_survey
from export.proven import write_proven
from export.providers import runtime
from export.rewrite import (
    Normalisation,
    add_to_log_odds,
    convolutions_by_depth,
    find_normalisation,
    pool_within_first,
    read_levels,
    scale_if_needed,
    turn_kernels,
    upstream,
)
from export.turns import one_turn, over_turns
from training.settings import SplitSettings
from training.splits import TEST, TRAIN, sky_blocked

CALIBRATION = 512
FEWEST = 64
# The brightest star among eight galaxies sets a range; the brightest among all is an outlier.
BATCH = 8
# Share of labels that may be expected to differ, well below what is refused on other galaxies.
MOST_FLIPS = 0.0008
# Layers that compute in 8 bits, or pass 8 bits on.
OPERATORS = ["Conv", "Relu", "MaxPool", "Transpose", "Reshape"]

Cutouts = NDArray[np.uint8]
Answers = dict[str, NDArray[np.float64]]


def add_variant(
    bundle: Bundle,
    survey: Path,
    to: Path,
    reporter: Reporter | None = None,
    *,
    gate: Gate | None = None,
    replace: bool = False,
) -> Bundle:
    """Write a copy of a bundle that has an int8 model as well.

    Parameters
    ----------
    bundle : Bundle
        Its fp32 model is kept as it is, and is what int8 is compared with.
    survey : Path
        Survey store. Blocks of its sky have the roles that they had in training: galaxies of
        the training blocks set the ranges, those of the test blocks are compared.
    to : Path
        ``NAME.bundle``.
    reporter : Reporter, optional
    gate : Gate, optional
    replace : bool
        Put the new bundle in the place of an old one at ``to``.

    Raises
    ------
    InputError
        The survey has too few galaxies, or ``to`` exists.
    IntegrityError
        On the held-out galaxies int8 answers too differently; no bundle is written.
    """
    reporter, gate = reporter or Silent(), gate or Gate()
    manifest = bundle.manifest
    seen, unseen = _galaxies(manifest, survey, gate.cutouts)
    reporter.event("calibrate", survey=unseen.source, galaxies=len(seen))
    int8 = quantize(bundle.model_bytes(), seen, manifest.input.trained_size)
    variant = Variant(survey=unseen.source, calibrated_on=len(seen))
    complete = manifest.model_copy(
        update={
            "name": to.name.removesuffix(".bundle"),
            "precisions": manifest.precisions | {"int8": INT8_MODEL},
            "variants": manifest.variants | {"int8": variant},
            "parity": [found for found in manifest.parity if found.precision != "int8"],
        }
    )
    files = {name: bundle.file(name) for name in manifest.files if name != CARD}
    if PARITY_TILES in files:  # of an int8 model that this one replaces, nothing stays
        lines = files[PARITY_TILES].splitlines(keepends=True)
        files[PARITY_TILES] = b"".join(x for x in lines if not x.startswith(b"int8,"))
    return write_proven(
        to,
        complete,
        {**files, INT8_MODEL: int8},
        own_fp32(bundle),
        Views(unseen, gate.cutouts),
        gate,
        reporter,
        precisions=("int8",),
        replace=replace,
    )


def quantize(model: bytes, cutouts: Cutouts, size: int) -> bytes:
    """Return an ONNX model with 8-bit convolutions and poolings.

    Parameters
    ----------
    model : bytes
        ONNX in fp32, from uint8 cutouts to probabilities.
    cutouts : ndarray of uint8, shape (n, height, width, channels)
        What it is calibrated on.
    size : int
        The network's own input size [px].

    Raises
    ------
    InputError
        There is nothing to compute in 8 bits.

    Notes
    -----
    Of a model that answers for many views of the image, the network for one view is quantised.

    Errors of 8 bits are largest in the first layers: their activations have the heaviest tails,
    and everything behind them passes the errors on. So where all convolutions in 8 bits would
    make too many labels differ, the fewest of the first are left in float with which they do not.
    """
    graph, turn, turns = onnx.load_model_from_string(model), None, None
    turned = one_turn(graph)
    if turned is not None:
        graph, turn, turns = turned
    if not any(node.op_type == "Conv" for node in graph.graph.node):
        raise InputError("this model has no convolution that could be computed in 8 bits")
    seen = Seen(graph.graph.input[0].name, cutouts, turn, turns)
    views = (seen, seen.turned())
    expected = [_answers(graph.SerializeToString(), view) for view in views]
    turn_kernels(graph)
    # What is sampled from a turned image is no grey level of the cutout.
    levels = find_normalisation(graph) if turn is None else None
    layers = convolutions_by_depth(graph)

    def attempt(floats: int) -> tuple[onnx.ModelProto, float]:
        tried = onnx.ModelProto.FromString(graph.SerializeToString())
        if floats == 0:
            pool_within_first(tried, size)
        exclude = [name for layer in layers[:floats] for name in layer]
        ranges = Path(folder) / f"{floats > 0}.json"  # the same for all that leave some in float
        quantized = _to_8_bits(tried, seen, levels, exclude, ranges)
        if levels is not None:
            (scale_if_needed if floats else read_levels)(quantized, levels, size)
        quantized.ClearField("metadata_props")
        del quantized.graph.value_info[:]
        return quantized, _settle(quantized, views, expected)

    with tempfile.TemporaryDirectory() as folder:
        best, differ = attempt(0)
        few, enough = 0, len(layers)
        while differ > MOST_FLIPS and enough - few > 1:
            floats = (few + enough) // 2
            tried, flips = attempt(floats)
            if flips > MOST_FLIPS:
                few = floats
            else:
                best, enough = tried, floats
    if turn is not None and turns is not None:
        best = over_turns(best, turn, turns)
    content: bytes = best.SerializeToString()
    return content


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model is calibrated on: batches of cutouts, each in one turn where it takes one."""

    name: str
    cutouts: Cutouts
    turn: str | None = None
    turns: NDArray[np.float32] | None = None

    def turned(self) -> Seen:
        """Return the same, every cutout turned by 90 degrees."""
        return replace(self, cutouts=np.ascontiguousarray(np.rot90(self.cutouts, 1, (1, 2))))

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        for number, start in enumerate(range(0, len(self.cutouts), BATCH)):
            feed: dict[str, NDArray[Any]] = {self.name: self.cutouts[start : start + BATCH]}
            if self.turn is not None and self.turns is not None:
                # The seventh next: neighbours are alike, and 7 divides no number of turns.
                feed[self.turn] = self.turns[7 * number % len(self.turns)]
            yield feed


def _to_8_bits(
    model: onnx.ModelProto,
    seen: Seen,
    levels: Normalisation | None,
    floats: Sequence[str],
    ranges: Path,
) -> onnx.ModelProto:
    from onnxruntime import quantization
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    exclude = list(floats)
    extra: dict[str, Any] = {"CalibMovingAverage": True}  # of the extremes in each batch
    if levels is not None and not floats:
        # Grey levels are 8 bits already: these are their scale and zero point.
        override = {
            "scale": np.asarray(levels.factor, dtype=np.float32),
            "zero_point": np.asarray(levels.mean, dtype=np.uint8),
        }
        exclude = upstream(model, levels.normalised)
        extra["TensorQuantOverrides"] = {levels.normalised: [override]}
        extra["ForceQuantizeNoInputCheck"] = True
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model)
    add_pre_process_metadata(inferred)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        to = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            inferred,
            to,
            _Batches(seen),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=OPERATORS,
            nodes_to_exclude=exclude,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            extra_options=extra,
            calibration_cache_path=ranges,
        )
        return onnx.load_model(to)


class _Batches:
    """What ONNX Runtime's calibration reads."""

    def __init__(self, seen: Seen) -> None:
        self._feeds = iter(seen)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next batch; None when there is none."""
        return next(self._feeds, None)

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        return self._feeds


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the quantiser logs at the root: hints for graphs that are not ours."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def _galaxies(manifest: Manifest, survey: Path, count: int) -> tuple[Cutouts, Galaxies]:
    """Return cutouts of the training sky and galaxies of the test sky, spread evenly over each."""
    store = Survey.open(survey)
    source = manifest.provenance
    split = source.settings.get("split") if isinstance(source, Provenance) else None
    settings = TypeAdapter(SplitSettings).validate_python(split or {})
    roles = sky_blocked(store.column("ra"), store.column("dec"), settings)
    seen, unseen = (
        of_survey(survey, manifest.input.crop, most, roles == role)
        for role, most in ((TRAIN, CALIBRATION), (TEST, count))
    )
    for found, does in ((seen, "trains"), (unseen, "tests")):
        if len(found.cutouts) < FEWEST:
            raise InputError(
                f"{survey} has {len(found.cutouts)} usable galaxies in the sky that {does}; int8 "
                f"takes {FEWEST} or more: calibrate on a larger survey"
            )
    return seen.cutouts, unseen


def _answers(model: bytes, seen: Seen) -> Answers:
    """Return the answers of a model on the CPU provider, one array per answer."""
    session = runtime().InferenceSession(model, providers=["CPUExecutionProvider"])
    parts = [session.run(None, feed) for feed in seen]
    names = [output.name for output in session.get_outputs()]
    return {
        answer: np.concatenate(column).astype(np.float64)
        for answer, column in zip(names, zip(*parts, strict=True), strict=True)
    }


def _settle(
    quantized: onnx.ModelProto, views: Sequence[Seen], expected: Sequence[Answers]
) -> float:
    """Take the mean error out of the log-odds; return the share of labels expected to differ.

    Galaxies count by p (1 - p), by which errors of the log-odds change the probability. What
    differs from view to view of one galaxy averages out over a catalog; what repeats in two
    views does not, and is what labels are expected to differ by: their share is the mean of
    ``Phi(-|log-odds| / sd)``, with the covariance of the views' errors as variance.
    """
    found = [_answers(quantized.SerializeToString(), view) for view in views]
    share = 0.0
    for answer in expected[0]:
        p = np.stack([view[answer] for view in expected])
        odds, weight = _log_odds(p), np.maximum(p * (1 - p), 1e-6)
        errors = np.stack([_log_odds(view[answer]) for view in found]) - odds
        mean = float(np.average(errors, weights=weight))
        shifted = add_to_log_odds(quantized, answer, -mean)
        errors -= mean if shifted else 0.0
        repeated = np.average(errors.prod(axis=0), weights=np.sqrt(weight.prod(axis=0)))
        sd = float(np.sqrt(max(repeated, 1e-12)))
        share = max(share, float(norm.cdf(-np.abs(odds) / sd).mean()))
        if shifted:
            break  # the other answers follow from the same log-odds
    return share


def _log_odds(p: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(p, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(inside / (1 - inside)))
