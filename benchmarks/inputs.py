"""What is measured on: a simulated survey, the same as files, a network, and one that is free.

Made once per run of the benchmark, each when it is first asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from surveys import brightness_bundle, scattered

from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.synthetic.simulate import SimulationSettings
from engine.simulate import simulate
from export.bundle import Bundle, shipped

SIZE = 120
RAW_SIZE = 8


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large everything is.

    Attributes
    ----------
    turns : int
        Times that subject and baseline are measured, one after the other.
    galaxies : int
        In the survey that most is measured on.
    steady, many, remembered : int
        In the surveys of the same images again and again: for rates with a network and without
        one, and for what is kept.
    files : int
        Images of the PyTorch loops.
    raw : int
        Raw cutouts of 8x8 pixels.
    planned : int
        Objects of the plan that is only planned.
    workers : int
    tuned : bool
        Whether the best thread counts of the best PyTorch loop are looked for.
    """

    turns: int = 3
    galaxies: int = 8_000
    steady: int = 40_000
    many: int = 200_000
    remembered: int = 800_000
    files: int = 3_000
    raw: int = 10_000_000
    planned: int = 100_000_000
    workers: int = 2
    tuned: bool = True


QUICK = Sizes(
    turns=1,
    galaxies=800,
    steady=2_000,
    many=16_000,
    remembered=24_000,
    files=192,
    raw=200_000,
    planned=2_000_000,
    tuned=False,
)


class Inputs:
    """Everything that the rows share, below one folder."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder = folder
        self.sizes = sizes

    @cached_property
    def survey(self) -> Path:
        """Simulated galaxies, JPEG of 120x120 pixels."""
        path = self.folder / "galaxies.zarr"
        simulate(path, SimulationSettings(galaxies=self.sizes.galaxies, workers=self.sizes.workers))
        return path

    @cached_property
    def steady(self) -> Path:
        """The same images as often as the steady rate of a network takes to show."""
        return self._repeated(self.sizes.steady)

    @cached_property
    def many(self) -> Path:
        """The same images again and again, each time elsewhere on the sky."""
        return self._repeated(self.sizes.many)

    @cached_property
    def remembered(self) -> Path:
        """The same, for as long as a leak takes to show."""
        return self._repeated(self.sizes.remembered)

    @cached_property
    def raw(self) -> Path:
        """Raw cutouts of 8x8 pixels."""
        rows = self.sizes.raw
        ra, dec = scattered(rows, seed=3)
        random = np.random.default_rng(4)
        block = random.integers(0, 256, (4096, RAW_SIZE, RAW_SIZE, 3), dtype=np.uint8)

        def images(chunks: Sequence[NDArray[np.int64]]) -> Iterator[NDArray[np.uint8]]:
            for chunk in chunks:
                yield block[chunk % len(block)]

        path = self.folder / "raw.zarr"
        info = SurveyInfo(name="raw", encoding="raw", dtype="uint8", channels=3)
        write_survey(path, SurveyTable(np.arange(rows), ra, dec), images, info)
        return path

    @cached_property
    def network(self) -> Path:
        """The shipped bundle, with an int8 model as well."""
        from export.quantize import add_variant

        path = self.folder / "network.bundle"
        add_variant(Bundle.open(shipped()), self.survey, path)
        return path

    @property
    def run(self) -> Path:
        """The run that the shipped bundle was exported from, for torch."""
        return shipped().with_suffix(".run")

    @cached_property
    def nothing(self) -> Path:
        """A network that costs nothing: the mean of some samples."""
        return brightness_bundle(self.folder / "nothing.bundle", corner=RAW_SIZE).path

    @cached_property
    def files(self) -> Path:
        """Some of the survey's galaxies as a folder of JPEG files named by their id."""
        folder = self.folder / "images"
        folder.mkdir()
        for name, data in islice(_images(self.survey), self.sizes.files):
            (folder / f"{name}.jpg").write_bytes(data)
        return folder

    def _repeated(self, rows: int) -> Path:
        path = self.folder / f"many-{rows}.zarr"
        if path.exists():
            return path
        files = [data for _, data in _images(self.survey)]
        ra, dec = scattered(rows, seed=2)

        def images(chunks: Sequence[NDArray[np.int64]]) -> Iterator[list[bytes]]:
            for chunk in chunks:
                yield [files[row % len(files)] for row in chunk.tolist()]

        info = SurveyInfo(name="many", crop=SIZE)
        write_survey(path, SurveyTable(np.arange(rows), ra, dec), images, info)
        return path


def _images(survey: Path) -> Iterator[tuple[int, bytes]]:
    store = Survey.open(survey)
    for partition in store.partitions:
        rows = store.read_rows(partition)
        for block in store.read_images(partition, rows):
            for i, data in enumerate(block.files):
                yield int(rows.id[block.start + i]), data.tobytes()
