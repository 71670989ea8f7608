"""The surveys that runs are trained on, each made when it is first asked for."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.schema import ClassMap
from catalogs.survey.ingest import ingest
from catalogs.survey.recipe import IngestSettings
from catalogs.synthetic.settings import SimulationSettings
from engine.simulate import simulate
from training.settings import SplitSettings
from training.splits import TRAIN, sky_blocked

# The tiles that the shipped bundle was held out on.
GZ1_SPLIT = SplitSettings(order=3, validation=0.08, test=0.12)
SKY_SPLIT = SplitSettings(order=3, validation=0.05, test=0.3)
CLASSES = ("elliptical", "spiral")
KEPT = (
    "truth",
    "human_label",
    "alpha",
    "sersic_n",
    "axis_ratio",
    "petro_r50",
    "absolute_mag",
    "mag",
)


@dataclass(frozen=True)
class Sizes:
    """How large the simulated sky is, and by how much trainings are cut short.

    Attributes
    ----------
    galaxies : int
        Of the simulated sky.
    curve : tuple of int
        Training images per class.
    share : float
        Of the epochs of every run.
    overfitted : int
        Images.
    """

    galaxies: int = 7200
    curve: tuple[int, ...] = (125, 250, 500, 1000, 2000)
    share: float = 1.0
    overfitted: int = 64


class Surveys:
    """Stores below one folder, made of the real galaxies and of a simulated sky."""

    def __init__(self, folder: Path, data: Path, sizes: Sizes) -> None:
        self.folder, self.data, self.sizes = folder, data, sizes
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """Return the store of a name: gz1, gz2 or sky."""
        with (self.folder / f".{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another command may be making it
            path: Path = getattr(self, name)
        return path

    @cached_property
    def gz1(self) -> Path:
        """Galaxy Zoo 1: ellipticals and spirals, edge-on ones among these."""
        spiral = "spiral_clockwise|spiral_anticlockwise|edge_on"
        settings = IngestSettings(
            id_column="objid",
            classes=ClassMap.parse(f"spiral={spiral},elliptical=elliptical"),
            class_column="gz1_class",
            max_bad=0.05,
        )
        return self._ingested("gz1", settings)

    @cached_property
    def gz2(self) -> Path:
        """822 galaxies with the votes of Galaxy Zoo 2's tree."""
        return self._ingested("gz2", IngestSettings(id_column="asset_id", max_bad=0.05))

    @cached_property
    def sky(self) -> Path:
        """A simulated sky as a drift-scan survey sees it, ellipticals and spirals only.

        Columns ``truth_K`` name the true class of all held-out galaxies and of K training ones of
        each class.
        """
        path = self.folder / "sky.zarr"
        if path.exists():
            return path
        drawn = self.folder / "drawn.zarr"
        settings = SimulationSettings(
            self.sizes.galaxies,
            seed=21,
            conditions="survey",
            irregulars=0.0,
            mergers=0.0,
            workers=1,
        )
        simulate(drawn, settings)
        store = Survey.open(drawn)
        columns = {name: store.column(name) for name in KEPT}
        ra, dec = store.column("ra"), store.column("dec")
        training = sky_blocked(ra, dec, SKY_SPLIT) == TRAIN
        order = np.random.default_rng(3).permutation(len(ra))
        for size in self.sizes.curve:
            label = columns["truth"].astype(object)
            label[training] = None
            for kind in CLASSES:
                members = order[(training & (columns["truth"] == kind))[order]]
                label[members[:size]] = kind
            columns[f"truth_{size}"] = label
        _copied(store, path, columns)
        return path

    def _ingested(self, name: str, settings: IngestSettings) -> Path:
        path = self.folder / f"{name}.zarr"
        if not path.exists():
            folder = self.data / name
            ingest(folder / "objects.csv", str(folder / "images"), path, settings)
        return path


def _copied(store: Survey, to: Path, columns: dict[str, NDArray[np.generic]]) -> None:
    """Write the same cutouts beside other columns."""
    files: list[bytes] = []
    for partition in store.partitions:
        for block in store.read_images(partition, store.read_rows(partition)):
            files += [file.tobytes() for file in block.files]

    def images(chunks: Sequence[NDArray[np.int64]]) -> Iterator[list[bytes]]:
        for chunk in chunks:
            yield [files[row] for row in chunk.tolist()]

    table = SurveyTable(store.column("id"), store.column("ra"), store.column("dec"), columns)
    write_survey(to, table, images, SurveyInfo(name="sky", crop=store.attributes.crop))
