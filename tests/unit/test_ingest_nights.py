"""Nights added to a survey: store and quarantine are the night's input, earlier ones untouched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3 import BUCKET, environment, objects, s3_server
from surveys import encode, scattered, small_image

from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Silent
from catalogs.schema import ClassMap
from catalogs.survey.ingest import IngestSettings, ingest

FIRST, SECOND = "2026-11-21", "2026-11-22"
ROWS = 40


class Sky:
    """A folder of nights: tables and images of the test's making, and the survey made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.survey = folder / "survey.zarr"
        self.events: list[dict[str, object]] = []

    def write(self, night: str, ids, kind: str = "parquet", **columns) -> None:
        images = self.folder / night / "images"
        images.mkdir(parents=True, exist_ok=True)
        for i, name in enumerate(ids):
            if name is not None:
                (images / f"{name}.png").write_bytes(encode(small_image(i)))
        ra, dec = scattered(len(ids), seed=len(list(self.folder.iterdir())))
        table = {"objid": ids, "ra": ra, "dec": dec, "mag": np.linspace(14, 18, len(ids))} | columns
        if kind == "csv":
            text = [",".join(table)]
            text += [",".join(map(str, row)) for row in zip(*table.values(), strict=True)]
            (self.folder / night / "table.csv").write_text("\n".join(text) + "\n")
        else:
            pq.write_table(pa.table(table), self.folder / night / "table.parquet")

    def ingest(self, night: str, name: str | None = None, **settings):
        table = next((self.folder / night).glob("table.*"))
        chosen = IngestSettings(night=name or night, **({"append": night != FIRST} | settings))
        events = self.events

        class Listener(Silent):
            def event(self, name: str, **fields: object) -> None:
                events.append({"name": name, **fields})

        images = str(self.folder / night / "images")
        return ingest(table, images, self.survey, chosen, Listener())

    def tree(self) -> dict[str, bytes]:
        files = (p for p in self.survey.rglob("*") if p.is_file() and p.name != ".lock")
        return {str(path.relative_to(self.survey)): path.read_bytes() for path in files}


@pytest.fixture
def sky(tmp_path) -> Sky:
    sky = Sky(tmp_path)
    sky.write(FIRST, range(ROWS))
    sky.ingest(FIRST, id_column="objid")
    return sky


def rows_of(survey: Survey, append: str) -> tuple[list[int], dict[int, str]]:
    """Rows stored by an append, and the reason of each one that was not."""
    quarantine = survey.quarantine(append)
    row, reason = (quarantine.column(c).to_pylist() for c in ("input_row", "quarantine_reason"))
    return sorted(survey.column("input_row", append).tolist()), dict(zip(row, reason, strict=True))


def test_a_night_is_added_and_touches_no_earlier_one(sky):
    before = sky.tree()
    ids = [*range(ROWS, 2 * ROWS), 3, None, ROWS + 5]
    sky.write(SECOND, ids)
    (sky.folder / SECOND / f"images/{ROWS + 1}.png").unlink()
    result = sky.ingest(SECOND, max_bad=0.2)
    reasons = {1: "no_image", ROWS: "already_stored", ROWS + 1: "no_id", ROWS + 2: "duplicate_id"}
    assert result.written
    assert (result.stored, result.quarantined) == (ROWS - 1, 4)
    assert result.reasons == dict.fromkeys(sorted(reasons.values()), 1)
    survey = Survey.open(sky.survey)
    assert [survey.night(a.name) for a in survey.attributes.appends] == [FIRST, SECOND]
    stored, quarantined = rows_of(survey, "00001")
    assert quarantined == reasons
    assert sorted([*stored, *quarantined]) == list(range(len(ids)))
    assert sorted(survey.column("id").tolist()) == sorted({*range(2 * ROWS)} - {ROWS + 1})
    after = sky.tree()
    assert {name for name in before if after[name] != before[name]} == {"zarr.json"}


def test_a_night_without_objects_is_nothing_to_do(sky):
    """A cloudy night must not end an unattended script."""
    before = sky.tree()
    sky.write(SECOND, [], kind="csv")
    result = sky.ingest(SECOND)
    assert (result.stored, result.quarantined, result.written) == (0, 0, False)
    assert sky.tree() == before


