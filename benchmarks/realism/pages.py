"""The pages to look at: a gallery of simulated galaxies, and pairs of real and simulated ones.

Each page is one file that needs nothing else. Real pictures are in them: they belong into a
folder that is not committed.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from jinja2 import Environment
from numpy.typing import NDArray
from PIL import Image

from benchmarks.realism.measures import MEASURES
from benchmarks.realism.samples import Sample

mpl.use("Agg")
from matplotlib import pyplot as plt

CREDIT = """
Real images: Sloan Digital Sky Survey (SDSS).
Classes: Galaxy Zoo 1 (Lintott et al. 2008, 2011)."""
GAP = 4  # px between pictures
PAGE = Environment(autoescape=True).from_string("""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ title }}</title>
<style>
body { background: #16181c; color: #d8dade; font: 15px/1.5 system-ui, sans-serif;
       max-width: 1120px; margin: 2em auto; padding: 0 1em }
img { max-width: 100%; display: block; margin: .5em 0 2em }
h1, h2 { font-weight: 500 }
.plot { background: white }
</style>
<h1>{{ title }}</h1>
<p>{{ text }}</p>
{% for name, note, image, kind in parts %}
<h2>{{ name }}</h2><p>{{ note }}</p>
<img class="{{ kind }}" alt="{{ name }}" src="data:image/png;base64,{{ image }}">
{% endfor %}
</html>
""")


def sheet(pictures: Sequence[NDArray[np.uint8]], columns: int) -> Image.Image:
    """Lay pictures of one size out in rows."""
    side = len(pictures[0]) + GAP
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * side - GAP, rows * side - GAP), (60, 64, 72))
    for i, picture in enumerate(pictures):
        page.paste(Image.fromarray(picture), (i % columns * side, i // columns * side))
    return page


def pairs(real: Sample, simulated: Sample, columns: int) -> Image.Image:
    """Lay pairs out, each a real galaxy above the simulated one of its size."""
    pictures: list[NDArray[np.uint8]] = []
    for start in range(0, len(real), columns):
        rows = slice(start, start + columns)
        for sample in (real, simulated):
            pictures += list(sample.pictures[rows])
            missing = columns - len(sample.pictures[rows])
            pictures += [np.zeros_like(sample.pictures[0])] * missing
    return sheet(pictures, columns)


def histograms(real: pd.DataFrame, simulated: pd.DataFrame) -> Image.Image:
    """Draw the distribution of every measure in both samples."""
    columns = 4
    rows = -(-len(MEASURES) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(14, 2.5 * rows))
    for axis in axes.flat[len(MEASURES) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, MEASURES, strict=False):
        values = [table[name].dropna().to_numpy() for table in (real, simulated)]
        low, high = np.quantile(np.concatenate(values), [0.01, 0.99])
        bins = np.linspace(low, high if high > low else low + 1, 25)
        for some, label in zip(values, ("real", "simulated"), strict=True):
            weight = np.full(len(some), 1 / len(some))
            axis.hist(some, bins, weights=weight, histtype="step", lw=1.6, label=label)
        axis.set_title(name, fontsize=10)
        axis.set_yticks([])
    axes.flat[0].legend(fontsize=8)
    figure.tight_layout()
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=80)
    plt.close(figure)
    return Image.open(sink)


def write_page(
    to: Path, title: str, text: str, parts: Mapping[str, tuple[str, Image.Image, str]]
) -> None:
    """Write ``to`` and, beside it, each part as a PNG file.

    Parameters
    ----------
    to : Path
        ``NAME.html``.
    title, text : str
    parts : mapping of str to (note, image, "sheet" or "plot")
        By heading.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    shown = []
    for name, (note, image, kind) in parts.items():
        file = to.with_name(f"{to.stem}-{name.replace(' ', '-')}.png")
        image.save(file)
        shown.append((name, note, base64.b64encode(file.read_bytes()).decode(), kind))
    to.write_text(PAGE.render(title=title, text=text, parts=shown))
