"""Rewrites of a graph for 8 bits: the same answers, in a form that integer kernels are fast at.

Each takes a model and changes it where its pattern occurs; other graphs stay as they are. ONNX
Runtime's integer convolutions gather an input of few channels byte by byte, which takes longer
than the whole convolution in float: the first layer of any image network. And a network that
runs in half the time spends a fifth of it in scaling cutouts that have its size already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

FEW_CHANNELS = 4
LEVELS = 256  # of an 8-bit cutout
TO_LAST, TO_FIRST, TURN = [0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 3, 2]


class Graph:
    """An ONNX graph in which nodes and constants are found by name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.proto = model.graph
        self.constants = {tensor.name: tensor for tensor in self.proto.initializer}

    def producer(self, name: str) -> NodeProto | None:
        """Return the node that makes a tensor; None for inputs and constants."""
        return next((node for node in self.proto.node if name in node.output), None)

    def consumers(self, name: str) -> list[NodeProto]:
        """Return the nodes that read a tensor."""
        return [node for node in self.proto.node if name in node.input]

    def only_consumer(self, name: str, kind: str) -> NodeProto | None:
        """Return the one node that reads a tensor, if it is of this kind."""
        found = self.consumers(name)
        return found[0] if len(found) == 1 and found[0].op_type == kind else None

    def value(self, name: str) -> NDArray[Any] | None:
        """Return a constant's value, or None if no constant has this name."""
        found = self.constants.get(name)
        return None if found is None else np.asarray(numpy_helper.to_array(found))

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant, once, and return its name."""
        if name not in self.constants:
            self.proto.initializer.append(numpy_helper.from_array(value, name))
            self.constants[name] = self.proto.initializer[-1]
        return name

    def replace(self, old: Sequence[NodeProto], new: Sequence[NodeProto]) -> None:
        """Put new nodes where the last of the old ones stood."""
        nodes = [node for node in self.proto.node if node not in old[:-1]]
        at = nodes.index(old[-1])
        nodes[at : at + 1] = new
        copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self.proto.node[:]
        self.proto.node.extend(copies)

    def drop_unused(self) -> None:
        """Remove nodes and constants that no output needs."""
        read = {value.name for value in self.proto.output}
        for node in reversed(list(self.proto.node)):
            if read.isdisjoint(node.output):
                self.proto.node.remove(node)
            else:
                read |= _reads(node)
        for tensor in list(self.proto.initializer):
            if tensor.name not in read:
                self.proto.initializer.remove(tensor)
                del self.constants[tensor.name]


def turn_kernels(model: onnx.ModelProto) -> None:
    """Transpose kernels instead of images: a network's mirrored view reads the image itself.

    A convolution of a transposed image is the transpose of a convolution with the transposed
    kernel; rectifiers and square poolings commute too; the first dense layer takes its weights
    in the other order. Only the order of the sums changes.
    """
    graph = Graph(model)
    for node in list(graph.proto.node):
        if node.op_type == "Transpose" and _attributes(node).get("perm") == TURN:
            _turn_view(graph, node)
    graph.drop_unused()


def _turn_view(graph: Graph, turn: NodeProto) -> None:
    chain: list[NodeProto] = []
    name = turn.output[0]
    while not chain or chain[-1].op_type != "Gemm":
        readers = graph.consumers(name)
        if len(readers) != 1 or not _treats_axes_alike(readers[0]):
            return
        chain.append(readers[0])
        name = readers[0].output[0]
    convolutions = [node for node in chain if node.op_type == "Conv"]
    dense = chain[-1]
    weights = graph.value(dense.input[1])
    if not convolutions or weights is None or not _attributes(dense).get("transB"):
        return
    channels = graph.constants[convolutions[-1].input[1]].dims[0]
    side = int(np.sqrt(weights.shape[1] / channels))
    if chain[-2].op_type != "Reshape" or channels * side * side != weights.shape[1]:
        return
    chain[0].input[0] = turn.input[0]
    squares = {
        **{id(node): graph.value(node.input[1]) for node in convolutions},
        id(dense): weights.reshape(-1, channels, side, side),
    }
    for node in (*convolutions, dense):
        name, square = node.input[1], squares[id(node)]
        assert square is not None
        turned = square.transpose(TURN).reshape(graph.constants[name].dims)
        node.input[1] = graph.constant(f"{name}.turned", np.ascontiguousarray(turned))


def _treats_axes_alike(node: NodeProto) -> bool:
    if node.op_type in ("Relu", "Reshape", "Gemm"):
        return True
    if node.op_type not in ("Conv", "MaxPool"):
        return False
    found = _attributes(node)
    shapes = [found.get(name, [1, 1]) for name in ("kernel_shape", "strides", "dilations")]
    pads = found.get("pads", [0] * 4)
    return (
        found.get("auto_pad", b"NOTSET") == b"NOTSET"
        and all(len(set(shape)) == 1 for shape in shapes)
        and pads[::2] == pads[1::2]
    )


def pool_within_first(model: onnx.ModelProto, size: int) -> None:
    """Let a first convolution that is pooled by 2x2 work on blocks of 2x2 pixels.

    ``MaxPool(Relu(Conv(x)))`` becomes one convolution over blocks, which have 4 times the
    channels, with the kernel's four shifted copies, and the largest of their four answers. The
    sums are the same ones with zeros added.

    Parameters
    ----------
    model : ModelProto
        Changed in place.
    size : int
        Side of the images that the first convolution reads [px]; odd ones are left alone.
    """
    graph = Graph(model)
    for node in list(graph.proto.node):
        if node.op_type == "Conv" and size % 2 == 0:
            _pool_within(graph, node, size)
    graph.drop_unused()


def _pool_within(graph: Graph, conv: NodeProto, size: int) -> None:
    kernel = graph.value(conv.input[1])
    bias = graph.value(conv.input[2]) if len(conv.input) == 3 else None
    relu = graph.only_consumer(conv.output[0], "Relu")
    pool = None if relu is None else graph.only_consumer(relu.output[0], "MaxPool")
    if kernel is None or bias is None or relu is None or pool is None:
        return
    outputs, channels, width, _ = kernel.shape
    half = width // 2
    same = {"strides": [1, 1], "dilations": [1, 1], "pads": [half] * 4, "group": 1}
    by_two = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0] * 4}
    if channels > FEW_CHANNELS or kernel.shape[2:] != (2 * half + 1, 2 * half + 1):
        return
    if not _has(conv, same) or not _has(pool, by_two):
        return
    image, base, at = conv.input[0], conv.input[1], conv.output[0]
    weights = _block_kernel(kernel)
    beside = graph.constant(f"{base}.beside", np.asarray([0, 0, -1, outputs]))
    made = [
        *_blocks(graph, image, channels, size),
        helper.make_node(
            "Conv",
            [
                f"{image}.blocks",
                graph.constant(f"{base}.blocks", weights),
                graph.constant(f"{base}.blocks.bias", np.tile(bias, 4)),
            ],
            [f"{at}.four"],
            kernel_shape=weights.shape[2:],
            pads=[weights.shape[2] // 2] * 4,
        ),
        helper.make_node("Relu", [f"{at}.four"], [f"{at}.positive"]),
        helper.make_node("Transpose", [f"{at}.positive"], [f"{at}.last"], perm=TO_LAST),
        helper.make_node("Reshape", [f"{at}.last", beside], [f"{at}.beside"]),
        helper.make_node("Transpose", [f"{at}.beside"], [f"{at}.first"], perm=TO_FIRST),
        helper.make_node(
            "MaxPool", [f"{at}.first"], [pool.output[0]], kernel_shape=[1, 4], strides=[1, 4]
        ),
    ]
    for node in made:
        node.name = node.output[0]
    graph.replace([conv, relu, pool], made)


def _blocks(graph: Graph, image: str, channels: int, size: int) -> list[NodeProto]:
    """Return the nodes that make pixels of blocks, (n, 4 channels, size / 2, size / 2)."""
    if graph.producer(f"{image}.blocks") is not None:
        return []
    half = size // 2
    apart = graph.constant("blocks.apart", np.asarray([0, half, 2, half, 2 * channels]))
    joined = graph.constant("blocks.joined", np.asarray([0, half, half, 4 * channels]))
    return [
        helper.make_node("Transpose", [image], [f"{image}.last"], perm=TO_LAST),
        helper.make_node("Reshape", [f"{image}.last", apart], [f"{image}.apart"]),
        helper.make_node("Transpose", [f"{image}.apart"], [f"{image}.turn"], perm=[0, 1, 3, 2, 4]),
        helper.make_node("Reshape", [f"{image}.turn", joined], [f"{image}.joined"]),
        helper.make_node("Transpose", [f"{image}.joined"], [f"{image}.blocks"], perm=TO_FIRST),
    ]


def _block_kernel(kernel: NDArray[Any]) -> NDArray[np.float32]:
    """Return a kernel's four shifted copies over blocks, (4 outputs, 4 channels, blocks, blocks).

    Outputs are ordered by shift (y, x), then output; inputs by place in the block (y, x), then
    channel.
    """
    outputs, channels, width, _ = kernel.shape
    half = width // 2
    reach = (half + 1) // 2  # blocks on either side of the pooled one
    pixels = 2 * (2 * reach + 1)
    copies = np.zeros((2, 2, outputs, channels, pixels, pixels), dtype=np.float32)
    for y in range(2):
        for x in range(2):
            top, left = 2 * reach - half + y, 2 * reach - half + x
            copies[y, x, :, :, top : top + width, left : left + width] = kernel
    apart = copies.reshape(4 * outputs, channels, pixels // 2, 2, pixels // 2, 2)
    joined = apart.transpose(0, 3, 5, 1, 2, 4)
    return np.ascontiguousarray(joined.reshape(4 * outputs, -1, pixels // 2, pixels // 2))


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Where a graph makes ``(pixels - mean) * factor`` of its scaled pixels, (n, c, h, w)."""

    pixels: str
    normalised: str
    mean: int
    factor: float


