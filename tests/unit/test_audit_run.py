"""Whole audits of tables on disk, read back with other people's software."""

from __future__ import annotations

import json
import re
from pathlib import Path

import healpy
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.coordinates import ICRS, SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy_healpix import HEALPix
from mocpy import MOC
from PIL import Image

from catalogs import sky
from catalogs.audit.reading.answers import Tally, find_columns, iter_answers
from catalogs.audit.reading.covariates import Covariates
from catalogs.audit.reading.table import read
from catalogs.audit.run import AuditResult, audit, summary_lines
from catalogs.audit.settings import AuditSettings
from catalogs.errors import InputError, SkytallyError
from catalogs.progress import Silent

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
FAST = AuditSettings(simulations=1000)
REGION = sky.Region(170, 200, 0, 30)


def positions(number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    ra = rng.uniform(0, 360, 8 * number)
    dec = np.degrees(np.arcsin(rng.uniform(-1, 1, 8 * number)))
    inside = sky.in_survey_footprint(ra, dec)
    return ra[inside][:number], dec[inside][:number]


def label_table(number: int, extra: float = 0.0, seed: int = 40) -> pa.Table:
    """Labels of an isotropic sky, with ``extra`` spirals in one region."""
    rng = np.random.default_rng(seed)
    ra, dec = positions(number, rng)
    p = 0.49 + extra * REGION.contains(ra, dec)
    label = np.where(rng.random(number) < p, "spiral", "elliptical")
    return pa.table({"id": np.arange(number), "ra": ra, "dec": dec, "label": label})


@pytest.fixture(scope="module")
def deviant(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AuditResult]:
    folder = tmp_path_factory.mktemp("audit")
    pq.write_table(label_table(200_000, 0.08), folder / "sky.parquet")
    return folder, audit(folder / "sky.parquet", folder / "sky.audit", FAST)


def strict(path: Path) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_a_deviant_region_is_reported_in_every_product(
    deviant: tuple[Path, AuditResult],
) -> None:
    folder, result = deviant
    document = strict(result.folder / "audit.json")
    assert document == result.document
    assert (document["verdict"], document["cause"]) == ("anisotropic", "undetermined")
    assert document["schema_version"] == 1
    assert document["alarm"]["p"] < 0.05
    assert [test["name"] for test in document["tests"]] == ["global", "dipole", "scan", "tiles"]
    for test in document["tests"]:
        assert (test["p_correlated"] is not None) == (test["name"] in ("dipole", "scan"))
        assert test["interval"][0] <= test["effect"] <= test["interval"][1]
        assert 0 < test["p"] <= test["p_holm"] <= 1
    scan = document["tests"][2]
    found = sky.unit_vectors(scan["ra"], scan["dec"])[0]
    assert np.degrees(np.arccos(found @ sky.unit_vectors(185, 15)[0])) < 8
    assert scan["interval"][0] < 0.08 < scan["interval"][1] + 0.02

    table = pq.read_table(folder / "sky.parquet")
    places = SkyCoord(table["ra"].to_numpy(), table["dec"].to_numpy(), unit="deg")
    first, second, *_ = places.search_around_sky(places, 1 * units.arcsec)
    later = np.unique(second[second > first])  # by chance one pair within an arcsecond
    assert document["counts"]["duplicate_positions"] == len(later) == 1
    table = table.take(np.delete(np.arange(len(places)), later))
    tile = healpy.ang2pix(
        8, table["ra"].to_numpy(), table["dec"].to_numpy(), nest=True, lonlat=True
    )
    spiral = np.array(table["label"].to_pylist()) == "spiral"
    n = np.bincount(tile, minlength=768)
    k = np.bincount(tile[spiral], minlength=768)

    sky_map = healpy.read_map(
        result.folder / "tiles.fits", field=None, nest=True, partial=False, dtype=np.float64
    )
    names = Table.read(result.folder / "tiles.fits", hdu=1).colnames
    maps = dict(zip(names, sky_map, strict=True))
    np.testing.assert_array_equal(maps["n"], n)
    np.testing.assert_array_equal(maps["n_spiral"][n > 0], k[n > 0])
    np.testing.assert_allclose(maps["fraction"][n > 0], k[n > 0] / n[n > 0])
    assert np.all(maps["fraction"][n == 0] == healpy.UNSEEN)

    tiles = pq.read_table(result.folder / "tiles.parquet").to_pydict()
    assert list(tiles)[4:] == names
    order = np.array(tiles["order"])
    assert set(order) == {3, 4, 5}
    for hdu, o in enumerate((3, 4, 5), start=1):
        assert np.sum(np.array(tiles["n"])[order == o]) == len(table)
        finer = healpy.read_map(result.folder / "tiles.fits", field=0, nest=True, hdu=hdu)
        assert finer.shape == (12 * 4**o,)
        assert finer.sum() == len(table)

    flagged = np.array(tiles["tile"])[np.array(tiles["flag"])]
    assert len(flagged) == len(document["flagged"]) > 0
    np.testing.assert_array_equal(np.flatnonzero(maps["flag"]), np.sort(flagged))
    with fits.open(result.folder / "tiles.fits") as opened:
        header, column = opened[1].header, opened[1].data["fraction"]
    grid = HEALPix(header["NSIDE"], order=header["ORDERING"].lower(), frame=ICRS())
    there = SkyCoord(table["ra"].to_numpy()[:500], table["dec"].to_numpy()[:500], unit="deg")
    np.testing.assert_array_equal(
        column[grid.skycoord_to_healpix(there)], maps["fraction"][tile[:500]]
    )

    moc = MOC.from_fits(result.folder / "flagged.moc.fits")
    np.testing.assert_array_equal(np.sort(moc.flatten()), np.sort(flagged))
    assert moc.max_order == 3

    scan = next(test for test in document["tests"] if test["name"] == "scan")
    moc = MOC.from_fits(result.folder / "scan.moc.fits")
    inside = moc.contains_lonlat(
        table["ra"].to_numpy() * units.deg, table["dec"].to_numpy() * units.deg
    )
    assert inside.sum() == scan["n"]


def test_maps_are_pictures(deviant: tuple[Path, AuditResult]) -> None:
    for name in ("fraction", "z", "n"):
        with Image.open(deviant[1].folder / f"map_{name}.png") as image:
            pixels = np.asarray(image.convert("RGB"))
        assert pixels.shape == (1020, 1600, 3)
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
        svg = (deviant[1].folder / f"map_{name}.svg").read_text(encoding="utf-8")
        assert svg.rstrip().endswith("</svg>")


def test_same_table_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    pq.write_table(label_table(20_000), tmp_path / "sky.parquet")
    kept = ("audit.json", "report.html", "tiles.fits", "tiles.parquet", "map_z.png")

    def run(seed: int) -> dict[str, bytes]:
        settings = AuditSettings(simulations=1000, seed=seed)
        folder = audit(tmp_path / "sky.parquet", tmp_path / "sky.audit", settings).folder
        return {name: (folder / name).read_bytes() for name in kept}

    first = run(1)
    assert run(1) == first
    assert run(2)["audit.json"] != first["audit.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sky.audit", "sky.parquet"]


def test_small_isotropic_sky_needs_a_larger_effect(tmp_path: Path) -> None:
    pq.write_table(label_table(20_000), tmp_path / "sky.parquet")
    small = audit(tmp_path / "sky.parquet", tmp_path / "a.audit", FAST)
    assert small.document["sky"]["nside"] == 4
    assert small.verdict == "insufficient"
    assert "0.02" in small.document["reasons"][0]
    assert small.document["detectable"]["dipole"]["mean"] > 0.02
    large = audit(
        tmp_path / "sky.parquet", tmp_path / "a.audit", AuditSettings(effect=0.05, simulations=1000)
    )
    assert large.verdict == "uniform"
    assert large.document["cause"] is None
    lines = summary_lines(large)
    assert lines[0] == "Verdict: uniform"
    assert all("\n" not in line for line in lines)
    assert lines[-1].endswith("report.html")


def test_hygiene_counts_every_row(tmp_path: Path) -> None:
    table = label_table(20_000)
    ra, dec = table["ra"].to_numpy().copy(), table["dec"].to_numpy().copy()
    label = table["label"].to_pylist()
    status = ["ok"] * 20_000
    ra[:5], dec[5:8], ra[8] = np.nan, 91, 400
    for row in range(10, 16):
        label[row] = None
    for row in range(20, 27):
        status[row] = "decode_error"
        label[row] = None
    ra[100:104], dec[100:104] = ra[200], dec[200]
    ids = table["id"].to_numpy().copy()
    ids[300:303], ra[300:303], dec[300:303] = ids[400], ra[400], dec[400] + np.arange(3) / 1000
    catalog = pa.table(
        {
            "id": ids,
            "ra": ra,
            "dec": dec,
            "_healpix_29": np.zeros(20_000, np.int64),
            "label": pa.array(label).dictionary_encode(),
            "p_spiral": np.linspace(0, 1, 20_000, dtype=np.float32),
            "status": status,
        }
    )
    pq.write_table(catalog, tmp_path / "sky.parquet")
    counts = audit(tmp_path / "sky.parquet", tmp_path / "a.audit", FAST).document["counts"]
    assert counts == {
        "rows": 20_000,
        "not_ok": 7,
        "no_position": 9,
        "no_weight": 0,
        "no_answer": 6,
        "other_answer": 0,
        "duplicate_ids": 3,
        "duplicate_positions": 4,
        "used": 20_000 - 7 - 9 - 6 - 7,
    }
    kept = AuditSettings(simulations=1000, keep_duplicates=True)
    again = audit(tmp_path / "sky.parquet", tmp_path / "a.audit", kept).document["counts"]
    assert (again["duplicate_ids"], again["duplicate_positions"]) == (0, 0)
    assert again["used"] == counts["used"] + 7
    as_text = catalog.set_column(0, "ID", catalog["id"].cast(pa.string()))
    pq.write_table(as_text, tmp_path / "text.parquet")
    tally = read(tmp_path / "text.parquet", FAST, Covariates((), [], ""), Silent()).tally
    assert (tally.same_id, tally.same_place, tally.used) == (3, 4, counts["used"])
    summed = AuditSettings(simulations=1000, probabilities=True)
    document = audit(tmp_path / "sky.parquet", tmp_path / "a.audit", summed).document
    assert document["provenance"]["columns"]["answer"] == "p_spiral"
    assert document["counts"]["no_answer"] == 0
    assert document["sky"]["fraction"] == pytest.approx(0.5, abs=0.001)


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        ("csv", "bool"),
        ("csv", "text"),
        ("fits", "bool"),
        ("fits", "text"),
        ("vot", "bool"),
        ("vot", "union"),
        ("parquet", "int"),
        ("parquet", "float"),
        ("parquet", "probability"),
    ],
)
def test_answers_of_every_kind_and_file_agree(tmp_path: Path, kind: str, ending: str) -> None:
    table = label_table(6_000)
    spiral = np.array(table["label"].to_pylist()) == "spiral"
    answers = {
        "bool": spiral,
        "int": spiral.astype(np.int16),
        "float": spiral.astype(np.float32),
        "probability": np.where(spiral, 0.9, 0.2),
        "text": np.where(spiral, "spiral", "other"),
        "union": np.where(spiral, np.where(np.arange(6000) % 2, "left", "right"), "none"),
    }[kind]
    name = "label" if kind in ("text", "union") else "spiral"
    out = Table({"RA": table["ra"].to_numpy(), "Dec": table["dec"].to_numpy(), name: answers})
    path = tmp_path / f"sky.{ending}"
    out.write(path, format={"csv": "ascii.csv", "vot": "votable"}.get(ending, ending))
    answer = "left|right" if kind == "union" else "spiral"
    result = audit(path, tmp_path / "a.audit", AuditSettings(answer=answer, simulations=1000))
    assert result.document["sky"]["fraction"] == pytest.approx(spiral.mean())
    said = result.document["provenance"]["answers"]
    assert ("at least 0.5" in said) == (kind == "probability")


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"label": "x", "spiral": 1}, {}, "both 'label' and 'spiral' could hold"),
        ({"kind": "spiral"}, {}, "no column 'label', 'spiral' or 'p_spiral'"),
        ({"spiral": 7}, {}, "holds 7; expected labels, 0/1"),
        ({"p_spiral": 1.5}, {}, "holds 1.5; expected"),
        ({"kind": "x"}, {"label": "kindd"}, "no column 'kindd'; did you mean 'kind'"),
        ({"label": "x"}, {"probabilities": True}, "no column 'p_spiral'"),
        (
            {"label": "x"},
            {"probabilities": True, "label": "label"},
            "summing probabilities needs numbers",
        ),
        ({"label": ["spiral", "elliptical"] * 500}, {"answer": "spirall"}, "never says 'spirall'"),
        (
            {"label": ["spiral", "edgeon"] * 500},
            {"answer": "spiral|edgon"},
            "column 'label' never says 'edgon'; it says edgeon, spiral",
        ),
        ({"label": "spiral"}, {"answer": "spiral|edgeon"}, "never says 'edgeon'"),
        ({"spiral": 1}, {"answer": "elliptical", "label": "spiral"}, "expected 0, 1, false, true"),
        ({"spiral": 1}, {"answer": "0|1", "label": "spiral"}, "expected 0, 1, false, true"),
        ({"spiral": True}, {"answer": "yes", "label": "spiral"}, "answer 'yes': column 'spiral'"),
        ({"label": "x"}, {"answer": "spiral|"}, "answer"),
        ({"label": "x"}, {"ra": "alpha"}, "no column 'alpha'"),
        ({"label": "x", "RA": 1.0}, {}, "columns ra, RA; name the ra column"),
        ({"label": pa.nulls(1000, pa.string())}, {}, "none of 1000 rows can be used"),
        ({"label": "x", "objid": [1, 2] * 500}, {}, "998 of 998 rows whose id 'objid' an earlier"),
    ],
)
def test_unusable_tables_give_one_line(
    tmp_path: Path, columns: dict, settings: dict, message: str
) -> None:
    data: dict = {"ra": np.linspace(0, 359, 1000), "dec": np.linspace(-80, 80, 1000)}
    for name, value in columns.items():
        data[name] = value if isinstance(value, list | pa.Array) else [value] * 1000
    pq.write_table(pa.table(data), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        audit(tmp_path / "t.parquet", tmp_path / "a.audit", AuditSettings(**settings))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.audit").exists()


@pytest.mark.parametrize(
    ("number", "label", "reason"),
    [
        (20_000, "spiral", "every answer is 'spiral'"),
        (20_000, "elliptical", "no answer is 'spiral'"),
        (1, None, "no tile at nside 1 holds 100 answers"),
    ],
)
def test_too_little_is_insufficient(
    tmp_path: Path, number: int, label: str | None, reason: str
) -> None:
    table = label_table(number)
    if label is not None:
        table = table.set_column(3, "label", pa.array([label] * number))
    pq.write_table(table, tmp_path / "t.parquet")
    result = audit(tmp_path / "t.parquet", tmp_path / "a.audit", FAST)
    assert result.verdict == "insufficient"
    assert reason in "; ".join(result.document["reasons"])
    assert result.document["alarm"]["p"] is None
    assert all(test["p"] is None for test in result.document["tests"])
    strict(result.folder / "audit.json")
    assert reason in " ".join(summary_lines(result))
    assert "insufficient" in result.report.read_text(encoding="utf-8")


@pytest.mark.parametrize(("extra", "verdict"), [(0.5, "anisotropic"), (0.0, "insufficient")])
def test_dipole_and_scan_need_no_full_tile(tmp_path: Path, extra: float, verdict: str) -> None:
    rng = np.random.default_rng(42)
    ra, dec = positions(20_000, rng)
    p = 0.4 + extra * np.cos(np.radians(dec)) * np.cos(np.radians(ra - 180)) / 2
    label = np.where(rng.random(20_000) < p, "spiral", "elliptical")
    pq.write_table(pa.table({"ra": ra, "dec": dec, "label": label}), tmp_path / "t.parquet")
    settings = AuditSettings(order=5, simulations=1000)
    result = audit(tmp_path / "t.parquet", tmp_path / "a.audit", settings)
    assert result.verdict == verdict
    made = [test["name"] for test in result.document["tests"] if test["p"] is not None]
    assert made == ["dipole", "scan"]
    assert result.document["sky"]["tiles_tested"] == 0
    assert "two binomial tests (dipole, cap scan)" in result.document["alarm"]["method"]
    alone = result.document["detectable"]["dipole_alone_raises_alarm"]["alpha"]
    assert alone == pytest.approx(0.05 / 2)
    said = "no tile at nside 32 holds 100 answers"
    assert said in result.report.read_text(encoding="utf-8")
    assert said in " ".join(summary_lines(result))
    if verdict == "anisotropic":
        dipole = result.document["tests"][1]
        pole = sky.unit_vectors(dipole["ra"], dipole["dec"])[0]
        assert pole @ sky.unit_vectors(180, 0)[0] > 0.95


NUMBERS = [1] * 300 + [0] * 690 + [None] * 10


@pytest.mark.parametrize(
    ("values", "settings", "fraction", "said"),
    [
        (NUMBERS, {}, 300 / 990, "fraction of 1 in column spiral"),
        (NUMBERS, {"answer": "1"}, 300 / 990, "fraction of 1 in column spiral"),
        (NUMBERS, {"answer": "0"}, 690 / 990, "fraction of 0 in column spiral"),
        (NUMBERS, {"answer": "False"}, 690 / 990, "fraction of 0 in column spiral"),
        ([v and 0.7 for v in NUMBERS], {"answer": "0"}, 690 / 990, "values below 0.5"),
        ([v == 1 for v in NUMBERS], {"answer": "False"}, 0.7, "fraction of 0 in column spiral"),
        (
            [v and 0.5 for v in NUMBERS],
            {"answer": "0", "probabilities": True},
            (150 + 690) / 990,
            "one minus the probabilities of spiral",
        ),
    ],
)
def test_zeros_are_counted_where_they_are_asked_for(
    tmp_path: Path, values: list, settings: dict, fraction: float, said: str
) -> None:
    data = {"ra": np.linspace(0, 359, 1000), "dec": np.linspace(-80, 80, 1000), "spiral": values}
    pq.write_table(pa.table(data), tmp_path / "t.parquet")
    asked = AuditSettings(label="spiral", simulations=1000, **settings)
    result = audit(tmp_path / "t.parquet", tmp_path / "a.audit", asked)
    assert result.document["sky"]["fraction"] == pytest.approx(fraction)
    assert said in result.document["provenance"]["answers"]
    assert said in result.report.read_text(encoding="utf-8")
    assert any(said in line for line in summary_lines(result))


@pytest.mark.parametrize(
    "answer", ["spirale_é", "螺旋", "$x^{$", "spiral " * 60, "<b>", "\u0000?", "_", "🌀"]
)
def test_any_answer_has_products(tmp_path: Path, answer: str) -> None:
    table = label_table(2_000)
    was = np.array(table["label"].to_pylist()) == "spiral"
    label = pa.array([answer.strip() if spiral else "other" for spiral in was])
    pq.write_table(table.set_column(3, "label", label), tmp_path / "t.parquet")
    asked = AuditSettings(answer=answer, simulations=1000)
    result = audit(tmp_path / "t.parquet", tmp_path / "a.audit", asked)
    tiles = pq.read_table(result.folder / "tiles.parquet").to_pydict()
    name = next(name for name in tiles if name.startswith("n_"))
    assert re.fullmatch(r"n_[a-z0-9_]{1,40}", name)
    order = np.array(tiles["order"])
    assert np.array(tiles[name])[order == order[0]].sum() == was.sum()
    assert Table.read(result.folder / "tiles.fits", hdu=1).colnames[1] == name


def test_one_field_of_the_sky_is_insufficient_but_tested(tmp_path: Path) -> None:
    rng = np.random.default_rng(41)
    table = pa.table(
        {
            "ra": rng.uniform(10, 10.5, 5000),
            "dec": rng.uniform(10, 10.5, 5000),
            "label": rng.choice(["spiral", "elliptical"], 5000),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    result = audit(tmp_path / "t.parquet", tmp_path / "a.audit", FAST)
    assert result.verdict == "insufficient"
    assert result.document["tests"][1]["p"] is None
    assert result.document["detectable"]["dipole"] is None


@pytest.mark.parametrize("order", [0, 4])
def test_order_can_be_chosen(tmp_path: Path, order: int) -> None:
    pq.write_table(label_table(20_000), tmp_path / "t.parquet")
    settings = AuditSettings(order=order, simulations=1000, min_n=5)
    document = audit(tmp_path / "t.parquet", tmp_path / "a.audit", settings).document
    assert document["sky"]["nside"] == 2**order
    assert all(test["p"] is not None for test in document["tests"])


def test_only_an_audit_is_replaced(tmp_path: Path) -> None:
    pq.write_table(label_table(300), tmp_path / "t.parquet")
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter.tex").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for target in ("thesis", "file", "t.parquet"):
        with pytest.raises(InputError, match="audit"):
            audit(tmp_path / "t.parquet", tmp_path / target, FAST)
    assert (mine / "chapter.tex").read_text() == "years of work"
    assert audit(tmp_path / "t.parquet", tmp_path / "a.audit", FAST).report.exists()
    (tmp_path / "a.audit" / "notes.txt").write_text("what it means")
    with pytest.raises(InputError, match=r"holds 'notes\.txt', which is no file of an audit"):
        audit(tmp_path / "t.parquet", tmp_path / "a.audit", FAST)
    assert (tmp_path / "a.audit" / "notes.txt").read_text() == "what it means"
    (tmp_path / "empty").mkdir()
    assert audit(tmp_path / "t.parquet", tmp_path / "empty", FAST).report.exists()


def test_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    pq.write_table(label_table(300), tmp_path / "t.parquet")
    (tmp_path / "file").write_text("x")
    for below in ("file/a.audit", "file/deep/a.audit"):
        with pytest.raises(InputError, match=r"file is not a folder"):
            audit(tmp_path / "t.parquet", tmp_path / below, FAST)
    with pytest.raises(SkytallyError, match="cannot be written") as caught:
        audit(tmp_path / "t.parquet", Path("/proc/a.audit"), FAST)
    assert not isinstance(caught.value, InputError)


@pytest.mark.parametrize(
    "wrong",
    [
        {"answer": " "},
        {"order": 7},
        {"alpha": 0.0},
        {"effect": 1.0},
        {"min_difference": -0.1},
        {"min_n": 0},
        {"simulations": 10},
        {"radii": (0.0,)},
        {"radii": ()},
        {"seed": -1},
    ],
)
def test_settings_are_checked(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        AuditSettings(**wrong)


def test_extra_classes_are_in_the_denominator_only_when_asked(tmp_path: Path) -> None:
    """Oracle: fractions counted by hand; the rows of every case make the table's."""
    said = (
        ["spiral"] * 5
        + ["elliptical"] * 3
        + ["Merger"] * 2
        + ["unknown", "edge_on", None, "nan", "--", ""]
    )
    ra = np.linspace(10, 20, len(said))
    pq.write_table(pa.table({"ra": ra, "dec": ra, "label": said}), tmp_path / "t.parquet")

    def counted(**asked: str) -> tuple[float, int, int, int]:
        settings, tally = AuditSettings(**asked), Tally()
        columns = find_columns(tmp_path / "t.parquet", settings)
        rows = [v for _, v, _ in iter_answers(tmp_path / "t.parquet", columns, settings, tally)]
        answers = np.concatenate(rows)[:, 0]
        assert tally.rows == len(answers) + tally.other_answer + tally.no_answer == len(said)
        return float(answers.sum()), len(answers), tally.other_answer, tally.no_answer

    assert counted() == (5, 9, 3, 4)  # edge_on is an answer like others, "nan" is none
    assert counted(among="all") == (5, 12, 0, 4)
    assert counted(among="spiral|elliptical") == (5, 8, 4, 4)
    assert counted(answer="Merger") == (2, 11, 1, 4)
    assert counted(answer="spiral|nan") == (6, 10, 3, 3)  # who asks for it means it
    with pytest.raises(InputError, match="lacks the answer 'spiral'"):
        AuditSettings(among="elliptical|merger")
    pq.write_table(pa.table({"ra": ra, "dec": ra, "label": ra > 15}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="only of labels"):
        counted(among="spiral|elliptical")


@pytest.mark.shared
def test_galaxy_zoo_positions_lose_their_duplicates(tmp_path: Path) -> None:
    path = SHARED / "catalogs" / "gz1_positions.csv"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    result = audit(path, tmp_path / "gz1.audit", FAST)
    rows = path.read_text().splitlines()[1:]
    places = {tuple(row.split(",")[1:3]) for row in rows}
    counts = result.document["counts"]
    assert counts["rows"] == len(rows) == 90_742
    ids = {row.split(",")[0] for row in rows}
    assert counts["duplicate_ids"] == len(rows) - len(ids) == len(rows) - len(places)
    assert counts["duplicate_positions"] == 0
    assert result.document["provenance"]["columns"]["answer"] == "spiral"


def test_the_default_answer_counts_the_ones_of_any_flag_column(tmp_path: Path) -> None:
    table = label_table(20_000)
    ones = pa.array([label == "spiral" for label in table.column("label").to_pylist()])
    flags = table.drop_columns(["label"]).append_column("is_sp", ones.cast(pa.int64()))
    pq.write_table(flags, tmp_path / "flags.parquet")
    result = audit(
        tmp_path / "flags.parquet",
        tmp_path / "flags.audit",
        AuditSettings(label="is_sp", simulations=1000),
    )
    assert result.document["sky"]["answers"] == 20_000
    assert result.document["sky"]["fraction"] == pytest.approx(np.mean(ones.to_pylist()))
