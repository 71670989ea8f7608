"""A network that skytally did not train becomes a bundle, proven equal to its original.

The original runs in ONNX Runtime as it came, on images that Pillow and numpy prepared; the bundle
has the preparation in its graph. Nothing but the file and the contract is shared by the two.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, inliner
from PIL import Image
from scipy.special import expit, softmax

from catalogs.errors import InputError, IntegrityError, SkytallyError
from catalogs.progress import Reporter, Silent
from catalogs.schema import PROBABILITY_PREFIX
from catalogs.trees.tree import Tree
from export.bundle import Bundle
from export.contract import Contract, ForeignInput, read_contract
from export.graft import INPUT, grafted, spirals
from export.manifest import (
    MAX_BYTES,
    MODEL,
    SPIRAL,
    Foreign,
    InputContract,
    Manifest,
    in_one_line,
)
from export.parity.gate import Gate, Reference
from export.parity.views import Galaxies, Views, of_survey
from export.proven import write_proven
from export.providers import runtime, told
from export.verify import graphs, parsed, tensors, verify_graph

SIMULATED = 512
ROUNDING = 1e-3  # of a sum of probabilities, in half precision
AGAIN = "export it again as standard ONNX"
FREE = "see to the model and its contract; if it takes one number of images only, to a free batch"
TAKEN = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)

Pixels = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Original:
    """A foreign network as it came.

    Attributes
    ----------
    path : Path
    model : ModelProto
        With its weights inside, its one input and the one output that counts.
    sha256 : str
        Of the file, followed by those of weights beside it in the order of their names.
    contract : Contract
    """

    path: Path
    model: ModelProto
    sha256: str
    contract: Contract

    @property
    def batch(self) -> int | None:
        """How many images it takes at a time; None: any number."""
        return self.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or None


def export_foreign(
    source: Path,
    contract: Path,
    to: Path,
    reporter: Reporter | None = None,
    *,
    survey: Path | None = None,
    gate: Gate | None = None,
    replace: bool = False,
) -> Bundle:
    """Make a bundle of a foreign ONNX model and its contract.

    Parameters
    ----------
    source : Path
        ``model.onnx``; weights in files beside it are taken in.
    contract : Path
        TOML, see `export.contract`.
    to : Path
        ``NAME.bundle``.
    reporter : Reporter, optional
    survey : Path, optional
        Survey store on whose cutouts both are compared; a simulated sky by default.
    gate : Gate, optional
    replace : bool
        Put the new bundle in the place of an old one at ``to``.

    Raises
    ------
    InputError
        The model or the contract cannot be used, or they do not fit; or ``to`` exists.
    IntegrityError
        The bundle would not answer as the original does; none is written.
    """
    reporter, gate = reporter or Silent(), gate or Gate()
    if to.exists() and not replace:
        raise InputError(f"{to} exists already; choose another name or remove it")
    original = read_original(source, read_contract(contract))
    said, tree = original.contract, original.contract.tree()
    with in_one_line(f"{to} cannot be made of {source}"):
        manifest = _manifest(to.name, original, tree)
    with told(f"{source} cannot be joined to its preprocessing", AGAIN, InputError):
        model = grafted(original.model, said, manifest.answers, tree)
    reporter.event("grafted", model=str(source), bytes=len(model))
    with _galaxies(survey, said.input.crop, gate.cutouts, reporter) as galaxies:
        views = Views(galaxies, gate.cutouts)
        files = {MODEL: model}
        reference = reference_of(original, manifest, tree)
        try:
            return write_proven(
                to, manifest, files, reference, views, gate, reporter, replace=replace
            )
        except SkytallyError as error:
            batch = original.batch
            if batch is None:
                raise
            raise InputError(
                f"{source} takes {batch} images at a time and no other number ({error}); export "
                "it again with a free batch, by torch's dynamic_shapes or dynamic_axes"
            ) from error


def original_of(source: Path, contract: Path, bundle: Bundle) -> Reference:
    """Return a foreign model as what its bundle is compared with.

    Raises
    ------
    InputError
        The bundle was made from another one.
    """
    original = read_original(source, read_contract(contract))
    provenance = bundle.manifest.provenance
    if not isinstance(provenance, Foreign) or provenance.sha256 != original.sha256:
        raise InputError(f"{source} is not what {bundle.path} was made from")
    return reference_of(original, bundle.manifest, original.contract.tree())


def read_original(path: Path, contract: Contract) -> Original:
    """Read a foreign model and the weights beside it, and reduce it to what the contract means.

    Raises
    ------
    InputError
        It is no ONNX model, needs more than standard ONNX, reads files from elsewhere, or has not
        the input and the output that the contract says.
    """
    content = _read(path)
    digest = hashlib.sha256(content)
    try:
        model = parsed(content, path)
        _take_in_weights(model, path, digest)
        if model.functions:
            model = inliner.inline_local_functions(model)
        verify_graph(model, path)
    except IntegrityError as error:
        raise InputError(f"{error}; {AGAIN}") from error
    _select(model, path, contract)
    return Original(path, model, digest.hexdigest(), contract)


def reference_of(original: Original, manifest: Manifest, tree: Tree | None) -> Reference:
    """Return what answers cutouts with the original, prepared without a graph."""
    ort = runtime()
    with told(f"{original.path} does not open", AGAIN, InputError):
        session = ort.InferenceSession(
            original.model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    kind = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(taken.type, np.float32)

    def answer(cutouts: Pixels) -> list[NDArray[np.float32]]:
        images = prepared(cutouts, original.contract.input).astype(kind)
        size = original.batch or len(images)
        parts = []
        for start in range(0, len(images), size):
            some = images[start : start + size]
            full = np.concatenate([some, np.zeros((size - len(some), *some.shape[1:]), kind)])
            with told(f"{original.path} fails on {size} images", FREE, InputError):
                (found,) = session.run([given.name], {taken.name: full})
            if found.shape[:1] != (size,):
                raise InputError(f"{original.path} answers {size} images by {found.shape}; {FREE}")
            parts.append(found[: len(some)].reshape(len(some), -1))
        raw = np.concatenate(parts).astype(np.float64)
        _check_columns(raw.shape[1], original, tree)
        found = probabilities(raw, original.contract, tree)
        if not _are_probabilities(found, manifest):
            raise InputError(
                f"the answers of {original.path} are no probabilities that sum to one by "
                f"question, such as {found[0].tolist()!r:.100}; see to the contract's activation"
            )
        if len(manifest.answers) > found.shape[1]:
            total = found[:, spirals(original.contract, tree)].sum(axis=1, keepdims=True)
            found = np.concatenate([found, np.clip(total, 0, 1)], axis=1)
        return list(found.astype(np.float32).T)

    return Reference(f"the original, onnxruntime {ort.__version__} cpu", answer)


def prepared(cutouts: Pixels, contract: ForeignInput) -> NDArray[np.float64]:
    """Return a network's input, made of cutouts (n, height, width, 3) by Pillow and numpy."""
    size = (contract.size, contract.size)
    images = np.empty((len(cutouts), *size, 3), dtype=np.float64)
    for i, cutout in enumerate(cutouts):
        for channel in range(3):
            plane = Image.fromarray(cutout[:, :, channel].astype(np.float32))
            images[i, :, :, channel] = np.asarray(plane.resize(size, Image.Resampling.BILINEAR))
    if contract.channels == "BGR":
        images = images[..., ::-1]
    elif contract.channels == "grey":
        images = images.mean(axis=3, keepdims=True)
    low, high = contract.range
    images = images / 255 * (high - low) + low
    images = (images - np.asarray(contract.mean)) / np.asarray(contract.sd)
    return np.asarray(images.transpose(0, 3, 1, 2) if contract.layout == "NCHW" else images)


