"""Nights added to a store: only what is new is written, and a killed append leaves no trace."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from stores import contents
from surveys import raw_image, scattered

from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, append_survey, write_survey
from catalogs.errors import BusyError, InputError

ROOT = Path(__file__).resolve().parent.parent.parent


def night_table(first: int, rows: int, ids: str = "int64") -> SurveyTable:
    ra, dec = scattered(rows, seed=first)
    numbers = np.arange(first, first + rows)
    return SurveyTable(
        ids=np.asarray([f"J{i}" for i in numbers], dtype=object) if ids == "text" else numbers,
        ra=ra,
        dec=dec,
        columns={
            "mag": np.linspace(14, 18, rows),
            "count": np.arange(rows),
            "kind": np.asarray(["a", None] * (rows // 2), dtype=object),
        },
    )


def text_images(chunks):
    return ([b"image %d" % row for row in chunk.tolist()] for chunk in chunks)


def tree(store: Path) -> dict[str, str]:
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def store(tmp_path) -> Path:
    where = tmp_path / "s.zarr"
    write_survey(where, night_table(0, 1200), text_images, SurveyInfo(name="s", night="2026-11-20"))
    return where


def test_a_night_is_added_and_what_was_there_is_not_touched(store):
    before, first = tree(store), contents(Survey.open(store))
    assert append_survey(store, night_table(5000, 300), text_images, "2026-11-21") == "00001"
    after, survey = tree(store), Survey.open(store)
    assert {name for name in before if after[name] != before[name]} == {"zarr.json"}
    assert survey.rows == 1500
    assert [survey.night(a.name) for a in survey.attributes.appends] == ["2026-11-20", "2026-11-21"]
    now = contents(survey)
    assert {k: v for k, v in now.items() if k.startswith("00000 ")} == {
        k: v for k, v in first.items() if k.startswith("00000 ")
    }
    assert now["uuid"] == first["uuid"]
    np.testing.assert_array_equal(np.sort(survey.column("id", "00001")), np.arange(5000, 5300))
    np.testing.assert_array_equal(
        survey.column("mag", "00001"),
        np.linspace(14, 18, 300)[survey.column("input_row", "00001")],
    )


def test_pixels_of_all_nights_are_one_tiling_of_the_sky(store):
    for night in range(1, 4):
        append_survey(store, night_table(10_000 * night, 700), text_images)
    survey = Survey.open(store)
    pixels = {partition.pixel for partition in survey.partitions}
    assert len(pixels) < len(survey.partitions)  # nights share pixels
    for pixel in pixels:
        for other in pixels - {pixel}:
            shift = 2 * (other.order - pixel.order)
            assert shift < 0 or other.number >> shift != pixel.number
    for partition in survey.partitions:
        inside = survey.read_rows(partition).healpix_29 >> (2 * (29 - partition.pixel.order))
        assert set(inside.tolist()) == {partition.pixel.number}


def test_the_same_night_again_is_nothing_to_do(store):
    night = night_table(5000, 300)
    assert append_survey(store, night, text_images, "tonight") == "00001"
    append_survey(store, night_table(9000, 500), text_images, "later")
    before = tree(store)
    assert append_survey(store, night, text_images, "tonight") is None
    assert append_survey(store, night_table(0, 1200), text_images) is None
    assert tree(store) == before


def test_objects_and_names_occur_once(store):
    append_survey(store, night_table(5000, 300), text_images, "tonight")
    before = tree(store)

    def other_images(chunks):
        return ([b"other"] * len(chunk) for chunk in chunks)

    for table, images, night, message in [
        (night_table(5299, 20), text_images, "next", "1 objects .such as 5299. .* already"),
        (night_table(5000, 300), other_images, "next", "with other images or values"),
        (night_table(9000, 20), text_images, "tonight", "has a night 'tonight' already"),
        (night_table(9000, 0), text_images, "next", "no rows"),
    ]:
        with pytest.raises(InputError, match=message):
            append_survey(store, table, images, night)
    assert tree(store) == before


def test_columns_must_be_those_of_the_store(store):
    night = night_table(5000, 20)
    without = {k: v for k, v in night.columns.items() if k != "mag"}
    text = np.asarray(["x"] * 20, dtype=object)
    for columns, message in [
        (without, "no column 'mag', which the store has"),
        (night.columns | {"extra": text}, "a column 'extra', which the store has not"),
        (night.columns | {"mag": text}, "'mag' is text here and float64 in the store"),
        (night.columns | {"kind": np.ones(20)}, "'kind' is float64 here and text in the store"),
        (night.columns | {"count": np.full(20, 0.5)}, "'count' is float64 here and int64"),
        (night.columns | {"count": np.full(20, np.nan)}, "'count' is float64 here and int64"),
    ]:
        with pytest.raises(InputError, match=message):
            append_survey(store, replace(night, columns=columns), text_images)
    with pytest.raises(InputError, match="identifiers are text here"):
        append_survey(store, night_table(5000, 20, "text"), text_images)


def test_numbers_that_the_stores_type_holds_are_taken(store):
    night = night_table(5000, 20)
    columns = {
        "mag": np.arange(20, dtype=np.int32),
        "count": np.arange(20, dtype=np.float32),
        "kind": np.full(20, np.nan),  # a column without any value, of which no type is known
    }
    append_survey(store, replace(night, columns=columns), text_images)
    survey = Survey.open(store)
    row = survey.column("input_row", "00001")
    assert survey.column("mag").dtype == np.float64
    np.testing.assert_array_equal(survey.column("mag", "00001"), row)
    assert survey.column("count").dtype == np.int64
    np.testing.assert_array_equal(survey.column("count", "00001"), row)
    assert survey.column("kind", "00001").tolist() == [None] * 20


def test_raw_images_must_be_of_the_stores_kind(tmp_path):
    where = tmp_path / "raw.zarr"

    def images_of(dtype, channels=3):
        def images(chunks):
            for chunk in chunks:
                yield [raw_image(row, 8, dtype)[..., :channels] for row in chunk.tolist()]

        return images

    info = SurveyInfo(name="raw", encoding="raw", dtype="uint16", channels=3)
    write_survey(where, night_table(0, 50), images_of("uint16"), info)
    for images in (images_of("uint8"), images_of("uint16", 2), text_images):
        with pytest.raises(InputError, match=r"the store holds (raw )?uint16"):
            append_survey(where, night_table(100, 20), images)
    assert not (where / "appends/00001").exists()
    append_survey(where, night_table(100, 20), images_of("uint16"))
    assert Survey.open(where).attributes.image_size == (8, 8)


@pytest.mark.parametrize("ids", ["int64", "text"])
def test_known_identifiers_are_found(tmp_path, ids):
    where = tmp_path / "s.zarr"
    write_survey(where, night_table(0, 900, ids), text_images, SurveyInfo(name="s"))
    append_survey(where, night_table(100_000, 40, ids), text_images)
    asked = night_table(890, 20, ids).ids
    asked = np.concatenate([asked, night_table(100_039, 2, ids).ids])
    expected = [True] * 10 + [False] * 10 + [True, False]
    assert Survey.open(where).known_ids(asked).tolist() == expected


def test_whole_numbers_fit_a_store_of_text_identifiers(tmp_path):
    where = tmp_path / "s.zarr"
    write_survey(where, night_table(0, 20, "text"), text_images, SurveyInfo(name="s"))
    append_survey(where, night_table(0, 20), text_images)
    assert Survey.open(where).known_ids(np.asarray([19, 20])).tolist() == [True, False]


def test_of_two_appends_at_once_the_second_is_busy(store):
    def images(chunks):
        with pytest.raises(BusyError):
            append_survey(store, night_table(9000, 20), text_images)
        yield from text_images(chunks)

    assert append_survey(store, night_table(5000, 20), images) == "00001"
    assert append_survey(store, night_table(9000, 20), text_images) == "00002"


def test_a_failed_append_leaves_nothing(store):
    before = tree(store)

    def images(chunks):
        yield [b"x"] * len(chunks[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        append_survey(store, night_table(5000, 300), images)
    assert {k: v for k, v in tree(store).items() if k != ".lock"} == before


KILLED = """
import os, signal, sys
sys.path[:0] = [{tests!r}, {unit!r}]
from pathlib import Path
import pyarrow as pa
from dataclasses import replace
from catalogs.cutouts import group, writer
from test_store_append import night_table, text_images

