"""Writes an experiment's product: Parquet, JSON, figures, and one page that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import json
import platform
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup, escape

from catalogs.audit.report.plots import STYLE
from catalogs.storage.disk import Disk
from experiments.product import Cell, Drawing, Product, Table, plain, shown
from experiments.steps import code_of

SCHEMA_VERSION = 1
RESULTS, PAGE = "results.json", "report.html"
BAND = 112  # letters beside each other in 1,000 pixels, and in print
BETWEEN, WRAPPED = 1.3, 24  # letters between columns; of a text that is broken into lines
PACKAGES = ("catalogs", "training", "export", "engine", "experiments")
USED = ("skytally", "numpy", "scipy", "scikit-learn", "torch", "onnxruntime", "pyarrow", "zarr")


def write(out: Path, name: str, product: Product, made: dict[str, Any]) -> None:
    """Write all files of an experiment, the page last.

    Parameters
    ----------
    out : Path
        The experiment's folder.
    name : str
        Of the experiment.
    product : Product
    made : dict
        How it was made, as JSON values: ``title``, ``settings``, ``survey``, ``again``,
        ``steps``.
    """
    disk = Disk(out)
    for table in product.tables:
        disk.write(f"{table.name}.parquet", _parquet(table))
    vectors = {}
    for drawing in product.drawings:
        vectors[drawing.name], pixels = _drawn(drawing)
        disk.write(f"{drawing.name}.svg", vectors[drawing.name])
        disk.write(f"{drawing.name}.png", pixels)
    made = made | {"versions": versions()}
    disk.write(RESULTS, (json.dumps(document(name, product, made), indent=1) + "\n").encode())
    disk.write(PAGE, page(name, product, made, vectors).encode())


def document(name: str, product: Product, made: dict[str, Any]) -> dict[str, Any]:
    """Return the content of ``results.json``."""
    tables = {
        table.name: {
            "title": table.title,
            "columns": dict(table.columns),
            "rows": [plain(row) for row in table.rows],
        }
        for table in product.tables
    }
    said: dict[str, Any] = plain(
        {
            "schema_version": SCHEMA_VERSION,
            "experiment": name,
            **made,
            "headline": product.headline,
            "findings": product.findings,
            "facts": product.facts,
            "tables": tables,
        }
    )
    return said


def page(name: str, product: Product, made: dict[str, Any], vectors: dict[str, bytes]) -> str:
    """Return the page: self-contained, all text escaped, its own style allowed by hash only."""
    here = resources.files("experiments")
    audits = resources.files("catalogs.audit.report") / "templates"
    style = (audits / "page.css").read_text(encoding="utf-8")
    style += (here / "page.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    images = {
        figure: f"data:image/svg+xml;base64,{base64.b64encode(vector).decode()}"
        for figure, vector in vectors.items()
    }
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.from_string((here / "page.html.j2").read_text(encoding="utf-8")).render(
        name=name,
        product=product,
        made=made,
        images=images,
        shown=shown,
        breakable=breakable,
        numeric=numeric,
        bands=bands,
        style=Markup(style),  # noqa: S704 - our own files, not the user's
        style_hash=f"sha256-{digest}",
        settings=json.dumps(made["settings"], indent=1),
    )


def breakable(name: str) -> Markup:
    """Return a column's name, escaped, that may be broken after its underscores."""
    return Markup("_<wbr>").join(escape(part) for part in name.split("_"))


def bands(table: Table) -> list[list[str]]:
    """Return a table's columns in parts that fit a page, each with the columns that name its rows.

    These are the first ones, of text. No column is left out.
    """
    names, right = list(table.columns), numeric(table)
    leading = next((k for k, name in enumerate(names) if name in right), len(names))
    keys = names[: max(leading, 1)]
    widths = {name: _width(table, name) for name in names}
    if sum(widths[name] for name in keys) > BAND / 2:
        keys = names[:1]
    start, rest = sum(widths[name] for name in keys), names[len(keys) :]

    def cut(most: float) -> list[list[str]]:
        parts, used = [list(keys)], start
        for name in rest:
            if used + widths[name] > most and len(parts[-1]) > len(keys):
                parts.append(list(keys))
                used = start
            parts[-1].append(name)
            used += widths[name]
        return parts

    count = len(cut(BAND))
    return next(found for most in range(1, BAND + 1) if len(found := cut(most)) == count)


def _width(table: Table, name: str) -> float:
    """Return how wide a column must be, in letters."""
    texts = [shown(row.get(name)) for row in table.rows]
    words = [part for text in texts for part in text.split()] + name.split("_")
    wrapped = max((min(len(text), WRAPPED) for text in texts), default=0)
    return max(wrapped, *map(len, words)) + BETWEEN


def numeric(table: Table) -> set[str]:
    """Return the columns of numbers, or of nothing, which are aligned on the right."""

    def number(value: Cell) -> bool:
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool))

    return {name for name in table.columns if all(number(row.get(name)) for row in table.rows)}


def versions() -> dict[str, str]:
    """Return the versions of what decides numbers here."""
    found = {"python": platform.python_version(), "machine": platform.platform()}
    for name in USED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    sources = hashlib.sha256("".join(map(code_of, PACKAGES)).encode()).hexdigest()
    return found | {"sources": sources[:12]}


def _parquet(table: Table) -> bytes:
    """Return a table as Parquet, the columns' meanings in their metadata."""
    columns = {name: [plain(row.get(name)) for row in table.rows] for name in table.columns}
    made = pa.table(columns)
    fields = [
        made.schema.field(name).with_metadata({"description": meaning})
        for name, meaning in table.columns.items()
    ]
    sink = io.BytesIO()
    pq.write_table(made.cast(pa.schema(fields, metadata={"title": table.title})), sink)
    return sink.getvalue()


def _drawn(drawing: Drawing) -> tuple[bytes, bytes]:
    """Return a figure as SVG and as PNG, the same bytes for the same figure."""
    svg, png = io.BytesIO(), io.BytesIO()
    with mpl.rc_context(STYLE):
        drawing.figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        drawing.figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
    return svg.getvalue(), png.getvalue()
