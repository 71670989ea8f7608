"""The gate between a network and its bundle: statistics, views, and what is refused."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import healpy
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from catalogs.errors import InputError, IntegrityError
from catalogs.progress import Silent
from catalogs.trees.tree import read_tree
from export.bundle import Bundle
from export.card import card
from export.commands import told
from export.convert import Exported, reference_of, to_onnx
from export.manifest import CARD, MODEL, PARITY_TILES, SKY, Limits, Manifest, Variant
from export.parity import gate
from export.parity.agreement import flips, positives, shift, tango, tiles_of
from export.parity.gate import Gate, askable, own_fp32, prove
from export.parity.told import told_apart, told_few
from export.parity.views import Galaxies, Views, made
from export.proven import write_proven
from export.providers import Provider, available
from training.answers import TreeAnswers
from training.calibrate import Calibration
from training.models.shamir import ShamirShape
from training.network import Annotator, Classifier
from training.settings import TrainSettings

FEW = Gate(cutouts=128)
SHAPE = ShamirShape(widths=(4, 4, 6, 6, 6), dense=8)


def annotator(layer=None, moved: float = 0.0) -> Annotator:
    """A network that divides `galaxies` into halves, or nearly."""
    torch.manual_seed(3)
    classifier = Classifier(TrainSettings(shape=SHAPE), layer).eval()
    with torch.inference_mode():
        raw = classifier(torch.from_numpy(galaxies().cutouts))
    scale = 2.0 / float(raw.std())
    middle = float(raw.flatten().sort().values[19:21].mean())
    return Annotator(classifier, Calibration(scale, moved - scale * middle)).eval()


def galaxies(count: int = 40, size: int = 128) -> Galaxies:
    random = np.random.default_rng(5)
    y, x = np.mgrid[:size, :size] / size - 0.5
    width = random.uniform(0.002, 0.05, (count, 1, 1))
    light = 200 * np.exp(-(x**2 + random.uniform(1, 4, (count, 1, 1)) * y**2) / width)
    noisy = light[..., None] + random.normal(10, 5, (count, size, size, 3))
    ra, dec = random.uniform(0, 360, count), random.uniform(-80, 80, count)
    return Galaxies(np.clip(noisy, 0, 255).astype(np.uint8), ra, dec, "blobs")


def bundle_of(to: Path, exported: Exported, like: Bundle) -> Bundle:
    tree = exported.annotator.classifier.answers.tree
    names = exported.annotator.answers
    manifest = Manifest(
        **{**dict(like.manifest), "files": {}, "parity": []}
        | {
            "name": to.stem,
            "labels": [] if tree else list(names),
            "tree": tree,
            "answers": list(exported.answers),
            "spiral": "p_spiral" if "p_spiral" in exported.answers else None,
            "input": like.manifest.input.model_copy(update={"crop": 128, "trained_size": 120}),
        }
    )
    files = {MODEL: to_onnx(exported, exported.answers), SKY: b""}
    views = Views(galaxies(), FEW.cutouts)
    return write_proven(to, manifest, files, reference_of(exported), views, FEW, Silent())


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory, brightness: Bundle) -> Bundle:
    to = tmp_path_factory.mktemp("proven") / "two.bundle"
    return bundle_of(to, Exported(annotator(), None).eval(), brightness)


def by_likelihood(more: int, fewer: int, n: int, delta: float) -> float:
    """Tango's statistic with the constrained likelihood maximised by scipy."""

    def unlikely(before: float) -> float:
        after, same = before + delta, 1 - 2 * before - delta
        terms = [(more, after), (fewer, before), (n - more - fewer, same)]
        return -sum(k * np.log(max(p, 1e-300)) for k, p in terms)

    low, high = max(0.0, -delta), (1 - delta) / 2
    found = minimize_scalar(
        unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
    )
    return (more - fewer - n * delta) / np.sqrt(n * (2 * found.x + delta * (1 - delta)))


@pytest.mark.parametrize(("more", "fewer", "n"), [(9, 2, 200), (1, 7, 90), (12, 12, 4096)])
def test_the_interval_is_where_the_score_is_1_96(more: int, fewer: int, n: int) -> None:
    low, high = tango(more, fewer, n)
    z = norm.ppf(0.975)
    assert low < (more - fewer) / n < high
    assert by_likelihood(more, fewer, n, low) == pytest.approx(z, abs=1e-3)
    assert by_likelihood(more, fewer, n, high) == pytest.approx(-z, abs=1e-3)
    assert tango(fewer, more, n) == pytest.approx((-high, -low), abs=1e-9)