def probabilities(
    raw: NDArray[np.float64], contract: Contract, tree: Tree | None
) -> NDArray[np.float64]:
    """Return the probability of each answer from a network's numbers, (n, answers)."""
    if contract.output.activation == "sigmoid":
        return np.concatenate([expit(-raw), expit(raw)], axis=1)
    shares = np.empty_like(raw)
    for at in [slice(None)] if tree is None else tree.slices:
        part = raw[:, at]
        if contract.output.activation == "softmax":
            part = softmax(part, axis=1)
        elif contract.output.activation == "dirichlet":
            part = part / part.sum(axis=1, keepdims=True)
        shares[:, at] = part
    return shares if tree is None else tree.cumulative(shares)


def _check_columns(found: int, original: Original, tree: Tree | None) -> None:
    said = original.contract.output
    expected = len(said.answers if tree is None else tree.names)
    if found != (1 if said.activation == "sigmoid" else expected):
        raise InputError(
            f"{original.path} answers {found} numbers for an image; the contract names {expected} "
            f"answers with the activation {said.activation}"
        )


def _are_probabilities(found: NDArray[np.float64], manifest: Manifest) -> bool:
    totals = [found[:, question.at].sum(axis=1) for question in manifest.questions]
    whole = totals if manifest.tree is None else totals[:0]
    return bool(
        np.all((found >= 0) & (found <= 1 + ROUNDING))
        and all(np.all(total <= 1 + ROUNDING) for total in totals)
        and all(np.all(total >= 1 - ROUNDING) for total in whole)
    )


