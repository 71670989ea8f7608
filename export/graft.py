"""A foreign network with what belongs before and behind it, as one graph.

Before it: uint8 cutouts of any size, scaled as `training.preprocess` does it, in the network's
channels, range and layout. Behind it: probabilities, one output for each answer. Only operators
that mean the same in every opset from 13 on are used, so the network keeps its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import (
    ModelProto,
    NodeProto,
    TensorProto,
    compose,
    helper,
    numpy_helper,
    version_converter,
)

from catalogs.trees.tree import Tree
from export.contract import Contract, ForeignInput

OLDEST_OPSET, OLDEST_IR = 13, 8
INPUT = "cutouts"
_NETWORK, _IMAGES, _RAW = "network.", "skytally.images", "skytally.raw"


class _Nodes:
    """Collects nodes and constants; every tensor gets a name of its own."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(
        self,
        kind: str,
        *inputs: str,
        to: str | None = None,
        **attributes: Any,  # noqa: ANN401  (whatever ONNX takes)
    ) -> str:
        """Add a node; return the name of what it makes."""
        name = to or f"{self.prefix}.{kind.lower()}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def cast(self, name: str, kind: int = TensorProto.FLOAT, to: str | None = None) -> str:
        """Add a node that converts to a data type; return the name of what it makes."""
        made = to or f"{self.prefix}.cast.{len(self.nodes)}"
        self.nodes.append(helper.make_node("Cast", [name], [made], name=made, to=kind))
        return made

    def constant(
        self, value: NDArray[Any] | float | Sequence[int], dtype: type = np.float32
    ) -> str:
        """Add a constant; return its name."""
        name = f"{self.prefix}.constant.{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name


def grafted(
    model: ModelProto, contract: Contract, answers: Sequence[str], tree: Tree | None
) -> bytes:
    """Return a network from cutouts to named probabilities.

    Parameters
    ----------
    model : ModelProto
        With the one input and the one output that the contract means.
    contract : Contract
    answers : sequence of str
        Names of the outputs: one for each answer, and the sum of the spiral ones behind them if
        it is one more.
    tree : Tree, optional
        The contract's.
    """
    model = ModelProto.FromString(model.SerializeToString())
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim[:1]:
            dim.dim_param = "n"  # whether it means it is for the gate to find out
    if _opset(model) < OLDEST_OPSET:
        model = version_converter.convert_version(model, OLDEST_OPSET)
    model.ir_version = max(model.ir_version, OLDEST_IR)
    taken, given = model.graph.input[0], model.graph.output[0]
    network = compose.add_prefix(model, _NETWORK)
    before = _before(contract.input, taken.type.tensor_type.elem_type, model)
    behind = _behind(contract, answers, tree, given.type.tensor_type.elem_type, model)
    whole = compose.merge_models(before, network, [(_IMAGES, _NETWORK + taken.name)])
    whole = compose.merge_models(whole, behind, [(_NETWORK + given.name, _RAW)])
    whole.producer_name = ""
    whole.producer_version = ""
    content: bytes = whole.SerializeToString()
    return content


def _before(contract: ForeignInput, kind: int, like: ModelProto) -> ModelProto:
    """Return the graph from cutouts to the network's input."""
    made = _Nodes("before")
    size = contract.size
    first = made.add("Transpose", made.cast(INPUT), perm=[0, 3, 1, 2])
    shape = made.add("Shape", INPUT)
    rows, columns = (_resize_weights(made, shape, axis, size) for axis in (1, 2))
    across = made.add("MatMul", first, made.add("Transpose", columns, perm=[1, 0]))
    small = made.add("MatMul", rows, across)
    last = made.add("Transpose", small, perm=[0, 2, 3, 1])
    # Channels, range, mean and sd are one linear map of the three levels of a pixel.
    mix, offset = _levels(contract)
    mixed = made.add("Add", made.add("MatMul", last, made.constant(mix)), made.constant(offset))
    if contract.layout == "NCHW":
        mixed = made.add("Transpose", mixed, perm=[0, 3, 1, 2])
    made.cast(mixed, kind, _IMAGES)
    square = [size, size]
    sides = [contract.planes, *square] if contract.layout == "NCHW" else [*square, contract.planes]
    return _model(
        made,
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", "height", "width", 3])],
        [helper.make_tensor_value_info(_IMAGES, kind, ["n", *sides])],
        like,
    )


