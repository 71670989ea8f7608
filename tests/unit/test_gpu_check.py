"""The comparison that a person with a card runs, as far as a processor takes it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from surveys import brightness_bundle, write_small_survey

from engine.machine import cards
from engine.run import AnnotateSettings, annotate

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(bool(cards()), reason="there is a card")
def test_without_a_card_one_line_says_so():
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("gpu-check: provider 'cuda'")
    assert result.stderr.count("\n") == 1


def test_catalogs_are_compared_object_by_object(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.gpu_check import compare, rates

    survey, model = tmp_path / "s.zarr", brightness_bundle(tmp_path / "b.bundle")
    write_small_survey(survey, rows=200, damaged={7: b"no image"})
    once = annotate(survey, tmp_path / "one", model.path, AnnotateSettings(workers=1))
    shutil.copytree(tmp_path / "one", tmp_path / "same")
    same = compare(tmp_path / "one", tmp_path / "same")
    assert (same.rows, same.labels_equal, same.largest_difference) == (200, 1.0, 0.0)
    assert same.agree
    assert any(line.split()[0] == "decode" for line in rates(once))

    smaller = AnnotateSettings(workers=1, crop=20)
    annotate(survey, tmp_path / "other", model.path, smaller)
    other = compare(tmp_path / "one", tmp_path / "other")
    assert 0 < other.largest_difference < 0.1
    assert other.statuses_equal
