"""Every file of a store, damaged in every way: found and named, never read as something else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from stores import contents, damaged
from surveys import encode, raw_image, scattered, small_image

from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, append_survey, write_survey
from catalogs.errors import InputError, IntegrityError


def table(first: int, rows: int, ids: str) -> SurveyTable:
    ra, dec = scattered(rows, seed=first)
    names = [f"J{i:05d}" for i in range(first, first + rows)]
    return SurveyTable(
        ids=np.asarray(names, dtype=object) if ids == "text" else np.arange(first, first + rows),
        ra=ra,
        dec=dec,
        columns={
            "mag": np.linspace(14, 18, rows),
            "kind": np.asarray(["a", None] * (rows // 2), dtype=object),
        },
        quarantine=pa.table({"name": ["x", "y"], "quarantine_reason": ["no_image"] * 2}),
    )


@pytest.fixture(scope="module", params=["encoded", "raw"])
def two_nights(request, tmp_path_factory) -> Path:
    """Two nights in one small store; some objects of the second lie in pixels of the first."""
    where = tmp_path_factory.mktemp("damage") / "s.zarr"
    raw = request.param == "raw"

    def images(chunks):
        for chunk in chunks:
            rows = chunk.tolist()
            if raw:
                yield [raw_image(row, 8 + row % 2, "uint16") for row in rows]
            else:
                yield [encode(small_image(row, 8)) for row in rows]

    info = SurveyInfo(
        name="s", encoding="raw" if raw else "encoded", dtype="uint16" if raw else "uint8"
    )
    ids = "text" if raw else "int64"
    write_survey(where, table(0, 600, ids), images, info)
    assert append_survey(where, table(600, 60, ids), images, "second") == "00001"
    return where


def changes(now: dict[str, object], before: dict[str, object]) -> list[str]:
    """Return what is silently different: everything but images and chunks named as damaged."""
    now = {name: value for name, value in now.items() if not name.startswith("damaged ")}
    if now.keys() != before.keys():
        return [f"other objects: {sorted(now.keys() ^ before.keys())[:3]}"]
    found = []
    for name, value in before.items():
        same = now[name] == value
        if isinstance(value, tuple) and isinstance(now[name], tuple):
            same = now[name][:-1] == value[:-1] and now[name][-1] in (None, value[-1])
        if not same:
            found.append(f"{name}: {now[name]!r} was {value!r}")
    return found


def test_damage_to_any_file_is_found_and_named(two_nights, tmp_path):
    copy = Path(shutil.copytree(two_nights, tmp_path / "copy.zarr"))
    before = contents(Survey.open(copy))
    assert len(before) == 2 + 660 + 2
    assert changes(contents(Survey.open(copy)), before) == []
    files = [path for path in sorted(copy.rglob("*")) if path.is_file() and path.name != ".lock"]
    assert len(files) == 2 + 2 * (2 + 2 * 14) + 2
    for number, path in enumerate(files):
        content = path.read_bytes()
        # Half of the ways, by turns: every kind of file is there many times.
        for how, bytes_now in list(damaged(content))[number % 2 :: 2]:
            if bytes_now is None:
                path.unlink()
            else:
                path.write_bytes(bytes_now)
            what = f"{path.relative_to(copy)}: {how}"
            try:
                now = contents(Survey.open(copy))
            except (InputError, IntegrityError):
                pass
            else:
                assert changes(now, before) == [], what
                assert now != before, f"{what}: not found"
            path.write_bytes(content)
    assert changes(contents(Survey.open(copy)), before) == []


def test_a_missing_shard_costs_its_images_only(two_nights, tmp_path):
    copy = Path(shutil.copytree(two_nights, tmp_path / "copy.zarr"))
    before = contents(Survey.open(copy))
    (copy / "appends/00001/blob/c/0").unlink()
    now = contents(Survey.open(copy))
    assert changes(now, before) == []
    lost = {name for name, value in now.items() if isinstance(value, tuple) and value[-1] is None}
    assert lost == {name for name in before if name.startswith("00001 ") and "quar" not in name}
