from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from pydantic import TypeAdapter

from catalogs.trees.tree import read_tree
from export.bundle import Bundle, shipped
from export.convert import INPUT, Exported, fold_batch_norm, to_onnx
from export.verify import OPERATOR_DOMAINS
from training.answers import answer_layer
from training.calibrate import Calibration
from training.models.shamir import ShamirShape
from training.network import Annotator, Classifier
from training.presets import read_settings
from training.settings import TrainSettings

NAMES = ["p_elliptical", "p_spiral"]


@pytest.fixture(scope="module")
def answers() -> Annotator:
    torch.manual_seed(0)
    shape = ShamirShape(widths=(6, 8, 8, 8, 8), dense=16)
    classifier = Classifier(TrainSettings(shape=shape))
    # Normalisations that do something: statistics of a few random images.
    classifier.train()
    with torch.no_grad():
        for _ in range(20):
            classifier(torch.randint(0, 256, (8, 120, 120, 3), dtype=torch.uint8))
    return Annotator(classifier, Calibration(1.7, -0.4)).eval()


@pytest.fixture(scope="module")
def model(answers: Annotator) -> bytes:
    return to_onnx(answers, NAMES)


def examples(size: int = 240) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (6, size, size, 3), dtype=np.uint8)


def test_the_graph_is_plain_onnx_with_free_batch_and_size(model: bytes) -> None:
    graph = onnx.load_from_string(model)
    onnx.checker.check_model(graph, full_check=True)
    assert {opset.domain for opset in graph.opset_import} <= OPERATOR_DOMAINS
    kinds = [node.op_type for node in graph.graph.node]
    assert "BatchNormalization" not in kinds
    assert "Dropout" not in kinds
    shape = graph.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in shape] == [0, 0, 0, 3]
    assert [value.name for value in graph.graph.output] == NAMES


def test_folding_changes_no_answer(answers: Annotator) -> None:
    folded = fold_batch_norm(answers)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.modules())
    batch = torch.from_numpy(examples(120))
    for got, want in zip(folded(batch), answers(batch), strict=True):
        torch.testing.assert_close(got, want, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(1, 120, 120), (3, 240, 240), (2, 131, 200), (2, 64, 64)])
def test_onnx_runtime_answers_what_torch_answers(
    answers: Annotator, model: bytes, size: tuple[int, int, int]
) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    batch = np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8)
    got = session.run(NAMES, {INPUT: batch})
    for mine, torchs in zip(got, answers(torch.from_numpy(batch)), strict=True):
        np.testing.assert_allclose(mine, torchs.detach().numpy(), atol=1e-5)


def test_the_model_says_nothing_of_the_machine_that_exported_it(model):
    root = Path(__file__).resolve().parents[2]
    assert str(root).encode() not in model
    assert b"stack_trace" not in model


def test_the_shipped_model_says_nothing_of_the_machine_that_exported_it():
    model = Bundle.open(shipped()).model_bytes()
    assert b"stack_trace" not in model
    assert b".py" not in model


def test_a_calibrated_tree_is_exported_as_torch_answers_and_read_back() -> None:
    tree = read_tree("gz2")
    shape = {"fields": [2, 2], "blocks": [0, 0], "features": 4, "size": 24}
    given = {"model": "equivariant", "tree": "gz2", "shape": shape}
    classifier = Classifier(
        read_settings("default", None, given), answer_layer((), tree, "softmax")
    )
    scales = np.ones(37)
    scales[tree.slices[0]] = 0.25
    calibration = Calibration(scales=tuple(scales.tolist()))
    annotator = Annotator(classifier, calibration).eval()
    cutouts = torch.randint(0, 256, (3, 24, 24, 3), dtype=torch.uint8)
    with torch.inference_mode():
        raw = classifier(cutouts)
        got = torch.stack(annotator(cutouts), dim=1)
    first = torch.softmax(0.25 * raw[:, tree.slices[0]], dim=1)
    torch.testing.assert_close(got[:, tree.slices[0]], first)
    content = to_onnx(Exported(annotator, None).eval(), annotator.answers)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    answered = session.run(None, {INPUT: cutouts.numpy()})
    np.testing.assert_allclose(np.stack(answered, axis=1), got.numpy(), atol=1e-5)
    stored = TypeAdapter(Calibration).dump_json(calibration)
    assert TypeAdapter(Calibration).validate_json(stored) == calibration
