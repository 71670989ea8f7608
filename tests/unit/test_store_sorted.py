"""Stores from rows that come in sky order: those of the table as a whole, in bounded memory."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from catalogs.cutouts import layout
from catalogs.cutouts.partition import Span, rows_per_partition, split_sky
from catalogs.cutouts.spool import ColumnSpool
from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import (
    SortedPart,
    SortedSurvey,
    SurveyInfo,
    SurveyTable,
    write_sorted_survey,
    write_survey,
)
from catalogs.errors import InputError
from catalogs.sky import tile_of

KINDS = ["barred", "elliptical", "spiral"]


def table_of(rows: int) -> SurveyTable:
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, rows), np.degrees(np.arcsin(rng.uniform(-1, 1, rows)))
    order = np.argsort(tile_of(ra, dec, 29))
    kinds = np.asarray(KINDS, dtype=object)[rng.integers(0, 3, rows)]
    kinds[::7] = None
    columns = {"mag": rng.normal(17, 1, rows), "kind": kinds, "bad": rng.random(rows) < 0.1}
    return SurveyTable(
        np.arange(rows) + 10**9, ra[order], dec[order], columns, np.arange(rows)[::-1].copy()
    )


def image(number: int) -> bytes:
    return bytes([number % 251]) * (number % 97)


def part_of(table: SurveyTable, span: Span) -> SortedPart:
    rows = slice(span.start, span.stop)
    columns = {name: values[rows] for name, values in table.columns.items()}
    assert table.input_row is not None
    part = SurveyTable(
        table.ids[rows], table.ra[rows], table.dec[rows], columns, table.input_row[rows]
    )
    numbers = range(span.start, span.stop)
    return SortedPart(
        part, ([image(n) for n in numbers[i : i + 50]] for i in range(0, len(numbers), 50))
    )


def write_sorted(to: Path, table: SurveyTable) -> None:
    healpix_29 = tile_of(table.ra, table.dec, 29)
    spans = split_sky(healpix_29, rows_per_partition(len(healpix_29)))
    parts = (part_of(table, span) for span in spans)
    write_sorted_survey(to, SortedSurvey(spans, parts, {"kind": KINDS}), SurveyInfo(name="s"))


def files(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}


@pytest.mark.parametrize("window", [1 << 14, 1 << 25])
def test_a_store_of_sorted_rows_is_that_of_the_table(tmp_path, monkeypatch, window):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    monkeypatch.setattr(layout, "COLUMNS_WINDOW", window)  # the spool's file is used, or is not
    table = table_of(9000)

    def images(chunks: list[np.ndarray]) -> Iterator[list[bytes]]:
        for chunk in chunks:
            yield [image(int(n)) for n in chunk]

    write_survey(tmp_path / "whole.zarr", table, images, SurveyInfo(name="s"))
    write_sorted(tmp_path / "sorted.zarr", table)
    assert files(tmp_path / "whole.zarr") == files(tmp_path / "sorted.zarr")
    survey = Survey.open(tmp_path / "sorted.zarr")
    assert len(survey.partitions) > 4
    assert survey.attributes.appends[0].written == "2001-09-09T01:46:40+00:00"
    assert np.array_equal(survey.column("mag"), table.columns["mag"])
    assert survey.column("kind").tolist() == table.columns["kind"].tolist()
    assert np.array_equal(survey.column("input_row"), table.input_row)


def test_rows_of_another_pixel_unknown_text_and_repeated_ids_are_refused(tmp_path):
    table = table_of(3000)
    healpix_29 = tile_of(table.ra, table.dec, 29)
    spans = split_sky(healpix_29, 2048)

    def write(table: SurveyTable, kinds: list[str] = KINDS, spans: list[Span] = spans) -> None:
        parts = (part_of(table, span) for span in spans)
        info = SurveyInfo(name="s")
        write_sorted_survey(tmp_path / "s.zarr", SortedSurvey(spans, parts, {"kind": kinds}), info)

    moved = [Span(span.pixel, span.start, span.stop) for span in spans]
    moved[0] = Span(spans[1].pixel, spans[0].start, spans[0].stop)
    with pytest.raises(ValueError, match="not those of pixel"):
        write(table, spans=moved)
    with pytest.raises(InputError, match="none of elliptical, spiral"):
        write(table, KINDS[1:])
    table.ids[-1] = table.ids[0]
    with pytest.raises(InputError, match="not unique"):
        write(table)
    assert not list(tmp_path.iterdir())


def test_a_spool_holds_one_window(tmp_path):
    like = {"a": np.zeros(0), "b": np.zeros((0, 5), dtype=np.uint8)}
    rows = 40 * layout.rows_per_chunk(13)
    numbers = np.arange(1000.0)
    spool = ColumnSpool(rows, like, tmp_path)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for start in range(0, rows, 1000):
        count = min(1000, rows - start)
        text = np.repeat(np.arange(start, start + count, dtype=np.int64)[:, None] % 256, 5, axis=1)
        spool.add({"a": numbers[:count] + start, "b": text.astype(np.uint8)})
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 1 << 20
    for first in (0, 16 * spool.window, 32 * spool.window):
        stop = min(first + 16 * spool.window, rows)
        assert np.array_equal(spool.read("a", first, stop), np.arange(first, stop))
        assert np.array_equal(spool.read("b", first, stop)[:, 4], np.arange(first, stop) % 256)
    assert not list(tmp_path.iterdir())  # the file has no name: a kill leaves nothing
    spool.close()
