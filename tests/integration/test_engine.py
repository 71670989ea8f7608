"""The engine on real files and real workers: right answers, every object once, any resume."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import hats
import lsdb
import numpy as np
import onnxruntime
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hats.io.validation import is_valid_catalog
from scipy.stats import entropy
from surveys import brightness_bundle, encode, scattered, small_image, tree, write_small_survey

from catalogs.annotated.convert import convert
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.errors import BusyError, InputError, IntegrityError, TooManyBadError
from catalogs.storage.place import open_place
from catalogs.survey.tables import read_table
from engine.ledger import Ledger
from engine.run import AnnotateSettings, annotate
from engine.status import catalog_status
from export.answers import agreement
from export.bundle import Bundle
from training.experts import for_experts

ROWS = 2000
ONE = AnnotateSettings(workers=1)


@pytest.fixture(scope="module")
def catalog(small_survey, brightness, tmp_path_factory) -> Path:
    to = tmp_path_factory.mktemp("engine") / "catalog"
    result = annotate(small_survey, to, brightness.path, AnnotateSettings(workers=2))
    assert result.annotated == result.rows == ROWS
    return to


def test_answers_are_those_of_the_images(catalog):
    """Oracle: the mean of the pixels, by numpy."""
    table = read_table(catalog).to_pydict()
    assert sorted(table["input_row"]) == list(range(ROWS))
    assert len(set(table["id"])) == ROWS
    for row, p, label in zip(table["input_row"], table["p_spiral"], table["label"], strict=True):
        expected = small_image(row)[4:28, 4:28].mean() / 255
        assert p == pytest.approx(expected, abs=1e-5)
        assert label == ("spiral" if p >= 0.5 else "elliptical")
    assert set(table["status"]) == {"ok"}
    assert table["survey_label"] == ["x"] * ROWS


def test_galaxies_below_a_confidence_are_listed_for_experts(catalog, tmp_path):
    """Oracle: equation 7 of Dieleman et al. 2015 on the catalog's probabilities, by scipy."""
    table = read_table(catalog).to_pandas()
    sure = 1 - entropy(np.stack([1 - table["p_spiral"], table["p_spiral"]]), base=2)
    threshold = float(np.median(sure)) + 1e-4
    counts = for_experts(str(catalog), tmp_path / "experts.csv", threshold)
    listed = pd.read_csv(tmp_path / "experts.csv")
    assert set(listed["id"]) == set(table["id"][sure < threshold])
    assert listed["confidence"].is_monotonic_increasing
    assert list(listed) == ["id", "ra", "dec", "label", "confidence", "p_elliptical", "p_spiral"]
    assert counts == {"accepted": ROWS - len(listed), "listed": len(listed), "without": 0}
    with pytest.raises(InputError, match="exists already"):
        for_experts(str(catalog), tmp_path / "experts.csv", threshold)
    with pytest.raises(InputError, match="no column 'confidence_q01'"):
        for_experts(str(catalog), tmp_path / "x.csv", threshold, "q01")


def test_the_catalog_is_a_valid_hats_catalog_that_lsdb_opens(catalog):
    assert is_valid_catalog(catalog, strict=True)
    assert hats.read_hats(catalog).catalog_info.total_rows == ROWS
    frame = lsdb.open_catalog(catalog).compute()
    assert sorted(frame["input_row"]) == list(range(ROWS))


def test_one_worker_gives_the_bytes_of_two(catalog, small_survey, brightness, tmp_path):
    annotate(small_survey, tmp_path / "catalog", brightness.path, ONE)
    assert tree(tmp_path / "catalog") == tree(catalog)


def test_a_complete_catalog_is_left_as_it_is(catalog, small_survey, brightness):
    before = {path: path.stat().st_mtime_ns for path in catalog.rglob("*") if path.is_file()}
    result = annotate(small_survey, catalog, brightness.path, ONE)
    assert (result.annotated, result.rows) == (0, ROWS)
    after = {path: path.stat().st_mtime_ns for path in catalog.rglob("*") if path.is_file()}
    assert after == before


