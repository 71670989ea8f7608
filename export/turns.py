"""A graph that answers for one turn of the image becomes one that answers for the mean of many.

Written out sixty times, a network of 170 MB would be packed sixty times by the runtime; stacked in
the batch, its maps would take sixty times the memory. ONNX's Scan keeps one copy of either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

PREFIX = "turns_"


def over_turns(model: onnx.ModelProto, turn: str, turns: NDArray[np.float32]) -> onnx.ModelProto:
    """Return the model whose outputs are the means over all turns.

    Parameters
    ----------
    model : ModelProto
        Two inputs, cutouts (n, h, w, c) and ``turn`` (2, 3); outputs of shape (n,).
    turn : str
        Name of that input.
    turns : ndarray of float32, shape (t, 2, 3)

    Returns
    -------
    ModelProto
        One input, the cutouts; the same outputs.
    """
    graph = model.graph
    outputs = [output.name for output in graph.output]
    inner = {name: f"{PREFIX}one_{name}" for name in outputs}
    for node in graph.node:
        node.input[:] = [inner.get(name, name) for name in node.input]
        node.output[:] = [inner.get(name, name) for name in node.output]
    sums = [f"{PREFIX}sum_{name}" for name in outputs]
    (cutouts,) = [value for value in graph.input if value.name != turn]

    def vector(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None])

    body = helper.make_graph(
        [
            *graph.node,
            *(
                helper.make_node("Add", [s, inner[name]], [f"{s}_after"])
                for s, name in zip(sums, outputs, strict=True)
            ),
        ],
        f"{PREFIX}one",
        [*map(vector, sums), helper.make_tensor_value_info(turn, TensorProto.FLOAT, [2, 3])],
        [vector(f"{s}_after") for s in sums],
        value_info=list(graph.value_info),
    )
    names = {name: f"{PREFIX}{name}" for name in ("shape", "count", "zeros", "all", "number")}
    names |= {name: f"{PREFIX}{name}" for name in ("first", "second")}
    totals = [f"{PREFIX}total_{name}" for name in outputs]
    constants: dict[str, NDArray[Any]] = {
        names["all"]: turns.astype(np.float32),
        names["number"]: np.asarray(len(turns), dtype=np.float32),
        names["first"]: np.asarray([0], dtype=np.int64),
        names["second"]: np.asarray([1], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Shape", [cutouts.name], [names["shape"]]),
        helper.make_node(
            "Slice", [names["shape"], names["first"], names["second"]], [names["count"]]
        ),
        helper.make_node(
            "ConstantOfShape",
            [names["count"]],
            [names["zeros"]],
            value=numpy_helper.from_array(np.zeros(1, dtype=np.float32)),
        ),
        helper.make_node(
            "Scan",
            [*[names["zeros"]] * len(sums), names["all"]],
            totals,
            body=body,
            num_scan_inputs=1,
        ),
        *(
            helper.make_node("Div", [total, names["number"]], [name])
            for total, name in zip(totals, outputs, strict=True)
        ),
    ]
    # The weights stay outside: the body sees them, and the runtime packs them once.
    whole = helper.make_graph(
        nodes,
        graph.name,
        [cutouts],
        list(graph.output),
        [*graph.initializer, *(numpy_helper.from_array(v, k) for k, v in constants.items())],
    )
    found = helper.make_model(whole, opset_imports=model.opset_import, ir_version=model.ir_version)
    found.producer_name = model.producer_name
    return found


def one_turn(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str, NDArray[np.float32]] | None:
    """Return what `over_turns` made a model of: the model for one turn, its input, the turns.

    None of a model that it did not make.
    """
    graph = model.graph
    scans = [node for node in graph.node if node.op_type == "Scan"]
    if len(scans) != 1 or scans[0].input[-1] != f"{PREFIX}all":
        return None
    body = next(attribute.g for attribute in scans[0].attribute if attribute.name == "body")
    turn = body.input[-1].name
    inner = {f"{PREFIX}one_{output.name}": output.name for output in graph.output}
    sums = {value.name for value in body.output}
    nodes = [node for node in body.node if node.output[0] not in sums]
    for node in nodes:
        node.input[:] = [inner.get(name, name) for name in node.input]
        node.output[:] = [inner.get(name, name) for name in node.output]
    own = {value.name: value for value in graph.initializer}
    turns = numpy_helper.to_array(own[f"{PREFIX}all"])
    one = helper.make_graph(
        nodes,
        graph.name,
        [*graph.input, helper.make_tensor_value_info(turn, TensorProto.FLOAT, [2, 3])],
        list(graph.output),
        [value for name, value in own.items() if not name.startswith(PREFIX)],
        value_info=list(body.value_info),
    )
    found = helper.make_model(one, opset_imports=model.opset_import, ir_version=model.ir_version)
    found.producer_name = model.producer_name
    return found, turn, turns
