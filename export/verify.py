"""Whether an ONNX model is what a bundle may hold: a graph that reads nothing but itself.

ONNX lets a model name files for its tensors, bring operators of its own, and run for as long as a
number in it says. None of these has a place in a bundle, and a model that has one is refused
before anything of it is run.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from catalogs.errors import IntegrityError
from export.manifest import MANIFEST, MAX_BYTES, Manifest
from export.wire import TooManyPartsError, count_parts

OPERATOR_DOMAINS = frozenset({"", "ai.onnx"})
# They repeat for as long as a number in the model says, or never answer twice alike.
REFUSED_OPERATORS = frozenset(
    {
        *("Loop", "Scan", "SequenceMap"),
        *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
        *("Bernoulli", "Multinomial"),
    }
)
MAX_PARTS = 1 << 19  # nodes, attributes, tensors …: what costs far more in memory than in the file
MAX_VIEWS, MAX_RANK = 256, 64
MAX_ELEMENTS = 1 << 28  # of a tensor that a constant shape makes
# Operators that make a tensor of a given shape, or enlarge one, and the inputs that say it.
_SHAPED_BY = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Tile": (1,),
    "Pad": (1,),
    "Resize": (2, 3),
    "Upsample": (1,),
}
_SIZES = (TensorProto.INT64, TensorProto.FLOAT)  # of a side; of a scale


def verify_model(content: bytes, manifest: Manifest, path: Path) -> None:
    """Refuse a model that reads outside of the bundle, or breaks the manifest's contract.

    Parameters
    ----------
    content : bytes
        The model, whose digest has been found right.
    manifest : Manifest
    path : Path
        For messages.

    Raises
    ------
    IntegrityError
        It is no such model; names the fault.
    """
    model = parsed(content, path)
    verify_graph(model, path)
    inputs = [value.name for value in model.graph.input]
    outputs = [value.name for value in model.graph.output]
    if inputs != [manifest.input.name] or outputs != manifest.answers:
        raise IntegrityError(
            f"{path} maps {_few(inputs)} to {_few(outputs)}; {MANIFEST} says "
            f"{[manifest.input.name]} to {_few(manifest.answers)}"
        )
    fixed = {tensor.name for tensor in model.graph.initializer}
    fixed |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    if manifest.input.name in fixed:
        raise IntegrityError(f"{path} holds a tensor in the place of its input {_few(inputs)}")
    kind = model.graph.input[0].type.tensor_type.elem_type
    if kind != helper.np_dtype_to_tensor_dtype(np.dtype(manifest.input.dtype)):
        raise IntegrityError(f"{path} does not take {manifest.input.dtype}, as {MANIFEST} says")


def parsed(content: bytes, path: Path) -> ModelProto:
    """Return the model, unless building it would take far more memory than its bytes.

    Raises
    ------
    IntegrityError
        The bytes are no ONNX model, or of more than half a million parts.
    """
    try:
        count_parts(content, MAX_PARTS)
        return onnx.load_model_from_string(content)
    except TooManyPartsError as error:
        raise IntegrityError(f"{path} has more than {MAX_PARTS} parts; it is no network") from error
    except Exception as error:  # protobuf's DecodeError has no public, stable home
        raise IntegrityError(f"{path} is not an ONNX model") from error


def verify_graph(model: ModelProto, path: Path) -> None:
    """Refuse a model that reads other files, brings operators, or runs without end.

    Raises
    ------
    IntegrityError
        Names the fault.
    """
    if model.functions or model.training_info:
        raise IntegrityError(f"{path} uses operators outside of standard ONNX: its own functions")
    domains = {opset.domain for opset in model.opset_import}
    for graph in graphs(model.graph):
        domains |= {node.domain for node in graph.node}
    if not domains <= OPERATOR_DOMAINS:
        raise IntegrityError(
            f"{path} uses operators outside of standard ONNX: "
            f"{_few(sorted(domains - OPERATOR_DOMAINS))}"
        )
    # Two branches may each have a constant of the same name.
    constants: dict[str, list[TensorProto]] = defaultdict(list)
    for graph in graphs(model.graph):
        for tensor in tensors(graph):
            _verify_tensor(tensor, path)
        for tensor in graph.initializer:
            constants[tensor.name].append(tensor)
        for node in graph.node:
            if node.op_type == "Constant" and node.output:
                constants[node.output[0]] += [a.t for a in node.attribute if a.HasField("t")]
    bounded = _scan_of_views(model.graph)
    for depth, graph in enumerate(graphs(model.graph)):
        for node in graph.node:
            if depth or node.op_type != "Scan" or node.output[:1] != bounded:
                _verify_node(node, constants, path)


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and every graph inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH or attribute.HasField("g"):
                yield from graphs(attribute.g)
            for inner in attribute.graphs:
                yield from graphs(inner)


def tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield every tensor that a graph holds, sparse ones in their parts; not those of inner graphs.

    Whatever an attribute says that it is, all that it holds is looked at.
    """
    yield from graph.initializer
    sparse = list(graph.sparse_initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                sparse.append(attribute.sparse_tensor)
            sparse += attribute.sparse_tensors
    for tensor in sparse:
        yield tensor.values
        yield tensor.indices


def _verify_tensor(tensor: TensorProto, path: Path) -> None:
    if tensor.external_data or tensor.data_location == TensorProto.EXTERNAL:
        raise IntegrityError(f"{path} keeps tensors outside of the model file")
    elements = math.prod(tensor.dims)
    if any(side < 0 for side in tensor.dims) or elements > MAX_BYTES:
        raise IntegrityError(
            f"{path} has a tensor of the impossible shape {_few(list(tensor.dims))}"
        )
    if tensor.HasField("raw_data") and tensor.data_type in _BITS:
        expected = (elements * _BITS[tensor.data_type] + 7) // 8
        if len(tensor.raw_data) != expected:
            raise IntegrityError(
                f"{path} has a tensor of {len(tensor.raw_data)} bytes whose shape wants {expected}"
            )


def _verify_node(node: NodeProto, constants: dict[str, list[TensorProto]], path: Path) -> None:
    if node.op_type in REFUSED_OPERATORS:
        raise IntegrityError(f"{path} uses the operator {node.op_type}, which no bundle may")
    for at in _SHAPED_BY.get(node.op_type, ()):
        for shape in constants[node.input[at]] if len(node.input) > at else ():
            if math.prod(shape.dims) > MAX_RANK or shape.data_type not in _SIZES:
                raise IntegrityError(f"{path}: the shape given to {node.op_type} is none")
            _verify_size(_sides(node.op_type, _values(shape, path)), node.op_type, path)
    for attribute in node.attribute:
        if attribute.name == "pads":
            _verify_size(_sides("Pad", list(attribute.ints)), node.op_type, path)
        elif node.op_type == "Upsample" and attribute.name == "scales":
            _verify_size(list(attribute.floats), node.op_type, path)
    if node.op_type == "Range" and len(node.input) == 3:
        starts, stops, steps = (_numbers(constants[name], path) for name in node.input)
        if starts and stops and steps:
            span = max(max(stops) - min(starts), max(starts) - min(stops))
            step = min(abs(value) for value in steps)
            _verify_size([span / step if step else span], "Range", path)


def _verify_size(sides: Sequence[float], operator: str, path: Path) -> None:
    """Refuse a tensor of so many elements; NaN is no size either."""
    if not math.prod(max(abs(side), 1.0) for side in sides) <= MAX_ELEMENTS:
        raise IntegrityError(
            f"{path} makes a tensor of more than {MAX_ELEMENTS} elements by {operator}"
        )


def _sides(operator: str, values: list[float]) -> list[float]:
    """Return by how much an operator enlarges each side: padding adds before and behind."""
    if operator != "Pad":
        return values
    half = len(values) // 2
    around = zip(values, values[half:], strict=False)
    return [max(1 + before + behind, 1) for before, behind in around]


def _values(tensor: TensorProto, path: Path) -> list[float]:
    try:
        return [float(value) for value in onnx.numpy_helper.to_array(tensor).ravel().tolist()]
    except (TypeError, ValueError):
        raise IntegrityError(f"{path}: a tensor that says a size holds no numbers") from None


def _numbers(tensors: Sequence[TensorProto], path: Path) -> list[float]:
    """Return what constants of one name may be where each is one number; none where not."""
    return [_values(tensor, path)[0] for tensor in tensors if math.prod(tensor.dims) == 1]


def _scan_of_views(graph: GraphProto) -> list[str]:
    """Return the first output of the one Scan that a model may have: over views of the image.

    `export.turns` makes it. It repeats as often as a tensor in the file has rows of (2, 3), at
    most 256 times, and stands in the model's own graph.
    """
    scans = [node for node in graph.node if node.op_type == "Scan" and node.output]
    if len(scans) != 1:
        return []
    over = scans[0].input[-1:]
    once = [a.i for a in scans[0].attribute if a.name == "num_scan_inputs"] == [1]
    for tensor in graph.initializer:
        if once and [tensor.name] == over and len(tensor.dims) == 3 and tensor.dims[0] <= MAX_VIEWS:
            return list(scans[0].output[:1]) if list(tensor.dims[1:]) == [2, 3] else []
    return []


def _few(names: list[str] | list[int]) -> str:
    """Return names for a message, and not more than fit into it."""
    return repr(names)[:200]


_BITS: dict[int, int] = {
    kind: np.dtype(helper.tensor_dtype_to_np_dtype(kind)).itemsize * 8
    for kind in (
        *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16),
        *(TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64),
        *(TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64),
        TensorProto.BOOL,
    )
}
