"""Raw surveys of every data type: the network sees the very samples, and bad ones cost a row."""

from __future__ import annotations

import json

import numpy as np
import pytest
from surveys import (
    BRIGHTEST,
    brightness_bundle,
    raw_image,
    scattered,
    tree,
    write_raw_survey,
    write_small_survey,
)

from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.errors import InputError
from catalogs.survey.tables import read_table
from engine.run import AnnotateSettings, annotate

ONE = AnnotateSettings(workers=1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_answers_are_those_of_the_samples(dtype, tmp_path):
    bundle = brightness_bundle(tmp_path / "b.bundle", dtype=dtype).path
    write_raw_survey(tmp_path / "s.zarr", 300, 10, dtype)
    result = annotate(tmp_path / "s.zarr", tmp_path / "c", bundle, ONE)
    assert result.statuses == {"ok": 300}
    assert json.loads((tmp_path / "c/run/run.json").read_text())["placement"]["decoder"] == "raw"
    for row in read_table(tmp_path / "c").to_pylist():
        expected = raw_image(row["input_row"], 10, dtype).astype(np.float64).mean()
        expected /= BRIGHTEST[dtype]
        assert row["p_spiral"] == pytest.approx(expected, rel=1e-5)
    annotate(tmp_path / "s.zarr", tmp_path / "two" / "c", bundle, AnnotateSettings(workers=2))
    assert tree(tmp_path / "two" / "c") == tree(tmp_path / "c")


def test_sizes_may_differ_and_nan_costs_its_own_row(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.random((12, 12, 3), dtype=np.float32) for _ in range(60)]
    images[7] = rng.random((30, 9, 3), dtype=np.float32)  # too small for the crop
    images[8] = rng.random((31, 20, 3), dtype=np.float32)  # cropped
    images[9][3, 4, 1] = np.nan
    images[10][:] = 0.25
    ra, dec = scattered(60)
    write_survey(
        tmp_path / "s.zarr",
        SurveyTable(np.arange(60), ra, dec, {}),
        lambda chunks: ([images[i] for i in chunk] for chunk in chunks),
        SurveyInfo(name="s", encoding="raw", dtype="float32", crop=12),
    )
    bundle = brightness_bundle(tmp_path / "b.bundle", dtype="float32").path
    settings = AnnotateSettings(workers=1, max_bad=1.0)
    annotate(tmp_path / "s.zarr", tmp_path / "c", bundle, settings)
    rows = {row["input_row"]: row for row in read_table(tmp_path / "c").to_pylist()}
    status = {i: row["status"] for i, row in rows.items() if row["status"] != "ok"}
    assert status == {7: "too_small", 9: "bad_pixels", 10: "blank"}
    assert all(rows[i]["p_spiral"] is None and rows[i]["reason"] for i in status)
    for i in set(rows) - set(status):
        pixels = images[i][9:21, 4:16] if i == 8 else images[i]
        assert rows[i]["p_spiral"] == pytest.approx(pixels.mean() / BRIGHTEST["float32"], rel=1e-5)


def test_an_answer_that_is_no_probability_is_none(tmp_path):
    """Infinite, below 0 and above 1: each costs its own row."""
    means = np.array([0.5, 1.2, -0.1, 0.99, 0.01, 0.0])[:, None, None, None]
    swing = np.array([-1.0, 0.0, 1.0])  # sums to nothing, and keeps images from being blank
    images = ((means + np.tile(swing, (6, 4, 4, 1))) * BRIGHTEST["float32"]).astype(np.float32)
    images[5, 1:] = 3e38  # their sum is infinite
    ra, dec = scattered(6)
    write_survey(
        tmp_path / "s.zarr",
        SurveyTable(np.arange(6), ra, dec, {}),
        lambda chunks: (images[chunk] for chunk in chunks),
        SurveyInfo(name="s", encoding="raw", dtype="float32"),
    )
    bundle = brightness_bundle(tmp_path / "b.bundle", dtype="float32").path
    settings = AnnotateSettings(workers=1, max_bad=1.0)
    annotate(tmp_path / "s.zarr", tmp_path / "c", bundle, settings)
    rows = {row["input_row"]: row for row in read_table(tmp_path / "c").to_pylist()}
    for i, expected in {0: 0.5, 3: 0.99, 4: 0.01}.items():
        assert rows[i]["status"] == "ok"
        assert rows[i]["p_spiral"] == pytest.approx(expected, abs=1e-5)
    for i, said in {1: "1.2", 2: "-0.1", 5: "inf"}.items():
        assert rows[i]["status"] == "no_answer"
        assert rows[i]["p_spiral"] is None
        assert said in rows[i]["reason"]


def test_what_the_bundle_does_not_take_is_refused_before_any_work(brightness, tmp_path):
    write_raw_survey(tmp_path / "s.zarr", 50, 30, "uint16")
    with pytest.raises(InputError, match=r"uint16 of 3 channels, the bundle takes uint8 of 3"):
        annotate(tmp_path / "s.zarr", tmp_path / "c", brightness.path, ONE)
    bundle = brightness_bundle(tmp_path / "b.bundle", dtype="uint16").path
    with pytest.raises(InputError, match=r"'dali' has nothing to decode.*raw pixels"):
        annotate(
            tmp_path / "s.zarr", tmp_path / "c", bundle, AnnotateSettings(decoder="dali", workers=1)
        )
    write_small_survey(tmp_path / "jpeg.zarr", 20)
    with pytest.raises(InputError, match=r"uint8 of 3 channels, the bundle takes uint16 of 3"):
        annotate(tmp_path / "jpeg.zarr", tmp_path / "c", bundle, ONE)
    assert not (tmp_path / "c").exists()
