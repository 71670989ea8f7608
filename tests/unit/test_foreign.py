"""Networks that skytally did not train: made here by torch's exporter, or by hand, without ours."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pyarrow.parquet as pq
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.numpy_helper import from_array
from surveys import write_small_survey
from torch import nn
from torch.nn import functional

from catalogs.audit.run import audit
from catalogs.audit.settings import AuditSettings
from catalogs.errors import InputError
from catalogs.progress import Silent
from catalogs.trees.tree import read_tree
from engine.run import AnnotateSettings, annotate
from export.bundle import Bundle
from export.commands import ExportOptions, check, export
from export.contract import Contract, ForeignInput, read_contract
from export.foreign import export_foreign, prepared
from export.manifest import CARD, SKY, Foreign
from export.parity.gate import Gate
from export.parity.told import told_apart
from export.session import Session

GATE = Gate(cutouts=64)
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONTRACT = f"""
spiral = ["sa", "sb"]
training = "nobody knows"
[input]
crop = 24
size = 20
layout = "NCHW"
mean = {list(MEAN)}
sd = {list(SD)}
[output]
activation = "softmax"
answers = ["elliptical", "sa", "sb"]
"""


class Theirs(nn.Module):
    """A network as anybody writes one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
            nn.Linear(4 * 9 * 9, 3),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 3 * self.layers(images)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sky") / "sky.zarr"
    write_small_survey(path, 300)
    return path


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file with its weights beside it, as torch writes it by default."""
    path = tmp_path_factory.mktemp("theirs") / "theirs.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch, about torch
        torch.onnx.export(
            Theirs().eval(),
            (torch.zeros(2, 3, 20, 20),),
            path,
            input_names=["images"],
            output_names=["scores"],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            dynamo=True,
            verbose=False,
        )
    assert path.with_name("theirs.onnx.data").is_file()
    path.with_name("contract.toml").write_text(CONTRACT)
    return path


@pytest.fixture(scope="module")
def bundle(theirs: Path, survey: Path) -> Bundle:
    contract, to = theirs.with_name("contract.toml"), theirs.with_name("theirs.bundle")
    options = ExportOptions(contract=contract, survey=survey, cutouts=64)
    return export(theirs, to, options, Silent())


def by_torch(cutouts: np.ndarray) -> np.ndarray:
    """Oracle: torch's own resize, and the network that was never exported."""
    images = torch.from_numpy(cutouts).permute(0, 3, 1, 2).float() / 255
    images = functional.interpolate(images, (20, 20), mode="bilinear", antialias=True)
    images = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(SD).view(3, 1, 1)
    with torch.inference_mode():
        return torch.softmax(Theirs().eval()(images), dim=1).numpy()


@pytest.mark.parametrize("size", [24, 20, 13, 50])
def test_a_foreign_network_answers_as_it_did(bundle: Bundle, size: int) -> None:
    cutouts = np.random.default_rng(2).integers(0, 256, (5, size, size, 3), dtype=np.uint8)
    found, expected = Session(bundle).run(cutouts), by_torch(cutouts)
    assert list(found) == ["p_elliptical", "p_sa", "p_sb", "p_spiral"]
    assert np.ptp(expected[:, 0]) > 0.05
    for i, name in enumerate(list(found)[:3]):
        np.testing.assert_allclose(found[name], expected[:, i], atol=2e-6)
    np.testing.assert_allclose(found["p_spiral"], expected[:, 1:].sum(axis=1), atol=2e-6)


