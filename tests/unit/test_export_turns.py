"""Sixty views of each image in one small graph: ONNX Runtime answers what torch answers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import torch

from catalogs.trees.tree import read_tree
from export.convert import INPUT, Exported, to_onnx
from training.answers import answer_layer
from training.averaging import Average, transformations
from training.calibrate import Calibration
from training.network import Annotator, Classifier
from training.presets import read_settings

SHAPE = {"fields": [2, 2, 4], "blocks": [0, 0, 1], "features": 8, "size": 24}


def test_turns_and_members_are_one_graph_with_one_copy_of_each_network() -> None:
    tree = read_tree("gz2")
    given = {"model": "equivariant", "shape": SHAPE, "tree": "gz2"}
    settings = read_settings("default", None, given)
    members = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        classifier = Classifier(settings, answer_layer((), tree, "softmax"))
        members.append(Annotator(classifier, Calibration()))
    exported = Exported(Average(members, transformations(1)), tree).eval()
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
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    for shape in ((1, 24, 24, 3), (3, 31, 40, 3)):
        cutouts = random.integers(0, 256, shape, dtype=np.uint8)
        got = session.run(list(exported.answers), {INPUT: cutouts})
        with torch.inference_mode():
            expected = exported(torch.from_numpy(cutouts))
        for name, mine, torchs in zip(exported.answers, got, expected, strict=True):
            np.testing.assert_allclose(mine, torchs.numpy(), atol=1e-5, err_msg=name)
