"""What must be true of a catalog, checked with nothing of the engine: lists of what is not."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from surveys import tree

Files = Mapping[str, bytes]
"""The files of a catalog by name, as they lie on a disk or would after a crash."""


def files_of(catalog: Path) -> dict[str, bytes]:
    """Read every file of a catalog."""
    return {
        path.relative_to(catalog).as_posix(): path.read_bytes()
        for path in sorted(catalog.rglob("*"))
        if path.is_file()
    }


def rows_of(catalog: Path) -> list[dict[str, Any]]:
    """Read the rows of every pixel's file, whatever else the catalog says of itself."""
    files = sorted((catalog / "dataset").rglob("Npix=*.parquet"))
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def differences(catalog: Path, clean: Path) -> list[str]:
    """Return which files are not those of an uninterrupted run."""
    found, expected = tree(catalog), tree(clean)
    absent = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    more = [f"{name} should not be there" for name in sorted(found.keys() - expected.keys())]
    both = sorted(expected.keys() & found.keys())
    return absent + more + [f"{name} differs" for name in both if found[name] != expected[name]]


def false_receipts(files: Files) -> list[str]:
    """Return which pixels' newest receipts name data that are absent, short or other ones.

    The file of a pixel that a later night rewrites may still wait in ``run/next``.
    """
    newest: dict[str, str] = {}
    for name in sorted(name for name in files if name.startswith("run/receipts/")):
        if name.endswith(".json"):
            newest[name.rpartition("/")[2].split(".")[0]] = name
    wrong = []
    for pixel, name in newest.items():
        try:
            receipt = json.loads(files[name])
            file, size, digest = receipt["file"], receipt["bytes"], receipt["sha256"]
            rows = sum(part["rows"] for part in receipt["parts"])
        except (ValueError, KeyError, TypeError) as error:
            wrong.append(f"{name} cannot be read: {error!r}")
            continue
        waiting = files.get(f"run/next/{pixel}.parquet")
        content = files.get(file)
        if waiting is not None and hashlib.sha256(waiting).hexdigest() == digest:
            content = waiting
        if content is None:
            wrong.append(f"{name} names {file}, which is absent")
        elif len(content) != size:
            wrong.append(f"{name} names {file} of {size} bytes, which has {len(content)}")
        elif hashlib.sha256(content).hexdigest() != digest:
            wrong.append(f"{name} names {file} with another digest")
        elif pq.read_metadata(io.BytesIO(content)).num_rows != rows:
            wrong.append(f"{name} speaks of {rows} rows, {file} has others")
    return wrong
