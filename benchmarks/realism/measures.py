"""What is measured on a picture, the same way on simulated and on real ones.

Concentration, asymmetry and half-light radius follow Conselice 2003 (ApJS 147, 1) and
statmorph (Rodriguez-Gomez et al. 2019, MNRAS 483, 4140), which takes .35 s a picture and is the
oracle of the tests. They are measured on the mean of the three planes, which is stretched by asinh
and clipped at zero: no number here is that of the literature, and only differences between samples
mean anything.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.stats import sigma_clipped_stats
from numpy.typing import NDArray
from photutils.segmentation import detect_sources
from scipy import ndimage

from benchmarks.realism.samples import Sample

# What is compared, with its unit; the rest of a row is bookkeeping.
MEASURES = {
    "concentration": "C = 5 log10(r80 / r20)",
    "asymmetry": "A under half a turn, sky taken off",
    "half-light radius": "px",
    "half-light over frame": "radius over the picture's side",
    "axis ratio": "b / a of the second moments",
    "peak": "grey levels over the sky",
    "colour g-r": "-2.5 log10(blue / green plane) inside the half-light radius",
    "colour r-i": "-2.5 log10(green / red plane), likewise",
    "band offset": "px between centroids of the blue and the red plane",
    "sky level": "grey levels, mean of the planes",
    "sky colour": "red minus blue plane, grey levels",
    "sky gradient": "largest difference between quadrants, grey levels",
    "sky noise": "grey levels, mean over the planes",
    "colour noise": "standard deviation of red minus blue, grey levels",
    "noise correlation 1 px": "of the green plane, mean of x and y",
    "noise correlation 2 px": "likewise",
    "noise correlation of bands": "red with green plane",
    "other sources": "number in the frame",
}
# Conselice 2003: light is counted to 1.5 Petrosian radii, where the surface brightness is .2 of
# the mean within.
PETROSIAN = 0.2
EXTENT = 1.5


def measure_all(sample: Sample) -> pd.DataFrame:
    """Measure every picture: one row each, indexed by id; nan where there is nothing to measure."""
    rows = [measure(picture) for picture in sample.pictures]
    return pd.DataFrame(rows, index=pd.Index(sample.ids, name="id"))


def measure_kept(name: str, sample: Sample, folder: Path) -> pd.DataFrame:
    """Measure a sample, or read what this code measured on the same pictures before."""
    digest = hashlib.sha256(Path(__file__).read_bytes() + sample.pictures.tobytes()).hexdigest()
    file = folder / "measures" / f"{name}-{digest[:16]}.parquet"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        measure_all(sample).to_parquet(file)
    return pd.read_parquet(file)


def measure(picture: NDArray[np.uint8]) -> dict[str, float]:
    """Measure one picture (n, n, 3); see ``MEASURES``."""
    planes = picture.astype(np.float64)
    light = planes.mean(axis=2)
    size = len(light)
    _, sky, noise = sigma_clipped_stats(light, sigma=3)
    # Half a grey level: pictures are whole numbers, and a flat sky has no noise at all.
    smooth = ndimage.gaussian_filter(light - sky, size / 60)
    noise = max(float(sigma_clipped_stats(smooth, sigma=3)[2]), 0.25)
    found = detect_sources(smooth, 3 * noise, n_pixels=max(5, size * size // 1500))
    labels = np.zeros(light.shape, int) if found is None else found.data
    near = slice(size // 2 - size // 30, size // 2 + size // 30)
    central = np.bincount(labels[near, near].ravel(), minlength=2)
    central[0] = 0
    label = int(central.argmax())
    row = {name: float("nan") for name in MEASURES}
    row |= _sky(planes, labels)
    row["other sources"] = float(len(np.unique(labels[labels > 0])) - (label > 0))
    if label > 0:
        row |= _structure(planes, labels, label)
    return row


def _structure(
    planes: NDArray[np.float64], labels: NDArray[np.int64], label: int
) -> dict[str, float]:
    own, others = labels == label, (labels > 0) & (labels != label)
    empty = ~ndimage.binary_dilation(labels > 0, iterations=3)
    if empty.sum() < 100:
        return {}
    sky = np.array([np.median(planes[..., k][empty]) for k in range(3)])
    light = (planes - sky).mean(axis=2)
    start = ndimage.center_of_mass(np.where(own, np.maximum(light, 0), 0))
    petrosian = _petrosian(light, others, start)
    asymmetry, centre = _asymmetry(light, others, empty, start, EXTENT * petrosian)
    radius = _radii(light.shape, centre)
    usable = ~others & (radius <= EXTENT * petrosian)
    order = np.argsort(radius[usable])
    growth = np.cumsum(light[usable][order])
    if not growth[-1] > 0:
        return {}
    # Neighbours are cut out: the area that is left at each radius gives the radius itself.
    at = np.interp(
        [0.2, 0.5, 0.8], np.maximum.accumulate(growth) / growth[-1], radius[usable][order]
    )
    inside = (radius <= at[1]) & ~others
    red, green, blue = ((planes[..., k] - sky[k])[inside].sum() for k in range(3))
    return {
        "concentration": 5 * np.log10(at[2] / at[0]),
        "asymmetry": asymmetry,
        "half-light radius": float(at[1]),
        "half-light over frame": float(at[1] / len(light)),
        "axis ratio": _axis_ratio(np.where(own, np.maximum(light, 0), 0)),
        "peak": float(ndimage.uniform_filter(light, 3)[inside].max()),
        "colour g-r": _magnitudes(blue, green),
        "colour r-i": _magnitudes(green, red),
        "band offset": _offset(planes - sky, inside),
    }


def _radii(shape: tuple[int, ...], centre: tuple[float, float]) -> NDArray[np.float64]:
    y, x = np.indices(shape)
    return np.hypot(y - centre[0], x - centre[1])


def _petrosian(
    light: NDArray[np.float64], others: NDArray[np.bool_], centre: tuple[float, float]
) -> float:
    """Return the Petrosian radius [px], at most half of the picture's side."""
    rings = np.where(others, -1, _radii(light.shape, centre).astype(int)).ravel() + 1
    flux = np.bincount(rings, light.ravel())[1:]
    area = np.bincount(rings)[1:]
    most = len(light) // 2
    mean = np.cumsum(flux)[:most] / np.maximum(np.cumsum(area)[:most], 1)
    # The brightness at a ring's outer edge is the mean of this ring and the next.
    ring = flux / np.maximum(area, 1)
    edge = (ring[:most] + ring[1 : most + 1]) / 2
    below = np.flatnonzero(edge[1:] < PETROSIAN * mean[1:])
    return float(below[0] + 2 if len(below) else most)


