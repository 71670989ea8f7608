"""What lies beside a galaxy by chance: stars of the Galaxy, and small galaxies behind.

Drawn by hashing, for many galaxies at once: a galaxy's neighbours do not depend on which others
are drawn with it, and where stars are denser those of a thinner field are there too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtrik

from catalogs.sky import FloatArray, IntArray
from catalogs.synthetic import stars
from catalogs.synthetic.frame import MARGIN, NATIVE_PIXEL, Grid, Image
from catalogs.synthetic.light import add_points
from catalogs.synthetic.stars import BrightStar
from catalogs.synthetic.streams import uniforms

# Per square degree down to FAINTEST. Assumed: the cutouts of real spirals show so many sources.
GALAXY_DENSITY = 28_000.0
GALAXY_SLOPE = 0.4  # counts grow as 10^(.4 m); .6 for r < 16 (Yasuda et al. 2001, AJ 122, 1104)
BRIGHTEST_GALAXY = 16.5
CLEAR = 0.10  # of the frame's width: the deblender leaves no bright neighbour so close
CLEAR_MAG = 19.5
REAL_DENSITY = (GALAXY_DENSITY + float(stars.density(np.array(stars.EVEN_LATITUDE)))) / 3600
EXPONENTIAL = 1.67835  # half-light radius over scale length
REACH = 4.0  # effective radii to which a galaxy is drawn
BOX = 24  # pixels; half width beyond which a neighbour is not drawn

BRIGHT_STAR, STAR, GALAXY = range(3)
KINDS = 3

NEIGHBOUR = np.dtype(
    [
        ("owner", np.int64),  # row of the galaxy that it lies beside
        ("x", np.float64),  # arcsec from the galaxy: to the right, which is west,
        ("y", np.float64),  # and down, which is south
        ("kind", np.int64),  # BRIGHT_STAR, STAR or GALAXY
        ("mag", np.float64),  # r band
        ("gr", np.float64),
        ("ri", np.float64),
        ("re", np.float64),  # half-light radius, arcsec; 0 for a star
        ("q", np.float64),  # axis ratio
        ("angle", np.float64),  # of the major axis, rad
        ("level", np.float64),  # a star's own number, for what saturation leaves of it
    ]
)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Neighbours of n galaxies.

    Attributes
    ----------
    objects : ndarray of NEIGHBOUR
        By owner, then by kind.
    offsets : ndarray of int64, shape (3 n + 1,)
        Where each galaxy's neighbours of each kind begin.
    """

    objects: NDArray[np.void]
    offsets: IntArray

    def __getitem__(self, rows: slice) -> Neighbours:
        """Return the neighbours of consecutive galaxies."""
        start, stop, _ = rows.indices(len(self.offsets) // KINDS)
        offsets = self.offsets[KINDS * start : KINDS * stop + 1]
        objects = self.objects[offsets[0] : offsets[-1]].copy()
        objects["owner"] -= start
        return Neighbours(objects, offsets - offsets[0])

    def of(self, row: int, kind: int) -> NDArray[np.void]:
        """Return the neighbours of one galaxy that are of one kind."""
        start, stop = self.offsets[KINDS * row + kind : KINDS * row + kind + 2]
        return self.objects[start:stop]

    @property
    def counts(self) -> IntArray:
        """How many neighbours each galaxy has, shape (n,)."""
        return np.diff(self.offsets[::KINDS])


def draw_neighbours(
    index: IntArray, width: FloatArray, latitude: FloatArray, density: float, seed: int
) -> Neighbours:
    """Draw the neighbours of galaxies.

    Parameters
    ----------
    index : ndarray of int64, shape (n,)
        The galaxies' numbers, which decide what is drawn.
    width : ndarray of float64, shape (n,)
        Of their cutouts, arcsec.
    latitude : ndarray of float64, shape (n,)
        Galactic latitude, deg.
    density : float
        Per square arcmin down to ``FAINTEST`` at Galactic latitude 50 deg; ``REAL_DENSITY`` is
        the sky's, 0 is none.
    seed : int
    """
    amount = density / REAL_DENSITY
    side = width + 2 * MARGIN * NATIVE_PIXEL
    area = (side / 3600) ** 2 * amount
    dense = stars.density(latitude)
    bright = stars.density(latitude, stars.BRIGHT) * amount
    circle = np.pi * (stars.AUREOLE_RANGE / 3600) ** 2
    parts = [
        _galaxies(index, side, GALAXY_DENSITY * area, seed),
        _faint_stars(index, side, dense * area - bright * (side / 3600) ** 2, seed),
        _bright_stars(index, side, bright * circle, seed),
    ]
    objects = np.concatenate(parts)
    objects = objects[~_too_close(objects, width[objects["owner"]])]
    place = objects["owner"] * KINDS + objects["kind"]
    ends = np.cumsum(np.bincount(place, minlength=KINDS * len(index)))
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    return Neighbours(objects[np.argsort(place, kind="stable")], offsets)


class _Draws:
    """Numbers of the objects of one kind: as many objects per galaxy as Poisson says."""

    def __init__(self, kind: str, index: IntArray, mean: FloatArray, seed: int) -> None:
        # The smallest count whose cumulative probability reaches the number drawn.
        exact = pdtrik(uniforms(seed, f"number of {kind}", index), np.maximum(mean, 1e-12))
        counts = np.ceil(np.maximum(exact, 0)).astype(np.int64)
        self.owner = np.repeat(np.arange(len(index)), counts)
        self._which = np.arange(len(self.owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        self._index, self._kind, self._seed = index[self.owner], kind, seed
        self._next = 0

    def __call__(self) -> FloatArray:
        """Return the next uniform number of every object."""
        self._next += 1
        return uniforms(self._seed, self._kind, self._index, self._which * 16 + self._next)

    def table(self) -> NDArray[np.void]:
        """Return the objects, without properties."""
        out = np.zeros(len(self.owner), dtype=NEIGHBOUR)
        out["owner"] = self.owner
        return out


def _galaxies(index: IntArray, side: FloatArray, mean: FloatArray, seed: int) -> NDArray[np.void]:
    draw = _Draws("galaxies", index, mean, seed)
    out = draw.table()
    out["kind"] = GALAXY
    _scatter(out, draw, side)
    faintest = 10 ** (GALAXY_SLOPE * (BRIGHTEST_GALAXY - stars.FAINTEST))
    out["mag"] = stars.FAINTEST + np.log10(np.maximum(draw(), faintest)) / GALAXY_SLOPE
    red = draw()
    out["gr"], out["ri"] = 0.35 + 1.1 * red, 0.15 + 0.45 * red * draw() + 0.15 * red
    out["re"] = np.clip(10 ** (-0.13 * (out["mag"] - 20)) * (0.5 + 1.1 * draw()), 0.45, 4.0)
    out["q"], out["angle"] = 0.3 + 0.7 * draw(), np.pi * draw()
    return out


def _faint_stars(
    index: IntArray, side: FloatArray, mean: FloatArray, seed: int
) -> NDArray[np.void]:
    draw = _Draws("stars", index, mean, seed)
    out = draw.table()
    out["kind"] = STAR
    _scatter(out, draw, side)
    out["mag"] = stars.magnitudes(draw(), stars.BRIGHT, stars.FAINTEST)
    out["gr"], out["ri"] = stars.colours(out["mag"], draw(), draw())
    out["level"] = draw()
    return out


def _bright_stars(
    index: IntArray, side: FloatArray, mean: FloatArray, seed: int
) -> NDArray[np.void]:
    """Draw bright stars around: those whose aureole reaches the cutout."""
    draw = _Draws("bright stars", index, mean, seed)
    out = draw.table()
    distance, turn = stars.AUREOLE_RANGE * np.sqrt(draw()), 2 * np.pi * draw()
    out["x"], out["y"] = distance * np.cos(turn), distance * np.sin(turn)
    out["mag"] = stars.magnitudes(draw(), stars.COUNTS_AT[0], stars.BRIGHT)
    out["gr"], out["ri"] = stars.colours(out["mag"], draw(), draw())
    out["level"] = draw()
    half = side[out["owner"]] / 2
    beyond = np.hypot(
        np.maximum(np.abs(out["x"]) - half, 0), np.maximum(np.abs(out["y"]) - half, 0)
    )
    return out[stars.felt(out["mag"], beyond)]


def _scatter(out: NDArray[np.void], draw: _Draws, side: FloatArray) -> None:
    """Place objects anywhere in squares of ``side`` [arcsec] around their galaxies."""
    for axis in ("x", "y"):
        out[axis] = (draw() - 0.5) * side[out["owner"]]


def _too_close(objects: NDArray[np.void], width: FloatArray) -> NDArray[np.bool_]:
    near = np.hypot(objects["x"], objects["y"]) < CLEAR * width
    return np.asarray(near & (objects["mag"] < CLEAR_MAG))


def add_neighbours(scene: Image, grid: Grid, neighbours: Neighbours, row: int) -> None:
    """Add the neighbours of one galaxy to its scene, but for bright stars.

    Parameters
    ----------
    scene : ndarray of float32, shape (3, m, m)
        Nanomaggies per native pixel. Changed in place.
    grid : Grid
    neighbours : Neighbours
    row : int
        Of the galaxy.
    """
    points, disks = neighbours.of(row, STAR), neighbours.of(row, GALAXY)
    if len(points):
        x, y = grid.x0 + points["x"] / grid.scale, grid.y0 + points["y"] / grid.scale
        add_points(scene, x, y, _fluxes(points) * (NATIVE_PIXEL / grid.scale) ** 2)
    if len(disks):
        _add_disks(scene, grid, disks)


def bright_stars(neighbours: Neighbours, row: int) -> list[BrightStar]:
    """Return the bright stars beside one galaxy."""
    return [
        BrightStar(float(star["x"]), float(star["y"]), _fluxes(star), _levels(star["level"]))
        for star in neighbours.of(row, BRIGHT_STAR)
    ]


def _levels(number: float) -> NDArray[np.float64]:
    """Return what saturation leaves in g, r and i, .06 to 1, from one number."""
    digits = np.modf(number * np.array([1.0, 10.0, 100.0]))[0]
    return np.asarray(10 ** (1.2 * (digits - 1)))


def _fluxes(objects: NDArray[np.void]) -> NDArray[np.float64]:
    """Return g, r, i in nanomaggies, shape (3, ...)."""
    mag = objects["mag"]
    return np.asarray(
        10 ** (-0.4 * (np.stack([mag + objects["gr"], mag, mag - objects["ri"]]) - 22.5))
    )


def _add_disks(scene: Image, grid: Grid, disks: NDArray[np.void]) -> None:
    """Add exponential disks, each on the pixels around it."""
    m = scene.shape[-1]
    axes = np.arange(m, dtype=np.float32)
    x, y = grid.x0 + disks["x"] / grid.scale, grid.y0 + disks["y"] / grid.scale
    rate, q = EXPONENTIAL * grid.scale / disks["re"], disks["q"]  # per pixel
    half = np.minimum(np.ceil(REACH * disks["re"] / grid.scale) + 1, BOX)
    peak = _fluxes(disks) * (rate**2 / (2 * np.pi * q) * (NATIVE_PIXEL / grid.scale) ** 2)
    # The matrix that makes the disk round, with radii in scale lengths.
    cos, sin = rate * np.cos(disks["angle"]), rate * np.sin(disks["angle"])
    shape = np.stack([cos, sin, -sin / q, cos / q], axis=-1).astype(np.float32)
    peak = peak.T[:, :, None, None].astype(np.float32)
    edges = np.stack([x - half, x + half + 1, y - half, y + half + 1], axis=-1)
    boxes = np.clip(np.round(edges), 0, m).astype(np.int64).tolist()
    for k, (left, right, top, bottom) in enumerate(boxes):
        if left == right or top == bottom:
            continue
        dx, dy = axes[left:right] - np.float32(x[k]), axes[top:bottom, None] - np.float32(y[k])
        u = shape[k, 0] * dx + shape[k, 1] * dy
        v = shape[k, 2] * dx + shape[k, 3] * dy
        u *= u
        v *= v
        u += v
        np.sqrt(u, out=u)
        light = np.exp(np.negative(u, out=u), out=u)
        scene[:, top:bottom, left:right] += peak[k] * light