def test_where_no_label_differs_the_interval_still_has_a_width() -> None:
    z2 = norm.ppf(0.975) ** 2
    assert tango(0, 0, 4096) == pytest.approx((-z2 / (4096 + z2), z2 / (4096 + z2)), rel=1e-6)
    assert tango(0, 0, 4096)[1] < 0.004 < tango(0, 0, 800)[1]


def test_labels_that_differ_together_widen_the_interval() -> None:
    before = np.zeros(800, dtype=bool)
    after = before.copy()
    after[:24] = True
    alone = shift(before, after, np.arange(800))
    together = shift(before, after, np.arange(800) // 8)
    assert alone.value == together.value == pytest.approx(0.03)
    assert (alone.low, alone.high) == tango(24, 0, 800)
    # 24 of one kind in 3 galaxies of 8 count as 3 in 100.
    assert (together.low, together.high) == pytest.approx(tango(3, 0, 100), rel=0.02)


def test_views_are_the_eight_symmetries_then_shifts() -> None:
    found = Views(galaxies(3, 16), 60)
    image = found.galaxies.cutouts[1]
    eight = [np.rot90(m, k) for m in (image, image[::-1]) for k in range(4)]
    turned = {found[1 + 3 * i].tobytes() for i in range(8)}
    assert turned == {np.ascontiguousarray(view).tobytes() for view in eight}
    assert len({found[i].tobytes() for i in range(60)}) == 60
    assert found.galaxy.tolist() == [0, 1, 2] * 20
    parts = [len(part) for part in found.batches(7, 20)]
    assert parts == [7, 7, 6]
    assert np.array_equal(np.concatenate(list(found.batches(64)))[59], found[59])


def test_tiles_are_healpixs_and_not_too_many() -> None:
    sky = galaxies(400)
    tiles, order = tiles_of(np.tile(sky.ra, 8), np.tile(sky.dec, 8))
    expected = healpy.ang2pix(2**order, sky.ra, sky.dec, nest=True, lonlat=True)
    assert np.array_equal(tiles, np.tile(expected, 8))
    assert 3200 / len(np.unique(tiles)) >= 128
    nowhere = np.full(5, np.nan)
    assert tiles_of(nowhere, nowhere)[0].tolist() == [-1] * 5


def test_a_question_is_compared_where_it_is_asked(brightness: Bundle) -> None:
    tree = read_tree("gz2")
    manifest = brightness.manifest.model_copy(
        update={"tree": tree, "labels": [], "answers": [f"p_{n}" for n in tree.names]}
    )
    conditional = np.zeros((3, len(tree.names)))
    for at in tree.slices:
        conditional[:, at.start] = 0.9
        conditional[:, at.start + 1] = 0.1
    smooth, other = conditional.copy(), conditional.copy()
    other[:, tree.slices[0]] = [0.2, 0.8, 0.0]
    other[:, tree.slices[1]] = [0.1, 0.9]
    answers = [tree.cumulative(c).astype(np.float32) for c in (smooth, other)]
    found = flips(answers[1], answers[0], manifest)
    assert found["q01"].model_dump() == {"cutouts": 3, "flips": 3, "confident_flips": 3}
    assert found["q02"].cutouts == 3
    assert flips(answers[0], answers[1], manifest)["q02"].cutouts == 0
    without = manifest.model_copy(update={"spiral": None})
    assert positives(answers[0], without)["p_q01_smooth"].all()


def test_a_bundle_says_what_was_compared(proven: Bundle) -> None:
    (found,) = proven.manifest.parity
    assert (found.precision, found.provider) == ("fp32", "cpu")
    assert found.reference.startswith("torch")
    assert (found.galaxies, found.cutouts) == (40, 128)
    assert found.sizes == [120, 128]
    assert found.batches == [1, 7, 64]
    assert 0 < found.difference < 1e-5
    assert found.limits.difference == 1e-4
    assert found.shifts["p_spiral"].value == 0
    text = (proven.path / CARD).read_text()
    assert "at most 0.0001" in text
    assert "128 (40 of `blobs`)" in text
    rows = list(csv.DictReader(io.StringIO((proven.path / PARITY_TILES).read_text())))
    assert sum(int(row["cutouts"]) for row in rows) == 128
    whole = sum(int(row["cutouts"]) * float(row["fraction"]) for row in rows) / 128
    assert whole == pytest.approx(found.shifts["p_spiral"].reference, abs=1e-5)


def test_every_question_of_a_tree_is_compared(tmp_path: Path, brightness: Bundle) -> None:
    tree = read_tree("gz2")
    exported = Exported(annotator(TreeAnswers(tree, "softmax")), tree).eval()
    bundle = bundle_of(tmp_path / "x.bundle", exported, brightness)
    (found,) = bundle.manifest.parity
    assert 0 < found.difference < 1e-5
    assert set(found.questions) == {q.name for q in tree.questions}
    assert bundle.manifest.answers[-1] == "p_spiral"
    views = next(Views(galaxies(), 64).batches(8))
    with torch.inference_mode():
        raw = exported.annotator.classifier(torch.from_numpy(views)).numpy()
    calibration = exported.annotator.calibration
    raw = raw * calibration.scale + calibration.bias
    shares = np.zeros_like(raw)
    for at in tree.slices:
        powers = np.exp(raw[:, at])
        shares[:, at] = powers / powers.sum(axis=1, keepdims=True)
    expected = tree.cumulative(shares.astype(np.float64))
    got = np.stack(own_fp32(bundle).answer(views), axis=1)
    np.testing.assert_allclose(got[:, :-1], expected, atol=1e-5)
    summed = sum(expected[:, tree.names.index(name)] for name in tree.spiral)
    np.testing.assert_allclose(got[:, -1], summed, atol=1e-5)


def test_each_provider_and_precision_is_compared_or_said_not_to_be(proven: Bundle) -> None:
    manifest = proven.manifest
    done = {(found.provider, found.precision) for found in manifest.parity}
    left_out = {(found.provider, found.precision): found for found in manifest.not_compared}
    assert ("cpu", "fp32") in done
    assert not done & left_out.keys()
    assert done | left_out.keys() == {
        *(("cpu", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"), ("cuda", "fp32")),
        *(("tensorrt", "fp32"), ("tensorrt", "fp16")),
    }
    # Oracle: what ONNX Runtime itself says that this build has.
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert "does not have it" in left_out["cuda", "fp32"].because
    text = (proven.path / CARD).read_text()
    lines, facts = told(proven.path, proven)
    for what in told_apart(manifest.not_compared):
        assert f"- {what}" in text
        assert f"  not compared: {what}" in lines
        assert what in facts["not_compared"]
    with_int8 = manifest.model_copy(
        update={"precisions": {"fp32": MODEL, "int8": "model.int8.onnx"}}
    )
    assert askable(with_int8, ("int8",)) == [("cpu", "int8"), ("openvino", "int8")]


def test_a_provider_that_fails_to_open_is_said_not_to_be_compared(
    proven: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build with CUDA on a machine that has no card, or too old a library."""
    if "cuda" in {found.name for found in available()}:
        pytest.skip("there is a card")
    cuda = Provider("cuda", "CUDAExecutionProvider")
    monkeypatch.setattr(gate, "available", lambda: [*available(), cuda])
    proof = prove(proven, own_fp32(proven), Views(galaxies(), 64), FEW, Silent())
    (found,) = [one for one in proof.not_compared if one.provider == "cuda"]
    assert found.because.startswith("provider 'cuda' is not usable here")
    assert str(proven.path) not in found.because


def test_few_cutouts_are_said_to_be_few(proven: Bundle) -> None:
    few = "fp32 on cpu was compared on 128 cutouts, fewer than 4,096: a fraction may shift by 0.029"
    assert told_few(proven.manifest.parity) == [f"{few} unseen"]
    assert f"- {few}" in (proven.path / CARD).read_text()
    assert f"  warning: {few} unseen" in told(proven.path, proven)[0]
    (found,) = proven.manifest.parity
    enough = found.model_copy(update={"cutouts": 4096})
    assert told_few([enough]) == []
    whole = proven.manifest.model_copy(update={"parity": [enough], "not_compared": []})
    assert "Few cutouts" not in card(whole)
    assert "Not compared" not in card(whole)


def test_an_8_bit_model_keeps_what_was_said_of_the_others(tmp_path: Path, proven: Bundle) -> None:
    manifest = proven.manifest.model_copy(
        update={
            "precisions": {"fp32": MODEL, "int8": "model.int8.onnx"},
            "variants": {"int8": Variant(survey="s", calibrated_on=64)},
        }
    )
    files = {name: proven.file(name) for name in (MODEL, SKY, PARITY_TILES)}
    files["model.int8.onnx"] = proven.model_bytes()
    views, to = Views(galaxies(), 64), tmp_path / "x.bundle"
    wide = replace(FEW, rounded=Limits(flips=0.5))
    bundle = write_proven(
        to, manifest, files, own_fp32(proven), views, wide, Silent(), precisions=("int8",)
    )
    said = bundle.manifest.not_compared
    assert said[: len(proven.manifest.not_compared)] == proven.manifest.not_compared
    assert {one.precision for one in said[len(proven.manifest.not_compared) :]} <= {"int8"}
    again = write_proven(
        tmp_path / "y.bundle", bundle.manifest.model_copy(update={"parity": []}),
        {name: bundle.file(name) for name in bundle.manifest.files if name != CARD},
        own_fp32(proven), views, wide, Silent(), precisions=("int8",),
    )  # fmt: skip
    assert again.manifest.not_compared == said


def test_another_network_is_not_passed_off(tmp_path: Path, proven: Bundle) -> None:
    other = reference_of(Exported(annotator(moved=2e-3), None).eval())
    files = {MODEL: proven.model_bytes(), SKY: b""}
    views = Views(galaxies(), 128)
    to = tmp_path / "x.bundle"
    with pytest.raises(IntegrityError, match=r"a probability by 0\.0005.*no bundle was written"):
        write_proven(to, proven.manifest, files, other, views, FEW, Silent())
    assert list(tmp_path.iterdir()) == []


def test_a_shifted_fraction_is_refused_by_its_intervals_end(proven: Bundle) -> None:
    """Hardly a label differs, but all go one way."""
    other = reference_of(Exported(annotator(moved=0.2), None).eval())
    views = Views(galaxies(), 128)
    rounded = replace(FEW, exact=Limits(flips=0.2, shift=0.1))
    with pytest.raises(IntegrityError, match=r"the fraction of p_spiral by -0\.\d+, 95%"):
        prove(proven, other, views, rounded, Silent())
    wide = replace(FEW, exact=Limits(flips=0.5, shift=0.5))
    (found,) = prove(proven, other, views, wide, Silent()).comparisons
    moved = found.shifts["p_spiral"]
    assert moved.low < moved.value < -0.01
    assert found.questions["label"].flips == round(-moved.value * 128)
    strict = replace(FEW, exact=Limits(confident_flips=0))
    with pytest.raises(IntegrityError, match="labels of label that were not in doubt"):
        prove(proven, other, views, strict, Silent())


def test_answers_that_are_no_numbers_are_refused(proven: Bundle, tmp_path: Path) -> None:
    model = onnx.load_from_string(proven.model_bytes())
    for tensor in model.graph.initializer:
        if list(tensor.dims) == [1, 8]:  # of the last dense layer
            values = np.full((1, 8), np.nan, dtype=np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    files = {MODEL: model.SerializeToString(), SKY: b""}
    views = Views(galaxies(), 64)
    with pytest.raises(IntegrityError, match=r"a probability by nan"):
        write_proven(
            tmp_path / "x.bundle",
            proven.manifest.model_copy(update={"parity": []}),
            files,
            own_fp32(proven),
            views,
            Gate(cutouts=64),
            Silent(),
        )


def test_progress_is_told_of_every_stage(proven: Bundle) -> None:
    class Heard(Silent):
        def __init__(self) -> None:
            self.stages: dict[str, int] = {}

        def progress(self, stage: str, done: int, total: int, unit: str, **_: object) -> None:
            self.stages[f"{stage}, {unit}"] = round(100 * done / total)

    heard = Heard()
    proof = prove(proven, own_fp32(proven), Views(galaxies(), 100), FEW, heard)
    assert set(heard.stages.values()) == {100}
    assert any(stage.startswith("ask the fp32 model") for stage in heard.stages)
    assert "ask cpu fp32, cutouts" in heard.stages
    assert proof.comparisons[0].difference == 0  # the same session, whatever the batch


def test_too_few_cutouts_prove_nothing() -> None:
    with pytest.raises(InputError, match="63 cutouts are too few"):
        Gate(cutouts=63)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_made_cutouts_are_of_the_contracts_type(dtype: str) -> None:
    found = made(9, 3, dtype)
    assert found.shape == (13, 9, 9, 3)
    assert found.dtype == dtype
    assert found.max() == (65535 if dtype == "uint16" else 255)


def test_the_manifest_holds_nothing_that_json_does_not(proven: Bundle) -> None:
    text = (proven.path / "bundle.json").read_text()
    assert json.loads(text)["parity"][0]["shifts"]["p_spiral"]["value"] == 0
