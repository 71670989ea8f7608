"""Surveys with cutouts that are bad in every way, and what must become of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from surveys import encode, scattered, small_image

from catalogs.cutouts.append import SurveyTable
from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, write_survey

Row = dict[str, Any]
CHECKSUM = "checksum"  # bytes that change after they were stored
ANSWERS = ("p_spiral", "p_elliptical", "label", "confidence")


def spoiled(row: int, kind: str, size: int) -> dict[str, bytes]:
    """Return what may lie in a row instead of its image, by what is wrong with it."""
    good = encode(small_image(row, size), kind)
    found = {
        "truncated": good[: len(good) // 2],
        "empty": b"",
        "too small": encode(small_image(row, 10), kind),
        "gif": encode(small_image(row, size), "GIF"),
        "text": b"404 Not Found\n",
        "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
        CHECKSUM: good,
    }
    if kind == "PNG":  # announces 65,536 x 65,536 pixels
        found["bomb"] = good[:16] + b"\x00\x01\x00\x00" * 2 + good[24:]
    else:  # 65,500 x 65,500, in the start-of-frame segment
        at = good.index(b"\xff\xc0") + 5
        found["bomb"] = good[:at] + b"\xff\xdc" * 2 + good[at + 4 :]
    return found


def choose(rows: int, share: float, kind: str, size: int) -> dict[int, tuple[str, bytes]]:
    """Choose so many rows, and for each in turn what is wrong with it."""
    count = max(round(rows * share), 1)
    chosen = np.random.default_rng(count).choice(rows, count, replace=False).tolist()
    found = {}
    for i, row in enumerate(chosen):
        ways = spoiled(row, kind, size)
        way = sorted(ways)[i % len(ways)]
        found[row] = (way, ways[way])
    return found


def write_with(
    to: Path, rows: int, kind: str, size: int, bad: Mapping[int, tuple[str, bytes]]
) -> None:
    """Write a survey in which some rows hold other bytes than an image."""

    def images(chunks: Sequence[NDArray[np.int64]]) -> Iterator[list[bytes]]:
        for chunk in chunks:
            yield [
                bad[row][1] if row in bad else encode(small_image(row, size), kind)
                for row in chunk.tolist()
            ]

    ra, dec = scattered(rows)
    write_survey(to, SurveyTable(np.arange(rows), ra, dec), images, SurveyInfo(name="bad"))
    _change_stored(to, {row for row, (way, _) in bad.items() if way == CHECKSUM})


def _change_stored(store: Path, chosen: set[int]) -> None:
    """Change a byte of images where they lie; the shard's own checksum is made right again."""
    survey = Survey.open(store)
    root: Any = zarr.open_group(str(store), mode="r+", use_consolidated=False)
    for partition in survey.partitions:
        rows = survey.read_rows(partition)
        blob = root[f"appends/{partition.append}/blob"]
        for i in np.flatnonzero(np.isin(rows.input_row, list(chosen))).tolist():
            at = int(rows.offset[i]) + int(rows.length[i]) // 2
            blob[at : at + 1] = np.asarray(blob[at : at + 1]) ^ 1


def violations(found: Sequence[Row], clean: Sequence[Row], bad: Mapping[int, str]) -> list[str]:
    """Return what is wrong with a catalog: rows lost or made, neighbours changed, bad ones used.

    Parameters
    ----------
    found, clean : sequence of dict
        The catalog's rows, and those of the same survey without anything bad.
    bad : mapping of int to str
        Rows of the input that cannot be used, and a word that the reason must hold.
    """
    expected = {row["input_row"]: row for row in clean}
    numbers = sorted(row["input_row"] for row in found)
    wrong = [] if numbers == sorted(expected) else [f"{len(found)} rows of {len(clean)}"]
    for row in found:
        number = row["input_row"]
        if number not in bad:
            if row != expected[number]:
                wrong.append(f"row {number} differs: {row}")
            continue
        if any(row[name] is not None for name in ANSWERS):
            wrong.append(f"row {number} has an answer")
        if row["status"] == "ok" or not row["reason"] or bad[number] not in row["reason"]:
            wrong.append(f"row {number} is {row['status']} ({row['reason']}): {bad[number]}")
    return wrong
