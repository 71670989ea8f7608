"""Damaging survey stores, and signing them again as a stranger would."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from catalogs.cutouts.layout import attributes_digest
from catalogs.cutouts.store import Survey


def sign(store: Path) -> None:
    """Make the digests of the metadata right again, from the arrays up to the root."""
    root = json.loads((store / "zarr.json").read_text())
    own = root["attributes"]["skytally"]
    for append in own["appends"]:
        folder = store / "appends" / append["name"]
        for group in (folder / "columns", folder):
            document = json.loads((group / "zarr.json").read_text())
            nodes = document["attributes"]["skytally"]["nodes"]
            for name in nodes:
                nodes[name] = _sha256(group / name / "zarr.json")
            (group / "zarr.json").write_text(json.dumps(document))
        append["metadata"] = _sha256(folder / "zarr.json")
    own["digest"] = attributes_digest(own)
    (store / "zarr.json").write_text(json.dumps(root))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def damaged(content: bytes) -> Iterator[tuple[str, bytes | None]]:
    """Yield what may become of a file: flipped bytes at several places, half of it, gone."""
    size = len(content)
    for at, mask in ((0, 0x80), (size // 3, 0x01), (4 * size // 5, 0x40), (size - 1, 0x02)):
        changed = bytearray(content)
        changed[at] ^= mask
        yield f"byte {at} ^ {mask:#x}", bytes(changed)
    yield "cut to half", content[: size // 2]
    yield "removed", None


def contents(survey: Survey) -> dict[str, Any]:
    """Read a survey as an annotation does: what is known of each object, by append and row.

    Images whose bytes are not those that were written have the value None.
    """
    found: dict[str, Any] = {"rows": survey.rows, "uuid": survey.attributes.uuid}
    for partition in survey.partitions:
        rows = survey.read_rows(partition)
        columns = survey.read_columns(partition, survey.column_names)
        images: list[bytes | None] = []
        for block in survey.read_images(partition, rows, at_once=50):
            assert block.start == len(images)
            for chunk in block.damaged:
                found[f"damaged {chunk}"] = True
            for i, data in enumerate(block.files):
                images.append(None if i in block.problems else np.asarray(data).tobytes())
        for i in range(partition.rows):
            found[f"{partition.append} {rows.input_row[i]}"] = (
                np.asarray(rows.id)[i].tolist(),
                float(rows.ra[i]),
                float(rows.dec[i]),
                int(rows.height[i]),
                int(rows.width[i]),
                survey.night(partition.append),
                *(repr(columns[name][i]) for name in sorted(columns)),
                images[i],
            )
    for append in survey.attributes.appends:
        table = survey.quarantine(append.name)
        found[f"{append.name} quarantine"] = None if table is None else table.to_pylist()
    return found