def test_the_same_night_again_is_nothing_to_do(sky):
    sky.write(SECOND, [*range(ROWS, 2 * ROWS), 3])
    first = sky.ingest(SECOND, max_bad=0.2)
    before = sky.tree()
    again = sky.ingest(SECOND, max_bad=0.2)
    assert not again.written
    assert (again.stored, again.reasons) == (first.stored, first.reasons)
    assert sky.tree() == before
    table = next((sky.folder / SECOND).glob("table.*"))
    settings = IngestSettings(append=True)
    unnamed = ingest(table, str(sky.folder / SECOND / "images"), sky.survey, settings)
    assert not unnamed.written
    assert sky.tree() == before


def test_a_night_of_the_same_name_with_other_objects_is_refused(sky):
    sky.write("other", range(ROWS, 2 * ROWS))
    before = sky.tree()
    with pytest.raises(InputError, match=f"night '{FIRST}'"):
        sky.ingest("other", name=FIRST)
    sky.write("less", range(ROWS - 1))
    with pytest.raises(InputError, match=f"'{FIRST}'"):
        sky.ingest("less", name=FIRST)
    assert sky.tree() == before


def test_objects_that_were_observed_before_are_no_fault_of_a_night(sky):
    """The first one stays; a night of nothing else brings nothing."""
    before = sky.tree()
    result = sky.ingest(FIRST, name=SECOND, append=True)
    assert (result.written, result.reasons) == (False, {"already_stored": ROWS})
    assert sky.tree() == before
    sky.write(SECOND, range(ROWS // 2, ROWS // 2 + ROWS))
    result = sky.ingest(SECOND)
    assert (result.stored, result.reasons) == (ROWS // 2, {"already_stored": ROWS // 2})
    sky.write("third", [*range(ROWS), None, None, None])
    with pytest.raises(InputError, match=f"none of the {ROWS + 3} rows .*3 no_id"):
        sky.ingest("third")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"z": [0.1] * ROWS}, "no column 'mag'"),
        ({"mag": ["bright"] * ROWS}, "column 'mag' is text here and float64 in the store"),
        ({"mag": [None] * (ROWS - 1) + ["x"]}, "column 'mag' is text"),
        ({"mag": [[1.0]] * ROWS}, "no column 'mag'"),
    ],
)
def test_columns_of_another_kind_are_refused_in_one_line(sky, columns, message):
    sky.write(SECOND, range(ROWS, 2 * ROWS), **columns)
    if "mag" not in columns:
        path = sky.folder / SECOND / "table.parquet"
        pq.write_table(pq.read_table(path).drop_columns("mag"), path)
    before = sky.tree()
    with pytest.raises(InputError, match=message) as caught:
        sky.ingest(SECOND)
    assert "\n" not in str(caught.value)
    assert sky.tree() == before


def test_values_that_fit_are_taken_whatever_their_type(sky):
    sky.write(SECOND, range(ROWS, 2 * ROWS), mag=np.arange(ROWS), extra=["x"] * ROWS)
    sky.ingest(SECOND)
    sky.write("third", range(2 * ROWS, 3 * ROWS), mag=pa.nulls(ROWS))
    sky.ingest("third")
    survey = Survey.open(sky.survey)
    assert sorted(survey.column("mag", "00001").tolist()) == list(range(ROWS))
    assert np.isnan(survey.column("mag", "00002")).all()
    left_out = [e for e in sky.events if e["name"] == "column left out"]
    assert [(e["column"], e["reason"]) for e in left_out] == [
        ("extra", "the survey has no such column")
    ]


def test_text_that_looks_like_numbers_one_night_stays_text(tmp_path):
    sky = Sky(tmp_path)
    sky.write(FIRST, ["a1", "a2"], "csv", field=["x1", "x2"])
    sky.ingest(FIRST, id_column="objid")
    sky.write(SECOND, ["007", "008"], "csv", field=["1.10", "0100"])
    sky.ingest(SECOND)
    survey = Survey.open(sky.survey)
    assert sorted(survey.column("id", "00001")) == ["007", "008"]
    assert sorted(survey.column("field", "00001")) == ["0100", "1.10"]