def find_normalisation(model: onnx.ModelProto) -> Normalisation | None:
    """Return a graph's normalisation of grey levels, if its mean is a whole grey level."""
    graph = Graph(model)
    for multiply in graph.proto.node:
        subtract = graph.producer(multiply.input[0]) if multiply.op_type == "Mul" else None
        if subtract is None or subtract.op_type != "Sub":
            continue
        mean, factor = graph.value(subtract.input[1]), graph.value(multiply.input[1])
        if mean is None or factor is None or mean.size != 1 or factor.size != 1:
            continue
        if float(mean).is_integer() and 0 <= float(mean) < LEVELS and float(factor) > 0:
            return Normalisation(subtract.input[0], multiply.output[0], int(mean), float(factor))
    return None


def read_levels(model: onnx.ModelProto, found: Normalisation, size: int) -> None:
    """Quantise pixels to the cutout's own grey levels, and scale only cutouts that need it.

    The quantised, normalised pixels are grey levels with ``mean`` as zero point and ``factor``
    as scale: cutouts of the network's size are these already; others are scaled as before, and
    rounded.

    Parameters
    ----------
    model : ModelProto
        Quantised with this zero point and scale; changed in place.
    found : Normalisation
    size : int
        The network's own size [px].
    """
    graph = Graph(model)
    quantise = graph.only_consumer(found.normalised, "QuantizeLinear")
    if quantise is None:
        return
    made = _fitting(graph, size, [], _scaled_levels(graph, found.pixels))
    name = quantise.output[0]
    made.append(helper.make_node("Transpose", ["own"], [name], name=name, perm=TO_FIRST))
    graph.replace([quantise], made)
    graph.drop_unused()