def test_the_bundle_says_where_it_comes_from_and_what_is_not_known(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert isinstance(manifest.provenance, Foreign)
    assert manifest.provenance.contract["input"]["size"] == 20
    assert not (bundle.path / SKY).exists()
    (found,) = manifest.parity
    assert found.reference.startswith("the original, onnxruntime")
    assert found.cutouts == 64
    assert found.difference < 1e-5
    card = (bundle.path / CARD).read_text()
    assert "Not known: on which sky" in card
    assert "nobody knows" in card


def test_the_foreign_network_annotates_and_is_audited(
    bundle: Bundle, survey: Path, tmp_path: Path
) -> None:
    result = annotate(str(survey), tmp_path / "catalog", bundle.path, AnnotateSettings(workers=1))
    assert result.statuses == {"ok": 300}
    files = sorted((tmp_path / "catalog" / "dataset").rglob("Npix=*.parquet"))
    table = pq.ParquetDataset(files).read()
    p = np.stack([table[f"p_{name}"].to_numpy() for name in ("elliptical", "sa", "sb")], axis=1)
    names = np.asarray(["elliptical", "sa", "sb"])
    assert table["label"].to_pylist() == names[p.argmax(axis=1)].tolist()
    np.testing.assert_allclose(table["p_spiral"], p[:, 1:].sum(axis=1), atol=1e-6)
    entropy = -(p * np.log(p)).sum(axis=1)
    np.testing.assert_allclose(table["confidence"], 1 - entropy / np.log(3), atol=1e-5)
    settings = AuditSettings(probabilities=True)
    audit(str(tmp_path / "catalog"), tmp_path / "a.audit", settings, Silent())
    said = json.loads((tmp_path / "a.audit" / "audit.json").read_text())
    assert said["verdict"] in ("uniform", "insufficient", "anisotropic")


def test_it_is_compared_again_with_the_original(
    bundle: Bundle, theirs: Path, survey: Path, tmp_path: Path
) -> None:
    contract = theirs.with_name("contract.toml")
    found = check(bundle.path, theirs, contract, survey, 64, Silent())
    assert found.compared[0].reference.startswith("the original")
    assert found.not_compared == told_apart(bundle.manifest.not_compared)
    alone = check(bundle.path, None, None, None, 64, Silent())
    assert any("--contract contract.toml --check" in what for what in alone.not_compared)
    other = tmp_path / "other.onnx"
    onnx.save(by_hand(), other)
    contract = tmp_path / "c.toml"
    contract.write_text(BY_HAND)
    with pytest.raises(InputError, match=r"is not what .* was made from"):
        check(bundle.path, other, contract, survey, 64, Silent())


BY_HAND = """
[input]
crop = 24
size = 8
layout = "NHWC"
channels = "BGR"
range = [-1.0, 1.0]
[output]
activation = "sigmoid"
answers = ["elliptical", "spiral"]
"""


def by_hand(
    batch: int | str = "n", opset: int = 11, columns: int = 1, planes: int = 3
) -> onnx.ModelProto:
    """A linear map of 8 px images, channels last."""
    random = np.random.default_rng(4)
    weights = random.normal(0, 0.2, (64 * planes, columns)).astype(np.float32)
    rows = 0 if batch == "n" else batch
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "flat"], ["rows"], name="reshape"),
            helper.make_node("MatMul", ["rows", "w"], ["y"], name="dense"),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 8, 8, planes])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, columns])],
        [
            numpy_helper.from_array(np.asarray([rows, -1], dtype=np.int64), "flat"),
            numpy_helper.from_array(weights, "w"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6)


def made(tmp_path: Path, model: onnx.ModelProto, contract: str, survey: Path) -> Bundle:
    onnx.save(model, tmp_path / "hand.onnx")
    (tmp_path / "c.toml").write_text(contract)
    source, to = tmp_path / "hand.onnx", tmp_path / "hand.bundle"
    return export_foreign(source, tmp_path / "c.toml", to, survey=survey, gate=GATE)


def answered(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"x": images.astype(np.float32)})[0]


def test_an_old_network_of_blue_green_red_channels_last(tmp_path: Path, survey: Path) -> None:
    bundle = made(tmp_path, by_hand(), BY_HAND, survey)
    cutouts = np.random.default_rng(2).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    z = answered(by_hand(), cutouts[..., ::-1] / 127.5 - 1)[:, 0]
    found = Session(bundle).run(cutouts)
    np.testing.assert_allclose(found["p_spiral"], 1 / (1 + np.exp(-z)), atol=1e-5)
    np.testing.assert_allclose(found["p_elliptical"], 1 / (1 + np.exp(z)), atol=1e-5)
    assert bundle.manifest.spiral == "p_spiral"


