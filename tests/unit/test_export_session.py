import sys

import numpy as np
import pytest

from catalogs.cutouts.card import CardPixels
from catalogs.errors import InputError
from export import providers
from export.bundle import Bundle, shipped
from export.session import Session


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(shipped())


@pytest.fixture(scope="module")
def session(bundle: Bundle) -> Session:
    return Session(bundle)


def cutouts(count: int, size: int = 120) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_answers_are_named_probabilities(session: Session) -> None:
    answers = session.run(cutouts(5))
    assert list(answers) == ["p_elliptical", "p_spiral"]
    for values in answers.values():
        assert values.dtype == np.float32
        assert values.shape == (5,)
    np.testing.assert_allclose(answers["p_elliptical"] + answers["p_spiral"], 1, atol=1e-6)


def test_it_says_what_it_runs_on(session: Session) -> None:
    import onnxruntime

    assert session.provider == "CPUExecutionProvider"
    assert session.runtime_version == onnxruntime.__version__


def test_the_same_batch_gives_the_same_bits(bundle: Bundle, session: Session) -> None:
    batch = cutouts(16, 240)
    first = session.run(batch)["p_spiral"]
    assert np.array_equal(session.run(batch)["p_spiral"], first)
    assert np.array_equal(Session(bundle).run(batch)["p_spiral"], first)


@pytest.mark.parametrize("count", [1, 16])
def test_pixels_bound_where_they_are_give_the_same_bits(session: Session, count: int) -> None:
    """The path of a card's pixels, by DLPack and IO binding, taken with memory that we have."""
    batch = cutouts(count, 240)
    flat = batch.reshape(count, -1)
    bound = CardPixels(batch, flat.min(axis=1), flat.max(axis=1), 240)
    expected = session.run(batch)
    for answer, values in session.run(bound).items():
        assert values.dtype == np.float32
        assert np.array_equal(values, expected[answer])


def test_bound_pixels_are_not_copied() -> None:
    from export.providers import runtime

    batch = cutouts(2)
    value = runtime().OrtValue.from_dlpack(batch)
    assert value.data_ptr() == batch.ctypes.data


def test_no_image_and_one_image_are_batches_too(session: Session) -> None:
    assert session.run(cutouts(0))["p_spiral"].shape == (0,)
    assert session.run(cutouts(1, 240))["p_spiral"].shape == (1,)


def test_a_view_of_larger_cutouts_is_cropped_right(session: Session) -> None:
    large = cutouts(3, 200)
    inner = large[:, 40:160, 40:160]
    assert not inner.flags.c_contiguous
    expected = session.run(np.ascontiguousarray(inner))["p_spiral"]
    assert np.array_equal(session.run(inner)["p_spiral"], expected)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 120, 120, 3), np.float32),
        np.zeros((2, 3, 120, 120), np.uint8),
        np.zeros((120, 120, 3), np.uint8),
    ],
)
def test_another_type_or_layout_is_refused(session: Session, wrong: np.ndarray) -> None:
    with pytest.raises(InputError, match="the bundle takes uint8"):
        session.run(wrong)


def test_a_provider_that_is_not_there_is_an_error(bundle: Bundle) -> None:
    usable = {provider.name for provider in providers.available()}
    assert "cpu" in usable
    for name in {"cuda", "tensorrt", "openvino"} - usable:
        with pytest.raises(InputError, match=f"{name!r} is not usable here"):
            Session(bundle, provider=name)
    with pytest.raises(InputError, match="'abacus' is none of"):
        Session(bundle, provider="abacus")


def test_impossible_requests_are_refused(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="bf16"):
        Session(bundle, precision="bf16")
    with pytest.raises(InputError, match="fp16"):
        Session(bundle, precision="fp16")
    with pytest.raises(InputError, match="threads"):
        Session(bundle, threads=0)


@pytest.mark.parametrize("name", ["openvino"])
def test_openvino_where_its_plugin_finds_a_processor(bundle: Bundle, name: str) -> None:
    if name not in {provider.name for provider in providers.available()}:
        pytest.skip("the OpenVINO plug-in finds no processor that it supports")
    batch = cutouts(8, 240)
    session = Session(bundle, provider=name)
    assert session.provider == "OpenVINOExecutionProvider"
    expected = Session(bundle).run(batch)["p_spiral"]
    np.testing.assert_allclose(session.run(batch)["p_spiral"], expected, atol=1e-4)


def test_without_onnx_runtime_the_extras_are_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    # None in sys.modules is how Python says that a module cannot be imported.
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"skytally\[cpu\].*skytally\[gpu\]"):
        Session(bundle)


def test_opening_and_running_a_bundle_loads_no_torch() -> None:
    import subprocess

    code = (
        "import sys, numpy as np\n"
        "from export.bundle import Bundle, shipped\n"
        "from export.session import Session\n"
        "Session(Bundle.open(shipped())).run(np.zeros((1, 120, 120, 3), np.uint8))\n"
        "assert 'torch' not in sys.modules and 'training' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)