def test_only_what_is_missing_is_done_again(catalog, small_survey, brightness, tmp_path):
    again = Path(shutil.copytree(catalog, tmp_path / "catalog"))
    receipts = sorted((again / "run/receipts").iterdir())
    redo = json.loads(receipts[3].read_text())
    receipts[3].unlink()
    (again / redo["file"]).unlink()
    leftover = again / redo["file"].replace(".parquet", ".parquet.dead.partial")
    leftover.write_bytes(b"half a file")
    result = annotate(small_survey, again, brightness.path, ONE)
    assert result.annotated == sum(part["rows"] for part in redo["parts"])
    assert tree(again) == tree(catalog)


def test_bad_cutouts_cost_their_own_row_only(catalog, brightness, tmp_path):
    good = encode(small_image(11))
    jpeg = encode(small_image(12), "JPEG")
    damaged = {
        11: good[: len(good) // 2],
        12: jpeg[: len(jpeg) // 2],
        500: b"",
        501: b"not an image",
        777: encode(np.full((32, 32, 3), 7, dtype=np.uint8)),
        1999: good[:16] + b"\x00\x01\x00\x00" * 2 + good[24:],
    }
    write_small_survey(tmp_path / "bad.zarr", damaged=damaged)
    annotate(tmp_path / "bad.zarr", tmp_path / "catalog", brightness.path, ONE)
    clean = {row["input_row"]: row for row in read_table(catalog).to_pylist()}
    found = read_table(tmp_path / "catalog").to_pylist()
    assert len(found) == ROWS
    for row in found:
        number = row["input_row"]
        if number not in damaged:
            assert row == clean[number]
            continue
        assert row["status"] == ("blank" if number == 777 else "decode_error")
        assert row["reason"]
        answers = [row[name] for name in ("p_spiral", "p_elliptical", "label", "confidence")]
        assert answers == [None] * 4


def test_stored_bytes_that_changed_are_a_checksum_error(brightness, small_survey, tmp_path):
    survey = Path(shutil.copytree(small_survey, tmp_path / "copy.zarr"))
    shard = max((survey / "appends/00000/blob/c").iterdir(), key=lambda p: p.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[5000] ^= 1
    shard.write_bytes(content)
    settings = AnnotateSettings(workers=1, max_bad=1.0)
    result = annotate(survey, tmp_path / "catalog", brightness.path, settings)
    assert result.rows == ROWS
    assert result.statuses == {"ok": ROWS - 1, "checksum_error": 1}
    assert result.damaged == (f"appends/00000/blob: chunk {32 * int(shard.name)}",)


def test_a_missing_shard_is_named_and_its_pixels_are_done_again_when_it_is_back(
    brightness, small_survey, catalog, tmp_path
):
    survey = Path(shutil.copytree(small_survey, tmp_path / "copy.zarr"))
    shard = max((survey / "appends/00000/blob/c").iterdir(), key=lambda p: p.stat().st_size)
    shard.rename(tmp_path / "kept")
    settings = AnnotateSettings(workers=1, max_bad=1.0)
    to = tmp_path / "catalog"
    result = annotate(survey, to, brightness.path, settings)
    name = f"appends/00000/blob/c/{shard.name}"
    assert result.damaged == (f"{name} is missing",)
    assert result.statuses == {"checksum_error": ROWS}  # there is no other
    reasons = {row["reason"] for row in read_table(to).to_pylist() if row["status"] != "ok"}
    assert reasons == {f"{name} is missing"}
    with pytest.raises(TooManyBadError, match="--redo checksum_error"):
        annotate(survey, to, brightness.path, ONE)
    (tmp_path / "kept").rename(shard)
    with pytest.raises(InputError, match="redo 'checksum' is no status; use some of ok, "):
        annotate(survey, to, brightness.path, AnnotateSettings(workers=1, redo=("checksum",)))
    again = annotate(
        survey, to, brightness.path, AnnotateSettings(workers=1, redo=("checksum_error",))
    )
    assert again.statuses == {"ok": ROWS}
    assert tree(to) == tree(catalog)


def test_too_many_bad_cutouts_stop_the_run_and_it_can_go_on(brightness, tmp_path):
    write_small_survey(tmp_path / "bad.zarr", damaged=dict.fromkeys(range(0, ROWS, 10), b""))
    to = tmp_path / "catalog"
    with pytest.raises(TooManyBadError, match=r"unusable \(\d+ decode_error\).*--max-bad 0.05"):
        annotate(tmp_path / "bad.zarr", to, brightness.path, ONE)
    assert not (to / "hats.properties").exists()
    with pytest.raises(TooManyBadError):
        annotate(tmp_path / "bad.zarr", to, brightness.path, ONE)
    told = catalog_status(to)
    assert not told.running
    assert "unusable" in told.progress.ended
    assert any("stopped" in line and "--max-bad" in line for line in told.lines())
    result = annotate(
        tmp_path / "bad.zarr", to, brightness.path, AnnotateSettings(workers=1, max_bad=0.2)
    )
    assert result.statuses == {"ok": ROWS - 200, "decode_error": 200}
    assert 0 < result.annotated < ROWS


def test_another_model_survey_or_option_is_refused_by_name(
    catalog, small_survey, brightness, tmp_path
):
    before = tree(catalog)
    with pytest.raises(InputError, match=r"options\.crop = 24, now it is 20"):
        annotate(small_survey, catalog, brightness.path, AnnotateSettings(workers=1, crop=20))
    with pytest.raises(InputError, match=r"options\.columns"):
        annotate(small_survey, catalog, brightness.path, AnnotateSettings(columns=("mag",)))
    with pytest.raises(InputError, match=r"options\.decoder"):
        annotate(small_survey, catalog, brightness.path, AnnotateSettings(decoder="reference"))
    other = brightness_bundle(tmp_path / "other.bundle")
    with pytest.raises(InputError, match="bundle_sha256"):
        annotate(small_survey, catalog, other.path, ONE)
    write_small_survey(tmp_path / "small.zarr", damaged={5: b"other bytes"})
    with pytest.raises(InputError, match="survey_uuid"):
        annotate(tmp_path / "small.zarr", catalog, brightness.path, ONE)
    assert tree(catalog) == before


def test_a_second_driver_is_told_to_wait(catalog, small_survey, brightness):
    with Ledger(open_place(catalog)).hold(), pytest.raises(BusyError, match="another process"):
        annotate(small_survey, catalog, brightness.path, ONE)


def test_a_file_that_its_receipt_does_not_describe_is_found(
    catalog, small_survey, brightness, tmp_path
):
    again = Path(shutil.copytree(catalog, tmp_path / "catalog"))
    part = next((again / "dataset").rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(IntegrityError, match="its receipt says"):
        annotate(small_survey, again, brightness.path, ONE)
    part.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        annotate(small_survey, again, brightness.path, ONE)


def test_a_folder_with_other_things_is_not_written_into(small_survey, brightness, tmp_path):
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        annotate(small_survey, tmp_path, brightness.path, ONE)


def test_receipts_digest_their_files(catalog):
    for path in (catalog / "run/receipts").iterdir():
        receipt = json.loads(path.read_text())
        content = (catalog / receipt["file"]).read_bytes()
        assert receipt["sha256"] == hashlib.sha256(content).hexdigest()
        assert (
            sum(part["rows"] for part in receipt["parts"])
            == pq.read_metadata(catalog / receipt["file"]).num_rows
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (AnnotateSettings(device="cuda"), "cuda"),
        (AnnotateSettings(provider="tensorrt"), "tensorrt"),
        (AnnotateSettings(provider="quantum"), "quantum"),
        (AnnotateSettings(device="cpu", provider="cuda"), "does not run on"),
        (AnnotateSettings(cluster="somewhere"), "neither local, cuda, an address"),
        (AnnotateSettings(cluster="tcp://192.0.2.1:8786"), "plain text"),
        (AnnotateSettings(cluster="cuda"), "cluster 'cuda' needs"),
        (AnnotateSettings(columns=("nope",)), "no column 'nope'"),
    ],
)
def test_what_cannot_be_had_is_refused_and_nothing_else_is_used(
    small_survey, brightness, tmp_path, settings, message
):
    with pytest.raises(InputError, match=message):
        annotate(small_survey, tmp_path / "catalog", brightness.path, settings)


def test_what_the_bundle_cannot_do_does_not_bind_the_catalog(small_survey, brightness, tmp_path):
    with pytest.raises(InputError, match="no int8 model"):
        annotate(small_survey, tmp_path / "c", brightness.path, AnnotateSettings(precision="int8"))
    assert not (tmp_path / "c/run/plan.json").exists()


def test_agreement_is_that_of_the_paper():
    """Dieleman et al. 2015 eq. 7: 1 for certainty, 0 for a tie; oracle scipy.stats.entropy."""
    from scipy.stats import entropy

    p = np.asarray([[0, 1], [0.5, 0.5], [0.2, 0.8]], dtype=np.float32)
    expected = 1 - entropy(p.astype(float), axis=1) / np.log(2)
    np.testing.assert_allclose(agreement(p), expected, atol=1e-6)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e300, float("inf"), float("nan")])
def test_seconds_that_no_clock_takes_are_refused_first(small_survey, brightness, tmp_path, seconds):
    settings = AnnotateSettings(workers=1, stall_seconds=seconds)
    with pytest.raises(InputError, match="stall_seconds"):
        annotate(small_survey, tmp_path / "c", brightness.path, settings)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("inside", ["", "dataset/deeper"])
def test_a_refused_folder_stays_as_it_was(small_survey, brightness, tmp_path, inside):
    """A lock in a bundle's folder would make it one that is refused ever after."""
    shutil.copytree(brightness.path, tmp_path / "my.bundle")
    shutil.copytree(small_survey, tmp_path / "q.zarr")
    (tmp_path / "c/run").mkdir(parents=True)
    (tmp_path / "c/run/plan.json").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "q.zarr", target_is_directory=True)
    before = sorted(tmp_path.rglob("*"))
    for name in ("my.bundle", "q.zarr", "link", "c") if inside else ("my.bundle", "q.zarr"):
        with pytest.raises(InputError, match="lies in" if inside else "holds other things"):
            annotate(small_survey, tmp_path / name / inside, brightness.path, ONE)
        assert sorted(tmp_path.rglob("*")) == before
    assert Bundle.open(tmp_path / "my.bundle").sha256 == brightness.sha256


