"""Example cutouts of the report: the right galaxies, their pictures, and no byte of the store."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mocpy import MOC
from PIL import Image, PngImagePlugin
from surveys import scattered, small_image, write_raw_survey

from catalogs import sky
from catalogs.annotated import names
from catalogs.audit.reading import training_sky
from catalogs.audit.reading.answers import find_columns
from catalogs.audit.reading.lineage import lineage
from catalogs.audit.report import cutouts
from catalogs.audit.report.page import render
from catalogs.audit.run import audit
from catalogs.audit.settings import AuditSettings
from catalogs.audit.uniformity.analysis import TileTable, tile_table
from catalogs.audit.uniformity.tiles import TileAccumulator
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.errors import InputError
from engine.training_sky import training_sky_of
from export.bundle import Bundle, shipped

ROWS = 600
SETTINGS = AuditSettings(min_n=5, simulations=1000, order=0, radii=(90.0,))
EVIL = "<img src=x onerror=alert(1)>"


def with_text(row: int) -> bytes:
    """A PNG that carries a foreign text."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", EVIL * 20)
    out = io.BytesIO()
    Image.fromarray(small_image(row, 64 if row % 2 else 40)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


@pytest.fixture(scope="module")
def sky_of_images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store with hostile identifiers and texts, and a table of answers for its objects."""
    folder = tmp_path_factory.mktemp("cutouts")
    ra, dec = scattered(ROWS)

    def images(chunks: Sequence[np.ndarray]) -> Iterator[list[bytes]]:
        for chunk in chunks:
            yield [b"broken" if row % 50 == 0 else with_text(row) for row in chunk.tolist()]

    ids = np.asarray([f"{EVIL}{row}" for row in range(ROWS)])
    mag = np.linspace(14, 18, ROWS)
    write_survey(
        folder / "s.zarr", SurveyTable(ids, ra, dec, {"mag": mag}), images, SurveyInfo("evil")
    )
    spiral = np.random.default_rng(60).random(ROWS) < 0.3 + 0.4 * (dec > 20)
    pq.write_table(pa.table({"ra": ra, "dec": dec, "spiral": spiral}), folder / "t.parquet")
    return folder / "s.zarr", folder / "t.parquet"


def table_of(table: Path, order: int = 0) -> TileTable:
    rows = pq.read_table(table)
    tiles = TileAccumulator(5)
    where = sky.tile_of(rows["ra"].to_numpy(), rows["dec"].to_numpy(), 29)
    tiles.add(where, rows["spiral"].to_numpy().astype(np.float64))
    return tile_table(tiles.counts().merged(order), SETTINGS, testing=True)


def gathered(sky_of_images: tuple[Path, Path]) -> tuple[cutouts.Gallery, TileTable]:
    store, source = sky_of_images
    table = table_of(source)
    columns = find_columns(source, SETTINGS)
    return cutouts.gather(store, source, columns, table, SETTINGS), table


def picture(url: str | None) -> np.ndarray:
    assert url is not None
    kind, _, content = url.partition(";base64,")
    assert kind == "data:image/jpeg"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))), np.float64)


def test_galaxies_come_from_their_tiles_with_their_answers(
    sky_of_images: tuple[Path, Path],
) -> None:
    gallery, table = gathered(sky_of_images)
    rows = pq.read_table(sky_of_images[1]).to_pydict()
    tile = sky.tile_of(np.array(rows["ra"]), np.array(rows["dec"]), 0)
    assert gallery.matched == "mag"
    assert 1 <= len(gallery.strips) <= cutouts.STRIPS
    rank = np.argsort(-np.abs(table.z))
    assert [s.tile for s in gallery.strips] == table.tiles[rank[: len(gallery.strips)]].tolist()
    lost = 0
    for strip in gallery.strips:
        control = float(table.z[table.tiles == strip.control_tile][0])
        assert abs(strip.z) > abs(control)
        assert len(strip.galaxies) == len(strip.controls) == cutouts.ACROSS
        for cutout, home in [
            *((c, strip.tile) for c in strip.galaxies),
            *((c, strip.control_tile) for c in strip.controls),
        ]:
            row = int(cutout.name.removeprefix(EVIL))
            assert tile[row] == home
            assert cutout.answer == rows["spiral"][row]
            assert cutout.match == pytest.approx(14 + 4 * row / (ROWS - 1))
            if row % 50 == 0:
                assert cutout.picture is None
                lost += 1
                continue
            shown = picture(cutout.picture)
            assert shown.shape == (cutouts.SIDE, cutouts.SIDE, 3)
            stored = Image.open(io.BytesIO(with_text(row))).convert("RGB")
            expected = stored.resize((cutouts.SIDE, cutouts.SIDE), Image.Resampling.LANCZOS)
            assert np.abs(shown - np.asarray(expected, np.float64)).mean() < 12
        apart = [
            abs(a.match - b.match) for a, b in zip(strip.galaxies, strip.controls, strict=True)
        ]
        assert np.median(apart) < 0.3
    assert gathered(sky_of_images)[0] == gallery


def test_no_stored_byte_and_no_markup_reaches_the_page(sky_of_images: tuple[Path, Path]) -> None:
    store, source = sky_of_images
    settings = AuditSettings(min_n=5, simulations=1000, order=0, radii=(90.0,), cutouts=str(store))
    result = audit(source, source.parent / "a.audit", settings)
    text = result.report.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,") > 10
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text
    assert base64.b64encode(EVIL.encode()).decode()[:-4] not in text
    bare = render(result.document, result.analysis)
    assert "--cutouts survey.zarr" in bare or "cutouts=&#39;survey.zarr&#39;" in bare
    with pytest.raises(InputError, match="not a survey store"):
        cutouts.gather(
            source.parent, source, find_columns(source, settings), table_of(source), settings
        )


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_raw_samples_are_shown_too(tmp_path: Path, dtype: str) -> None:
    write_raw_survey(tmp_path / "raw.zarr", dtype=dtype)
    ra, dec = scattered(500)
    spiral = np.random.default_rng(61).random(500) < 0.5
    pq.write_table(pa.table({"ra": ra, "dec": dec, "spiral": spiral}), tmp_path / "t.parquet")
    columns = find_columns(tmp_path / "t.parquet", SETTINGS)
    table = table_of(tmp_path / "t.parquet")
    gallery = cutouts.gather(
        tmp_path / "raw.zarr", tmp_path / "t.parquet", columns, table, SETTINGS
    )
    shown = picture(gallery.strips[0].galaxies[0].picture)
    assert shown.std() > 20


def test_samples_that_say_nothing_stay_dark() -> None:
    for value in (0.0, np.nan, np.inf, 7.0):
        assert cutouts.stretched(np.full((9, 7, 1), value)).max() == 0
    assert cutouts.encoded(cutouts.stretched(np.ones((9, 7, 2)))).startswith("data:image/jpeg")


def test_the_training_sky_is_read_from_bundles_and_maps(tmp_path: Path) -> None:
    tiles = training_sky.read_tiles(shipped())
    moc = MOC.from_fits(shipped() / training_sky.FILE)
    ra, dec = sky.tile_centres(np.asarray(moc.flatten(), np.int64), moc.max_order)
    assert set(tiles.tolist()) == set(sky.tile_of(ra, dec, training_sky.ORDER).tolist())
    coarse = MOC.from_healpix_cells(np.array([5], np.uint64), np.array([1], np.uint8), 1)
    coarse.save(tmp_path / "coarse.fits", format="fits")
    found = training_sky.read_tiles(tmp_path / "coarse.fits")
    np.testing.assert_array_equal(np.sort(found), np.arange(5 * 64, 6 * 64))
    (tmp_path / "text.fits").write_text("no map")
    for where in ("text.fits", "nothing.fits", "."):
        with pytest.raises(InputError, match=r"coverage map"):
            training_sky.read_tiles(tmp_path / where)


def test_catalogs_of_the_shipped_bundle_know_their_training_sky(tmp_path: Path) -> None:
    assert training_sky_of(str(tmp_path)) is None
    told = {
        "survey_name": "s",
        "survey_uuid": "u",
        "bundle_sha256": Bundle.open(shipped()).sha256,
        "options": dict.fromkeys(
            ("provider", "precision", "runtime_version", "decoder", "decoder_version", "crop"), "x"
        ),
    }
    plan = tmp_path / names.PLAN
    plan.parent.mkdir()
    for content, known, readable in (
        (json.dumps(told), True, True),
        (json.dumps(told | {"bundle_sha256": "00"}), False, True),
        (json.dumps(told | {"options": []}), False, False),
        ("[]", False, False),
        ("{", False, False),
    ):
        plan.write_text(content)
        assert (training_sky_of(str(tmp_path)) is not None) == known
        assert (lineage(tmp_path) is not None) == readable
    assert training_sky_of(str(plan)) is None
