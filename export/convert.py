"""From a training run to a bundle: fold, trace to ONNX, compare with torch, write.

A variant in 8 bits is added to a bundle, whether it was just made or came from elsewhere.
"""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from catalogs.errors import InputError
from catalogs.progress import Reporter, Silent
from catalogs.schema import PROBABILITY_PREFIX
from catalogs.trees.tree import Tree
from export.bundle import Bundle
from export.kept import held_out, kept_examples, training_sky
from export.manifest import (
    MANIFEST,
    MODEL,
    SKY,
    SPIRAL,
    InputContract,
    Manifest,
    Metric,
    Provenance,
    in_one_line,
)
from export.parity.gate import Gate, Reference
from export.parity.views import Views, of_survey
from export.proven import write_proven
from export.quantize import add_variant
from export.turns import over_turns
from training.averaging import Average, annotator_of, transformations
from training.checkpoint import Run
from training.memory import keep_freed_memory
from training.models.base import Plain
from training.network import Annotator
from training.settings import dump

OPSET = 20
INPUT, TURN = "cutouts", "turn"
EXAMPLE = torch.zeros((2, 240, 232, 3), dtype=torch.uint8)
FREE = dict.fromkeys(range(3), torch.export.Dim.DYNAMIC)

# Settings that the provenance names by themselves.
_ELSEWHERE = frozenset({"label", "seed", "regions", "framing", "credit"})


