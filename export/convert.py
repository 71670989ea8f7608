"""From a training run to a bundle: fold, trace to ONNX, compare with torch, write.

A variant in 8 bits is added to a bundle, whether it was just made or came from elsewhere.
"""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from catalogs.errors import InputError
from catalogs.progress import Reporter, Silent
from export import bundle as bundles
from export.bundle import Bundle, InputContract, Manifest, Metric, Parity, Provenance
from export.card import card
from export.parity import compare
from export.quantize import add_variant
from training import checkpoint
from training.checkpoint import Run
from training.models.base import Plain
from training.network import Annotator, Classifier
from training.settings import dump

OPSET = 20
INPUT = "cutouts"
SPIRAL = "spiral"

# Settings that the provenance names by themselves.
_ELSEWHERE = frozenset({"label", "seed", "regions", "framing", "credit"})


def export(
    source: Path,
    to: Path,
    reporter: Reporter | None = None,
    *,
    precisions: Sequence[str] = ("fp32",),
    calibrate: Path | None = None,
    replace: bool = False,
) -> Bundle:
    """Make a bundle of a complete training run, or of a bundle and an int8 variant.

    Parameters
    ----------
    source : Path
        ``NAME.run``; with ``int8`` among the precisions also ``NAME.bundle``, whose fp32 model
        is then kept as it is.
    to : Path
        ``NAME.bundle``.
    reporter : Reporter, optional
    precisions : sequence of {"fp32", "int8"}
        fp32 is always there. bf16 needs no model of its own.
    calibrate : Path, optional
        Survey store from whose galaxies int8 takes its ranges.
    replace : bool
        Put the new bundle in the place of an old one at ``to``.

    Raises
    ------
    InputError
        The run is not complete or has no class ``spiral``, ``to`` exists, or a precision cannot
        be made.
    IntegrityError
        ONNX Runtime and torch disagree, or int8 and fp32; no bundle is written.
    """
    reporter = reporter or Silent()
    if to.exists() and not replace:
        raise InputError(f"{to} exists already; choose another name or remove it")
    _check_precisions(precisions, calibrate)
    has_bundle = (source / bundles.MANIFEST).is_file()
    if "int8" not in precisions or calibrate is None:
        if has_bundle:
            raise InputError(f"{source} is a bundle already; say which --precision to add to it")
        return _export_run(source, to, reporter, replace)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / to.name
        base = Bundle.open(source) if has_bundle else _export_run(source, made, reporter, False)
        return add_variant(base, calibrate, to, reporter, replace=replace)


def _check_precisions(precisions: Sequence[str], calibrate: Path | None) -> None:
    for name in precisions:
        if name == "bf16":
            raise InputError(
                "bf16 has no model of its own: `skytally annotate --precision bf16` computes the "
                "fp32 model so; leave it out"
            )
        if name not in ("fp32", "int8"):
            raise InputError(f"precision {name!r} is none of fp32, int8")
    if ("int8" in precisions) != (calibrate is not None):
        raise InputError(
            "int8 takes its ranges from galaxies: give --precision fp32,int8 and --calibrate "
            "survey.zarr together"
        )


def _export_run(run: Path, to: Path, reporter: Reporter, replace: bool) -> Bundle:
    trained = Run.open(run)
    answers = [f"p_{name}" for name in trained.data.names]
    if f"p_{SPIRAL}" not in answers:
        raise InputError(
            f"{run} has the classes {', '.join(trained.data.names)}, none called {SPIRAL!r}; "
            "name it so with `skytally ingest --classes`"
        )
    module = answers_of(trained)
    model = to_onnx(module, answers)
    reporter.event("converted", run=str(run), opset=OPSET, bytes=len(model))
    examples = checkpoint.read_tensors(run / checkpoint.EXAMPLES)["cutouts"].numpy()
    parity = compare(model, module, answers, examples, module.size, trained.result.threshold)
    reporter.event("parity", **parity.model_dump())
    manifest = _manifest(to.name, trained, module.size, answers, parity)
    files = {
        bundles.MODEL: model,
        bundles.SKY: (run / checkpoint.SKY).read_bytes(),
        bundles.CARD: card(manifest).encode(),
    }
    return bundles.write(to, manifest, files, replace=replace)


def answers_of(run: Run) -> Annotator:
    """Return the network of a run with its trained weights, ready to answer."""
    classifier = Classifier(run.settings, run.answers)
    classifier.load_state_dict(run.weights)
    return Annotator(classifier, run.result.calibration).eval()


def to_onnx(module: nn.Module, answers: Sequence[str]) -> bytes:
    """Return the ONNX model of a network, any number of cutouts of any height and width.

    Parameters
    ----------
    module : nn.Module
        Takes uint8 cutouts (n, h, w, 3), gives one float32 tensor (n,) per answer.
    answers : sequence of str
        Names of the outputs.
    """
    folded = fold_batch_norm(module)
    example = torch.zeros((2, 240, 232, 3), dtype=torch.uint8)
    free = dict.fromkeys(range(3), torch.export.Dim.DYNAMIC)
    with _without_exporter_noise():
        program = torch.onnx.export(
            folded,
            (example,),
            input_names=[INPUT],
            output_names=list(answers),
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=(free,),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    content: bytes = model.SerializeToString()
    return content


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes: they hold this machine's paths, and differ between machines."""
    graph = model.graph
    parts = [model, graph, *graph.node, *graph.initializer]
    parts += [*graph.input, *graph.output, *graph.value_info]
    for part in parts:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Return a copy, in evaluation mode, whose batch normalisations are inside the convolutions.

    Layers whose weights follow a rule, such as group convolutions, become ordinary ones first.
    """
    folded = copy.deepcopy(module).eval()
    for parent in list(folded.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, Plain):
                setattr(parent, name, layer.plain().eval())
    for layer in folded.modules():
        if not isinstance(layer, nn.Sequential):
            continue
        for index in range(len(layer) - 1):
            convolution, norm = layer[index], layer[index + 1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                layer[index] = fuse_conv_bn_eval(convolution, norm)
                layer[index + 1] = nn.Identity()
    return folded


@contextmanager
def _without_exporter_noise() -> Iterator[None]:
    """Hide two messages of torch's exporter that say nothing about our network.

    It logs that torchvision, which nothing here uses, is not installed, and it uses one of
    torch's own deprecated checks.
    """
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*treespec, LeafSpec", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _manifest(name: str, run: Run, size: int, answers: Sequence[str], parity: Parity) -> Manifest:
    return Manifest(
        name=name.removesuffix(".bundle"),
        labels=list(run.data.names),
        answers=list(answers),
        spiral=f"p_{SPIRAL}",
        threshold=run.result.threshold,
        input=InputContract(name=INPUT, crop=run.data.crop, trained_size=size, channels=3),
        provenance=Provenance(
            survey=run.data.survey,
            data_fingerprint=run.data.fingerprint,
            label_column=run.settings.label,
            counts=run.data.counts,
            regions=run.settings.regions,
            seed=run.settings.seed,
            code_version=run.data.code_version,
            framing=run.settings.framing,
            credit=run.settings.credit,
            settings={k: v for k, v in dump(run.settings).items() if k not in _ELSEWHERE},
        ),
        metrics={k: Metric(**asdict(v)) for k, v in run.result.metrics.items()},
        parity=parity,
    )