def test_cutouts_smaller_than_the_crop_are_refused_not_padded(small_survey, brightness, tmp_path):
    with pytest.raises(InputError, match=r"32x32 px, the network would look at 40 px.*--crop"):
        annotate(
            small_survey, tmp_path / "c", brightness.path, AnnotateSettings(workers=1, crop=40)
        )
    tight = tmp_path / "tight.zarr"
    write_small_survey(tight, rows=20, damaged={i: encode(small_image(i, 16)) for i in range(20)})
    annotate(tight, tmp_path / "tight", brightness.path, ONE)  # whole: the bundle's crop is 24
    assert Ledger(open_place(tmp_path / "tight")).plan().options.crop == 16
    row = read_table(tmp_path / "tight").to_pylist()[0]
    expected = small_image(row["input_row"], 16).mean() / 255
    assert row["p_spiral"] == pytest.approx(expected, abs=1e-5)
    write_small_survey(
        tmp_path / "mixed.zarr",
        rows=100,
        damaged={5: encode(small_image(5, 20)), 6: encode(small_image(6, 50))},
    )
    result = annotate(tmp_path / "mixed.zarr", tmp_path / "mixed", brightness.path, ONE)
    assert result.statuses == {"ok": 99, "too_small": 1}
    row = next(r for r in read_table(tmp_path / "mixed").to_pylist() if r["input_row"] == 5)
    assert (row["status"], row["label"], row["p_spiral"]) == ("too_small", None, None)
    assert row["reason"] == "20x20 px, the network looks at 24 px"