def test_a_tree_of_dirichlet_concentrations(tmp_path: Path, survey: Path) -> None:
    tree = read_tree("gz2")
    model = by_hand(columns=len(tree.names), planes=1)
    model.graph.node.append(helper.make_node("Exp", ["y"], ["alpha"], name="exp"))
    model.graph.output[0].name = "alpha"
    contract = """
[input]
crop = 24
size = 8
layout = "NHWC"
channels = "grey"
range = [0, 255]
mean = 20
sd = 40
[output]
activation = "dirichlet"
tree = "gz2"
"""
    bundle = made(tmp_path, model, contract, survey)
    cutouts = np.random.default_rng(2).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    alpha = answered(model, (cutouts.mean(axis=3, keepdims=True) - 20) / 40).astype(np.float64)
    shares = np.concatenate(
        [alpha[:, s] / alpha[:, s].sum(1, keepdims=True) for s in tree.slices], 1
    )
    expected = tree.cumulative(shares)
    found = Session(bundle).run(cutouts)
    assert list(found) == [*(f"p_{name}" for name in tree.names), "p_spiral"]
    for i, name in enumerate(tree.names):
        np.testing.assert_allclose(found[f"p_{name}"], expected[:, i], atol=1e-5)
    summed = sum(expected[:, tree.names.index(name)] for name in tree.spiral)
    np.testing.assert_allclose(found["p_spiral"], summed, atol=1e-5)


def test_the_contracts_spiral_is_checked_and_told_as_the_trees_is(tmp_path: Path) -> None:
    def contract(*spiral: str) -> Contract:
        said = f"spiral = {list(spiral)}\n" + BY_HAND.replace("sigmoid", "softmax")
        path = tmp_path / "c.toml"
        path.write_text(said.replace('answers = ["elliptical", "spiral"]', 'tree = "gz2"'))
        return read_contract(path)

    for faulty, message in (
        (("q01_features_or_disk", "q04_spiral"), "volunteer can give both"),
        (("q04_spiral", "q04_spiral"), "spiral names q04_spiral twice"),
        (("q04_spirale",), "q04_spirale, which is no answer"),
    ):
        with pytest.raises(InputError, match=message):
            contract(*faulty).tree()
    tree = contract("q02_yes", "q04_spiral").tree()
    assert tree is not None
    assert tree.spiral == ("q02_yes", "q04_spiral")
    assert contract().tree() == read_tree("gz2").with_spiral(())


def test_a_network_of_one_batch_size_is_refused(tmp_path: Path, survey: Path) -> None:
    with pytest.raises(
        InputError, match=r"takes 4 images at a time .* with a free batch"
    ) as caught:
        made(tmp_path, by_hand(batch=4), BY_HAND, survey)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "hand.bundle").exists()


@pytest.mark.parametrize("rows", [1, -1])
def test_a_batch_of_one_behind_a_free_one_is_told_in_one_line(
    tmp_path: Path, survey: Path, rows: int
) -> None:
    model = by_hand()
    if rows == 1:  # torch traces so with one example: the batch is in a reshape
        model.graph.initializer[0].CopyFrom(from_array(np.asarray([1, 192]), "flat"))
    else:  # or the answers are of all images together
        model.graph.node.append(helper.make_node("ReduceMean", ["y"], ["m"], axes=[0]))
        model.graph.output[0].name = "m"
    with pytest.raises(InputError, match=r"hand\.onnx .* 64 images.*to a free batch") as caught:
        made(tmp_path, model, BY_HAND, survey)
    assert "\n" not in str(caught.value)


