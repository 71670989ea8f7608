"""The page: pictures inline, nothing loaded, all text escaped."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from importlib import resources

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from training.checkpoint import Run
from training.look.inside import Maps
from training.models.base import multiply_accumulates, parameter_count
from training.models.registry import build

SIDE = 96  # px of a galaxy's picture
FILTERS, ACROSS = 64, 16


@dataclass(frozen=True, slots=True)
class Shown:
    """A row of galaxies.

    Attributes
    ----------
    title : str
    pictures : list of ndarray of uint8, shape (s, s, 3)
    captions : list of str
    """

    title: str
    pictures: list[NDArray[np.uint8]]
    captions: list[str]


def render(
    title: str,
    run: Run,
    filters: NDArray[np.float32] | None,
    examples: list[tuple[str, Tensor, list[Maps]]],
    units: list[tuple[int, list[Shown]]],
    ends: list[Shown],
    galaxies: int,
) -> str:
    """Return the page of one network."""
    here = resources.files("training.look")
    audits = resources.files("catalogs.audit.report") / "templates"
    style = (audits / "page.css").read_text(encoding="utf-8")
    style += (here / "page.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    network = build(run.settings.model, run.settings.shape, run.answers.outputs)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.from_string((here / "page.html.j2").read_text(encoding="utf-8")).render(
        title=title,
        model=run.settings.model,
        survey=run.data.survey,
        credit=run.settings.credit,
        metrics=list(run.result.metrics.items()),
        parameters=parameter_count(network),
        macs=multiply_accumulates(network),
        filters=None if filters is None else filter_sheet(filters),
        filter_count=0 if filters is None else len(filters),
        filter_side=0 if filters is None else filters.shape[-1],
        examples=[
            (said, picture(image.numpy()), [(layer, map_sheet(layer)) for layer in layers])
            for said, image, layers in examples
        ],
        units=[(unit, [_told(row) for row in rows]) for unit, rows in units],
        ends=[_told(row) for row in ends],
        galaxies=galaxies,
        style=Markup(style),  # noqa: S704 - our own files, not the user's
        style_hash=f"sha256-{digest}",
    )


def picture(image: NDArray[np.uint8]) -> str:
    """Return a galaxy as an inline JPEG."""
    small = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return _inline(small, "JPEG", quality=85)


def filter_sheet(filters: NDArray[np.float32]) -> str:
    """Return filters as colours about grey, each to its own scale, (m, 3, k, k)."""
    shown = filters[:FILTERS].transpose(0, 2, 3, 1)
    largest = np.abs(shown).max(axis=(1, 2, 3), keepdims=True)
    return _sheet(0.5 + 0.5 * shown / np.where(largest > 0, largest, 1.0))


def map_sheet(layer: Maps) -> str:
    """Return a layer's strongest maps, on the scale of the strongest values of all of them."""
    top = np.percentile(layer.strongest, 99.5) if layer.strongest.size else 0.0
    shown = np.clip(layer.strongest / (top if top > 0 else 1.0), 0.0, 1.0)
    return _sheet(shown[..., None].repeat(3, axis=3))


def _sheet(tiles: NDArray[np.floating]) -> str:
    """Return tiles (m, k, k, 3) in 0..1 in rows of 16, a pixel apart, as an inline PNG."""
    count, height, width, _ = tiles.shape
    rows = -(-count // ACROSS)
    across = min(ACROSS, count)
    sheet = np.zeros((rows * (height + 1) - 1, across * (width + 1) - 1, 4), dtype=np.uint8)
    for i, tile in enumerate(tiles):
        y, x = (i // ACROSS) * (height + 1), (i % ACROSS) * (width + 1)
        sheet[y : y + height, x : x + width, :3] = np.round(255 * tile)
        sheet[y : y + height, x : x + width, 3] = 255
    return _inline(Image.fromarray(sheet), "PNG")


def _inline(image: Image.Image, kind: str, **options: int) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _told(row: Shown) -> tuple[str, list[tuple[str, str]]]:
    return row.title, [(picture(p), c) for p, c in zip(row.pictures, row.captions, strict=True)]
