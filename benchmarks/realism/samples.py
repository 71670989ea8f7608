"""Pictures of galaxies of one class, simulated or real, in the same framing and size."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from catalogs.cutouts.chosen import read_cutouts
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.synthetic.conditions import ConditionsName, ObservationSettings
from catalogs.synthetic.observed import observe_sky, render_pictures
from catalogs.synthetic.population import draw_population
from catalogs.synthetic.settings import SimulationSettings

REAL_CROP = 240  # of 423 px: Galaxy Zoo's framing, 5.76 Petrosian radii
CLASSES = {
    "elliptical": ("elliptical",),
    "spiral": ("spiral_clockwise", "spiral_anticlockwise", "edge_on"),
}
PETROSIAN = {
    "E": ("elliptical",),
    "S": ("spiral_clockwise", "spiral_anticlockwise"),
    "S0": ("edge_on",),
}
"""Catalogs of Petrosian radii, and whose."""
CONDITIONS: dict[str, ConditionsName | ObservationSettings] = {
    "even": "even",
    "uneven": "uneven",
    "a drift-scan survey's": "survey",
    "a seeing of 2.2 arcsec": ObservationSettings(seeing=2.2),
    "1.5 mag less deep": ObservationSettings(depth=21.3),
    "sky left in the picture": ObservationSettings(background=0.15),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """Pictures and what the catalogs say of them; all arrays share the first dimension.

    Attributes
    ----------
    ids : ndarray of int64
    pictures : ndarray of uint8, shape (n, size, size, 3)
        Red, green, blue.
    radius : ndarray of float64
        Catalogued Petrosian radius [arcsec]; nan where no catalog has it.
    """

    ids: NDArray[np.int64]
    pictures: NDArray[np.uint8]
    radius: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: NDArray[np.int64]) -> Sample:
        return Sample(self.ids[rows], self.pictures[rows], self.radius[rows])


@dataclass(frozen=True, slots=True)
class Simulated:
    """The pictures of a simulated survey store and its table."""

    store: Survey
    size: int
    classes: NDArray[np.str_]
    radius: NDArray[np.float64]
    ids: NDArray[np.int64]

    @classmethod
    def open(cls, path: Path, column: str) -> Simulated:
        """Open a simulated store; ``column`` says who decides the class: truth or people."""
        store = Survey.open(path)
        if "simulation" not in store.attributes.provenance:
            raise InputError(f"{path} is no simulated survey; give one that was simulated")
        ids = np.concatenate([store.read_rows(p).id for p in store.partitions])
        classes = store.column(column).astype(np.str_)
        return cls(store, store.attributes.crop or 0, classes, store.column("radius"), ids)

    def rows_of(self, kind: str) -> NDArray[np.int64]:
        """Return the rows of one class."""
        return np.flatnonzero(self.classes == kind)

    def sample(self, rows: NDArray[np.int64]) -> Sample:
        """Return some galaxies, in the order asked for."""
        order = np.sort(rows)
        pictures = read_cutouts(self.store, order, self.size)
        back = np.searchsorted(order, rows)
        return Sample(self.ids[rows], pictures[back], self.radius[rows])


def observed_again(galaxies: int, seed: int, size: int) -> dict[str, NDArray[np.uint8]]:
    """Return the same simulated galaxies under several conditions: (galaxies, size, size, 3)."""
    found = {}
    for name, conditions in CONDITIONS.items():
        sky = SimulationSettings(seed=seed, conditions=conditions, size=size)
        drawn = draw_population(0, galaxies, sky.population)
        files = render_pictures(drawn, observe_sky(drawn, sky), sky)
        found[name] = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    return found


def real_table(data: Path) -> pd.DataFrame:
    """Return the real galaxies: ``objid``, ``kind``, ``radius`` [arcsec, nan if not catalogued].

    The radius is ``petroRad_g`` of the Galaxy Zoo 1 catalogs, else ``petroR90_g`` of the Galaxy
    Zoo 2 ones times the median ratio of the two radii for galaxies of that class in both.

    Parameters
    ----------
    data : Path
        The folder that holds ``gz1`` and ``catalogs``.
    """
    kinds = {name: kind for kind, names in CLASSES.items() for name in names}
    table = pd.read_csv(data / "gz1" / "objects.csv", usecols=["objid", "gz1_class"])
    table["kind"] = table["gz1_class"].map(kinds)
    table = table.dropna(subset="kind").reset_index(drop=True)
    files = sorted((data / "catalogs" / "gz2_petro").glob("*.csv"))
    second = pd.concat([pd.read_csv(f, usecols=["objid", "petroR90_g"]) for f in files])
    r90 = second.drop_duplicates("objid").set_index("objid")["petroR90_g"]
    table["radius"] = np.nan
    for name, classes in PETROSIAN.items():
        file = data / "catalogs" / "gz1_petro" / f"{name}.csv"
        petro = pd.read_csv(file, usecols=["objid", "petroRad_g"]).drop_duplicates("objid")
        petro = petro.set_index("objid")["petroRad_g"]
        ratio = (petro / r90.reindex(petro.index)).median()
        objid = table["objid"]
        table["radius"] = table["radius"].fillna(objid.map(petro))
        brought = (ratio * objid.map(r90)).where(table["gz1_class"].isin(classes))
        table["radius"] = table["radius"].fillna(brought)
    return table


def real_sample(data: Path, table: pd.DataFrame, size: int) -> Sample:
    """Read the pictures of a real table: central ``REAL_CROP`` px, averaged down to ``size``."""
    pictures = [real_picture(data, objid, size) for objid in table["objid"]]
    return Sample(
        table["objid"].to_numpy(),
        np.stack(pictures) if pictures else np.zeros((0, size, size, 3), dtype=np.uint8),
        table["radius"].to_numpy(),
    )


def real_picture(data: Path, objid: int, size: int) -> NDArray[np.uint8]:
    """Return one real picture, (size, size, 3)."""
    with Image.open(data / "gz1" / "images" / f"{objid}.jpeg") as file:
        left, top = (file.width - REAL_CROP) // 2, (file.height - REAL_CROP) // 2
        box = (left, top, left + REAL_CROP, top + REAL_CROP)
        picture = file.convert("RGB").resize((size, size), Image.Resampling.BOX, box)
    return np.asarray(picture)


def nearest(
    wanted: NDArray[np.float64], offered: NDArray[np.float64], each: int = 1
) -> list[NDArray[np.int64]]:
    """Pair by size: for each wanted radius ``each`` offered ones, near in log, none twice.

    Greedy from the largest wanted radius down, where the choice is smallest.

    Returns
    -------
    list of ndarray of int64, shape (each,)
        Positions in ``offered``, in the order of ``wanted``.
    """
    if len(offered) < each * len(wanted):
        raise InputError(
            f"{len(offered)} simulated galaxies cannot be paired with {len(wanted)} real ones, "
            f"{each} each; simulate more"
        )
    left = np.log(offered)
    found: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)] * len(wanted)
    for i in np.argsort(wanted)[::-1]:
        found[i] = np.argsort(np.abs(left - np.log(wanted[i])), kind="stable")[:each]
        left[found[i]] = np.inf
    return found


def draw(rows: Sequence[int] | NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Return ``count`` of the rows (all, if there are fewer), sorted."""
    rows = np.asarray(rows, dtype=np.int64)
    if len(rows) <= count:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))