def test_what_is_no_graph_or_answers_no_numbers_is_told_in_one_line(
    tmp_path: Path, survey: Path
) -> None:
    faulty = by_hand()
    faulty.graph.node[1].input[1] = "x"  # a product of images with themselves
    labels = by_hand()
    labels.graph.node.append(helper.make_node("ArgMax", ["y"], ["label"], axis=1))
    labels.graph.output[0].name = "label"
    labels.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    nameless = by_hand(opset=99)
    for model, message in (
        (faulty, r"hand\.onnx (does not open|cannot be joined)"),
        (labels, "answers INT64, not floats"),
        (nameless, r"hand\.onnx (does not open|cannot be joined)"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            made(tmp_path, model, BY_HAND, survey)
        assert "\n" not in str(caught.value)


def test_a_wrong_activation_is_no_probability(tmp_path: Path, survey: Path) -> None:
    contract = BY_HAND.replace("sigmoid", "none")
    with pytest.raises(InputError, match="no probabilities"):
        made(tmp_path, by_hand(columns=2), contract, survey)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("size = 8", "size = 9"), "images of"),
        (('"NHWC"', '"NCHW"'), "images of"),
        (("[output]", '[output]\nname = "z"'), "no output z"),
        (
            ("[input]", 'spiral = ["sa"]\n[input]'),
            "spiral names sa; the answers are elliptical, sp",
        ),
        (
            ("[input]", 'spiral = ["elliptical", "elliptical"]\n[input]'),
            "spiral names elliptical tw",
        ),
        (("[input]", 'spiral = ["elliptical"]\n[input]'), "an answer is called spiral"),
        (('"elliptical", "spiral"', '"spiral", "spiral"'), "answers names spiral twice"),
        (("crop = 24", "crop = 0"), "greater than 0"),
        (("crop = 24", "crp = 24"), "input.crop: Field required; input.crp"),
        (("range = [-1.0, 1.0]", "sd = [1.0, 2.0]"), "sd has 2 numbers for 3 channels"),
        (('answers = ["elliptical", "spiral"]', 'tree = "nix"'), "one number and two answers"),
        (("[input]", "[input"), "is not TOML"),
    ],
)
def test_a_contract_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, survey: Path, change: tuple[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        made(tmp_path, by_hand(), BY_HAND.replace(*change), survey)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("location", ["../weights", "/etc/passwd", "sub/weights", "..", ""])
def test_weights_elsewhere_are_refused(tmp_path: Path, survey: Path, location: str) -> None:
    model = by_hand()
    tensor = model.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    with pytest.raises(InputError, match="must lie beside it"):
        made(tmp_path, model, BY_HAND, survey)


def test_the_preparation_is_torchs_too() -> None:
    """Two ways to scale an image that share no code: Pillow's and torch's."""
    cutouts = np.random.default_rng(0).integers(0, 256, (2, 31, 31, 3), dtype=np.uint8)
    said = ForeignInput(crop=31, size=20, layout="NCHW", range=(0, 1))
    images = torch.from_numpy(cutouts).permute(0, 3, 1, 2).float() / 255
    expected = functional.interpolate(images, (20, 20), mode="bilinear", antialias=True)
    np.testing.assert_allclose(prepared(cutouts, said), expected.numpy(), atol=1e-6)


def test_the_documented_contract_is_one(tmp_path: Path) -> None:
    from export import contract as module

    assert module.__doc__ is not None
    text = module.__doc__.partition("::\n")[2]
    (tmp_path / "c.toml").write_text(text)
    assert read_contract(tmp_path / "c.toml").output.answers == ("elliptical", "spiral")
    document = (Path(__file__).resolve().parents[2] / "docs" / "bundles.md").read_text()
    (tmp_path / "d.toml").write_text(document.partition("```toml\n")[2].partition("```")[0])
    said = read_contract(tmp_path / "d.toml")
    assert said.spiral == ("sa", "sb")
    assert said.input.mean == (0.485, 0.456, 0.406)


def test_neither_this_nor_a_check_needs_torch(tmp_path: Path, survey: Path) -> None:
    onnx.save(by_hand(), tmp_path / "hand.onnx")
    (tmp_path / "c.toml").write_text(BY_HAND)
    code = """
import sys
class WithoutTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, WithoutTorch())
import skytally
skytally.main()
"""
    folder, sky = str(tmp_path), str(survey)
    export = [f"{folder}/hand.onnx", "--contract", f"{folder}/c.toml", "--to", f"{folder}/b.bundle"]
    for arguments in (export, ["--check", f"{folder}/b.bundle"]):
        command = [sys.executable, "-W", "error", "-c", code, "export", *arguments]
        done = subprocess.run(
            [*command, "--survey", sky, "--cutouts", "64", "--json"],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        said = json.loads(done.stdout)
        assert said["parity"][0]["cutouts"] == 64
        assert "compared on 64 cutouts, fewer than 4,096" in said["warnings"][0]
    assert "the original hand.onnx" in said["not_compared"][0]
