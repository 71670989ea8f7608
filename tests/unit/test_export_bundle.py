import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from catalogs.errors import InputError, IntegrityError, SkytallyError
from export import bundle as bundles
from export import manifest as manifests
from export.bundle import Bundle, shipped
from export.session import Session


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped(), tmp_path / "copy.bundle"))


def change_manifest(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads((path / manifests.MANIFEST).read_text())
    change(values)
    (path / manifests.MANIFEST).write_text(json.dumps(values))


def change_model(path: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    """Change the model and give the manifest its new digest, as a forger would."""
    model = onnx.load_model(path / manifests.MODEL)
    change(model)
    content = model.SerializeToString()
    (path / manifests.MODEL).write_bytes(content)
    entry = bundles.entry_of(content).model_dump()
    change_manifest(path, lambda values: values["files"].update({manifests.MODEL: entry}))


def test_the_shipped_bundle_opens() -> None:
    bundle = Bundle.open(shipped())
    assert bundle.manifest.spiral in bundle.manifest.answers
    assert bundle.manifest.input.crop == 240
    manifest = (shipped() / manifests.MANIFEST).read_bytes()
    assert bundle.sha256 == hashlib.sha256(manifest).hexdigest()
    assert sum(file.stat().st_size for file in shipped().iterdir()) < 6e6


def test_the_training_sky_is_a_moc_of_its_coverage() -> None:
    from mocpy import MOC

    moc = MOC.from_fits(shipped() / manifests.SKY)
    trained = sum(Bundle.open(shipped()).manifest.provenance.counts["train"].values())
    tiles = moc.sky_fraction * 12 * 4**6
    assert moc.max_order == 6
    assert trained / 10 < tiles <= trained


@pytest.mark.parametrize("name", [manifests.MODEL, manifests.SKY, manifests.CARD])
def test_a_changed_byte_is_refused(copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(IntegrityError, match=f"{name} has changed"):
        Bundle.open(copied)


@pytest.mark.parametrize("name", [manifests.MODEL, manifests.SKY, manifests.CARD])
def test_a_missing_or_longer_file_is_refused(copied: Path, name: str) -> None:
    with (copied / name).open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(IntegrityError, match="larger"):
        Bundle.open(copied)
    (copied / name).unlink()
    with pytest.raises(IntegrityError, match="cannot be read"):
        Bundle.open(copied)


def test_an_unlisted_file_is_refused(copied: Path) -> None:
    (copied / "extra.bin").write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"extra\.bin is not listed"):
        Bundle.open(copied)


def test_links_and_folders_are_refused(copied: Path, tmp_path: Path) -> None:
    (copied / manifests.CARD).rename(tmp_path / "card.md")
    (copied / manifests.CARD).symlink_to(tmp_path / "card.md")
    with pytest.raises(IntegrityError, match="no links"):
        Bundle.open(copied)
    (copied / manifests.CARD).unlink()
    (copied / manifests.CARD).mkdir()
    with pytest.raises(IntegrityError, match="no links or folders"):
        Bundle.open(copied)


def test_a_linked_manifest_is_refused(copied: Path, tmp_path: Path) -> None:
    (copied / manifests.MANIFEST).rename(tmp_path / "elsewhere.json")
    (copied / manifests.MANIFEST).symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(IntegrityError):
        Bundle.open(copied)


def test_a_pipe_in_the_place_of_a_file_is_refused(copied: Path) -> None:
    (copied / manifests.CARD).unlink()
    os.mkfifo(copied / manifests.CARD)
    with pytest.raises(IntegrityError, match="not a plain file"):
        Bundle.open(copied)


def test_external_data_are_refused(copied: Path) -> None:
    def outside(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../etc/passwd")

    change_model(copied, outside)
    with pytest.raises(IntegrityError, match="outside of the model file"):
        Bundle.open(copied)


def test_external_data_inside_a_branch_are_refused(copied: Path) -> None:
    def hidden(model: onnx.ModelProto) -> None:
        tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.bin")
        inner = helper.make_node("Constant", [], ["c"], value=tensor)
        branch = helper.make_graph([inner], "b", [], [])
        model.graph.node.append(
            helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
        )

    change_model(copied, hidden)
    with pytest.raises(IntegrityError, match="outside of the model file"):
        Bundle.open(copied)


def test_unknown_operators_are_refused(copied: Path) -> None:
    def foreign(model: onnx.ModelProto) -> None:
        model.graph.node[0].domain = "evil.example"

    change_model(copied, foreign)
    with pytest.raises(IntegrityError, match=r"evil\.example"):
        Bundle.open(copied)


def test_functions_of_its_own_are_refused(copied: Path) -> None:
    def own(model: onnx.ModelProto) -> None:
        model.functions.add(name="f", domain="ai.onnx")

    change_model(copied, own)
    with pytest.raises(IntegrityError, match="its own functions"):
        Bundle.open(copied)


def test_another_output_than_promised_is_refused(copied: Path) -> None:
    def renamed(model: onnx.ModelProto) -> None:
        model.graph.output[0].name = "p_other"

    change_model(copied, renamed)
    with pytest.raises(IntegrityError, match="p_other"):
        Bundle.open(copied)


def test_bytes_that_are_no_model_are_refused(copied: Path) -> None:
    content = b"\xff\x00 not a protobuf"
    (copied / manifests.MODEL).write_bytes(content)
    entry = bundles.entry_of(content).model_dump()
    change_manifest(copied, lambda values: values["files"].update({manifests.MODEL: entry}))
    with pytest.raises(IntegrityError, match="not an ONNX model"):
        Bundle.open(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["files"].update({"../x": v["files"]["card.md"]}), "plain file name"),
        (lambda v: v["files"].pop("card.md"), r"does not list card\.md"),
        (lambda v: v["files"]["model.onnx"].update(bytes=1 << 40), "less than or equal"),
        (lambda v: v["files"]["model.onnx"].update(sha256="0"), "pattern"),
        (lambda v: v.update(spiral="p_star"), "spiral"),
        (lambda v: v.update(threshold=1.5), "less than 1"),
        (lambda v: v.update(surprise=1), "surprise"),
        (lambda v: v["input"].update(dtype="object"), "dtype"),
    ],
)
def test_an_impossible_manifest_is_refused_in_one_line(
    copied: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    change_manifest(copied, change)
    with pytest.raises(IntegrityError, match=message) as caught:
        Bundle.open(copied)
    assert "\n" not in str(caught.value)


def test_a_later_schema_is_the_users_to_solve(copied: Path) -> None:
    change_manifest(copied, lambda values: values.update(schema_version=3))
    with pytest.raises(InputError, match="schema version 3; this skytally reads 1 and 2"):
        Bundle.open(copied)


def test_no_bundle_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model bundle"):
        Bundle.open(tmp_path)
    with pytest.raises(InputError, match="no model bundle"):
        Bundle.open(tmp_path / "missing")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_a_manifest_that_is_no_object_is_refused(copied: Path, text: str) -> None:
    (copied / manifests.MANIFEST).write_text(text)
    with pytest.raises((IntegrityError, InputError)):
        Bundle.open(copied)


def test_writing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    source = Bundle.open(shipped())
    files = {name: (shipped() / name).read_bytes() for name in source.manifest.files}
    to = tmp_path / "new.bundle"
    broken = {**files, manifests.MODEL: b"no model"}
    with pytest.raises(IntegrityError):
        bundles.write(to, source.manifest, broken, replace=False)
    assert list(tmp_path.iterdir()) == []
    first = bundles.write(to, source.manifest, files, replace=False)
    assert json.loads((to / manifests.MANIFEST).read_text())["schema_version"] == 2
    assert first.manifest == source.manifest
    with pytest.raises(InputError, match="exists already"):
        bundles.write(to, source.manifest, files, replace=False)
    with pytest.raises(IntegrityError):
        bundles.write(to, source.manifest, broken, replace=True)
    assert Bundle.open(to).sha256 == first.sha256
    bundles.write(to, source.manifest, files, replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["new.bundle"]


def test_only_a_bundle_is_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("")
    source = Bundle.open(shipped())
    files = {name: (shipped() / name).read_bytes() for name in source.manifest.files}
    with pytest.raises(InputError, match="is no model bundle"):
        bundles.write(precious, source.manifest, files, replace=True)
    assert (precious / "thesis.tex").exists()


def replace_answer(model: onnx.ModelProto, node: onnx.NodeProto, *values: onnx.TensorProto) -> None:
    """Let ``node`` give p_spiral, from what gave it before, now called ``before``."""
    for known in model.graph.node:
        known.output[:] = ["before" if name == "p_spiral" else name for name in known.output]
        known.input[:] = ["before" if name == "p_spiral" else name for name in known.input]
    model.graph.initializer.extend(values)
    model.graph.node.append(node)


def test_a_graph_that_onnx_runtime_refuses_is_told_in_one_line(copied: Path) -> None:
    def teleport(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type = "Teleport"

    change_model(copied, teleport)
    with pytest.raises(InputError, match="cannot run on provider 'cpu'") as raised:
        Session(Bundle.open(copied))
    assert "\n" not in str(raised.value)


def test_answers_that_are_not_one_number_per_cutout_are_refused(copied: Path) -> None:
    def whole_numbers(model: onnx.ModelProto) -> None:
        kind = TensorProto.INT64
        replace_answer(model, helper.make_node("Cast", ["before"], ["p_spiral"], to=kind))
        for value in model.graph.output:
            if value.name == "p_spiral":
                value.type.tensor_type.elem_type = kind

    change_model(copied, whole_numbers)
    with pytest.raises(IntegrityError, match=r"p_spiral of int64 \(2,\), not float32 \(2,\)"):
        Session(Bundle.open(copied)).run(np.zeros((2, 120, 120, 3), dtype=np.uint8))


def test_a_graph_that_fails_as_it_runs_is_told_in_one_line(copied: Path) -> None:
    def seven(model: onnx.ModelProto) -> None:
        shape = helper.make_tensor("seven", TensorProto.INT64, [1], [7])
        replace_answer(model, helper.make_node("Reshape", ["before", "seven"], ["p_spiral"]), shape)

    change_model(copied, seven)
    with pytest.raises(SkytallyError, match="fails on 2 cutouts") as raised:
        Session(Bundle.open(copied)).run(np.zeros((2, 120, 120, 3), dtype=np.uint8))
    assert "\n" not in str(raised.value)
