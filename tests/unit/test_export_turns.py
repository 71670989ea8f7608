"""Sixty views of each image in one small graph: ONNX Runtime answers what torch answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from catalogs.errors import IntegrityError
from export.bundle import Bundle
from export.card import card
from export.convert import INPUT, Exported, to_onnx
from export.quantize import quantize
from export.turns import one_turn, over_turns
from export.verify import verify_graph
from training.answers import answer_layer
from training.averaging import Average, transformations
from training.calibrate import Calibration
from training.network import Annotator, Classifier
from training.presets import read_settings

SHAPE = {"fields": [2, 2, 4], "blocks": [0, 0, 1], "features": 8, "size": 24}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small images: on a shared machine, two threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_turns_and_members_are_one_graph_with_one_copy_of_each_network() -> None:
    settings = read_settings("default", None, {"model": "equivariant", "shape": SHAPE})
    members = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        classifier = Classifier(settings, answer_layer(("elliptical", "merger", "spiral")))
        members.append(Annotator(classifier, Calibration()))
    exported = Exported(Average(members, transformations(1)), None).eval()
    content = to_onnx(exported, exported.answers)
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == [INPUT]
    assert [value.name for value in model.graph.output] == list(exported.answers)
    scan = next(node for node in model.graph.node if node.op_type == "Scan")
    body = next(a.g for a in scan.attribute if a.name == "body")
    convolutions = [node for node in body.node if node.op_type == "Conv"]
    layers = [m for m in members[0].modules() if type(m).__name__.endswith("Conv")]
    assert len(convolutions) == 2 * len(layers) > 0
    verify_graph(model, Path("model.onnx"))
    one = one_turn(onnx.load_from_string(content))
    assert one is not None
    assert [value.name for value in one[0].graph.input] == [INPUT, one[1]]
    np.testing.assert_array_equal(one[2], transformations(1).numpy())
    onnx.checker.check_model(one[0], full_check=True)
    assert one_turn(one[0]) is None
    again = over_turns(*one)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    made_again = onnxruntime.InferenceSession(
        again.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    random = np.random.default_rng(0)
    for shape in ((1, 24, 24, 3), (3, 31, 40, 3)):
        cutouts = random.integers(0, 256, shape, dtype=np.uint8)
        got = session.run(list(exported.answers), {INPUT: cutouts})
        with torch.inference_mode():
            expected = exported(torch.from_numpy(cutouts))
        for name, mine, torchs in zip(exported.answers, got, expected, strict=True):
            np.testing.assert_allclose(mine, torchs.numpy(), atol=1e-5, err_msg=name)
        for mine, first in zip(made_again.run(None, {INPUT: cutouts}), got, strict=True):
            np.testing.assert_array_equal(mine, first)
    galaxies = random.integers(0, 256, (64, 24, 24, 3), dtype=np.uint8)
    rounded = quantize(content, galaxies, 24)
    verify_graph(onnx.load_from_string(rounded), Path("model.int8.onnx"))
    inside = one_turn(onnx.load_from_string(rounded))
    assert inside is not None
    made_by = {name: node.op_type for node in inside[0].graph.node for name in node.output}
    weights = [node.input[1] for node in inside[0].graph.node if node.op_type == "Conv"]
    assert len(weights) == len(convolutions)
    assert {made_by[name] for name in weights} == {"DequantizeLinear"}
    in_8_bits = onnxruntime.InferenceSession(rounded, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = exported(torch.from_numpy(galaxies))
    for mine, torchs in zip(in_8_bits.run(None, {INPUT: galaxies}), expected, strict=True):
        np.testing.assert_allclose(mine, torchs.numpy(), atol=0.03)


def scanned(turns: np.ndarray) -> onnx.ModelProto:
    """A model that answers with a turn's first number, for as many turns as are given."""
    vector = helper.make_tensor_value_info("p", TensorProto.FLOAT, [None])
    one = helper.make_graph(
        [
            helper.make_node("Cast", ["cutouts"], ["grey"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["grey", "inner"], ["mean"], keepdims=0),
            helper.make_node("ReduceMax", ["turn"], ["largest"], keepdims=0),
            helper.make_node("Mul", ["mean", "largest"], ["p"]),
        ],
        "one",
        [
            helper.make_tensor_value_info("cutouts", TensorProto.UINT8, [None, None, None, 3]),
            helper.make_tensor_value_info("turn", TensorProto.FLOAT, [2, 3]),
        ],
        [vector],
        [numpy_helper.from_array(np.asarray([1, 2, 3]), "inner")],
    )
    model = helper.make_model(one, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return over_turns(model, "turn", turns)


def test_the_mean_is_over_the_turns_that_are_given() -> None:
    turns = np.random.default_rng(0).random((7, 2, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(scanned(turns).SerializeToString())
    cutouts = np.random.default_rng(1).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    (got,) = session.run(None, {"cutouts": cutouts})
    expected = cutouts.mean(axis=(1, 2, 3)) * turns.max(axis=(1, 2)).mean()
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_a_scan_is_only_allowed_over_a_few_views() -> None:
    path = Path("model.onnx")
    verify_graph(scanned(np.ones((256, 2, 3), np.float32)), path)
    with pytest.raises(IntegrityError, match="the operator Scan"):
        verify_graph(scanned(np.ones((257, 2, 3), np.float32)), path)
    with pytest.raises(IntegrityError, match="the operator Scan"):
        verify_graph(scanned(np.ones((9, 2, 2), np.float32)), path)
    free = scanned(np.ones((9, 2, 3), np.float32))
    for tensor in free.graph.initializer:
        tensor.name = tensor.name.replace("turns_all", "elsewhere")
    with pytest.raises(IntegrityError, match="the operator Scan"):
        verify_graph(free, path)
    twice = scanned(np.ones((9, 2, 3), np.float32))
    twice.graph.node.append(next(n for n in twice.graph.node if n.op_type == "Scan"))
    with pytest.raises(IntegrityError, match="the operator Scan"):
        verify_graph(twice, path)


def test_the_card_says_of_what_the_answers_are_means_and_what_is_allowed_for(
    brightness: Bundle,
) -> None:
    said = brightness.manifest
    settings = {
        "averaged": {"members": ["a.run (shamir, seed 0)", "b.run (shamir, seed 1)"], "views": 60},
        "theta": 9.18,
    }
    provenance = said.provenance.model_copy(update={"settings": settings})
    text = card(said.model_copy(update={"provenance": provenance}))
    assert "means over 60 views of each image, and over the runs a.run (shamir, seed 0);" in text
    assert "theta = 9.18" in text
    assert "calibrated on the validation galaxies" not in text
    plain = card(said)
    assert "means over" not in plain
    assert "calibrated on the validation galaxies" in plain
