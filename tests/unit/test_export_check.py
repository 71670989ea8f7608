import json
import shutil
from pathlib import Path

import onnx
import pytest

from catalogs.errors import IntegrityError
from export import bundle as bundles
from export import manifest as manifests
from export.bundle import Bundle, shipped
from export.check import check
from export.commands import told_check


def changed(to: Path, old: str, new: str) -> Path:
    """A bundle whose graph has another operator, and right digests."""
    source = Bundle.open(shipped())
    files = {name: (shipped() / name).read_bytes() for name in source.manifest.files}
    model = onnx.load_from_string(files[manifests.MODEL])
    for node in model.graph.node:
        if node.op_type == old:
            node.op_type = new
    files[manifests.MODEL] = model.SerializeToString()
    return bundles.write(to, source.manifest, files, replace=False).path


# As the first bundles recorded it.
OLD_PARITY = {
    "images": 154,
    "sizes": [120, 240],
    "max_abs_difference": 5.7e-07,
    "label_differences": 0,
    "tolerance": 0.0001,
    "runtime": "onnxruntime 1.31.1 CPUExecutionProvider, torch 2.13.0+cpu",
}


def test_the_shipped_bundle_is_whole_and_answers() -> None:
    found = check(shipped())
    assert found.bundle.sha256 == Bundle.open(shipped()).sha256
    assert found.compared == []
    said = " ".join(found.not_compared)
    assert "give --survey" in said
    assert "its run is not given" in said
    assert "schema version" not in said
    lines, facts = told_check(shipped(), found)
    assert not any("fewer than 4,096" in line for line in lines)
    assert facts["not_compared"] == found.not_compared


def test_an_older_bundle_keeps_no_secret(tmp_path: Path) -> None:
    old = Path(shutil.copytree(shipped(), tmp_path / "old.bundle"))
    values = json.loads((old / manifests.MANIFEST).read_text())
    del values["not_compared"]
    values |= {"schema_version": 1, "variants": {}, "parity": OLD_PARITY}
    (old / manifests.MANIFEST).write_text(json.dumps(values))
    found = check(old)
    said = " ".join(found.not_compared)
    assert "schema version 1" in said
    # Made before reasons were recorded; what was not compared is no secret all the same.
    assert "when it was made, fp32, bf16 on openvino: no reason is recorded" in said
    lines, _ = told_check(old, found)
    assert any("compared on 154 cutouts, fewer than 4,096" in line for line in lines)


def test_answers_that_are_no_probabilities_are_found(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="no probabilities"):
        check(changed(tmp_path / "x.bundle", "Sigmoid", "Exp"))


def test_a_graph_that_fails_when_it_runs_is_found(tmp_path: Path) -> None:
    source = Bundle.open(shipped())
    files = {name: (shipped() / name).read_bytes() for name in source.manifest.files}
    contract = source.manifest.input.model_copy(update={"channels": 4})
    manifest = source.manifest.model_copy(update={"input": contract})
    four = bundles.write(tmp_path / "x.bundle", manifest, files, replace=False)
    with pytest.raises(IntegrityError, match="does not run on 120 px"):
        check(four.path)
