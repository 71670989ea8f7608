"""What the comparison of simulated with real galaxies measures, on pictures with known answers."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statmorph
from PIL import Image
from scipy import ndimage
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).resolve().parents[2]
SIZE, SKY = 120, 40.0


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def picture(
    sigma: float = 9.0,
    q: float = 1.0,
    peaks: tuple[float, float, float] = (120, 120, 120),
    shift: float = 0.0,
    noise: float = 1.0,
    kernel: int = 1,
) -> np.ndarray:
    """A Gaussian galaxy, its blue plane moved by ``shift`` px, on box-smoothed noise."""
    rng = np.random.default_rng(3)
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    planes = []
    for plane, peak in enumerate(peaks):
        light = peak * np.exp(-((x - shift * (plane == 2)) ** 2 + (y / q) ** 2) / (2 * sigma**2))
        white = rng.normal(size=(SIZE, SIZE))
        grain = ndimage.uniform_filter(white, kernel) * kernel  # keeps its variance
        planes.append(SKY + light + noise * grain)
    return np.clip(np.round(np.stack(planes, axis=-1)), 0, 255).astype(np.uint8)


def test_a_gaussian_has_the_structure_that_integration_gives() -> None:
    from benchmarks.realism.measures import measure

    found = measure(picture())
    # A fraction f of a Gaussian's light lies within sigma sqrt(-2 ln(1 - f)).
    r20, r50, r80 = (9 * np.sqrt(-2 * np.log(1 - f)) for f in (0.2, 0.5, 0.8))
    assert found["half-light radius"] == pytest.approx(r50, rel=0.03)
    assert found["half-light over frame"] == pytest.approx(r50 / SIZE, rel=0.03)
    assert found["concentration"] == pytest.approx(5 * np.log10(r80 / r20), abs=0.06)
    assert abs(found["asymmetry"]) < 0.02
    assert found["peak"] == pytest.approx(120, abs=3)
    assert found["other sources"] == 0
    assert measure(picture(q=0.6))["axis ratio"] == pytest.approx(0.6, abs=0.03)


def test_structure_is_that_of_statmorph() -> None:
    from benchmarks.realism.measures import measure

    clumps = [
        np.roll(picture(sigma=2.5, q=0.7, noise=0), (9 * k, 4 - 5 * k), (0, 1)) for k in (1, -1)
    ]
    for galaxy in (picture(q=0.5), np.maximum.reduce([picture(sigma=7.0), *clumps[:1]])):
        light = galaxy.mean(axis=2) - SKY
        own, _ = ndimage.label(ndimage.gaussian_filter(light, 2) > 1.5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = statmorph.SourceMorphology(
                light, (own == own[60, 60]).astype(int), 1, gain=1.0, sersic_maxiter=1
            )
        found = measure(galaxy)
        assert found["concentration"] == pytest.approx(expected.concentration, abs=0.05)
        assert found["asymmetry"] == pytest.approx(expected.asymmetry, abs=0.04)
        assert found["half-light radius"] == pytest.approx(expected.rhalf_circ, rel=0.03)


def test_planes_give_colours_and_their_offset() -> None:
    from benchmarks.realism.measures import measure

    found = measure(picture(peaks=(150, 100, 50), shift=1.5))
    assert found["colour g-r"] == pytest.approx(2.5 * np.log10(2), abs=0.06)
    assert found["colour r-i"] == pytest.approx(2.5 * np.log10(1.5), abs=0.03)
    # Within the half-light radius a moved plane's centroid moves less than the plane.
    assert 0.3 < found["band offset"] < 1.5
    assert measure(picture())["band offset"] < 0.1


def test_the_sky_is_measured_away_from_sources() -> None:
    from benchmarks.realism.measures import measure

    white, grainy = (measure(picture(noise=3.0, kernel=k)) for k in (1, 3))
    assert white["sky level"] == pytest.approx(SKY, abs=0.7)
    assert white["sky noise"] == pytest.approx(3.0, rel=0.06)
    assert white["colour noise"] == pytest.approx(3.0 * np.sqrt(2), rel=0.06)
    assert abs(white["noise correlation 1 px"]) < 0.05
    assert abs(white["noise correlation of bands"]) < 0.05
    # A box of 3 px shares 2 of 3 with its neighbour, 1 of 3 with the one after.
    assert grainy["noise correlation 1 px"] == pytest.approx(2 / 3, abs=0.06)
    assert grainy["noise correlation 2 px"] == pytest.approx(1 / 3, abs=0.08)


def test_a_second_source_is_counted_and_asymmetry_seen() -> None:
    from benchmarks.realism.measures import measure

    one = picture()
    two = np.maximum(one, np.roll(picture(sigma=2.5), 42, axis=1))
    assert measure(two)["other sources"] == 1
    lopsided = np.maximum(one, np.roll(picture(sigma=3.0), 12, axis=0))
    assert measure(lopsided)["asymmetry"] > measure(one)["asymmetry"] + 0.04


def test_distances_of_shifted_normals_are_those_of_theory() -> None:
    from benchmarks.realism.distances import distances, told_apart

    rng = np.random.default_rng(5)
    real = pd.DataFrame({"a": rng.normal(size=1500), "b": 5 + 2 * rng.normal(size=1500)})
    like = pd.DataFrame({"a": rng.normal(size=1500), "b": 7 + 2 * rng.normal(size=1500)})
    like.loc[:14, "a"] = np.nan
    found = distances(real, like, ["a", "b"])
    assert found.loc["b", "wasserstein"] == pytest.approx(1.0, abs=0.08)
    assert found.loc["b", "ks"] == pytest.approx(2 * norm.cdf(0.5) - 1, abs=0.04)
    assert found.loc["a", "ks"] < 0.07 < found.loc["b", "ks"]
    assert found.loc["b", "ks_chance"] == pytest.approx(1.358 * np.sqrt(2 / 1500), rel=0.25)
    assert found.loc["a", "simulated_lost"] == pytest.approx(0.01)
    alike, apart = (told_apart(real, like, [name]) for name in ("a", "b"))
    assert alike.value == pytest.approx(0.5, abs=0.06)
    # Two normals one standard deviation apart.
    assert apart.value == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.04)


def test_pairs_are_of_like_size_and_no_galaxy_is_used_twice() -> None:
    from benchmarks.realism.samples import nearest
    from catalogs.errors import InputError

    rng = np.random.default_rng(2)
    wanted = rng.uniform(4, 12, 40)
    offered = rng.permutation(np.concatenate([wanted * 1.001, wanted * 2.5]))
    found = np.concatenate(nearest(wanted, offered))
    assert len(set(found.tolist())) == 40
    assert np.median(np.abs(np.log(offered[found] / wanted))) < 0.002
    with pytest.raises(InputError, match="simulate more"):
        nearest(wanted, offered, each=3)


def test_the_bootstrap_brackets_the_area_under_the_curve() -> None:
    from benchmarks.realism.networks import bootstrapped

    rng = np.random.default_rng(4)
    targets = rng.integers(0, 2, 600)
    scores = targets + rng.normal(size=600)
    found = bootstrapped(scores, targets)
    assert found.value == pytest.approx(roc_auc_score(targets, scores))
    assert found.low < norm.cdf(1 / np.sqrt(2)) < found.high
    assert 0.03 < found.high - found.low < 0.12


@pytest.mark.shared
def test_real_pictures_are_the_centre_that_the_engine_sees(shared_data: Path) -> None:
    from benchmarks.realism.samples import REAL_CROP, real_picture, real_table
    from catalogs.cutouts.decode import open_decoder

    table = real_table(shared_data)
    assert table["kind"].value_counts().to_dict() == {"elliptical": 4128, "spiral": 1627}
    sized = table[table["radius"].notna()]
    assert len(sized) > 390
    assert sized["radius"].between(2, 45).all()
    objids = table["objid"].iloc[:4]
    files = [shared_data / "gz1" / "images" / f"{objid}.jpeg" for objid in objids]
    engine, problems = open_decoder("reference", REAL_CROP).decode(
        [np.fromfile(file, np.uint8) for file in files]
    )
    assert not problems
    for objid, expected in zip(objids, engine, strict=True):
        found = real_picture(shared_data, objid, REAL_CROP).astype(int)
        assert np.abs(found - expected).mean() < 0.5


@pytest.mark.shared
@pytest.mark.parametrize(
    ("objid", "neighbour"),
    [(587727865644319116, 587727865644319117), (587736547385278700, 587736547385278518)],
)
def test_real_cutouts_span_so_many_petrosian_radii(
    shared_data: Path, objid: int, neighbour: int
) -> None:
    """Two catalogued galaxies in one cutout: their distance on the sky tells its scale."""
    from benchmarks.realism.samples import REAL_CROP
    from catalogs.synthetic.frame import FRAME

    folder = shared_data / "catalogs"
    files = [*sorted(folder.glob("gz?_petro/*.csv")), folder / "gz1_positions.csv"]
    rows = pd.concat([pd.read_csv(file, usecols=["objid", "ra", "dec"]) for file in files])
    (ra, dec), (other_ra, other_dec) = (
        rows[rows["objid"] == which].iloc[0][["ra", "dec"]] for which in (objid, neighbour)
    )
    sizes = pd.concat([pd.read_csv(file) for file in sorted(folder.glob("gz1_petro/*.csv"))])
    radius = float(sizes.set_index("objid")["petroRad_g"][objid])
    scale = FRAME * radius / REAL_CROP  # arcsec per pixel
    west = (ra - other_ra) * np.cos(np.radians(dec)) * 3600 / scale
    south = (dec - other_dec) * 3600 / scale
    distance = np.hypot(west, south)
    assert distance > 100
    with Image.open(shared_data / "gz1" / "images" / f"{objid}.jpeg") as file:
        light = ndimage.gaussian_filter(np.asarray(file.convert("L"), dtype=float), 2)
    y, x = np.indices(light.shape) - np.array(light.shape)[:, None, None] // 2
    near = np.hypot(x - west, y - south) < 15
    peak = np.unravel_index(np.where(near, light, -1).argmax(), light.shape)
    assert (x[peak], y[peak]) == pytest.approx((west, south), abs=0.03 * distance)


AGAIN = "the-same-galaxies-under-several-conditions"


@pytest.mark.shared
def test_the_whole_comparison_is_made(shared_data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.realism", "--data", str(shared_data)]
    command += ["--to", str(tmp_path), "--galaxies", "120", "--limit", "6", "--size", "64"]
    command += ["--only", "pages", "distances"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "distances.md").read_text()
    assert "spiral same size: 6 real, 6 simulated" in report
    assert report.count("| concentration |") == 4
    for name in ("gallery", "pairs", "distributions"):
        page = (tmp_path / f"{name}.html").read_text()
        assert 'src="data:image/png;base64,' in page
        # Not even as a chance run of letters in a picture's base64.
        assert "http" not in re.sub(r'"data:image/png;base64,[^"]*"', "", page)
    assert (tmp_path / "gallery-spiral.png").exists()
    with Image.open(tmp_path / f"gallery-{AGAIN}.png") as again:
        assert again.size == (8 * 68 - 4, 6 * 68 - 4)