@contextmanager
def _galaxies(survey: Path | None, crop: int, count: int, reporter: Reporter) -> Iterator[Galaxies]:
    if survey is not None:
        yield of_survey(survey, crop, count)
        return
    from catalogs.synthetic.simulate import SimulationSettings, simulate

    reporter.event("no --survey: compared on a simulated sky", galaxies=SIMULATED)
    with tempfile.TemporaryDirectory() as folder:
        sky = Path(folder) / "simulated.zarr"
        simulate(sky, SimulationSettings(galaxies=SIMULATED), reporter)
        yield of_survey(sky, crop, count)


def _manifest(name: str, original: Original, tree: Tree | None) -> Manifest:
    said = original.contract
    names = said.output.answers if tree is None else tree.names
    answers = [f"{PROBABILITY_PREFIX}{name}" for name in names]
    chosen = spirals(said, tree)
    spiral = answers[chosen[0]] if len(chosen) == 1 else None
    if len(chosen) > 1:
        answers, spiral = [*answers, SPIRAL], SPIRAL
    if SPIRAL in answers and spiral is None:
        spiral = SPIRAL
    return Manifest(
        name=name.removesuffix(".bundle"),
        labels=[] if tree is not None else list(names),
        tree=tree,
        answers=answers,
        spiral=spiral,
        threshold=said.threshold,
        input=InputContract(
            name=INPUT, crop=said.input.crop, trained_size=said.input.size, channels=3
        ),
        provenance=Foreign(
            model=original.path.name,
            sha256=original.sha256,
            contract=said.model_dump(mode="json"),
            framing=said.input.framing,
            credit=said.credit,
            training=said.training,
        ),
        metrics={},
        parity=[],
    )


def _take_in_weights(model: ModelProto, path: Path, digest: hashlib._Hash) -> None:
    """Read tensors that the model keeps in plain files beside it, and in no other place."""
    beside: dict[str, bytes] = {}
    outside = [
        tensor
        for graph in graphs(model.graph)
        for tensor in tensors(graph)
        if tensor.data_location == TensorProto.EXTERNAL
    ]
    room = MAX_BYTES
    for tensor in outside:
        where = {entry.key: entry.value for entry in tensor.external_data}
        name = where.get("location", "")
        if name != Path(name).name or name in ("", ".", ".."):
            raise InputError(f"{path} keeps weights in {name!r}; they must lie beside it")
        if name not in beside:
            beside[name] = _read(path.with_name(name))
        try:
            start, length = int(where.get("offset", 0)), int(where.get("length", -1))
        except ValueError:
            raise InputError(f"{path} does not say where in {name} its weights are") from None
        content = beside[name][start : start + length if length >= 0 else None]
        room -= len(content)
        if start < 0 or room < 0:
            raise InputError(f"{path} has more than {MAX_BYTES} bytes of weights")
        tensor.raw_data = content
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    for name in sorted(beside):
        digest.update(beside[name])


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} is larger than the {MAX_BYTES} bytes that a bundle may have")
    return content


def _select(model: ModelProto, path: Path, contract: Contract) -> None:
    """Keep the input and the output that the contract means, for batches of any size."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    free = [value for value in graph.input if value.name not in weights]
    taken = _one(free, contract.input.name, path, "input")
    given = _one(list(graph.output), contract.output.name, path, "output")
    if len(free) > 1:
        raise InputError(f"{path} takes {', '.join(v.name for v in free)}; skytally feeds one")
    kind = taken.type.tensor_type
    if kind.elem_type not in TAKEN:
        raise InputError(f"{path} takes {TensorProto.DataType.Name(kind.elem_type)}, not floats")
    said = given.type.tensor_type.elem_type
    if said not in TAKEN:
        raise InputError(f"{path} answers {TensorProto.DataType.Name(said)}, not floats")
    planes, size = contract.input.planes, contract.input.size
    sides = [planes, size, size] if contract.input.layout == "NCHW" else [size, size, planes]
    has = [dim.dim_value for dim in kind.shape.dim]
    if len(has) != 4 or any(a not in (0, b) for a, b in zip(has[1:], sides, strict=True)):
        raise InputError(
            f"{path} takes images of {has[1:]}, the contract says {sides} ({contract.input.layout})"
        )
    for values, chosen in ((graph.input, taken), (graph.output, given)):
        kept = type(chosen).FromString(chosen.SerializeToString())
        del values[:]
        values.append(kept)
    del graph.value_info[:]


def _one(
    values: Sequence[ValueInfoProto], name: str | None, path: Path, what: str
) -> ValueInfoProto:
    found = [value for value in values if name in (None, value.name)]
    if len(found) != 1:
        known = ", ".join(value.name for value in values)[:200]
        raise InputError(
            f"{path} has no {what} {name}; it has {known}"
            if name is not None
            else f"{path} has {len(found)} {what}s ({known}); name one in the contract's [{what}]"
        )
    return found[0]