def _resize_weights(made: _Nodes, shape: str, axis: int, size: int) -> str:
    """Return the weights of an antialiased linear resize, (size, pixels): `training.preprocess`."""
    pixels = made.add("Gather", shape, made.constant([axis], np.int64))
    count = made.add("Squeeze", pixels, made.constant([0], np.int64))
    zero, one = made.constant(0, np.int64), made.constant(1, np.int64)
    numbers = made.add("Range", zero, count, one)
    places = made.add("Add", made.cast(numbers), made.constant(0.5))
    scale = made.add("Div", made.cast(pixels), made.constant(float(size)))
    centres = made.constant((np.arange(size) + 0.5)[:, None])
    distance = made.add("Abs", made.add("Sub", places, made.add("Mul", centres, scale)))
    width = made.add("Max", scale, made.constant(1.0))
    inside = made.add("Sub", made.constant(1.0), made.add("Div", distance, width))
    weights = made.add("Max", inside, made.constant(0.0))
    total = made.add("ReduceSum", weights, made.constant([1], np.int64), keepdims=1)
    return made.add("Div", weights, total)


def _levels(contract: ForeignInput) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what a pixel's levels are multiplied with, (3, planes), and what is added."""
    order = {"RGB": np.eye(3), "BGR": np.eye(3)[::-1], "grey": np.full((3, 1), 1 / 3)}
    low, high = contract.range
    mean, sd = (np.broadcast_to(v, (contract.planes,)) for v in (contract.mean, contract.sd))
    return order[contract.channels] * ((high - low) / 255) / sd, (low - mean) / sd


def _behind(
    contract: Contract, answers: Sequence[str], tree: Tree | None, kind: int, like: ModelProto
) -> ModelProto:
    """Return the graph from the network's output to one probability for each answer."""
    made = _Nodes("behind")
    activation = contract.output.activation
    names = contract.output.answers if tree is None else tree.names
    columns = 1 if activation == "sigmoid" else len(names)
    raw = made.add("Reshape", made.cast(_RAW), made.constant([-1, columns], np.int64))
    if activation == "sigmoid":
        parts = [made.add("Sigmoid", made.add("Neg", raw)), made.add("Sigmoid", raw)]
        single = [_column(made, part, 0) for part in parts]
    elif tree is None:
        shares = _question(made, raw, activation)
        single = [_column(made, shares, i) for i in range(columns)]
    else:
        single = _cumulative(made, raw, activation, tree)
    for answer, name in zip(answers, single, strict=False):
        made.add("Identity", name, to=answer)
    if len(answers) > len(single):
        total = _sum(made, [single[i] for i in spirals(contract, tree)])
        made.add("Clip", total, made.constant(0.0), made.constant(1.0), to=answers[-1])
    return _model(
        made,
        [helper.make_tensor_value_info(_RAW, kind, None)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in answers],
        like,
    )


def spirals(contract: Contract, tree: Tree | None) -> list[int]:
    """Return which answers together mean spiral."""
    names = list(contract.output.answers if tree is None else tree.names)
    chosen = (contract.spiral or ()) if tree is None else tree.spiral
    return [names.index(name) for name in chosen]


def _cumulative(made: _Nodes, raw: str, activation: str, tree: Tree) -> list[str]:
    """Return each answer's share of all volunteers (`Tree.cumulative`), in order."""
    found: dict[int, str] = {}
    for i in tree.order:
        at = tree.slices[i]
        ends = (made.constant([n], np.int64) for n in (at.start, at.stop, 1))
        shares = _question(made, made.add("Slice", raw, *ends), activation)
        parts = [_column(made, shares, k) for k in range(at.stop - at.start)]
        if not tree.counted_of_all(i):
            asked = _sum(made, [found[answer] for answer in tree.parents[i]])
            parts = [made.add("Mul", part, asked) for part in parts]
        found |= dict(zip(range(at.start, at.stop), parts, strict=True))
    return [found[i] for i in range(len(found))]


def _question(made: _Nodes, raw: str, activation: str) -> str:
    """Return the shares of one question's answers, (n, answers)."""
    if activation == "softmax":
        return made.add("Softmax", raw, axis=1)
    if activation == "dirichlet":
        axis = made.constant([1], np.int64)
        return made.add("Div", raw, made.add("ReduceSum", raw, axis, keepdims=1))
    return raw


def _column(made: _Nodes, of: str, index: int) -> str:
    return made.add("Gather", of, made.constant(index, np.int64), axis=1)


def _sum(made: _Nodes, parts: Sequence[str]) -> str:
    return made.add("Sum", *parts)


def _model(made: _Nodes, inputs: list[Any], outputs: list[Any], like: ModelProto) -> ModelProto:
    graph = helper.make_graph(made.nodes, made.prefix, inputs, outputs, made.constants)
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _opset(like))],
        ir_version=like.ir_version,
    )


def _opset(model: ModelProto) -> int:
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
