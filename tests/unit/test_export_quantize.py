"""The int8 variant: rewrites that change no answer, and 8 bits that change hardly any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from catalogs.errors import InputError, IntegrityError
from catalogs.progress import Silent
from catalogs.synthetic.simulate import SimulationSettings, simulate
from export import manifest as bundles
from export.bundle import Bundle, shipped
from export.convert import export, to_onnx
from export.manifest import Limits
from export.parity.gate import Gate, own_fp32
from export.parity.views import Galaxies, Views
from export.proven import write_proven
from export.quantize import add_variant, quantize
from export.rewrite import (
    add_to_log_odds,
    convolutions_by_depth,
    find_normalisation,
    pool_within_first,
    scale_if_needed,
    turn_kernels,
)
from export.session import Session
from training.calibrate import Calibration
from training.models.equivariant import EquivariantShape
from training.models.shamir import ShamirShape
from training.network import Annotator, Classifier
from training.settings import TrainSettings

# Fewer galaxies than the product compares, and as much wider limits.
GATE = Gate(cutouts=256, rounded=Limits(flips=0.02, shift=0.03))


def cutouts(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Smooth blobs on noise: something a network of galaxies has an opinion on."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    width = random.uniform(0.002, 0.05, (count, 1, 1))
    light = 200 * np.exp(-(x**2 + random.uniform(1, 4, (count, 1, 1)) * y**2) / width)
    noisy = light[..., None] + random.normal(10, 5, (count, size, size, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def answers(model: bytes | onnx.ModelProto, batch: np.ndarray) -> np.ndarray:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.stack(session.run(None, {session.get_inputs()[0].name: batch}))


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "sky.zarr"
    simulate(path, SimulationSettings(galaxies=800))
    return path


@pytest.fixture(scope="module")
def with_int8(survey: Path) -> Bundle:
    return export(
        shipped(),
        survey.with_name("both.bundle"),
        precisions=("fp32", "int8"),
        calibrate=survey,
        gate=GATE,
    )


@pytest.fixture(scope="module")
def two_views() -> bytes:
    """A small network of pooled convolutions that sees the cutout mirrored as well."""
    torch.manual_seed(1)
    settings = TrainSettings(views=2, shape=ShamirShape(widths=(8, 8, 8, 8, 8), dense=8))
    annotator = Annotator(Classifier(settings), Calibration()).eval()
    for value in annotator.buffers():  # means and deviations as of a trained network
        if value.is_floating_point() and value.ndim == 1:
            torch.nn.init.uniform_(value, 0.5, 1.5)
    return to_onnx(annotator, [f"p_{name}" for name in annotator.answers])


@pytest.mark.parametrize("size", [120, 240, 97])
def test_rewrites_change_no_answer(two_views: bytes, size: int) -> None:
    model = onnx.load_from_string(two_views)
    before = answers(model, cutouts(8, size))
    kinds = [node.op_type for node in model.graph.node]
    turn_kernels(model)
    np.testing.assert_allclose(answers(model, cutouts(8, size)), before, atol=2e-6)
    assert [n.op_type for n in model.graph.node].count("Transpose") == kinds.count("Transpose") - 1
    pool_within_first(model, 120)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(answers(model, cutouts(8, size)), before, atol=2e-6)
    pools = [n for n in model.graph.node if n.op_type == "MaxPool"]
    assert sum(list(n.attribute[0].ints) == [1, 4] for n in pools) == 2
    assert kinds.count("MaxPool") == len(pools)


@pytest.fixture(scope="module")
def symmetric() -> bytes:
    """A small residual network of group convolutions with an opinion on the blobs."""
    torch.manual_seed(1)
    shape = EquivariantShape((2, 4), (0, 1), features=8, size=32)
    settings = TrainSettings(model="equivariant", shape=shape)
    annotator = Annotator(Classifier(settings), Calibration()).eval()
    with torch.no_grad():
        raw = torch.logit(annotator(torch.from_numpy(cutouts(128, 32)))[1].double())
    calibration = Calibration(float(3 / raw.std()), float(-3 * raw.mean() / raw.std()))
    annotator = Annotator(annotator.classifier, calibration).eval()
    return to_onnx(annotator, [f"p_{name}" for name in annotator.answers])


@pytest.mark.parametrize("size", [32, 64, 41])
def test_cutouts_of_the_networks_size_are_not_scaled(symmetric: bytes, size: int) -> None:
    model = onnx.load_from_string(symmetric)
    found = find_normalisation(model)
    assert found is not None
    scale_if_needed(model, found, 32)
    onnx.checker.check_model(model, full_check=True)
    assert [n.op_type for n in model.graph.node].count("If") == 1
    batch = cutouts(8, size)
    np.testing.assert_allclose(answers(model, batch), answers(symmetric, batch), atol=1e-6)


def test_log_odds_are_shifted_through_signs_and_shapes(symmetric: bytes) -> None:
    batch = cutouts(8, 32)
    before = answers(symmetric, batch)
    for i, answer in enumerate(("p_elliptical", "p_spiral")):
        model = onnx.load_from_string(symmetric)
        assert add_to_log_odds(model, answer, 0.7)
        odds = np.log(before[i] / (1 - before[i])) + 0.7
        np.testing.assert_allclose(answers(model, batch)[i], 1 / (1 + np.exp(-odds)), atol=1e-5)


def test_the_fewest_first_layers_stay_in_float(
    symmetric: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = convolutions_by_depth(onnx.load_from_string(symmetric))
    assert [len(layer) for layer in layers] == [1] * 6
    seen, unseen = cutouts(64, 32), cutouts(64, 32, seed=1)
    fp32, wrong = answers(symmetric, unseen)[1], []
    for most, least in ((1.0, 6), (1e-13, 1)):
        monkeypatch.setattr("export.quantize.MOST_FLIPS", most)
        model = onnx.load_from_string(quantize(symmetric, seen, 32))
        made_by = {n.output[0]: n.op_type for n in model.graph.node}
        in_8_bits = [n.input[1] in made_by for n in model.graph.node if n.op_type == "Conv"]
        assert in_8_bits == sorted(in_8_bits)
        assert least <= sum(in_8_bits) <= (6 if most == 1.0 else 5)
        wrong.append(float(np.abs(answers(model, unseen)[1] - fp32).mean()))
    assert wrong[1] < wrong[0] < 0.1


def pooled_convolution(kernel: np.ndarray, bias: np.ndarray, size: int) -> onnx.ModelProto:
    half = kernel.shape[2] // 2
    shape = ["n", kernel.shape[1], size, size]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[half] * 4, name="conv"),
            helper.make_node("Relu", ["c"], ["r"], name="relu"),
            helper.make_node(
                "MaxPool", ["r"], ["y"], kernel_shape=[2, 2], strides=[2, 2], name="pool"
            ),
        ],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(kernel, "w"), numpy_helper.from_array(bias, "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("width", [1, 3, 5, 7, 9])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_blocks_give_what_torch_gives(width: int, channels: int) -> None:
    random = np.random.default_rng(width)
    kernel = random.normal(size=(6, channels, width, width)).astype(np.float32)
    bias = random.normal(size=6).astype(np.float32)
    images = random.normal(size=(3, channels, 20, 20)).astype(np.float32)
    model = pooled_convolution(kernel, bias, 20)
    pool_within_first(model, 20)
    assert [node.op_type for node in model.graph.node][-1] == "MaxPool"
    assert len(model.graph.node) > 3
    layer = torch.nn.functional.conv2d(
        torch.from_numpy(images), torch.from_numpy(kernel), torch.from_numpy(bias), padding="same"
    )
    expected = torch.nn.functional.max_pool2d(layer.relu(), 2).numpy()
    np.testing.assert_allclose(answers(model, images)[0], expected, atol=1e-4)


def test_other_graphs_stay_as_they_are(brightness: Bundle) -> None:
    random = np.random.default_rng(0)
    wide = random.normal(size=(2, 8, 3, 3)).astype(np.float32)
    graphs = [
        (onnx.load_from_string(brightness.model_bytes()), 24),
        (pooled_convolution(wide, wide[:, 0, 0, 0], 20), 20),  # enough channels as it is
        (pooled_convolution(wide[:, :3], wide[:, 0, 0, 0], 21), 21),  # pooling drops a row
    ]
    for model, size in graphs:
        before = model.SerializeToString(deterministic=True)
        turn_kernels(model)
        pool_within_first(model, size)
        assert model.SerializeToString(deterministic=True) == before
    assert find_normalisation(graphs[0][0]) is None


def test_a_variant_is_a_model_of_its_own_beside_an_untouched_fp32(with_int8: Bundle) -> None:
    manifest = with_int8.manifest
    assert with_int8.model_bytes() == (shipped() / bundles.MODEL).read_bytes()
    assert manifest.precisions == {"fp32": "model.onnx", "int8": "model.int8.onnx"}
    assert manifest.variants["int8"].calibrated_on == 512
    before, found = manifest.parity
    assert before == Bundle.open(shipped()).manifest.parity[0]
    assert (found.precision, found.provider, found.cutouts) == ("int8", "cpu", 256)
    assert found.reference.startswith("the fp32 model")
    assert 64 <= found.galaxies < 200  # the test blocks' share of 800
    assert 0 < found.difference < 0.1
    assert found.shifts["p_spiral"].bound < 0.03
    assert f"256 ({found.galaxies} of" in (with_int8.path / bundles.CARD).read_text()
    model = onnx.load_from_string(with_int8.model_bytes("int8"))
    onnx.checker.check_model(model, full_check=True)
    made_by = {n.output[0]: n.op_type for n in model.graph.node}
    kernels = [made_by.get(n.input[1]) for n in model.graph.node if n.op_type == "Conv"]
    in_float = kernels.count(None)  # the first layers, if any
    assert kernels == [None] * in_float + ["DequantizeLinear"] * (len(kernels) - in_float)
    assert in_float <= len(kernels) / 2


@pytest.mark.parametrize("size", [120, 240, 131])
def test_8_bits_answer_as_fp32_does(with_int8: Bundle, size: int) -> None:
    batch = cutouts(64, size, seed=5)
    fp32 = Session(with_int8).run(batch)["p_spiral"]
    int8 = Session(with_int8, precision="int8").run(batch)
    assert np.ptp(fp32) > 0.2
    np.testing.assert_allclose(int8["p_spiral"], fp32, atol=0.1)
    np.testing.assert_allclose(int8["p_spiral"] + int8["p_elliptical"], 1, atol=1e-6)
    assert not np.array_equal(int8["p_spiral"], fp32)
    again = Session(with_int8, precision="int8").run(batch)["p_spiral"]
    assert np.array_equal(again, int8["p_spiral"])


def test_the_same_galaxies_give_the_same_variant(
    with_int8: Bundle, survey: Path, tmp_path: Path
) -> None:
    again = add_variant(Bundle.open(shipped()), survey, tmp_path / "both.bundle", gate=GATE)
    assert again.sha256 == with_int8.sha256


def test_a_variant_that_answers_otherwise_is_not_made(with_int8: Bundle, tmp_path: Path) -> None:
    other = onnx.load_from_string(with_int8.model_bytes())
    assert add_to_log_odds(other, "p_spiral", 1.5)
    files = {name: with_int8.file(name) for name in with_int8.manifest.files}
    nowhere = np.full(64, np.nan)
    views = Views(Galaxies(cutouts(64, 120), nowhere, nowhere, "blobs"), 64)
    with pytest.raises(IntegrityError, match=r"int8 on cpu differs .* no bundle was written"):
        write_proven(
            tmp_path / "x.bundle",
            with_int8.manifest,
            {**files, bundles.INT8_MODEL: other.SerializeToString()},
            own_fp32(with_int8),
            views,
            GATE,
            Silent(),
            precisions=("int8",),
        )
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_the_variant_says_how_to_make_one() -> None:
    bundle = Bundle.open(shipped())
    with pytest.raises(InputError, match=r"skytally export .* --precision fp32,int8 --calibrate"):
        Session(bundle, precision="int8")


@pytest.mark.parametrize(
    ("precisions", "calibrated", "message"),
    [
        (("fp32", "int8"), False, "--calibrate"),
        (("fp32",), True, "--calibrate"),
        (("fp32",), False, "is a bundle already"),
        (("bf16",), False, "annotate --precision bf16"),
        (("fp64",), False, "none of fp32, int8"),
    ],
)
def test_impossible_exports_are_refused(
    survey: Path, tmp_path: Path, precisions: tuple[str, ...], calibrated: bool, message: str
) -> None:
    to = tmp_path / "x.bundle"
    with pytest.raises(InputError, match=message):
        export(shipped(), to, precisions=precisions, calibrate=survey if calibrated else None)
    assert not to.exists()


def test_a_survey_of_too_few_galaxies_is_refused(tmp_path: Path) -> None:
    few = tmp_path / "few.zarr"
    simulate(few, SimulationSettings(galaxies=40))
    with pytest.raises(InputError, match="calibrate on a larger survey"):
        add_variant(Bundle.open(shipped()), few, tmp_path / "x.bundle")


def test_a_changed_variant_is_refused(with_int8: Bundle, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(with_int8.path, tmp_path / "copy.bundle"))
    file = copy / bundles.INT8_MODEL
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(IntegrityError, match="has changed"):
        Bundle.open(copy)
