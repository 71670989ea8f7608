"""What an audit reads: HEALPix maps, against healpy, names of any kind, and digests of it all."""

from __future__ import annotations

import gzip
import hashlib
import json
import shlex
import subprocess
from dataclasses import asdict
from pathlib import Path

import healpy
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits

from catalogs import sky
from catalogs.audit.reading.covariates import Covariates
from catalogs.audit.reading.inputs import identify
from catalogs.audit.reading.sky_map import read_map
from catalogs.audit.reading.table import read
from catalogs.audit.report.wording import again
from catalogs.audit.settings import AuditSettings
from catalogs.config import list_of, names_in, read_flags
from catalogs.errors import InputError
from catalogs.progress import Silent
from catalogs.survey import tables

NSIDE = 16
RNG = np.random.default_rng(56)
RA, DEC = RNG.uniform(0, 360, 2000), np.degrees(np.arcsin(RNG.uniform(-1, 1, 2000)))


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    found = np.random.default_rng(57).random(12 * NSIDE**2).astype(np.float32)
    found[:100] = healpy.UNSEEN
    return found


def write(path: Path, values: np.ndarray, **changed: object) -> str:
    """Write a map with healpy, in ring order and equatorial, and change its header."""
    healpy.write_map(path, values, coord="C", dtype=values.dtype, partial=changed.pop("partial", 0))
    with fits.open(path, mode="update") as file:
        for name, value in changed.items():
            if value is None:
                del file[1].header[name]
            else:
                file[1].header[name] = value
    return str(path)


@pytest.mark.parametrize("nest", [False, True])
@pytest.mark.parametrize("coord", ["C", "G", "E"])
@pytest.mark.parametrize("partial", [False, True])
def test_maps_are_read_as_healpy_wrote_them(
    tmp_path: Path, values: np.ndarray, nest: bool, coord: str, partial: bool
) -> None:
    path = tmp_path / "map.fits"
    healpy.write_map(path, values, nest=nest, coord=coord, partial=partial, dtype=np.float32)
    lon, lat = healpy.Rotator(coord=["C", coord])(RA, DEC, lonlat=True)
    theirs = values[healpy.ang2pix(NSIDE, lon, lat, nest=nest, lonlat=True)].astype(float)
    theirs[theirs < -1e30] = np.nan
    np.testing.assert_array_equal(read_map(str(path)).at(RA, DEC), theirs)


@pytest.mark.parametrize("frame", ["galactic", "barycentricmeanecliptic"])
def test_frames_are_astropys(frame: str) -> None:
    there = SkyCoord(RA, DEC, unit="deg").transform_to(frame).spherical
    lon, lat = sky.in_frame(RA, DEC, frame)
    np.testing.assert_allclose(lon, there.lon.deg, atol=1e-9)
    np.testing.assert_allclose(lat, there.lat.deg, atol=1e-9)


def test_words_for_coordinates(tmp_path: Path, values: np.ndarray) -> None:
    """EQUATORIAL begins as ecliptic does."""
    words = {"EQUATORIAL": "C", "celestial": "C", "Galactic": "G", "ECLIPTIC": "E", "Q": "C"}
    for word, letter in words.items():
        path = write(tmp_path / f"{word}.fits", values, COORDSYS=word)
        assert read_map(path).coordinates == letter


def test_a_map_without_coordinates_wants_them_said(tmp_path: Path, values: np.ndarray) -> None:
    path = write(tmp_path / "map.fits", values, COORDSYS=None)
    with pytest.raises(InputError, match=r"map\.fits: has no COORDSYS; .*map\.fits:G"):
        Covariates([f"dust={path}"], [], "t")
    batch = pa.record_batch({"row": np.arange(len(RA))})
    for letter in "CGE":
        said = write(tmp_path / f"{letter}.fits", values, COORDSYS=letter)
        asked = Covariates([f"dust={path}:{letter}", f"same={said}:{letter}"], [], "t")
        found = asked.values(batch, RA, DEC)
        np.testing.assert_array_equal(found[:, 0], found[:, 1])
        assert np.isfinite(found).mean() > 0.9
    assert asked.sources[0] == "map map.fits, nside 16, ecliptic"
    with pytest.raises(InputError, match="COORDSYS is 'E', not G; leave out :G"):
        Covariates([f"dust={tmp_path / 'E.fits'}:G"], [], "t")