def test_columns_that_would_overwrite_each_other_are_refused(brightness, tmp_path):
    ra, dec = scattered(30)
    names = np.asarray(["x"] * 30, dtype=object)
    table = SurveyTable(np.arange(30), ra, dec, {"label": names, "survey_label": names})
    write_survey(
        tmp_path / "s.zarr",
        table,
        lambda chunks: ([encode(small_image(int(i))) for i in chunk] for chunk in chunks),
        SurveyInfo(name="s"),
    )
    with pytest.raises(InputError, match=r"'survey_label'.*--columns"):
        annotate(tmp_path / "s.zarr", tmp_path / "c", brightness.path, ONE)
    settings = AnnotateSettings(workers=1, columns=("label",))
    assert annotate(tmp_path / "s.zarr", tmp_path / "c", brightness.path, settings).rows == 30


@pytest.mark.parametrize(("name", "said"), [("α", "'α' contains"), ("a" * 69, "single FITS card")])
def test_a_column_that_fits_takes_not_is_one_error(brightness, tmp_path, name, said):
    """Without a warning before it, which is an error here."""
    ra, dec = scattered(4)
    write_survey(
        tmp_path / "s.zarr",
        SurveyTable(np.arange(4), ra, dec, {name: np.arange(4.0)}),
        lambda chunks: ([encode(small_image(int(i))) for i in chunk] for chunk in chunks),
        SurveyInfo(name="s"),
    )
    annotate(tmp_path / "s.zarr", tmp_path / "c", brightness.path, ONE)
    with pytest.raises(InputError, match=f"cannot be written as .fits: .*{said}"):
        convert(tmp_path / "c", tmp_path / "c.fits")
    assert convert(tmp_path / "c", tmp_path / "c.parquet") == 4


