"""Radii of Galaxy Zoo 1's galaxies from their pictures, for ``skytally experiment debias``.

    python -m benchmarks.gz1_radii --data ../shared/data --to out/gz1-measured.csv

A picture's scale follows its galaxy: 0.024 Petrosian radii a pixel (Lintott et al. 2008), so the
galaxy's radius in pixels says nothing. But noise is of the detector's pixels of .396 arcsec,
enlarged with the rest: the smaller the galaxy, the further noise is correlated. How far is
calibrated on the galaxies whose Petrosian radius is known; each, predicted from the others, says
how well.

Two colours and the concentration are measured, too: what the class depends on besides.
"""

import argparse
import csv
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FloatArray = NDArray[np.float64]

BLOCK, STEP, QUIETEST, BEYOND = 64, 32, 12, 110  # px; how many blocks, and how far from the centre
LAGS = 2  # px
RADIUS = 1 / 0.024  # px, Petrosian
INNER = 14  # px
LEAST = 3.0  # arcsec; smaller ones are beyond what was calibrated
COLUMNS = ("petro_radius", "red_blue", "green_blue", "concentration")


def noise_correlation(image: FloatArray) -> FloatArray:
    """Return the noise's correlation at lags of 1 and 2 px, the median over quiet blocks of sky.

    Parameters
    ----------
    image : ndarray of float64, shape (h, w, 3)
    """
    grey = image.sum(axis=2)
    height, width = grey.shape
    blocks = [
        grey[y : y + BLOCK, x : x + BLOCK]
        for y in range(0, height - BLOCK, STEP)
        for x in range(0, width - BLOCK, STEP)
        if math.hypot(y + BLOCK / 2 - height / 2, x + BLOCK / 2 - width / 2) >= BEYOND
    ]
    blocks.sort(key=np.std)
    found = []
    for block in blocks[:QUIETEST]:
        b = block - block.mean()
        power = (b * b).mean()
        if power > 0:
            sides = [((b[:, k:] * b[:, :-k]).mean(), (b[k:] * b[:-k]).mean()) for k in LAG]
            found.append(np.mean(sides, axis=1) / power)
    return np.median(found, axis=0) if found else np.full(LAGS, np.nan)


LAG = range(1, LAGS + 1)


def design(correlation: FloatArray) -> FloatArray:
    """Return one, correlations, and their squares: ln radius is linear in them; (n, 5)."""
    return np.column_stack([np.ones(len(correlation)), correlation, correlation**2])


def calibrate(correlation: FloatArray, radius: FloatArray) -> tuple[FloatArray, float]:
    """Fit ln radius by least squares; also the scatter of each predicted from all others.

    Parameters
    ----------
    correlation : ndarray of float64, shape (n, 2)
    radius : ndarray of float64, shape (n,)
        Arcsec.
    """
    x, y = design(correlation), np.log(radius)
    inverse = np.linalg.pinv(x)
    weights = inverse @ y
    leverage = np.einsum("ij,ji->i", x, inverse)
    left_out = (y - x @ weights) / (1 - leverage)
    return weights, float(left_out.std())


def predict(correlation: FloatArray, weights: FloatArray) -> FloatArray:
    """Return radii [arcsec] of pictures, shape (n,); nan below what can be told."""
    radius = np.exp(design(correlation) @ weights)
    return np.where(radius >= LEAST, radius, np.nan)


def light(image: FloatArray) -> FloatArray:
    """Return ln(red/blue) and ln(green/blue) of a galaxy's light, and the inner share of it."""
    height, width, _ = image.shape
    y, x = np.mgrid[:height, :width]
    away = np.hypot(y - height // 2, x - width // 2)
    above = image - np.median(image[away >= BEYOND], axis=0)
    red, green, blue = np.maximum(above[away < RADIUS].sum(axis=0), 1.0)
    inner = above[away < INNER].sum() / max(above[away < RADIUS].sum(), 1.0)
    return np.array([math.log(red / blue), math.log(green / blue), inner])


def known_radii(data: Path) -> dict[str, float]:
    """Return Petrosian radii [arcsec] in g by object identifier."""
    found = {}
    for file in sorted((data / "catalogs" / "gz1_petro").glob("*.csv")):
        with file.open() as stream:
            for row in csv.DictReader(stream):
                found[row["objid"]] = float(row["petroRad_g"])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--to", type=Path, required=True, help="CSV: objects.csv and the columns")
    given = parser.parse_args()
    with (given.data / "gz1" / "objects.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    measured = []
    for row in rows:
        with Image.open(given.data / "gz1" / "images" / f"{row['objid']}.jpeg") as picture:
            image = np.asarray(picture.convert("RGB"), np.float64)
        measured.append(np.concatenate([noise_correlation(image), light(image)]))
    table = np.array(measured)
    correlation, rest = table[:, :LAGS], table[:, LAGS:]
    radii = known_radii(given.data)
    known = np.array([radii.get(row["objid"], np.nan) for row in rows])
    used = np.isfinite(known) & np.isfinite(correlation).all(axis=1)
    weights, scatter = calibrate(correlation[used], known[used])
    values = np.column_stack([predict(correlation, weights), rest])
    for row, numbers in zip(rows, values.tolist(), strict=True):
        told = ["" if math.isnan(number) else f"{number:.4g}" for number in numbers]
        row.update(zip(COLUMNS, told, strict=True))
    with given.to.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(
        f"{used.sum()} known radii of {known[used].min():.1f} to {known[used].max():.1f} arcsec; "
        f"scatter of each from the others {100 * scatter:.1f}%; "
        f"{np.isfinite(values[:, 0]).sum()} of {len(rows)} measured, "
        f"{np.sum(values[:, 0] < known[used].min())} of them smaller than any known"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