def _explicit(path: Path, pixels: np.ndarray) -> str:
    columns = [fits.Column("PIXEL", "J", array=pixels), fits.Column("T", "E", array=pixels * 1.0)]
    table = fits.BinTableHDU.from_columns(columns)
    table.header.update(NSIDE=NSIDE, ORDERING="NESTED", INDXSCHM="EXPLICIT", COORDSYS="C")
    table.writeto(path)
    return str(path)


def test_maps_that_contradict_themselves_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    """No pixel number counts from the end, and no keyword is passed over."""
    places = {
        "negative": ([-1, 5], "PIXEL runs from -1 to 5; expected 0 to 3071"),
        "beyond": ([5, 3072], "PIXEL runs from 5 to 3072"),
        "twice": ([7, 7], "PIXEL names a pixel twice"),
    }
    made = {_explicit(tmp_path / f"{k}.fits", np.array(p)): said for k, (p, said) in places.items()}
    headers = {
        "ORDERING": ("NUNIQ", "ORDERING 'NUNIQ'; expected a HEALPix map, RING or NESTED"),
        "NSIDE": (32, "holds 3072 values; NSIDE 32 has 12288"),
        "COORDSYS": ("H", "COORDSYS 'H'; expected C equatorial, G Galactic, E ecliptic"),
        "INDXSCHM": ("EXPLICIT", "INDXSCHM 'EXPLICIT' with first column 'T.*'; expected EXPLICIT"),
    }
    for name, (value, said) in headers.items():
        made[write(tmp_path / f"{name}.fits", values, **{name: value})] = said
    made[write(tmp_path / "p.fits", values, partial=True, INDXSCHM="IMPLICIT")] = "INDXSCHM"
    made[write(tmp_path / "o.fits", values, ORDERING=None)] = "ORDERING ''"
    for path, said in made.items():
        with pytest.raises(InputError, match=said) as caught:
            read_map(path)
        assert "\n" not in str(caught.value)