def _asymmetry(
    light: NDArray[np.float64],
    others: NDArray[np.bool_],
    empty: NDArray[np.bool_],
    start: tuple[float, float],
    reach: float,
) -> tuple[float, tuple[float, float]]:
    """Return A = sum |I - I turned by 180 deg| / sum |I|, less the sky's, and the centre.

    The centre is the one of least asymmetry on a grid of half pixels: turned about such a point
    a picture need not be interpolated.
    """
    pixels = light[empty]
    sky = float(np.abs(pixels - np.random.default_rng(0).permutation(pixels)).mean())
    near = np.round(np.multiply(start, 2)).astype(int)
    tried: dict[tuple[int, int], float] = {}
    best = (int(near[0]), int(near[1]))
    while True:  # downhill; the picture's edge and the falling value end it
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                at = (best[0] + dy, best[1] + dx)
                if at not in tried:
                    tried[at] = _turned(light, others, at, reach, sky)
        found = min(tried, key=tried.__getitem__)
        if found == best:
            return tried[best], (best[0] / 2, best[1] / 2)
        best = found


def _turned(
    light: NDArray[np.float64],
    others: NDArray[np.bool_],
    twice: tuple[int, int],
    reach: float,
    sky: float,
) -> float:
    """Return the asymmetry about a centre given in half pixels."""
    spans = [
        slice(max(0, c - n + 1), min(n, c + 1)) for c, n in zip(twice, light.shape, strict=True)
    ]
    here = tuple(spans)
    part, hidden = light[here], others[here]
    hidden = hidden | hidden[::-1, ::-1]
    used = (_radii(light.shape, (twice[0] / 2, twice[1] / 2))[here] <= reach) & ~hidden
    total = np.abs(part[used]).sum()
    if total == 0:
        return float("inf")
    return float((np.abs(part - part[::-1, ::-1])[used].sum() - sky * used.sum()) / total)


def _axis_ratio(light: NDArray[np.float64]) -> float:
    y, x = (values - values.mean() for values in np.indices(light.shape).astype(np.float64))
    total = light.sum()
    y, x = y - (y * light).sum() / total, x - (x * light).sum() / total
    moments = [[(a * b * light).sum() for a in (y, x)] for b in (y, x)]
    small, large = np.linalg.eigvalsh(moments)
    return float(np.sqrt(max(small, 0) / large))


def _magnitudes(a: float, b: float) -> float:
    return -2.5 * np.log10(a / b) if min(a, b) > 0 else float("nan")


def _offset(planes: NDArray[np.float64], inside: NDArray[np.bool_]) -> float:
    centres = [ndimage.center_of_mass(np.where(inside, planes[..., k], 0)) for k in (0, 2)]
    return float(np.hypot(*np.subtract(*centres)))


def _sky(planes: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, float]:
    """Measure the pixels in which nothing is seen."""
    size = len(planes)
    empty = ~ndimage.binary_dilation(labels > 0, iterations=max(3, size // 30))
    if empty.sum() < 100:
        return {}
    level = np.array([np.median(planes[..., k][empty]) for k in range(3)])
    spread = np.array([planes[..., k][empty].std() for k in range(3)])
    empty &= (np.abs(planes - planes[empty].mean(axis=0)) < 4 * spread + 1).all(axis=2)
    mean = planes[empty].mean(axis=0)
    half = size // 2
    corners = [(slice(a, a + half), slice(b, b + half)) for a in (0, half) for b in (0, half)]
    quadrants = [
        planes[corner].mean(axis=2)[empty[corner]].mean()
        for corner in corners
        if empty[corner].sum() > 50
    ]
    red, green, blue = (planes[..., k] - mean[k] for k in range(3))
    noise = planes[empty].std(axis=0)
    return {
        "sky level": float(level.mean()),
        "sky colour": float(mean[0] - mean[2]),
        "sky gradient": float(np.ptp(quadrants)) if quadrants else float("nan"),
        "sky noise": float(noise.mean()),
        "colour noise": float((red - blue)[empty].std()),
        "noise correlation 1 px": _shifted(green, empty, 1),
        "noise correlation 2 px": _shifted(green, empty, 2),
        "noise correlation of bands": _correlation(red[empty], green[empty]),
    }


def _shifted(plane: NDArray[np.float64], empty: NDArray[np.bool_], by: int) -> float:
    both_x, both_y = empty[:, by:] & empty[:, :-by], empty[by:] & empty[:-by]
    along_x = _correlation(plane[:, by:][both_x], plane[:, :-by][both_x])
    along_y = _correlation(plane[by:][both_y], plane[:-by][both_y])
    return (along_x + along_y) / 2


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    spread = a.std() * b.std()
    return float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 0 else float("nan")
