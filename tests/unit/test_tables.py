"""Reading anybody's table; oracles: the writers of pyarrow and astropy, and astropy's Angle."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import Angle
from astropy.io import fits
from astropy.io.votable import from_table, writeto
from astropy.table import MaskedColumn, Table

from catalogs.errors import InputError, IntegrityError
from catalogs.survey.table_formats import open_table
from catalogs.survey.tables import (
    column_names,
    iter_batches,
    positions,
    read_table,
    row_count,
    skipped_columns,
)

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
BIG = 587722981742215240  # an SDSS identifier: not exact as a float
assert int(float(BIG)) != BIG
TABLE_GZ = gzip.compress(  # without a time: names of tests are made from it
    b"ra,dec\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(9999)), mtime=0
)
ODD_VOTABLE = """<VOTABLE version="1.3"><RESOURCE><TABLE>
<FIELD name="id" datatype="long"/><FIELD name="z" datatype="doubleComplex"/>
<FIELD name="s" datatype="char" arraysize="*"/><FIELD name="l" datatype="int" arraysize="*"/>
<FIELD name="m" datatype="double" arraysize="2x2"/><FIELD name="v" datatype="float" arraysize="2"/>
<DATA><TABLEDATA><TR><TD>7</TD><TD>1 2</TD><TD>ab</TD><TD>1 2 3</TD><TD>1 2 3 4</TD>
<TD>1 2</TD></TR>
</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"""
REMOTE_VOTABLE = (
    b'<VOTABLE><RESOURCE><TABLE><DATA><BINARY><STREAM href="file:///etc/passwd"/>'
    b"</BINARY></DATA></TABLE></RESOURCE></VOTABLE>"
)


@pytest.fixture
def example() -> Table:
    """A table with everything that goes wrong: big integers, text, masks, NaN."""
    rng = np.random.default_rng(1)
    n = 700
    return Table(
        {
            "objid": BIG + np.arange(n, dtype=np.int64),
            "ra": rng.uniform(0, 360, n),
            "dec": rng.uniform(-90, 90, n).astype(np.float32),
            "class": np.where(rng.random(n) < 0.5, "spiral", "elliptical"),
            "count": MaskedColumn(rng.integers(0, 9, n).astype(np.int32), mask=np.arange(n) == 3),
            "flag": rng.random(n) < 0.5,
        }
    )


def written(example: Table, path: Path) -> Path:
    name = path.name
    if name.endswith(".csv"):
        example.write(path, format="ascii.csv")
    elif name.endswith(".csv.gz"):
        example.write(path.with_suffix(""), format="ascii.csv")
        path.write_bytes(gzip.compress(path.with_suffix("").read_bytes(), mtime=0))
    elif name.endswith(".parquet"):
        pq.write_table(arrow(example), path, row_group_size=100)
    elif name.endswith((".fits", ".fits.gz")):
        example.write(path, format="fits")
    else:
        form = "tabledata" if name.endswith(".xml") else "binary2"
        writeto(from_table(example), str(path), tabledata_format=form)
    return path


def arrow(example: Table) -> pa.Table:
    columns = {}
    for name in example.colnames:
        column = example[name]
        mask = np.asarray(column.mask) if isinstance(column, MaskedColumn) else None
        columns[name] = pa.array(np.asarray(column), mask=mask)
    return pa.table(columns)


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet", "fits", "fits.gz", "vot", "xml"])
def test_every_kind_gives_the_same_table(example: Table, tmp_path: Path, ending: str) -> None:
    path = written(example, tmp_path / f"table.{ending}")
    assert column_names(path) == example.colnames
    table = read_table(path)
    assert table.schema.field("objid").type == pa.int64()
    assert table["objid"].to_pylist() == [int(i) for i in example["objid"]]
    np.testing.assert_array_equal(table["ra"].to_numpy(), np.asarray(example["ra"]))
    np.testing.assert_allclose(table["dec"].to_numpy(), np.asarray(example["dec"]), rtol=1e-7)
    assert table["class"].to_pylist() == list(map(str, example["class"]))
    counts = [None if value is np.ma.masked else int(value) for value in example["count"]]
    assert table["count"].to_pylist() == counts
    flags = [str(value).lower() == "true" for value in table["flag"].to_pylist()]
    assert flags == [bool(value) for value in example["flag"]]


@pytest.mark.parametrize("ending", ["csv", "parquet", "fits", "vot"])
def test_batches_are_bounded_ordered_and_selected(
    example: Table, tmp_path: Path, ending: str
) -> None:
    path = written(example, tmp_path / f"table.{ending}")
    batches = list(iter_batches(path, ["class", "objid"], batch_rows=128))
    assert max(batch.num_rows for batch in batches) <= 128
    assert all(batch.schema.names == ["class", "objid"] for batch in batches)
    ids = [value for batch in batches for value in batch.column("objid").to_pylist()]
    assert ids == [int(i) for i in example["objid"]]


def test_folder_and_hats_catalog_order_pixels_by_number(tmp_path: Path) -> None:
    catalog = tmp_path / "sky"
    for pixel in (2, 10, 9):
        folder = catalog / "dataset" / "Norder=1" / "Dir=0"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"id": [pixel]}), folder / f"Npix={pixel}.parquet")
    pq.write_table(pa.table({"id": [-1]}), catalog / "dataset" / "data_thumbnail.parquet")
    with pytest.raises(InputError, match="not finished"):
        read_table(catalog)
    properties = catalog / "hats.properties"
    properties.write_text("obs_collection=sky\nhats_nrows=3\n")
    assert read_table(catalog)["id"].to_pylist() == [2, 9, 10]
    properties.write_text("hats_nrows=4\n")
    with pytest.raises(IntegrityError, match=r"holds 3 rows but .* says 4"):
        read_table(catalog)
    plain = tmp_path / "plain"
    plain.mkdir()
    pq.write_table(pa.table({"id": [2]}), plain / "b.parquet")
    pq.write_table(pa.table({"id": pa.array([1], pa.int32())}), plain / "a.parquet")
    assert read_table(plain)["id"].to_pylist() == [1, 2]


@pytest.mark.filterwarnings("ignore")  # lsdb's own use of pandas
def test_hats_writers_own_catalog_reads_back(tmp_path: Path) -> None:
    lsdb = pytest.importorskip("lsdb")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"id": [1, 2, 3], "ra": [10.0, 200.0, 300.0], "dec": [1.0, -2.0, 3.0]})
    built = lsdb.from_dataframe(frame, ra_column="ra", dec_column="dec", catalog_name="three")
    built.to_hats(tmp_path / "three", catalog_name="three")
    found = read_table(tmp_path / "three", ["id", "ra"]).to_pydict()
    assert dict(zip(found["id"], found["ra"], strict=True)) == {1: 10.0, 2: 200.0, 3: 300.0}


def test_csv_types_hold_every_value_exactly(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = [f"{BIG + i},{i},{'7' if i < 60000 else 'x'},," for i in range(120000)]
    path.write_bytes(
        b"\xef\xbb\xbfid, n ,late,empty,zip\n" + "\n".join([*lines, f"{2**63},1.5,y,,007"]).encode()
    )
    table = read_table(path)
    assert table.schema.names == ["id", "n", "late", "empty", "zip"]
    assert table.schema.field("id").type == pa.uint64()
    assert table.schema.field("n").type == pa.float64()
    assert table["id"][-1].as_py() == 2**63
    assert table["id"][0].as_py() == BIG
    assert table["late"][0].as_py() == "7"
    assert table["empty"].null_count == 120001
    assert table["zip"][-1].as_py() == "007"


def test_a_number_that_a_float_would_change_stays_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"id\n{BIG}\n1.5\n")
    assert read_table(path)["id"].to_pylist() == [str(BIG), "1.5"]


def test_csv_text_stays_as_written(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "id,name,hex,class,flux,only,blank\n"
        "1e5,1.10,0x10,NA,1.5,NA,\n1e6,1.1, 0x1f,null,nan,null, \n2e5,007,16,nan,NA,NA,\n"
        "3e5,x,17,S,2,NA,\n"
    )
    table = read_table(path, text_columns=["id", "name"])
    assert table["id"].to_pylist() == ["1e5", "1e6", "2e5", "3e5"]
    assert table["name"].to_pylist() == ["1.10", "1.1", "007", "x"]
    assert table["hex"].to_pylist() == ["0x10", " 0x1f", "16", "17"]
    assert table["class"].to_pylist() == ["NA", "null", "nan", "S"]
    assert table["only"].to_pylist() == ["NA", "null", "NA", "NA"]
    flux = table["flux"].to_pylist()
    assert (flux[0], np.isnan(flux[1]), flux[2:]) == (1.5, True, [None, 2.0])
    assert read_table(path)["id"].to_pylist() == [1e5, 1e6, 2e5, 3e5]
    with pytest.raises(InputError, match="no column 'ident'"):
        read_table(path, text_columns=["ident"])


@pytest.mark.parametrize("ending", ["csv", "parquet", "vot"])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    if ending == "csv":
        path.write_text("ra,class,class\n1,a,b\n")
    elif ending == "parquet":
        pq.write_table(pa.table([[1.0], ["a"], ["b"]], names=["ra", "class", "class"]), path)
    else:
        table = Table({"ra": [1.0], "class": ["a"], "other": ["b"]})
        writeto(from_table(table), str(path), tabledata_format="tabledata")
        path.write_text(path.read_text().replace('name="other"', 'name="class"'))
    for read in (column_names, read_table, lambda path: read_table(path, ["ra"])):
        with pytest.raises(InputError, match="column 'class' occurs twice"):
            read(path)


def test_fits_unsigned_nulls_vectors_and_padding(tmp_path: Path) -> None:
    path = tmp_path / "t.fits"
    columns = [
        fits.Column("u", "K", array=np.array([2**63 + 5, 7], np.uint64), bzero=2**63),
        fits.Column("i", "J", array=np.array([-99, 4]), null=-99),
        fits.Column("s", "6A", array=np.array(["ab", ""])),
        fits.Column("v", "3E", array=np.arange(6, dtype=np.float32).reshape(2, 3)),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(path)
    table = read_table(path)
    assert table["u"].to_pylist() == [2**63 + 5, 7]
    assert table["i"].to_pylist() == [None, 4]
    assert table["s"].to_pylist() == ["ab", None]
    assert table["v"].to_pylist() == [[0, 1, 2], [3, 4, 5]]


def test_odd_fits_headers_warn_of_nothing(tmp_path: Path) -> None:
    """Warnings are errors in these tests; astropy has one for each of these."""
    path, x = tmp_path / "t.fits", np.array([-999.0, 4.5])
    whole = fits.BinTableHDU.from_columns([fits.Column("x", "D", array=x)])
    for keyword, value in {"TDISP1": "Q99", "TDIM1": "(7,7)", "TNULL1": -999}.items():
        odd = whole.copy()
        odd.header[keyword] = value
        odd.writeto(path, overwrite=True, output_verify="ignore")
        first = None if keyword == "TNULL1" else -999.0
        assert read_table(path)["x"].to_pylist() == [first, 4.5]
    whole.writeto(path, overwrite=True)
    content = path.read_bytes()
    for card in (b"TFORM1  = 'K   unclosed", b"TFORM1  = 'ZZ'", b"TTYPE1  = 'x"):
        at = content.index(card[:8])
        path.write_bytes(content[:at] + card.ljust(80) + content[at + 80 :])
        with pytest.raises(InputError, match=r"t\.fits: cannot be read: ") as caught:
            read_table(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(content + b"junk")
    assert read_table(path)["x"].to_pylist() == [-999.0, 4.5]


def test_columns_that_are_not_read_are_named_and_left_out(tmp_path: Path) -> None:
    table = tmp_path / "t.fits"
    Table(
        {
            "id": [7, 8],
            "z": [1j, 2j],
            "words": [["a", "bc"], ["d", "e"]],
            "m": np.zeros((2, 2, 2)),
            "v": np.ones((2, 2), np.float32),
            "s": ["ab", "c"],
        }
    ).write(table)
    lists = fits.Column("l", "PJ()", array=np.array([[1], [2, 3]], dtype=object))
    with fits.open(table) as hdus:
        columns = fits.ColDefs([*hdus[1].columns, lists])
        fits.BinTableHDU.from_columns(columns).writeto(table, overwrite=True)
    assert skipped_columns(table) == ["z", "words", "m", "l"]
    assert read_table(table).to_pydict() == {"id": [7, 8], "v": [[1, 1]] * 2, "s": ["ab", "c"]}
    (tmp_path / "t.vot").write_text(ODD_VOTABLE)
    assert skipped_columns(tmp_path / "t.vot") == ["z", "l", "m"]
    assert read_table(tmp_path / "t.vot").to_pydict() == {"id": [7], "s": ["ab"], "v": [[1, 2]]}


def annotated(folder: Path) -> Path:
    """A catalog with a plan and receipts, as they lie on disk."""
    partitions = []
    for number in (9, 2):
        name = f"dataset/Norder=1/Dir=0/Npix={number}.parquet"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"id": [number, number]}), folder / name)
        content = (folder / name).read_bytes()
        receipt = {"file": name, "bytes": len(content), "parts": [{"rows": 2}]}
        receipt["sha256"] = hashlib.sha256(content).hexdigest()
        (folder / "run/receipts").mkdir(parents=True, exist_ok=True)
        (folder / f"run/receipts/1-{number}.00000.json").write_text(json.dumps(receipt))
        partitions.append(["00000", 1, number, 0, 2, "fingerprint"])
    (folder / "run/plan.json").write_text(json.dumps({"partitions": partitions}))
    (folder / "hats.properties").write_text("hats_nrows=4\n")
    return folder


def test_annotated_catalogs_are_the_files_of_their_receipts(tmp_path: Path) -> None:
    catalog = annotated(tmp_path / "sky")
    pq.write_table(pa.table({"id": [0]}), catalog / "dataset/Norder=1/Dir=0/Npix=3.parquet")
    assert read_table(catalog)["id"].to_pylist() == [9, 9, 2, 2]
    assert row_count(catalog) == 4
    alone = annotated(tmp_path / "alone")
    shutil.rmtree(alone / "run")
    assert open_table(catalog).digest() == open_table(alone).digest()


@pytest.mark.parametrize("damage", ["flip", "cut", "lost", "receipt", "plan", "escape", "garbage"])
def test_damaged_annotated_catalogs_are_refused(tmp_path: Path, damage: str) -> None:
    catalog = annotated(tmp_path / "sky")
    file = catalog / "dataset/Norder=1/Dir=0/Npix=2.parquet"
    receipt = catalog / "run/receipts/1-2.00000.json"
    named = receipt
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        named = file
    elif damage == "cut":
        file.write_bytes(content[:-1])
        named = file
    elif damage == "lost":
        file.unlink()
        named = file
    elif damage == "receipt":
        receipt.unlink()
    elif damage == "plan":
        named = catalog / "run/plan.json"
        named.unlink()
    elif damage == "escape":
        receipt.write_text(json.dumps({**json.loads(receipt.read_text()), "file": "../x.parquet"}))
    else:
        receipt.write_text("[1")
    with pytest.raises(IntegrityError, match=re.escape(str(named))) as caught:
        read_table(catalog)
    assert "\n" not in str(caught.value)


def test_survey_store_is_no_table(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    (store / "quarantine").mkdir(parents=True)
    (store / "zarr.json").write_text("{}")
    pq.write_table(pa.table({"ra": [1.0]}), store / "quarantine/00000.parquet")
    with pytest.raises(InputError, match=r"is a survey store.*annotate it first"):
        read_table(store)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "empty"),
        ("t.csv", b"ra,dec\n", "no rows"),
        ("t.csv", b"ra,dec\n1\n", "Expected 2 columns, got 1"),
        ("t.csv", b"ra,ra\n1,2\n", "occurs twice"),
        ("t.csv", b"ra;dec;spiral\n1;2;0\n", "delimiter looks like ';'"),
        ("t.tsv", b"ra,dec\n1,2\n", "delimiter looks like ','"),
        ("t.csv.gz", b"not gzip", "cannot be read"),
        ("t.csv.gz", b"", "truncated"),
        ("t.csv.gz", TABLE_GZ[:30], "truncated"),
        ("t.csv.gz", TABLE_GZ[: len(TABLE_GZ) // 2], "truncated"),
        ("t.csv.gz", TABLE_GZ[:-4], "truncated"),
        ("t.parquet", b"PAR1", "cannot be read"),
        ("t.fits", b"SIMPLE", "cannot be read"),
        ("t.vot", b"<a>", "cannot be read"),
        ("t.vot", b"<a/>", "cannot be read"),
        ("t.pickle", b"x", "unknown kind of table"),
        (
            "t.vot",
            REMOTE_VOTABLE,
            "only self-contained",
        ),
    ],
)
def test_unusable_files_give_one_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_files_and_columns_are_named(example: Table, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such table"):
        column_names(tmp_path / "absent.csv")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"holds no \.parquet"):
        column_names(tmp_path / "folder")
    path = written(example, tmp_path / "t.csv")
    with pytest.raises(InputError, match=r"no column 'Objidd'; did you mean 'objid'.* objid, ra"):
        read_table(path, ["Objidd"])
    image = tmp_path / "image.fits"
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(image)
    with pytest.raises(InputError, match="no table extension"):
        read_table(image)


def test_truncated_fits_is_refused(example: Table, tmp_path: Path) -> None:
    path = written(example, tmp_path / "t.fits")
    path.write_bytes(path.read_bytes()[:-8000])
    with pytest.raises(InputError, match="cannot be read"):
        read_table(path)


def test_sexagesimal_positions_agree_with_astropy() -> None:
    rng = np.random.default_rng(2)
    ra = Angle(rng.uniform(0, 360, 300), u.deg)
    dec = Angle(rng.uniform(-90, 90, 300), u.deg)
    for separator in (":", "fromunit", " "):
        table = pa.table(
            {
                "RAJ2000": list(ra.to_string(u.hour, sep=separator, precision=6)),
                "DEJ2000": list(dec.to_string(u.deg, sep=separator, precision=6, alwayssign=True)),
            }
        )
        got_ra, got_dec = positions(table, "RAJ2000", "DEJ2000")
        np.testing.assert_allclose(got_ra, ra.deg, atol=1e-8)
        np.testing.assert_allclose(got_dec, dec.deg, atol=1e-8)


def test_positions_of_numbers_nulls_and_nonsense() -> None:
    table = pa.table(
        {
            "ra": ["187.5", None, "12:61:00", "sky", " 12h ", "10d30m", "-0:30"],
            "dec": ["-00:30:00", "1:2:3", "5", "nan", "1h2m", "+41d16m09s", "1e1"],
            "number": pa.array([1, None, 3, 4, 5, 6, 7], pa.int32()),
        }
    )
    ra, dec = positions(table, "ra", "dec")
    np.testing.assert_allclose(ra, [187.5, np.nan, np.nan, np.nan, 180.0, 10.5, -7.5])
    np.testing.assert_allclose(
        dec, [-0.5, Angle("1d2m3s").deg, 5, np.nan, np.nan, Angle("41d16m09s").deg, 10]
    )
    number, _ = positions(table, "number", "dec")
    np.testing.assert_array_equal(number, [1, np.nan, 3, 4, 5, 6, 7])
    with pytest.raises(InputError, match="no column 'decl'"):
        positions(table, "ra", "decl")
    with pytest.raises(InputError, match="position column 'b' holds bool"):
        positions(pa.table({"b": [True], "dec": [1.0]}), "b", "dec")


@pytest.mark.shared
def test_real_galaxy_zoo_table_keeps_identifiers() -> None:
    path = SHARED / "gz1" / "objects.csv"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    table = read_table(path)
    assert table.num_rows == 5909
    lines = path.read_text().splitlines()[1:]
    assert table["objid"].to_pylist() == [int(line.split(",")[0]) for line in lines]
    ra, dec = positions(table, "ra", "dec")
    blank = np.array([line.split(",")[1] == "" for line in lines])
    np.testing.assert_array_equal(np.isnan(ra), blank)
    np.testing.assert_array_equal(np.isnan(dec), blank)
