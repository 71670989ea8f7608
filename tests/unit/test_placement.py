"""Where work runs and why, with cards and without; doctor says the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from catalogs.errors import InputError, IntegrityError
from engine import doctor, machine, placement
from engine.placement import check_code, check_releases, code_id, place
from export import providers

CARD = "NVIDIA H100 80GB HBM3, 570.86.15, 81559 MiB"


@pytest.fixture
def no_cards(monkeypatch, tmp_path):
    """A path on which there is no nvidia-smi."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def give_cards(monkeypatch, folder: Path, output: str, status: int = 0) -> None:
    """Put a program on the path that answers as NVIDIA's does: there is no card to ask here."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{output}'\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin{os.pathsep}/usr/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def gpu_build(monkeypatch):
    """ONNX Runtime as it answers when it is built for cards, whether or not there is one."""
    built = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    build = SimpleNamespace(
        get_available_providers=lambda: built, get_ep_devices=list, __version__="1.99"
    )
    monkeypatch.setattr(providers, "runtime", lambda: build)
    monkeypatch.setattr(placement, "runtime", lambda: build)
    monkeypatch.setattr(providers, "_openvino_plugin", lambda _: None)


def test_cards_are_those_that_cuda_shows(monkeypatch, tmp_path):
    give_cards(monkeypatch, tmp_path, f"{CARD}\\n{CARD}\\n")
    first, second = machine.cards()
    assert first == second == machine.Card("NVIDIA H100 80GB HBM3", "570.86.15", "81559 MiB")
    for visible, count in (("", 0), ("-1", 0), ("1", 1), ("0,1", 2), ("GPU-77", 1)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert len(machine.cards()) == count


def test_a_driver_that_fails_has_no_cards(monkeypatch, tmp_path):
    give_cards(monkeypatch, tmp_path, "NVIDIA-SMI has failed\\n", status=9)
    assert machine.cards() == ()


@pytest.mark.usefixtures("no_cards")
def test_auto_without_a_card_is_the_cpu():
    found = place()
    assert (found.provider, found.decoder, found.precision) == ("cpu", "dali", "fp32")
    assert found.workers == len(os.sched_getaffinity(0))
    assert found.reasons["provider"] == "there is no NVIDIA card"
    assert set(found.reasons) == set(doctor.PLACED)


@pytest.mark.usefixtures("no_cards", "gpu_build")
def test_a_build_for_cards_does_not_make_one():
    """get_available_providers() lists CUDA on machines without a card."""
    assert place().provider == "cpu"
    for asked in ({"device": "cuda"}, {"provider": "cuda"}, {"provider": "tensorrt"}):
        with pytest.raises(InputError, match="needs an NVIDIA card"):
            place(**asked)


@pytest.mark.usefixtures("gpu_build")
def test_auto_with_a_card_uses_it_and_decodes_there(monkeypatch, tmp_path):
    give_cards(monkeypatch, tmp_path, f"{CARD}\\n{CARD}\\n")
    found = place()
    assert (found.provider, found.decoder, found.workers) == ("cuda", "dali-gpu", 1)
    assert "H100" in found.reasons["provider"]
    (tmp_path / "dask_cuda.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert place(cluster="cuda").workers == 2
    assert place("cpu").decoder == "dali"
    assert place(decoder="dali").decoder == "dali"
    assert place(provider="tensorrt", precision="fp16").precision == "fp16"
    with pytest.raises(InputError, match="no precision bf16"):
        place(precision="bf16")


def test_a_card_that_this_build_cannot_use_is_told(monkeypatch, tmp_path):
    if "cuda" in {provider.name for provider in providers.available()}:
        pytest.skip("this build of ONNX Runtime is for cards")
    give_cards(monkeypatch, tmp_path, f"{CARD}\\n")
    found = place()
    assert found.provider == "cpu"
    assert "built for CPUs" in found.reasons["provider"]


@pytest.mark.usefixtures("no_cards", "gpu_build")
def test_cards_of_a_cluster_are_not_looked_for_here():
    found = place("cuda", cluster="tls://host:8786")
    assert (found.provider, found.decoder, found.workers) == ("cuda", "dali-gpu", 0)
    assert str(found).startswith("the cluster's workers")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"device": "tpu"}, "'tpu' is none of"),
        ({"provider": "abacus"}, "'abacus' is none of"),
        ({"device": "cuda", "provider": "cpu"}, "does not run on device 'cuda'"),
        ({"device": "cpu", "provider": "cuda"}, "does not run on device 'cpu'"),
        ({"precision": "bf16"}, "no precision bf16"),
        ({"decoder": "eyes"}, "'eyes' is none of"),
        ({"decoder": "dali-gpu"}, "leaves its pixels on a card"),
        ({"decoder": "dali", "raw": True}, "nothing to decode"),
        ({"workers": 0}, "workers is 0"),
        ({"workers": 2, "cluster": "tls://host:8786"}, "leave --workers out"),
        ({"cluster": "cuda"}, "cluster 'cuda' needs"),
    ],
)
def test_what_cannot_be_had_is_refused(asked, message):
    with pytest.raises(InputError, match=message):
        place(**asked)


def test_raw_surveys_are_not_decoded():
    found = place(raw=True)
    assert (found.decoder, found.decoder_version) == ("raw", "1")


def test_a_worker_of_other_releases_is_refused_by_name():
    here = place()
    check_releases(here.decoder, here.decoder_version, here.runtime_version)
    with pytest.raises(IntegrityError, match=r"decoder dali .*the plan says 0\.1"):
        check_releases("dali", "0.1", here.runtime_version)
    with pytest.raises(IntegrityError, match=r"ONNX Runtime .*the plan says 0\.2"):
        check_releases(here.decoder, here.decoder_version, "0.2")


def test_a_worker_of_another_skytally_is_refused():
    check_code(code_id())
    with pytest.raises(IntegrityError, match="another skytally than the driver"):
        check_code("0" * 64)


def test_why_openvino_is_not_there_names_the_processor(monkeypatch):
    kind = SimpleNamespace(CPU="cpu")
    for vendor, vendor_id, expected in (
        ("AMD", 0x1022, "Intel processors only, this one is of AMD"),
        ("Intel", 0x8086, "no processor that it supports"),
    ):
        device = SimpleNamespace(
            device=SimpleNamespace(type="cpu", vendor=vendor, vendor_id=vendor_id)
        )
        fake = SimpleNamespace(get_ep_devices=lambda d=device: [d], OrtHardwareDeviceType=kind)
        monkeypatch.setattr(providers, "runtime", lambda fake=fake: fake)
        monkeypatch.setattr(providers.importlib.util, "find_spec", lambda _: object())
        assert expected in providers.why_not("openvino")


def test_doctor_says_what_there_is_what_is_missing_and_what_auto_chooses():
    found = {finding.name: finding for finding in doctor.examine()}
    assert found["cores"].value == str(len(os.sched_getaffinity(0)))
    assert found["auto provider"].value.startswith(place().provider)
    usable = {provider.name for provider in providers.available()}
    for name in providers.PROVIDERS:
        assert (found[f"provider {name}"].value == "usable") == (name in usable)
        assert (found[f"provider {name}"].remedy is None) == (name in usable)


def test_doctor_as_a_command_also_for_a_reader_that_goes_away():
    command = [sys.executable, "-m", "skytally", "doctor"]
    result = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    names = [finding["name"] for finding in json.loads(result.stdout)["findings"]]
    assert {"processor", "cores", "auto decoder", "provider cpu"} <= set(names)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()