def test_damaged_maps_and_huge_values_warn_of_nothing(tmp_path: Path, values: np.ndarray) -> None:
    """Warnings are errors in these tests: each of these had one."""
    path = tmp_path / "map.fits"
    huge = values.astype(np.float64)
    huge[200:300] = 1e300
    write(path, huge)
    assert np.isnan(read_map(str(path)).values[200:300]).all()
    whole = path.read_bytes()
    zipped = tmp_path / "map.fits.gz"
    zipped.write_bytes(gzip.compress(whole))
    np.testing.assert_array_equal(read_map(str(zipped)).values, read_map(str(path)).values)
    for card in (b"NSIDE   = 'sixteen", b"TFORM1  = 'ZZ'"):
        at = whole.index(card[:8])
        path.write_bytes(whole[:at] + card.ljust(80) + whole[at + 80 :])
        with pytest.raises(InputError, match=r"cannot be read as a HEALPix map") as caught:
            read_map(str(path))
        assert "\n" not in str(caught.value)
    for length in (100, 3000, 9000, len(whole) // 2, len(whole) - 2880):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"map\.fits: "):
            read_map(str(path))


# ----------------------------------------------------------------------------------------- names


def test_lists_hold_any_name(tmp_path: Path) -> None:
    names = ("u-g, dered", "a=b", 'the "best"', "z", "p|q")
    assert names_in(list_of(names)) == names
    assert names_in(" a , b,c ") == ("a", "b", "c")
    config = tmp_path / "run.toml"
    config.write_text('covariates = ["u-g, dered", "a=b"]\n')
    assert names_in(read_flags(config, "audit", {"covariates": "c"})["c"]) == names[:2]
    with pytest.raises(InputError, match="write names with a comma in double quotes"):
        names_in('"a')


COLUMN, TRUTH, ANSWER = "u=g, dered", "is,it=spiral:yes", "late=type, all"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a table whose columns and files have signs in their names that mean something."""
    folder = tmp_path_factory.mktemp("odd = names, with : signs")
    rng = np.random.default_rng(58)
    ra, dec = rng.uniform(0, 40, 6000), rng.uniform(0, 40, 6000)
    said = rng.random(6000) < 0.4
    table = {"id": np.arange(6000), "ra": ra, "dec": dec, COLUMN: rng.random(6000)}
    pq.write_table(pa.table(table | {ANSWER: said}), folder / "t,a=b.parquet")
    pq.write_table(
        pa.table({"id": np.arange(300), "other": ["?"] * 300, TRUTH: said[:300]}),
        folder / "l:1,a=b.parquet",
    )
    write(folder / "m,a=b:C", rng.random(12 * NSIDE**2).astype(np.float32))
    return folder


def test_columns_and_files_of_any_name_are_read(odd: Path) -> None:
    asked = (COLUMN, f"dust={odd / 'm,a=b:C'}")
    settings = AuditSettings(
        answer=ANSWER,
        covariates=names_in(list_of(asked)),
        truth=f"{odd / 'l:1,a=b.parquet'}:{TRUTH}",
    )
    table = odd / "t,a=b.parquet"
    covariates = Covariates(settings.covariates, tables.column_names(table), str(table))
    assert covariates.sources == [f"column {COLUMN}", "map m,a=b:C, nside 16, equatorial"]
    found = read(table, settings, covariates, Silent())
    assert found.columns.answer == ANSWER
    assert found.matched is not None
    assert (found.matched.labels, found.matched.matched) == (300, 300)
    assert found.gathered is not None
    assert found.gathered.missing == (0, 0)
    document = {"settings": asdict(settings), "provenance": {"source": str(table)}}
    document = json.loads(json.dumps(document))
    words = shlex.split(again(document))
    assert names_in(words[words.index("--covariates") + 1]) == asked
    assert words[words.index("--truth") + 1] == settings.truth
    roles = [(one["role"], one["path"]) for one in identify(table, settings, covariates)]
    labels = settings.truth.removesuffix(f":{TRUTH}")
    files = {"audited": str(table), "truth": labels, "map dust": str(odd / "m,a=b:C")}
    assert dict(roles) == files


# --------------------------------------------------------------------------------------- digests


def test_inputs_are_known_by_their_digests(odd: Path, tmp_path: Path) -> None:
    table, other = odd / "t,a=b.parquet", tmp_path / "other"
    for pixel in (2, 10):
        folder = other / "dataset" / "Norder=1" / "Dir=0"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"Npix={pixel}.parquet").write_bytes(table.read_bytes() + b"x" * pixel)
    (other / "hats.properties").write_text("hats_nrows=12000\n")
    settings = AuditSettings(compare=(str(other), str(table)), swap=(f"a={table}", f"b={other}"))
    found = identify(table, settings, Covariates((), [], ""))
    file = hashlib.sha256(table.read_bytes()).hexdigest()
    assert [(one["role"], one["sha256"] == file) for one in found] == [
        ("audited", True),
        ("compared", False),
        ("compared", True),
        ("seed of a", True),
        ("seed of b", False),
    ]
    sums = "find dataset -name '*.parquet' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    printed = subprocess.run(sums, cwd=other, shell=True, check=True, capture_output=True).stdout
    assert found[1]["sha256"] == found[4]["sha256"] == printed.split()[0].decode()
