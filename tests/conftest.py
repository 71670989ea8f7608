"""Fixtures that tests share: the real galaxies, a small survey, a network that costs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from surveys import brightness_bundle, write_small_survey

from export import bundle

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the real galaxies in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def brightness(tmp_path_factory: pytest.TempPathFactory) -> bundle.Bundle:
    return brightness_bundle(tmp_path_factory.mktemp("bundles") / "brightness.bundle")


@pytest.fixture(scope="session")
def small_survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("surveys") / "small.zarr"
    write_small_survey(path)
    return path
