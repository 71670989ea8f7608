"""The survey store: what goes in comes out, and what was damaged is found and named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
import zarr.errors
from stores import sign
from surveys import encode, scattered, small_image, write_small_survey

from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.errors import InputError, IntegrityError


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


def all_images(store: Survey) -> tuple[dict[int, bytes], dict[int, str]]:
    files, problems = {}, {}
    for partition in store.partitions:
        rows = store.read_rows(partition)
        for block in store.read_images(partition, rows, at_once=100):
            for i, data in enumerate(block.files):
                row = int(rows.input_row[block.start + i])
                files[row] = data.tobytes()
                if i in block.problems:
                    problems[row] = block.problems[i]
    return files, problems


@pytest.fixture
def copy(small_survey, tmp_path):
    return Path(shutil.copytree(small_survey, tmp_path / "copy.zarr"))


def test_every_image_comes_back_as_it_went_in(small_survey):
    store = Survey.open(small_survey)
    files, problems = all_images(store)
    assert not problems
    assert files == {row: encode(small_image(row)) for row in range(store.rows)}


def test_columns_come_back_in_store_order(small_survey):
    store = Survey.open(small_survey)
    row = store.column("input_row")
    ra, dec = scattered(store.rows)
    np.testing.assert_array_equal(store.column("ra"), ra[row])
    np.testing.assert_array_equal(store.column("dec"), dec[row])
    np.testing.assert_array_equal(store.column("id"), 10**15 + row)
    np.testing.assert_array_equal(store.column("mag"), np.linspace(14, 18, store.rows)[row])
    assert store.column("kind").tolist() == [("a", None)[i % 2] for i in row]
    assert (np.diff(store.column("healpix_29")) >= 0).all()


def test_the_same_rows_give_the_same_store_whatever_their_order_on_the_sky(tmp_path):
    for name in ("one", "two"):
        write_small_survey(tmp_path / f"{name}.zarr", rows=300)
    one, two = (Survey.open(tmp_path / f"{name}.zarr") for name in ("one", "two"))
    assert one.attributes.uuid == two.attributes.uuid
    assert one.partitions == two.partitions


def test_text_identifiers_and_many_texts(tmp_path):
    names = [f"J{i:06d}+ä" for i in range(5000)]
    ra, dec = scattered(5000)
    table = SurveyTable(
        ids=np.asarray(names, dtype=object),
        ra=ra,
        dec=dec,
        columns={"note": np.asarray([f"note {i}" for i in range(5000)], dtype=object)},
    )
    write_survey(
        tmp_path / "text.zarr",
        table,
        lambda chunks: ([b"x"] * len(chunk) for chunk in chunks),
        SurveyInfo(name="text"),
    )
    store = Survey.open(tmp_path / "text.zarr")
    row = store.column("input_row").tolist()
    assert store.column("id").tolist() == [names[i] for i in row]
    assert store.column("note").tolist() == [f"note {i}" for i in row]


def test_duplicate_identifiers_are_refused(tmp_path):
    table = SurveyTable(np.asarray([1, 1]), np.zeros(2), np.zeros(2))
    with pytest.raises(InputError, match="not unique"):
        write_survey(
            tmp_path / "x.zarr",
            table,
            lambda chunks: ([b"x"] * len(chunk) for chunk in chunks),
            SurveyInfo(name="x"),
        )
    assert not (tmp_path / "x.zarr").exists()


def test_a_flipped_bit_in_an_image_is_named_and_costs_nobody_else(copy):
    shard = max((copy / "appends/00000/blob/c").iterdir(), key=lambda p: p.stat().st_size)
    flip(shard, 3000)
    before = {row: encode(small_image(row)) for row in range(2000)}
    files, problems = all_images(Survey.open(copy))
    assert problems
    for row, data in files.items():
        assert row in problems or data == before[row]


def test_a_missing_shard_is_named(copy):
    shard = next((copy / "appends/00000/blob/c").iterdir())
    shard.unlink()
    files, problems = all_images(Survey.open(copy))
    assert problems
    assert all("is missing" in reason for reason in problems.values())
    for row, data in files.items():
        assert row in problems or data == encode(small_image(row))


@pytest.mark.parametrize(
    "name", ["id", "ra", "dec", "healpix_29", "input_row", "length", "checksum"]
)
def test_damaged_core_columns_are_never_read_as_values(copy, name):
    chunk = next(path for path in (copy / f"appends/00000/{name}/c").rglob("*") if path.is_file())
    original = chunk.read_bytes()
    flip(chunk, len(original) // 2)
    store = Survey.open(copy)
    with pytest.raises(IntegrityError, match=f"{name}|not what was written"):
        store.read_rows(store.partitions[0])
    chunk.unlink()
    store = Survey.open(copy)
    with pytest.raises(IntegrityError):
        store.read_rows(store.partitions[-1])


def test_a_missing_chunk_of_a_users_column_is_found(copy):
    store = Survey.open(copy)
    assert len(store.column("mag")) == store.rows
    (copy / "appends/00000/columns/mag/c/0").unlink()
    with pytest.raises(IntegrityError, match="column columns/mag"):
        Survey.open(copy).column("mag")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("codecs", [{"name": "bytes"}, {"name": "pickle"}], "codec 'pickle'"),
        ("codecs", "bytes", "codec 'b'"),
        ("codecs", None, "damaged"),
        ("data_type", "variable_length_utf8", "variable_length_utf8"),
        ("data_type", "uint8", "cannot be read"),
        ("data_type", "int64", "not what was written"),
        ("chunk_grid", {"configuration": {"chunk_shape": [1 << 40]}}, "larger than"),
        ("chunk_grid", {"name": "other", "configuration": {"chunk_shape": [2000]}}, "no array"),
        ("shape", [1000], "has not 2000 rows"),
        ("shape", [-1], "no array"),
        ("node_type", "group", "no array"),
    ],
)
def test_what_a_strangers_store_asks_for_is_checked_before_zarr_does_it(copy, name, value, message):
    """The digests are right: whoever made the store made them, too."""
    metadata = copy / "appends/00000/ra/zarr.json"
    values = json.loads(metadata.read_text())
    values[name] = value
    metadata.write_text(json.dumps(values))
    sign(copy)
    with pytest.raises(IntegrityError, match=message):
        Survey.open(copy).column("ra")


@pytest.mark.parametrize(
    ("partitions", "message"),
    [
        ([[0, 0, 0, 2000, "f" * 64]], "has not 1 rows"),
        ([[0, 0, 0, 1000, "f" * 64]], "impossible"),
        ([[0, 0, 0, 1500, "f" * 64], [0, 1, 1000, 2000, "f" * 64]], "impossible"),
        ([[99, 0, 0, 2000, "f" * 64]], "impossible"),
        ([["a", 0, 0, 2000, "f" * 64]], "valid integer"),
        ([], "impossible"),
    ],
)
def test_a_strangers_partitions_are_checked(copy, partitions, message):
    metadata = copy / "appends/00000/zarr.json"
    values = json.loads(metadata.read_text())
    values["attributes"]["skytally"]["partitions"] = partitions
    metadata.write_text(json.dumps(values))
    sign(copy)
    with pytest.raises(IntegrityError, match=message):
        Survey.open(copy).column("ra")


def test_what_is_no_store_is_said_to_be_none(tmp_path):
    with pytest.raises(InputError, match="not a survey store"):
        Survey.open(tmp_path / "nothing.zarr")
    zarr.create_group(store=str(tmp_path / "group.zarr"), zarr_format=3)
    with pytest.raises(InputError, match="not a survey store"):
        Survey.open(tmp_path / "group.zarr")


def test_an_unknown_column_is_named_with_those_that_exist(small_survey):
    with pytest.raises(InputError, match=r"'nope'.*mag"):
        Survey.open(small_survey).column("nope")


def test_provenance_of_any_shape_comes_back(tmp_path):
    ra, dec = scattered(5)
    provenance = {"10": 1, "9": [2.5, None], "8": {"ä": "\u2028", 10: 1e300, 9: -0.0}}
    info = SurveyInfo(name="p", provenance=provenance, pixel_scale=0.1 + 0.2)
    table = SurveyTable(np.arange(5), ra, dec)
    write_survey(tmp_path / "p.zarr", table, lambda cs: ([b"x"] * len(c) for c in cs), info)
    found = Survey.open(tmp_path / "p.zarr").attributes
    assert found.provenance == json.loads(json.dumps(provenance))
    assert found.pixel_scale == 0.1 + 0.2


def test_plain_zarr_reads_the_store(small_survey):
    """The format is Zarr's own: another reader needs nothing of ours."""
    group = zarr.open_group(str(small_survey), mode="r")["appends/00000"]
    offset, length = group["offset"][:], group["length"][:]
    row = int(group["input_row"][7])
    data = group["blob"][int(offset[7]) : int(offset[7] + length[7])]
    assert data.tobytes() == encode(small_image(row))