def export(
    source: Path,
    to: Path,
    reporter: Reporter | None = None,
    *,
    precisions: Sequence[str] = ("fp32",),
    calibrate: Path | None = None,
    survey: Path | None = None,
    gate: Gate | None = None,
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
        fp32 is always there. bf16 and fp16 need no model of their own.
    calibrate : Path, optional
        Survey store from whose galaxies int8 takes its ranges.
    survey : Path, optional
        Survey store on whose cutouts the bundle is compared with the run; by default the held-out
        ones that the run kept.
    gate : Gate, optional
        On how many cutouts, and past which differences nothing is written.
    replace : bool
        Put the new bundle in the place of an old one at ``to``.

    Raises
    ------
    InputError
        The run is not complete, ``to`` exists, or a precision cannot be made.
    IntegrityError
        ONNX Runtime and torch disagree, or int8 and fp32; no bundle is written.
    """
    reporter, gate = reporter or Silent(), gate or Gate()
    if to.exists() and not replace:
        raise InputError(f"{to} exists already; choose another name or remove it")
    _check_precisions(precisions, calibrate)
    has_bundle = (source / MANIFEST).is_file()
    if "int8" not in precisions or calibrate is None:
        if has_bundle:
            raise InputError(f"{source} is a bundle already; say which --precision to add to it")
        return _export_run(source, to, survey, gate, reporter, replace)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / to.name
        base = (
            Bundle.open(source)
            if has_bundle
            else _export_run(source, made, survey, gate, reporter, False)
        )
        return add_variant(base, calibrate, to, reporter, gate=gate, replace=replace)


def _check_precisions(precisions: Sequence[str], calibrate: Path | None) -> None:
    for name in precisions:
        if name in ("bf16", "fp16"):
            raise InputError(
                f"{name} has no model of its own: `skytally annotate --precision {name}` computes "
                "the fp32 model so; leave it out"
            )
        if name not in ("fp32", "int8"):
            raise InputError(f"precision {name!r} is none of fp32, int8")
    if ("int8" in precisions) != (calibrate is not None):
        raise InputError(
            "int8 takes its ranges from galaxies: give --precision fp32,int8 and --calibrate "
            "survey.zarr together"
        )


def _export_run(
    run: Path, to: Path, survey: Path | None, gate: Gate, reporter: Reporter, replace: bool
) -> Bundle:
    trained = Run.open(run)
    module = Exported(annotator_of(trained), trained.data.questions).eval()
    with in_one_line(f"{to} cannot be made of {run}"):
        manifest = _manifest(to.name, trained, module)
    sky = training_sky(trained)
    model = to_onnx(module, module.answers)
    reporter.event("converted", run=str(run), opset=OPSET, bytes=len(model))
    files = {MODEL: model, SKY: sky}
    galaxies = (
        kept_examples(trained)
        if survey is None
        else of_survey(survey, trained.data.crop, gate.cutouts, held_out(survey, trained))
    )
    views = Views(galaxies, gate.cutouts)
    return write_proven(
        to, manifest, files, reference_of(module), views, gate, reporter, replace=replace
    )


def original(run: Path) -> tuple[Reference, tuple[str, ...]]:
    """Return the network of a run as what its bundle is compared with, and its answers.

    Raises
    ------
    InputError
        There is no complete run.
    """
    trained = Run.open(run)
    module = Exported(annotator_of(trained), trained.data.questions).eval()
    return reference_of(module), module.answers


def reference_of(module: Exported) -> Reference:
    """Return a network in PyTorch, in fp32, as what others are compared with."""
    keep_freed_memory()
    # Twice as fast on CPUs.
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def answer(cutouts: NDArray[Any]) -> list[NDArray[np.float32]]:
        with torch.inference_mode():
            return [output.numpy() for output in module(torch.from_numpy(cutouts))]

    return Reference(f"torch {torch.__version__}", answer)


class Exported(nn.Module):
    """The exported graph: what an annotator answers, and the sum that is "spiral" of a tree.

    Attributes
    ----------
    answers : tuple of str
        Names of what ``forward`` returns, in order.
    """

    def __init__(self, annotator: Annotator | Average, tree: Tree | None) -> None:
        super().__init__()
        self.annotator = annotator
        names = tuple(annotator.answers)
        self.spirals = [] if tree is None else [names.index(name) for name in tree.spiral]
        self.answers = tuple(f"{PROBABILITY_PREFIX}{name}" for name in names)
        self.size = annotator.size
        if SPIRAL in self.answers:
            self.spirals = []  # there already, as an answer
        elif self.spirals:
            self.answers = (*self.answers, SPIRAL)

    def forward(self, cutouts: Tensor) -> tuple[Tensor, ...]:
        """Return one float32 tensor (n,) per answer."""
        return self._with_spiral(self.annotator(cutouts))

    @property
    def turns(self) -> Tensor | None:
        """The ways in which each image is seen, (t, 2, 3), where there are several."""
        return self.annotator.turns if isinstance(self.annotator, Average) else None

    def once(self, cutouts: Tensor, turn: Tensor) -> tuple[Tensor, ...]:
        """Return the same for the image seen in one of these ways."""
        assert isinstance(self.annotator, Average)
        return self._with_spiral(self.annotator.once(cutouts, turn))

    def _with_spiral(self, found: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if not self.spirals:
            return found
        # Shares of ways that exclude each other; the clamp is for the last bit.
        return (*found, torch.stack([found[i] for i in self.spirals]).sum(dim=0).clamp(0.0, 1.0))


class _Once(nn.Module):
    """What is exported, for the image seen in one way that is an input of its own."""

    def __init__(self, exported: Exported) -> None:
        super().__init__()
        self.exported = exported

    def forward(self, cutouts: Tensor, turn: Tensor) -> tuple[Tensor, ...]:
        """Return one float32 tensor (n,) per answer; ``turn`` is (2, 3)."""
        return self.exported.once(cutouts, turn)


def to_onnx(module: nn.Module, answers: Sequence[str]) -> bytes:
    """Return the ONNX model of a network, any number of cutouts of any height and width.

    Parameters
    ----------
    module : nn.Module
        Takes uint8 cutouts (n, h, w, 3), gives one float32 tensor (n,) per answer.
    answers : sequence of str
        Names of the outputs.
    """
    if isinstance(module, Exported) and module.turns is not None:
        inputs = {INPUT: EXAMPLE, TURN: module.turns[0]}
        model = _traced(_Once(module), inputs, answers)
        model = over_turns(model, TURN, module.turns.numpy())
    else:
        model = _traced(module, {INPUT: EXAMPLE}, answers)
    content: bytes = model.SerializeToString()
    return content


def _traced(
    module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]
) -> onnx.ModelProto:
    """Return the ONNX model of a module; number, height and width of cutouts are free."""
    with _without_exporter_noise():
        program = torch.onnx.export(
            fold_batch_norm(module),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=tuple(FREE if name == INPUT else None for name in inputs),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    return model


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


def _told(run: Run) -> dict[str, Any]:
    """Return the settings, and what else decided the answers."""
    told = {k: v for k, v in dump(run.settings).items() if k not in _ELSEWHERE}
    if run.result.theta is not None:
        told["theta"] = run.result.theta.value
    averaged = run.data.averaged
    if averaged is not None:
        told["averaged"] = {
            "members": [
                f"{m.name} ({m.settings['model']}, seed {m.settings['seed']})"
                for m in averaged.members
            ],
            "views": len(transformations()) if averaged.turned else 1,
        }
    return told


def _manifest(name: str, run: Run, module: Exported) -> Manifest:
    tree = run.data.questions
    return Manifest(
        name=name.removesuffix(".bundle"),
        labels=list(run.data.names) if tree is None else [],
        tree=tree,
        answers=list(module.answers),
        spiral=SPIRAL if SPIRAL in module.answers else None,
        threshold=run.result.threshold,
        input=InputContract(name=INPUT, crop=run.data.crop, trained_size=module.size, channels=3),
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
            votes=run.data.votes,
            settings=_told(run),
        ),
        # What could not be measured, such as of a class that did not occur, is left out.
        metrics={
            k: Metric(**asdict(v)) for k, v in run.result.metrics.items() if isfinite(v.value)
        },
        parity=[],
    )
