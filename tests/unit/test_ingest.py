"""Ingest: every row of the table is stored or quarantined, whatever the table looks like."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from surveys import encode, scattered, small_image

from catalogs.cutouts.columns import is_too_wide
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError, SkytallyError, TooManyBadError
from catalogs.progress import Silent
from catalogs.schema import ClassMap
from catalogs.survey.ingest import IngestSettings, ingest

ROWS = 60


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for row in range(ROWS):
        (images / f"{1000 + row}.png").write_bytes(encode(small_image(row)))
    return tmp_path


def write_csv(to: Path, ids, ra, dec, **columns) -> None:
    names = ["objid", "ra", "dec", *columns]
    lines = [",".join(names)]
    rows = zip(ids, ra, dec, *columns.values(), strict=True)
    lines += [",".join(str(value) for value in row) for row in rows]
    to.write_text("\n".join(lines) + "\n")


def run(folder: Path, **settings):
    chosen = IngestSettings(**({"id_column": "objid", "max_bad": 1.0} | settings))
    table = next(p for p in folder.iterdir() if p.name.startswith("table"))
    return ingest(table, str(folder / "images"), folder / "survey.zarr", chosen)


def test_bad_rows_are_quarantined_each_with_its_reason(folder):
    ra, dec = scattered(ROWS)
    ids = list(range(1000, 1000 + ROWS))
    ra_text, dec_text = [f"{v!r}" for v in ra.tolist()], [f"{v!r}" for v in dec.tolist()]
    ra_text[3] = ""
    ra_text[4] = "nan"
    dec_text[5] = "95.0"
    ids[6] = 999  # no such image
    ids[8] = ids[7]
    (folder / "images" / "1009.png").write_bytes(b"")  # stored; found when it is decoded
    write_csv(folder / "table.csv", ids, ra_text, dec_text)
    result = run(folder)
    assert result.stored + result.quarantined == ROWS
    assert result.reasons == {
        "no_position": 2,
        "impossible_position": 1,
        "no_image": 1,
        "duplicate_id": 1,
    }
    assert result.unused_images == 2
    store = Survey.open(folder / "survey.zarr")
    quarantine = pq.read_table(folder / "survey.zarr/quarantine/00000.parquet")
    assert quarantine.column("input_row").to_pylist() == [3, 4, 5, 6, 8]
    assert quarantine.column("objid").to_pylist() == [ids[i] for i in (3, 4, 5, 6, 8)]
    rows = [*store.column("input_row"), *quarantine.column("input_row").to_pylist()]
    assert sorted(rows) == list(range(ROWS))


def test_too_many_bad_rows_stop_before_anything_is_written(folder):
    ra, dec = scattered(ROWS)
    dec[:10] = 100
    write_csv(folder / "table.csv", range(1000, 1000 + ROWS), ra, dec)
    with pytest.raises(TooManyBadError, match=r"10 of 60 rows .*10 impossible_position.*0\.167"):
        run(folder, max_bad=0.05)
    assert not (folder / "survey.zarr").exists()


def test_text_identifiers_and_sexagesimal_positions(folder):
    """Oracle: astropy writes the sexagesimal text."""
    ra, dec = scattered(ROWS)
    where = SkyCoord(ra * u.deg, dec * u.deg)
    names = [f"SDSS J{i}" for i in range(ROWS)]
    for row, name in enumerate(names):
        (folder / "images" / f"{1000 + row}.png").rename(folder / "images" / f"{name}.png")
    write_csv(
        folder / "table.csv",
        names,
        where.ra.to_string(u.hour, sep=":", precision=6),
        where.dec.to_string(u.deg, sep=":", precision=5, alwayssign=True),
    )
    assert run(folder).stored == ROWS
    store = Survey.open(folder / "survey.zarr")
    row = store.column("input_row")
    assert store.column("id").tolist() == [names[i] for i in row]
    np.testing.assert_allclose(store.column("ra"), ra[row], atol=1e-7)
    np.testing.assert_allclose(store.column("dec"), dec[row], atol=1e-7)


def test_classes_become_a_label(folder):
    ra, dec = scattered(ROWS)
    kinds = [("cw", "edge", "ell", "merger")[i % 4] for i in range(ROWS)]
    write_csv(folder / "table.csv", range(1000, 1000 + ROWS), ra, dec, kind=kinds)
    run(folder, classes=ClassMap.parse("spiral=cw|edge,elliptical=ell"))
    store = Survey.open(folder / "survey.zarr")
    expected = {"cw": "spiral", "edge": "spiral", "ell": "elliptical", "merger": None}
    assert store.column("label").tolist() == [expected[k] for k in store.column("kind")]


def test_large_identifiers_and_column_types_survive_parquet_and_fits(folder):
    ra, dec = scattered(ROWS)
    ids = 587722981742215240 + np.arange(ROWS)
    for row in range(ROWS):
        (folder / "images" / f"{1000 + row}.png").rename(folder / "images" / f"{ids[row]}.png")
    columns = {
        "objid": ids,
        "ra": ra,
        "dec": dec,
        "flag": np.arange(ROWS) % 2 == 0,
        "mag": np.linspace(10, 20, ROWS).astype(np.float32),
        "n": np.arange(ROWS, dtype=np.int16),
    }
    pq.write_table(pa.table(columns), folder / "table.parquet")
    Table(columns).write(folder / "other.fits")
    settings = IngestSettings(id_column="objid")
    for table, to in (("table.parquet", "a.zarr"), ("other.fits", "b.zarr")):
        ingest(folder / table, str(folder / "images"), folder / to, settings)
        store = Survey.open(folder / to)
        row = store.column("input_row")
        for name, values in (columns | {"id": ids}).items():
            if name == "objid":
                continue
            np.testing.assert_array_equal(store.column(name), values[row], err_msg=name)


def test_images_named_by_a_column(folder):
    ra, dec = scattered(ROWS)
    paths = [f"images/{1000 + i}.png" for i in range(ROWS)]
    write_csv(folder / "table.csv", range(ROWS), ra, dec, path=paths)
    result = ingest(
        folder / "table.csv", "path", folder / "survey.zarr", IngestSettings(id_column="objid")
    )
    assert result.stored == ROWS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id_column": "name"}, "no column 'name'"),
        ({"ra": "alpha"}, "alpha"),
        ({"classes": ClassMap.parse("spiral=S,elliptical=E")}, "no column has these values"),
        (
            {"classes": ClassMap.parse("spiral=cw,elliptical=zzz"), "class_column": "kind"},
            "no row of column 'kind' is zzz",
        ),
        ({"class_column": "nope", "classes": ClassMap.parse("a=cw")}, "no column 'nope'"),
    ],
)
def test_unusable_settings_are_named(folder, change, message):
    ra, dec = scattered(ROWS)
    write_csv(folder / "table.csv", range(1000, 1000 + ROWS), ra, dec, kind=["cw"] * ROWS)
    with pytest.raises(InputError, match=message):
        run(folder, **change)
    assert not (folder / "survey.zarr").exists()


@pytest.mark.parametrize("text", ["spiral", "spiral=", "=a", "a=x,b=x", "a=x,a=y", ""])
def test_class_maps_of_another_form_are_refused(text):
    with pytest.raises(InputError, match="classes"):
        ClassMap.parse(text)


FEW = 8


def ingest_columns(folder: Path, ids, kind: str = "parquet", images: str | None = None, **columns):
    """Ingest a table of a few rows; return the store and the quarantine, which make the table."""
    n = len(ids)
    ra, dec = scattered(n)
    table = folder / f"table.{kind}"
    if kind == "csv":
        write_csv(table, ids, columns.pop("ra", ra), columns.pop("dec", dec), **columns)
    else:
        pq.write_table(pa.table({"objid": ids, "ra": ra, "dec": dec} | columns), table)
    settings = IngestSettings("objid", max_bad=0.9)
    result = ingest(table, images or str(folder / "images"), folder / "survey.zarr", settings)
    store = Survey.open(folder / "survey.zarr")
    quarantine = pq.read_table(folder / "survey.zarr/quarantine/00000.parquet")
    rows = [*store.column("input_row"), *quarantine.column("input_row").to_pylist()]
    assert sorted(rows) == list(range(n))
    assert (result.stored, result.quarantined) == (store.rows, quarantine.num_rows)
    return store, quarantine, result


def in_table_order(store: Survey, name: str) -> list:
    values = store.column(name).tolist()
    return [values[i] for i in np.argsort(store.column("input_row"))]


def reasons_of(quarantine: pa.Table) -> dict[int, str]:
    return dict(
        zip(
            quarantine.column("input_row").to_pylist(),
            quarantine.column("quarantine_reason").to_pylist(),
            strict=True,
        )
    )


def test_64_bit_integers_keep_every_digit(folder):
    large = 587722981742215241  # float64 would make it ...240
    unsigned = 2**63 + 1
    store, _, _ = ingest_columns(
        folder,
        list(range(1000, 1003)),
        near=pa.array([large, None, -5], pa.int64()),
        small=pa.array([7, None, 2**53], pa.int64()),
        fits=pa.array([large, 1, 2], pa.uint64()),
        beyond=pa.array([unsigned, 1, None], pa.uint64()),
    )
    assert in_table_order(store, "near") == [str(large), None, "-5"]
    np.testing.assert_array_equal(in_table_order(store, "small"), [7, np.nan, 2**53])
    assert in_table_order(store, "fits") == [large, 1, 2]
    assert in_table_order(store, "beyond") == [str(unsigned), "1", None]


@pytest.mark.parametrize(
    ("kind", "values", "classes", "expected"),
    [
        ("csv", ["1", "0", "", "1"], "s=1,e=0", ["s", "e", None, "s"]),
        ("csv", ["true", "false", "", "true"], "s=true,e=false", ["s", "e", None, "s"]),
        ("csv", ["01", "02", "03", "1"], "s=01,e=02", ["s", "e", None, None]),
        ("parquet", [1, None, 2, 1], "s=1,e=2", ["s", None, "e", "s"]),
        ("parquet", [True, None, False, True], "s=true,e=false", ["s", None, "e", "s"]),
        ("parquet", ["None", None, "x", "x"], "s=None,e=x", ["s", None, "e", "e"]),
    ],
)
def test_classes_speak_of_the_values_of_the_table(folder, kind, values, classes, expected):
    ra, dec = scattered(4)
    table = folder / f"table.{kind}"
    if kind == "csv":
        write_csv(table, range(1000, 1004), ra, dec, kind=values)
    else:
        columns = {"objid": range(1000, 1004), "ra": ra, "dec": dec, "kind": pa.array(values)}
        pq.write_table(pa.table(columns), table)
    run(folder, classes=ClassMap.parse(classes), class_column="kind")
    assert in_table_order(Survey.open(folder / "survey.zarr"), "label") == expected


@pytest.mark.parametrize(
    ("kind", "ids", "stored"),
    [
        ("csv", ["000123", "124"], ["000123", "124"]),
        ("csv", ["1.10", "1.1"], ["1.10", "1.1"]),
        ("csv", ["9223372036854775808", "1"], ["9223372036854775808", "1"]),
        ("csv", ["9223372036854775807", "-1"], [2**63 - 1, -1]),
        ("parquet", np.asarray([2**63, 1], np.uint64), ["9223372036854775808", "1"]),
        ("parquet", pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        ("parquet", pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        ("parquet", pa.array(["a", "b"], pa.string_view()), ["a", "b"]),
    ],
)
def test_identifiers_stay_as_they_were_written(folder, kind, ids, stored):
    for name in stored:
        (folder / "images" / f"{name}.png").write_bytes(encode(small_image(0)))
    store, _, _ = ingest_columns(folder, ids, kind)
    assert in_table_order(store, "id") == stored


def test_every_kind_of_bad_image_is_quarantined(folder):
    images = folder / "images"
    (images / "1001.png").unlink()
    (images / "1001.png").symlink_to(folder / "nowhere.png")
    (images / "1002.png").unlink()
    (images / "1002.jpg").mkdir()
    (images / "1003.jpg").write_bytes(encode(small_image(3), "JPEG"))
    (images / "9999.jpg").write_bytes(b"x")
    (images / "9999.png").write_bytes(b"x")
    _, quarantine, result = ingest_columns(folder, list(range(1000, 1000 + FEW)))
    expected = {1: "no_image", 2: "unreadable_image", 3: "several_images"}
    assert reasons_of(quarantine) == expected
    assert result.unused_images == ROWS - FEW + 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_image_without_rights_is_quarantined(folder):
    (folder / "images/1001.png").chmod(0)
    _, quarantine, _ = ingest_columns(folder, [1000, 1001])
    assert reasons_of(quarantine) == {1: "unreadable_image"}


def test_a_good_row_is_kept_when_a_bad_row_has_its_identifier(folder):
    ra, dec = scattered(4)
    positions = ["", *(str(v) for v in ra[1:])]
    store, quarantine, _ = ingest_columns(
        folder, [1000, 1000, 1001, 1000], "csv", ra=positions, dec=dec
    )
    assert reasons_of(quarantine) == {0: "no_position", 3: "duplicate_id"}
    assert sorted(store.column("id").tolist()) == [1000, 1001]


def test_names_that_the_store_needs_are_prefixed(folder):
    n = 3
    own = {"input_row": [5, 6, 7], "quarantine_reason": ["a", "b", "c"], "id": [1, 2, 3]}
    store, quarantine, _ = ingest_columns(folder, [1000, 1001, 99], **own)
    assert store.rows == n - 1
    assert in_table_order(store, "table_input_row") == [5, 6]
    assert in_table_order(store, "table_quarantine_reason") == ["a", "b"]
    assert in_table_order(store, "table_id") == [1, 2]
    assert quarantine.column("table_input_row").to_pylist() == [7]
    assert quarantine.column("table_quarantine_reason").to_pylist() == ["c"]
    assert reasons_of(quarantine) == {2: "no_image"}


@pytest.mark.parametrize("name", ["zarr.json", "x" * 201, "ä" * 101, "S/N", ".hidden", "__x"])
def test_names_that_cannot_be_stored_are_refused_before_anything_is_written(folder, name):
    with pytest.raises(InputError, match="rename it"):
        ingest_columns(folder, [1000, 1001], **{name: [1, 2]})
    assert {path.name for path in folder.iterdir()} == {"images", "table.parquet"}


def test_a_list_column_names_no_images(folder):
    with pytest.raises(InputError, match="'paths' is a column of list"):
        ingest_columns(folder, [1000, 1001], images="paths", paths=[["a"], ["b"]])


def test_a_text_too_long_for_every_row_is_found_and_short_ones_stay():
    long = np.asarray([str(i) for i in range(4999)] + ["x" * 200_000], dtype=object)
    assert is_too_wide(long)
    assert not is_too_wide(long[:-1])
    assert not is_too_wide(long[-5:])
    assert not is_too_wide(np.asarray(["x" * 200_000] * 5000, dtype=object))  # one category


@pytest.mark.parametrize("place", ["file/s.zarr", "x" * 300])
def test_an_unusable_place_is_named_in_one_line(folder, place):
    (folder / "file").write_text("not a folder")
    ra, dec = scattered(2)
    write_csv(folder / "table.csv", [1000, 1001], ra, dec)
    with pytest.raises(InputError) as caught:
        ingest(
            folder / "table.csv",
            str(folder / "images"),
            folder / place,
            IngestSettings("objid", max_bad=0.5),
        )
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_told_and_leaves_nothing(folder):
    """A limit on the size of files stands for the full disk: the same OSError path."""
    ra, dec = scattered(2)
    write_csv(folder / "table.csv", [1000, 1001], ra, dec)
    noise = np.random.default_rng(1).integers(0, 256, (300, 300, 3)).astype(np.uint8)
    (folder / "images/1000.png").write_bytes(encode(noise))
    before = {path.name for path in folder.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(SkytallyError, match=r"survey\.zarr cannot be written: File too large"):
            run(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name for path in folder.iterdir()} == before


def test_columns_left_out_are_told_with_a_reason(folder, monkeypatch):
    for name, value in (("WIDEST_TEXT", 10), ("MOST_TEXT_BYTES", 100), ("MOST_CATEGORIES", 1)):
        monkeypatch.setattr(f"catalogs.cutouts.columns.{name}", value)
    ra, dec = scattered(2)
    columns = {"short": ["a", "b"], "long": ["x" * 200, "y"], "nested": [[1], [2]]}
    table = pa.table({"objid": [1000, 1001], "ra": ra, "dec": dec} | columns)
    pq.write_table(table, folder / "table.parquet")
    told = []

    class Listener(Silent):
        def event(self, name: str, **fields: object) -> None:
            told.append((name, fields.get("column"), fields.get("reason")))

    settings = IngestSettings("objid")
    ingest(
        folder / "table.parquet",
        str(folder / "images"),
        folder / "survey.zarr",
        settings,
        Listener(),
    )
    left_out = [(column, reason) for name, column, reason in told if name == "column left out"]
    assert [column for column, _ in left_out] == ["long", "nested"]
    assert "too long" in left_out[0][1]
    assert Survey.open(folder / "survey.zarr").column_names == ("short",)


def test_identifiers_may_be_whole_file_names(folder):
    ra, dec = scattered(ROWS)
    names = [f"{1000 + i}.png" for i in range(ROWS - 1)] + ["absent.png"]
    write_csv(folder / "table.csv", names, ra, dec)
    result = run(folder)
    assert (result.stored, result.reasons) == (ROWS - 1, {"no_image": 1})
    assert result.unused_images == 1