def scale_if_needed(model: onnx.ModelProto, found: Normalisation, size: int) -> None:
    """Scale only cutouts that do not have the network's size; nothing is rounded.

    The parameters are those of `read_levels`; the model need not be quantised.
    """
    graph = Graph(model)
    subtract = graph.only_consumer(found.pixels, "Sub")
    if subtract is None:
        return
    output = helper.make_tensor_value_info(found.pixels, TensorProto.FLOAT, None)
    scaled = helper.make_graph(_makers(graph, found.pixels), "scaled", [], [output])
    planes = [
        helper.make_node("Transpose", ["own.given"], ["own.planes"], perm=TO_FIRST),
        helper.make_node("Cast", ["own.planes"], ["own.pixels"], to=TensorProto.FLOAT),
    ]
    subtract.input[0] = "own"
    graph.replace([subtract], [*_fitting(graph, size, planes, scaled), subtract])
    graph.drop_unused()


def _fitting(
    graph: Graph, size: int, planes: list[NodeProto], scaled: onnx.GraphProto
) -> list[NodeProto]:
    """Return nodes that make ``own``: cutouts of the network's size as given, others scaled."""
    cutouts = graph.proto.input[0].name
    inside = [helper.make_node("Identity", [cutouts], ["own.given"]), *planes]
    made = [
        helper.make_node("Shape", [cutouts], ["own.shape"], start=1, end=3),
        helper.make_node(
            "Equal", ["own.shape", graph.constant("own.size", np.full(2, size))], ["own.equal"]
        ),
        helper.make_node("Cast", ["own.equal"], ["own.ones"], to=TensorProto.INT64),
        helper.make_node("ReduceMin", ["own.ones"], ["own.all"], keepdims=0),
        helper.make_node("Cast", ["own.all"], ["own.fit"], to=TensorProto.BOOL),
        helper.make_node("If", ["own.fit"], ["own"]),
    ]
    for node in (*inside, *made):
        node.name = node.output[0]
    kind = scaled.output[0].type.tensor_type.elem_type
    output = helper.make_tensor_value_info(inside[-1].output[0], kind, None)
    given = helper.make_graph(inside, "given", [], [output])
    for branch, does in (("then_branch", given), ("else_branch", scaled)):
        made[-1].attribute.append(helper.make_attribute(branch, does))
    return made