def die(*args, **keywords):
    os.kill(os.getpid(), signal.SIGKILL)

{patch} = die
quarantine = pa.table({{"name": ["x"]}})
table = replace(night_table(5000, 300), quarantine=quarantine)
writer.append_survey(Path(sys.argv[1]), table, text_images, "killed")
"""


@pytest.mark.parametrize(
    "patch",
    [
        "group._write_column",
        "group._write_groups",
        "group.sync_tree",
        "writer.layout.root_document",
    ],
)
def test_a_killed_append_leaves_the_store_as_it_was_and_the_next_one_replaces_it(store, patch):
    before = contents(Survey.open(store))
    code = KILLED.format(tests=str(ROOT / "tests"), unit=str(ROOT / "tests/unit"), patch=patch)
    killed = subprocess.run([sys.executable, "-c", code, store], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (store / "appends/00001").is_dir()
    assert contents(Survey.open(store)) == before
    assert append_survey(store, night_table(7000, 100), text_images, "next") == "00001"
    survey = Survey.open(store)
    assert survey.rows == 1300
    assert survey.quarantine("00001") is None
    assert not list(store.glob("quarantine/*"))
    files = {str(p.relative_to(store)) for p in (store / "appends/00001").rglob("*.json")}
    assert len(files) == 2 + 12 + 3


def test_a_quarantine_belongs_to_its_night(store):
    table = replace(night_table(5000, 20), quarantine=pa.table({"name": ["x", "y"]}))
    append_survey(store, table, text_images)
    survey = Survey.open(store)
    assert survey.quarantine("00000") is None
    assert survey.quarantine("00001").to_pydict() == {"name": ["x", "y"]}
    assert survey.attributes.appends[1].quarantined == 2