def test_a_damaged_plan_or_receipt_is_named(catalog, tmp_path):
    again = Path(shutil.copytree(catalog, tmp_path / "catalog"))
    ledger = Ledger(open_place(again))
    receipt = next((again / "run/receipts").iterdir())
    receipt.write_text(receipt.read_text().replace('"rows"', '"rowz"'))
    with pytest.raises(IntegrityError, match=receipt.name):
        ledger.receipts(ledger.plan())
    plan = again / "run/plan.json"
    whole = json.loads(plan.read_text())
    for damage, at in [
        ({"survey_uuid": None}, "survey_uuid"),
        ({"options": whole["options"] | {"crop": "24"}}, "options.crop"),
        ({"options": [1]}, "options"),
        ({"partitions": {"a": 1}}, "partitions"),
        ({"partitions": [["00000", 0, 1, 0, 5]]}, "partitions.0"),
    ]:
        plan.write_text(json.dumps(whole | damage))
        with pytest.raises(IntegrityError, match=rf"plan\.json is damaged .{at}"):
            ledger.plan()
    for nothing in (b"", b"[]", b"\xff"):
        plan.write_bytes(nothing)
        with pytest.raises(IntegrityError, match=r"plan\.json is damaged"):
            ledger.plan()
    plan.write_text(json.dumps(whole | {"plan_version": 99}))
    with pytest.raises(InputError, match=r"version 99; this skytally resumes"):
        ledger.plan()


def test_files_of_others_in_the_ledger_are_left_alone(catalog, small_survey, brightness, tmp_path):
    again = Path(shutil.copytree(catalog, tmp_path / "catalog"))
    receipt = next((again / "run/receipts").iterdir())
    strays = [
        again / "run/receipts" / name
        for name in (".DS_Store", "notes.json", f"._{receipt.name}", f"{receipt.name}.bak")
    ]
    (again / "run/next").mkdir(exist_ok=True)
    strays += [again / "run/next/.DS_Store", again / "run/next/0-1.parquet~"]
    for stray in strays:
        stray.write_bytes(b"?")
    receipt.unlink()
    assert annotate(small_survey, again, brightness.path, ONE).annotated > 0
    assert receipt.exists()
    assert catalog_status(again).complete
    assert all(stray.exists() for stray in strays)


def test_receipts_say_what_made_them(catalog):
    for path in (catalog / "run/receipts").iterdir():
        assert json.loads(path.read_text())["used"] == {
            "decoder": "dali",
            "provider": "CPUExecutionProvider",
            "precision": "fp32",
            "runtime": onnxruntime.__version__,
        }