def upstream(model: onnx.ModelProto, tensor: str) -> list[str]:
    """Return the names of the nodes that a tensor is made by, directly or not."""
    return [node.name for node in _makers(Graph(model), tensor)]


def add_to_log_odds(model: onnx.ModelProto, answer: str, shift: float) -> bool:
    """Add a number to the log-odds of an answer, if a sigmoid of a sum with a constant makes it."""
    graph = Graph(model)
    sigmoid = graph.producer(answer)
    if sigmoid is None or sigmoid.op_type != "Sigmoid":
        return False
    add = graph.producer(sigmoid.input[0])
    while add is not None and add.op_type in ("Neg", "Squeeze", "Unsqueeze", "Reshape"):
        shift = -shift if add.op_type == "Neg" else shift
        add = graph.producer(add.input[0])
    if add is None or add.op_type != "Add":
        return False
    bias = graph.value(add.input[1])
    if bias is None or bias.size != 1:
        return False
    add.input[1] = graph.constant(f"{add.input[1]}.shifted", (bias + shift).astype(bias.dtype))
    graph.drop_unused()
    return True


def convolutions_by_depth(model: onnx.ModelProto) -> list[list[str]]:
    """Return the names of the convolutions, by how many others their input has passed."""
    depth: dict[str, int] = {}
    found: list[list[str]] = []
    for node in model.graph.node:  # an ONNX graph is sorted: makers come first
        at = max((depth.get(name, 0) for name in node.input), default=0)
        if node.op_type == "Conv":
            found += [[] for _ in range(at + 1 - len(found))]
            found[at].append(node.name)
            at += 1
        depth.update(dict.fromkeys(node.output, at))
    return found


def _makers(graph: Graph, tensor: str) -> list[NodeProto]:
    found, wanted = [], {tensor}
    for node in reversed(list(graph.proto.node)):
        if not wanted.isdisjoint(node.output):
            found.append(node)
            wanted |= _reads(node)
    return found[::-1]


def _scaled_levels(graph: Graph, pixels: str) -> onnx.GraphProto:
    """Return what makes the scaled pixels, and rounds them, as a graph of its own."""
    low = graph.constant("levels.low", np.asarray(0, dtype=np.float32))
    high = graph.constant("levels.high", np.asarray(LEVELS - 1, dtype=np.float32))
    rounded = [
        helper.make_node("Round", [pixels], ["levels.whole"]),
        helper.make_node("Clip", ["levels.whole", low, high], ["levels.clipped"]),
        helper.make_node("Cast", ["levels.clipped"], ["levels.planes"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["levels.planes"], ["levels.scaled"], perm=TO_LAST),
    ]
    for node in rounded:
        node.name = node.output[0]
    output = helper.make_tensor_value_info("levels.scaled", TensorProto.UINT8, None)
    return helper.make_graph([*_makers(graph, pixels), *rounded], "scaled", [], [output])


def _reads(node: NodeProto) -> set[str]:
    """Return what a node reads, itself or through the graphs inside it."""
    names = set(node.input)
    for attribute in node.attribute:
        inside = list(attribute.g.node)
        made = {name for inner in inside for name in inner.output}
        names |= {name for inner in inside for name in _reads(inner)} - made
    return names


def _has(node: NodeProto, expected: dict[str, Any]) -> bool:
    found = _attributes(node)
    return all(found.get(name, value) == value for name, value in expected.items())


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}
