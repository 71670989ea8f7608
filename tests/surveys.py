"""Small surveys and a network that costs nothing, for tests and benchmarks."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from catalogs.cutouts.header import LONGEST_SIDE
from catalogs.cutouts.layout import RawDtype
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from export import bundle, manifest

BRIGHTEST = {"uint8": 255, "uint16": 65_535, "float32": 65_535}  # what answers are shares of


def brightness_bundle(
    to: Path, dtype: RawDtype = "uint8", corner: int = LONGEST_SIDE
) -> bundle.Bundle:
    """A bundle that answers with the mean of all samples: exact to predict, and costs little.

    Of those in a corner of so many pixels, it costs nothing.
    """
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    mean = [
        helper.make_node("Slice", ["cutouts", "from", "to", "sides"], ["corner"]),
        helper.make_node("Cast", ["corner"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "scale"], ["p_spiral"]),
        helper.make_node("Sub", ["one", "p_spiral"], ["p_elliptical"]),
    ]
    graph = helper.make_graph(
        mean,
        "brightness",
        [helper.make_tensor_value_info("cutouts", kind, ["n", "h", "w", 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"])
            for name in ("p_elliptical", "p_spiral")
        ],
        [
            numpy_helper.from_array(np.asarray([0, 0], dtype=np.int64), "from"),
            numpy_helper.from_array(np.asarray([corner, corner], dtype=np.int64), "to"),
            numpy_helper.from_array(np.asarray([1, 2], dtype=np.int64), "sides"),
            numpy_helper.from_array(np.asarray([1, 2, 3], dtype=np.int64), "axes"),
            numpy_helper.from_array(np.asarray(BRIGHTEST[dtype], dtype=np.float32), "scale"),
            numpy_helper.from_array(np.asarray(1, dtype=np.float32), "one"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    files = {
        manifest.MODEL: model.SerializeToString(),
        manifest.SKY: b"",
        manifest.CARD: b"# brightness\n",
    }
    said = manifest.Manifest(
        name=to.stem,
        labels=["elliptical", "spiral"],
        answers=["p_elliptical", "p_spiral"],
        spiral="p_spiral",
        threshold=0.5,
        input=manifest.InputContract(crop=24, trained_size=24, channels=3, dtype=dtype),
        provenance=manifest.Provenance(
            survey="none",
            framing="none",
            credit="none",
            data_fingerprint="none",
            label_column="none",
            counts={},
            regions={},
            seed=0,
            code_version="none",
            settings={},
        ),
        metrics={},
        parity=[],
    )
    return bundle.write(to, said, files, replace=False)


def small_image(row: int, size: int = 32) -> NDArray[np.uint8]:
    rng = np.random.default_rng(row)
    level = int(rng.integers(20, 230))
    noise = rng.integers(-15, 16, (size, size, 3))
    return np.clip(level + noise, 0, 255).astype(np.uint8)


def encode(image: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    sink = io.BytesIO()
    Image.fromarray(image).save(sink, kind)
    return sink.getvalue()


def scattered(rows: int, seed: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 360, rows), np.degrees(np.arcsin(rng.uniform(-1, 1, rows)))


def write_small_survey(to: Path, rows: int = 2000, damaged: dict[int, bytes] | None = None) -> None:
    """A survey of small PNG images; ``damaged`` puts other bytes in some rows."""
    ra, dec = scattered(rows)
    damaged = damaged or {}

    def images(chunks: Sequence[NDArray[np.int64]]) -> Iterator[list[bytes]]:
        for chunk in chunks:
            yield [
                damaged[row] if row in damaged else encode(small_image(row))
                for row in chunk.tolist()
            ]

    table = SurveyTable(
        ids=10**15 + np.arange(rows),
        ra=ra,
        dec=dec,
        columns={
            "mag": np.linspace(14, 18, rows),
            "kind": np.asarray(["a", None] * (rows // 2), dtype=object),
            "label": np.asarray(["x"] * rows, dtype=object),
        },
    )
    write_survey(to, table, images, SurveyInfo(name="small"))


def raw_image(row: int, size: int, dtype: str) -> NDArray[Any]:
    """A raw cutout of three channels, other samples for each row."""
    samples = np.random.default_rng(row).integers(0, 250, (size, size, 3))
    return (samples * (1 if dtype == "uint8" else 200)).astype(dtype)


def write_raw_survey(to: Path, rows: int = 500, size: int = 8, dtype: RawDtype = "uint8") -> None:
    """A survey of raw cutouts, each `raw_image` of its input row."""
    ra, dec = scattered(rows)

    def images(chunks: Sequence[NDArray[np.int64]]) -> Iterator[NDArray[Any]]:
        for chunk in chunks:
            yield np.stack([raw_image(row, size, dtype) for row in chunk.tolist()])

    table = SurveyTable(10**15 + np.arange(rows), ra, dec, {"mag": np.linspace(14, 18, rows)})
    info = SurveyInfo(name="raw", encoding="raw", dtype=dtype, channels=3)
    write_survey(to, table, images, info)


TIMELY = ("run.json", "progress.json", "lock", "turn")


def tree(catalog: Path) -> dict[str, str]:
    """Digest of every file, but those that say how long things took."""
    return {
        str(path.relative_to(catalog)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(catalog.rglob("*"))
        if path.is_file() and "timings" not in path.parts and path.name not in TIMELY
    }
