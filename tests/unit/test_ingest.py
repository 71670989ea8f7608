"""Ingest: every row of the table is stored or quarantined, whatever the table looks like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from surveys import encode, scattered, small_image

from catalogs.cutouts.store import Survey
from catalogs.errors import InputError, TooManyBadError
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