def test_text_identifiers_in_a_survey_of_integers_are_refused(sky):
    sky.write(SECOND, ["x1", "x2"])
    with pytest.raises(InputError, match=r"'x1', the identifiers of .* are integers"):
        sky.ingest(SECOND)


def test_labels_and_columns_are_those_of_the_first_night(tmp_path):
    sky = Sky(tmp_path)
    kinds = ["cw", "ell"] * (ROWS // 2)
    ra, dec = scattered(ROWS, seed=5)
    sky.write(FIRST, range(ROWS), shape=kinds, alpha=ra, delta=dec)
    classes = ClassMap.parse("spiral=cw|ccw,elliptical=ell")
    sky.ingest(FIRST, id_column="objid", ra="alpha", dec="delta", classes=classes)
    sky.write(SECOND, [100, 101, 102], shape=["ccw", None, "ccw"], alpha=ra[:3], delta=dec[:3])
    sky.ingest(SECOND)
    survey = Survey.open(sky.survey)
    labels = survey.column("label", "00001")[np.argsort(survey.column("id", "00001"))]
    assert labels.tolist() == ["spiral", None, "spiral"]
    np.testing.assert_array_equal(np.sort(survey.column("ra", "00001")), np.sort(ra[:3]))
    with pytest.raises(InputError, match=r"--classes .* leave it out"):
        sky.ingest(SECOND, name="x", classes=ClassMap.parse("spiral=cw,elliptical=ell"))
    with pytest.raises(InputError, match=r"--crop 12 .*none.*leave it out"):
        sky.ingest(SECOND, name="x", crop=12)


def test_labels_of_numbers_in_csv_are_made_alike_every_night(tmp_path):
    sky = Sky(tmp_path)
    sky.write(FIRST, [1, 2, 3], "csv", shape=[1, 0, 2])
    sky.ingest(FIRST, id_column="objid", classes=ClassMap.parse("spiral=1,elliptical=0"))
    sky.write(SECOND, [4, 5], "csv", shape=[1, 2])
    sky.ingest(SECOND)
    survey = Survey.open(sky.survey)
    labels = dict(zip(survey.column("id"), survey.column("label"), strict=True))
    assert labels == {1: "spiral", 2: "elliptical", 3: None, 4: "spiral", 5: None}
    assert survey.column("shape").dtype == np.int64


def test_images_of_another_kind_are_refused(sky):
    np.save(sky.folder / "all.npy", np.zeros((ROWS, 8, 8, 3), np.uint8))
    sky.write(SECOND, range(ROWS, 2 * ROWS))
    settings = IngestSettings(append=True, night=SECOND)
    table = sky.folder / SECOND / "table.parquet"
    with pytest.raises(InputError, match=r"are uint8 with 3 channels, those of .* JPEG or PNG"):
        ingest(table, str(sky.folder / "all.npy"), sky.survey, settings)


def test_there_must_be_a_survey_to_add_to(tmp_path):
    sky = Sky(tmp_path)
    sky.write(SECOND, range(ROWS))
    with pytest.raises(InputError, match="not a survey store"):
        sky.ingest(SECOND)


def test_a_survey_in_a_bucket_is_the_one_on_a_disk(sky, monkeypatch):
    sky.write(SECOND, [*range(ROWS, 2 * ROWS), 3])
    sky.ingest(SECOND, max_bad=0.2)
    on_disk = sky.tree()
    with s3_server() as endpoint:
        for name, value in environment(endpoint, lease=3).items():
            monkeypatch.setenv(name, value)
        sky.survey = f"s3://{BUCKET}/deep/survey.zarr"
        sky.ingest(FIRST, id_column="objid")
        with pytest.raises(InputError, match="exists already"):
            sky.ingest(FIRST, id_column="objid")
        assert sky.ingest(SECOND, max_bad=0.2).written
        assert not sky.ingest(SECOND, max_bad=0.2).written
        in_bucket = objects(endpoint, "deep/survey.zarr")
        assert Survey.open(sky.survey).rows == 2 * ROWS
    del on_disk["zarr.json"], in_bucket["zarr.json"]  # they say when they were written
    del in_bucket[".lock"]
    assert in_bucket == on_disk
