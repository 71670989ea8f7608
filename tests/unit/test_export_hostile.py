"""Bundles that somebody forged: digests are right, what they hold is not."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, GraphProto, ModelProto, SparseTensorProto, TensorProto, helper
from onnx.numpy_helper import from_array

from catalogs.errors import IntegrityError, SkytallyError
from export import bundle as bundles
from export.bundle import Bundle, shipped
from export.manifest import MANIFEST, MODEL
from export.verify import MAX_PARTS
from export.wire import TooManyPartsError, count_parts


@pytest.fixture
def copied(brightness: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(brightness.path, tmp_path / "copy.bundle"))


def forge(path: Path, content: bytes) -> None:
    """Put another model in, with its digest."""
    (path / MODEL).write_bytes(content)
    values = json.loads((path / MANIFEST).read_text())
    values["files"][MODEL] = bundles.entry_of(content).model_dump()
    (path / MANIFEST).write_text(json.dumps(values))


def changed(path: Path, change: Callable[[ModelProto], Any]) -> None:
    model = onnx.load_model(path / MODEL)
    change(model)
    forge(path, model.SerializeToString())


def outside(location: str = "../../etc/passwd") -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def sparse() -> SparseTensorProto:
    return SparseTensorProto(values=outside(), indices=from_array(np.zeros(1, np.int64)), dims=[1])


def with_attribute(model: ModelProto, **fields: Any) -> None:
    node = model.graph.node.add(op_type="Identity", input=["cutouts"], output=["unused"])
    node.attribute.append(AttributeProto(name="a", **fields))


def in_branch(model: ModelProto, inner: GraphProto) -> None:
    inner.name = "inner"
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    outer = helper.make_graph([branch], "outer", [], [])
    model.graph.node.append(
        helper.make_node("If", ["c"], ["z"], then_branch=outer, else_branch=outer)
    )


FILES: dict[str, Callable[[ModelProto], Any]] = {
    "initializer": lambda m: m.graph.initializer.append(outside()),
    "absolute": lambda m: m.graph.initializer.append(outside("/dev/zero")),
    "beside": lambda m: m.graph.initializer.append(outside("weights.bin")),
    "sparse initializer": lambda m: m.graph.sparse_initializer.append(sparse()),
    "attribute": lambda m: with_attribute(m, type=AttributeProto.TENSOR, t=outside()),
    "attribute of another type": lambda m: with_attribute(m, type=AttributeProto.INT, t=outside()),
    "list": lambda m: with_attribute(m, type=AttributeProto.TENSORS, tensors=[outside()]),
    "sparse attribute": lambda m: with_attribute(
        m, type=AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse()
    ),
    "sparse list": lambda m: with_attribute(
        m, type=AttributeProto.SPARSE_TENSORS, sparse_tensors=[sparse()]
    ),
    "branch": lambda m: in_branch(m, GraphProto(initializer=[outside()])),
    "sparse in a branch": lambda m: in_branch(m, GraphProto(sparse_initializer=[sparse()])),
    "graph in an attribute of another type": lambda m: with_attribute(
        m, type=AttributeProto.INT, g=GraphProto(initializer=[outside()])
    ),
    "graphs": lambda m: with_attribute(
        m, type=AttributeProto.GRAPHS, graphs=[GraphProto(initializer=[outside()])]
    ),
}


@pytest.mark.parametrize("where", FILES)
def test_a_tensor_in_another_file_is_found_wherever_it_is_named(copied: Path, where: str) -> None:
    changed(copied, FILES[where])
    with pytest.raises(IntegrityError, match="outside of the model file"):
        Bundle.open(copied)


@pytest.mark.parametrize("part", ["functions", "training_info"])
def test_graphs_beside_the_graph_are_refused(copied: Path, part: str) -> None:
    changed(copied, lambda model: getattr(model, part).add())
    with pytest.raises(IntegrityError, match="its own functions"):
        Bundle.open(copied)


def shaped(op: str, shape: list[int], node: bool = False) -> Callable[[ModelProto], None]:
    """An operator that makes a tensor of a constant shape."""

    def change(model: ModelProto) -> None:
        constant = from_array(np.asarray(shape, dtype=np.int64), "huge")
        if node:
            model.graph.node.append(helper.make_node("Constant", [], ["huge"], value=constant))
        else:
            model.graph.initializer.append(constant)
        inputs = ["huge"] if op == "ConstantOfShape" else ["one", "huge"]
        inner = helper.make_graph([helper.make_node(op, inputs, ["bomb"])], "inner", [], [])
        in_branch(model, inner)

    return change


def test_a_tensor_larger_than_memory_is_refused_before_it_is_made(copied: Path) -> None:
    for change in (
        shaped("ConstantOfShape", [1 << 20, 1 << 20]),
        shaped("ConstantOfShape", [1 << 40], node=True),
        shaped("Expand", [1 << 15, 1 << 15]),
        shaped("Tile", [1 << 62, 1 << 62]),
    ):
        original = (copied / MODEL).read_bytes()
        changed(copied, change)
        with pytest.raises(IntegrityError, match="more than 268435456 elements"):
            Bundle.open(copied)
        forge(copied, original)

    def hidden(model: ModelProto) -> None:
        shaped("ConstantOfShape", [1 << 40])(model)
        small = from_array(np.asarray([1], dtype=np.int64), "huge")
        in_branch(model, GraphProto(initializer=[small]))  # another branch's, of the same name

    changed(copied, hidden)
    with pytest.raises(IntegrityError, match="elements"):
        Bundle.open(copied)
    forge(copied, original)
    changed(copied, shaped("ConstantOfShape", [10, 10]))
    Bundle.open(copied)


def enlarged(op: str, *inputs: Any, **attributes: Any) -> Callable[[ModelProto], None]:
    """An operator in a branch whose constant inputs, or attributes, say how large its answer is."""

    def change(model: ModelProto) -> None:
        names = [f"i{k}" if given is not None else "" for k, given in enumerate(inputs)]
        for name, given in zip(names, inputs, strict=True):
            if name:
                model.graph.initializer.append(from_array(np.asarray(given), name))
        node = helper.make_node(op, names, ["large"], **attributes)
        in_branch(model, helper.make_graph([node], "inner", [], []))

    return change


ONE = np.ones((1, 1), dtype=np.float32)


@pytest.mark.parametrize(
    ("large", "small"),
    [
        (enlarged("Range", 0, 10**12, 1), enlarged("Range", 0, 100, 1)),
        (enlarged("Range", 10**12, 0, -1), enlarged("Range", 10**12, 10**12 - 9, -1)),
        (enlarged("Range", 0.0, 1.0, 1e-12), enlarged("Range", 0.0, 1e12, 1e9)),
        (enlarged("Range", 0.0, np.nan, 1.0), enlarged("Range", 0, 9, 0)),
        (enlarged("Pad", ONE, [0, 0, 0, 10**11]), enlarged("Pad", ONE, [3, 3, 0, 10**5])),
        (enlarged("Pad", ONE, [10**5, 0, 0, 10**5]), enlarged("Pad", ONE, [-9, 0, 0, 10**5])),
        (enlarged("Pad", ONE, pads=[0, 0, 0, 10**11]), enlarged("Pad", ONE, pads=[0, 0, 1, 1])),
        (enlarged("MaxPool", ONE, pads=[0, 10**11]), enlarged("MaxPool", ONE, pads=[1, 1])),
        (
            enlarged("Resize", ONE, None, np.asarray([2e4, 2e4], dtype=np.float32)),
            enlarged("Resize", ONE, None, np.asarray([2, 0.5], dtype=np.float32)),
        ),
        (
            enlarged("Resize", ONE, None, None, [1, 10**9]),
            enlarged("Resize", ONE, None, np.zeros(0, dtype=np.float32), [224, 224]),
        ),
    ],
)
def test_what_constants_enlarge_without_bound_is_refused_before_it_is_made(
    copied: Path, large: Callable[[ModelProto], None], small: Callable[[ModelProto], None]
) -> None:
    original = (copied / MODEL).read_bytes()
    changed(copied, large)
    with pytest.raises(IntegrityError, match="more than 268435456 elements by"):
        Bundle.open(copied)
    forge(copied, original)
    changed(copied, small)
    Bundle.open(copied)


def test_a_size_that_is_no_number_is_refused(copied: Path) -> None:
    short = TensorProto(name="i1", data_type=TensorProto.INT64, dims=[3], int64_data=[1])

    def change(model: ModelProto) -> None:
        enlarged("Expand", ONE)(model)
        model.graph.node[-1].attribute[0].g.node[0].attribute[0].g.node[0].input.append("i1")
        model.graph.initializer.append(short)

    changed(copied, change)
    with pytest.raises(IntegrityError, match="holds no numbers"):
        Bundle.open(copied)


def test_a_tensor_in_the_place_of_the_input_is_refused(copied: Path) -> None:
    own = from_array(np.zeros((1, 8, 8, 3), np.uint8), "cutouts")
    changed(copied, lambda model: model.graph.initializer.append(own))
    with pytest.raises(IntegrityError, match="in the place of its input"):
        Bundle.open(copied)


@pytest.mark.parametrize(
    ("dims", "raw", "message"),
    [
        ([1 << 40], b"", "impossible shape"),
        ([1 << 31, 1 << 31, 1 << 31], b"\0" * 4, "impossible shape"),
        ([-1], b"\0" * 4, "impossible shape"),
        ([1 << 28], b"\0" * 4, "of 4 bytes whose shape wants"),
        ([1], b"\0" * 400, "of 400 bytes whose shape wants 4"),
    ],
)
def test_a_tensor_whose_shape_lies_is_refused(
    copied: Path, dims: list[int], raw: bytes, message: str
) -> None:
    lying = TensorProto(name="lie", data_type=TensorProto.FLOAT, dims=dims, raw_data=raw)
    changed(copied, lambda model: model.graph.initializer.append(lying))
    with pytest.raises(IntegrityError, match=message):
        Bundle.open(copied)


@pytest.mark.parametrize("operator", ["Loop", "Scan", "RandomNormal", "Bernoulli"])
def test_what_runs_without_end_or_at_random_is_refused(copied: Path, operator: str) -> None:
    inner = GraphProto(node=[helper.make_node(operator, ["x"], ["y"])])
    changed(copied, lambda model: in_branch(model, inner))
    with pytest.raises(IntegrityError, match=f"the operator {operator}, which no bundle may"):
        Bundle.open(copied)


def test_operators_of_others_are_found_in_branches(copied: Path) -> None:
    inner = GraphProto(node=[helper.make_node("Identity", ["x"], ["y"], domain="com.microsoft")])
    changed(copied, lambda model: in_branch(model, inner))
    with pytest.raises(IntegrityError, match=r"com\.microsoft"):
        Bundle.open(copied)


def test_another_data_type_than_promised_is_refused(copied: Path) -> None:
    def doubles(model: ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE

    changed(copied, doubles)
    with pytest.raises(IntegrityError, match="does not take uint8"):
        Bundle.open(copied)


def varint(number: int) -> bytes:
    found = b""
    while number > 0x7F:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def test_a_file_of_millions_of_parts_is_not_built(copied: Path) -> None:
    forge(copied, field(7, field(1, b"") * 4_000_000))  # a graph of empty nodes, 8 MB
    start = time.process_time()
    with pytest.raises(IntegrityError, match=f"more than {MAX_PARTS} parts"):
        Bundle.open(copied)
    assert time.process_time() - start < 5
    inside = field(5, field(6, field(1, b"") * 2_000_000))  # in the branch of a node
    forge(copied, field(7, field(1, inside)))
    with pytest.raises(IntegrityError, match="parts"):
        Bundle.open(copied)


def test_graphs_nested_without_end_are_refused(copied: Path) -> None:
    graph = b""
    for _ in range(2000):
        graph = field(1, field(5, field(6, graph)))
    forge(copied, field(7, graph))
    with pytest.raises(IntegrityError, match="not an ONNX model"):
        Bundle.open(copied)


@pytest.mark.parametrize(
    "content", [b"", b"\x3a\xff\xff\xff\xff\x7f", b"\x0b" * 9, b"\x3a" + b"\xff" * 20]
)
def test_counting_ends_on_any_bytes(content: bytes) -> None:
    assert count_parts(content, 100) <= 100


def test_parts_are_those_that_protobuf_finds() -> None:
    """Oracle: protobuf's own reading of the shipped model."""
    content = Bundle.open(shipped()).model_bytes()

    def parts(message: Any) -> int:
        found = 0
        for descriptor, value in message.ListFields():
            packed = descriptor.GetOptions().packed
            values = value if descriptor.is_repeated and not packed else [value]
            found += len(values)
            if descriptor.message_type:
                kind = descriptor.message_type.name
                leaf = kind in ("OperatorSetIdProto", "Dimension", "StringStringEntryProto")
                found += sum(parts(v) for v in values if not leaf)
        return found

    expected = parts(onnx.load_model_from_string(content))
    assert count_parts(content, 1 << 20) == expected
    with pytest.raises(TooManyPartsError):
        count_parts(content, expected - 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(name="\x1b[2Jgone"),
        lambda v: v.update(labels=["a\nb", "c"], answers=["p_a\nb", "p_c"], spiral="p_c"),
        lambda v: v.update(labels=["a", "a"], answers=["p_a", "p_a"], spiral="p_a"),
        lambda v: v.update(labels=[], answers=["p_a", "p_b"]),
        lambda v: v.update(threshold=float("nan")),
        lambda v: v.update(metrics={"a": {"value": float("nan"), "low": 0, "high": 1, "n": 1}}),
        lambda v: v.update(not_compared=[{"provider": "p", "precision": "q", "because": "\x1b["}]),
        lambda v: v.update(labels=["x"] * 100_000),
        lambda v: v["files"].update({f"f{i}": v["files"][MODEL] for i in range(50)}),
        lambda v: v["files"].update({"a\0b": v["files"][MODEL]}),
        lambda v: v["input"].update(crop=1 << 60),
        lambda v: v.update(precisions={"fp32": "card.md"}),
        lambda v: v.update(tree={"name": "t", "questions": []}),
        lambda v: v.update(parity=[{}]),
        lambda v: v.update(provenance={"model": "m", "sha256": "0", "contract": {}}),
        lambda v: v.update(schema_version=True),
        lambda v: v.update(schema_version=[[]] * 100),
    ],
)
def test_a_manifest_that_means_ill_is_refused_in_one_line(
    copied: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    values = json.loads((copied / MANIFEST).read_text())
    change(values)
    (copied / MANIFEST).write_text(json.dumps(values))
    with pytest.raises(SkytallyError) as caught:
        Bundle.open(copied)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 200_000 + "1" + "}" * 200_000,
        '{"schema_version": 2, "name": ' + "9" * 5000 + "}",
        '{"schema_version": 1}',
        '{"schema_version": 1, "parity": [], "provenance": 3}',
        '{"schema_version": 2, "x": "' + "y" * (1 << 20) + '"}',
        "\ud800".encode("utf-16", "surrogatepass").decode("latin-1"),
    ],
)
def test_a_manifest_that_is_a_bomb_is_refused(copied: Path, text: str) -> None:
    (copied / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(SkytallyError):
        Bundle.open(copied)
