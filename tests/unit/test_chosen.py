"""Cutouts of chosen rows, of encoded and of raw surveys, in the rows' order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from surveys import raw_image, small_image, write_raw_survey, write_small_survey

from catalogs.cutouts.chosen import read_cutouts, read_usable
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from export.parity.views import of_survey


def test_raw_cutouts_keep_their_data_type(tmp_path: Path) -> None:
    write_raw_survey(tmp_path / "raw.zarr", 60, 8, "uint16")
    survey = Survey.open(tmp_path / "raw.zarr")
    rows = np.asarray([0, 7, 8, 59])
    found = read_cutouts(survey, rows, 8)
    expected = [raw_image(int(i), 8, "uint16") for i in survey.column("input_row")[rows]]
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, expected)


def test_a_damaged_image_is_left_out_and_the_others_keep_their_rows(tmp_path: Path) -> None:
    write_small_survey(tmp_path / "small.zarr", 40, damaged={5: b"no image"})
    survey = Survey.open(tmp_path / "small.zarr")
    wanted = np.arange(0, 40)
    found, kept = read_usable(survey, wanted, 32)
    inputs = survey.column("input_row")[kept].tolist()
    assert sorted(inputs) == [i for i in range(40) if i != 5]
    np.testing.assert_array_equal(found, [small_image(i) for i in inputs])
    galaxies = of_survey(tmp_path / "small.zarr", 24, 10)
    assert galaxies.cutouts.shape == (10, 24, 24, 3)
    assert np.all(np.isin(galaxies.ra, survey.column("ra")))
    with pytest.raises(InputError, match="no cutout that can be used"):
        of_survey(tmp_path / "small.zarr", 24, 10, survey.column("input_row") == 5)