ROWS = 1500  # more than one partition


def write_columns(to: Path, images=None, **columns) -> Survey:
    ra, dec = scattered(ROWS)
    table = SurveyTable(
        np.arange(ROWS), ra, dec, {k: np.asarray(v, dtype=object) for k, v in columns.items()}
    )
    images = images or (lambda chunks: ([b"x"] * len(chunk) for chunk in chunks))
    write_survey(to, table, images, SurveyInfo(name="columns"))
    return Survey.open(to)


@pytest.mark.parametrize("changed", ["categories", "codes", "text", "name"])
def test_other_values_of_a_further_column_give_another_survey(tmp_path, monkeypatch, changed):
    monkeypatch.setattr("catalogs.cutouts.columns.MOST_CATEGORIES", 5)
    kind, note = ["a", "b", None] * (ROWS // 3), [str(i) for i in range(ROWS)]
    first = write_columns(tmp_path / "1.zarr", kind=kind, note=note)
    assert write_columns(tmp_path / "2.zarr", note=note, kind=kind).partitions == first.partitions
    other = {
        "categories": {"kind": ["a", "c", None] * (ROWS // 3), "note": note},
        "codes": {"kind": [*kind[1:], kind[0]], "note": note},
        "text": {"kind": kind, "note": ["x", *note[1:]]},
        "name": {"kind": kind, "remark": note},
    }[changed]
    second = write_columns(tmp_path / "3.zarr", **other)
    assert second.attributes.uuid != first.attributes.uuid
    same = [a == b for a, b in zip(first.partitions, second.partitions, strict=True)]
    assert sum(same) == (len(same) - 1 if changed == "text" else 0)
    for partition in second.partitions:
        assert len(second.read_rows(partition).ra) == partition.rows


def test_a_partition_of_another_survey_is_refused(tmp_path):
    first = write_columns(tmp_path / "1.zarr", kind=["a"] * ROWS)
    second = write_columns(tmp_path / "2.zarr", kind=["b"] * ROWS)
    with pytest.raises(IntegrityError, match="not what was written"):
        second.read_rows(first.partitions[0])


def test_null_and_empty_text_stay_two_things(tmp_path, monkeypatch):
    monkeypatch.setattr("catalogs.cutouts.columns.MOST_CATEGORIES", 5)
    note = [None, "", "ÿ", *(str(i) for i in range(ROWS - 3))]
    store = write_columns(tmp_path / "1.zarr", note=note)
    assert store.column("note").tolist() == [note[i] for i in store.column("input_row")]
    metadata = json.loads((tmp_path / "1.zarr/appends/00000/columns/note/zarr.json").read_text())
    assert metadata["attributes"]["kind"] == "text"


def test_consolidated_metadata_are_not_believed(copy):
    """Zarr would read them in place of the checked ones; here they name a codec of no store."""
    with pytest.warns(zarr.errors.ZarrUserWarning, match="not part in the Zarr format 3"):
        zarr.consolidate_metadata(str(copy))
    metadata = copy / "zarr.json"
    values = json.loads(metadata.read_text())
    array = values["consolidated_metadata"]["metadata"]["appends/00000/ra"]
    array["codecs"].append({"name": "gzip", "configuration": {"level": 1}})
    metadata.write_text(json.dumps(values))
    ra, _ = scattered(2000)
    store = Survey.open(copy)
    np.testing.assert_array_equal(store.column("ra"), ra[store.column("input_row")])


def test_a_symbolic_link_in_a_store_is_refused(copy, tmp_path):
    moved = tmp_path / "elsewhere"
    (copy / "appends/00000/ra").rename(moved)
    (copy / "appends/00000/ra").symlink_to(moved)
    with pytest.raises(IntegrityError, match="ra is a symbolic link"):
        Survey.open(copy).column("dec")


def test_a_symbolic_link_to_a_chunk_is_refused(copy, tmp_path):
    chunk = copy / "appends/00000/blob/c/0"
    moved = chunk.rename(tmp_path / "elsewhere")
    chunk.symlink_to(moved)
    with pytest.raises(IntegrityError, match="c/0 is a symbolic link"):
        all_images(Survey.open(copy))


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def images(chunks):
        yield [b"x"] * len(chunks[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_columns(tmp_path / "s.zarr", images)
    assert list(tmp_path.iterdir()) == []


def test_of_two_writers_to_one_place_the_first_to_finish_wins(tmp_path):
    place = tmp_path / "s.zarr"

    def images(chunks):
        first = write_columns(place, kind=["first"] * ROWS)
        assert first.rows == ROWS
        for chunk in chunks:
            yield [b"y"] * len(chunk)

    with pytest.raises(InputError, match="exists already"):
        write_columns(place, images, kind=["second"] * ROWS)
    assert set(Survey.open(place).column("kind")) == {"first"}
    assert list(tmp_path.iterdir()) == [place]
    assert place.stat().st_mode & 0o777 == 0o755


def test_what_the_user_called_partial_is_left_alone(tmp_path):
    (tmp_path / "s.zarr.partial").mkdir()
    (tmp_path / "s.zarr.partial/thesis.tex").write_text("years of work")
    write_columns(tmp_path / "s.zarr")
    assert (tmp_path / "s.zarr.partial/thesis.tex").read_text() == "years of work"
