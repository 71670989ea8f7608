"""The sky swap with networks: what is written is what they answered."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from surveys import encode

from catalogs.config import parse
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, write_survey
from catalogs.errors import IntegrityError
from experiments import lab, sky_swap
from experiments.networks import holdout_of
from training.records import read_holdout

REGIONS = {"a": "0..90,-40..40", "b": "90..180,-40..40"}
VALUES = {
    "regions": REGIONS,
    "seeds": 1,
    "folds": 0,
    "audited": [],
    "order": 3,
    "train": {
        "epochs": 1,
        "batch": 16,
        "warmup": 2,
        "average": 0.5,
        "learning_rate": 0.01,
        "shape": {"size": 16, "widths": [4, 4, 4, 4, 4], "dense": 8, "dropout": 0.0},
        "split": {"test": 0.4},
    },
}


@pytest.fixture(scope="module")
def swapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sky swap on galaxies whose brightness tells the class, some beyond both."""
    random = np.random.default_rng(3)
    rows = 700
    ra, dec = random.uniform(0, 200, rows), random.uniform(-40, 40, rows)
    spiral = random.random(rows) < 0.5
    level = np.where(spiral, 150, 60) + random.normal(0, 25, rows)

    def images(chunks):
        for chunk in chunks:
            pictures = np.repeat(level[chunk], 16 * 16 * 3).reshape(-1, 16, 16, 3)
            pictures[:, ::2, ::3] += 20  # a picture of one value is blank
            yield [encode(one) for one in np.clip(pictures, 0, 255).astype(np.uint8)]

    folder = tmp_path_factory.mktemp("swap")
    labels = np.where(spiral, "spiral", "elliptical").astype(object)
    columns = {"label": labels, "seeing": random.normal(1.3, 0.1, rows)}
    table = SurveyTable(np.arange(rows), ra, dec, columns)
    write_survey(folder / "swap.zarr", table, images, SurveyInfo(name="swap"))
    settings = parse(sky_swap.Settings, VALUES, "settings")
    lab.run("sky-swap", folder / "out", folder / "swap.zarr", settings, workers=1)
    return folder / "out"


def test_the_tables_are_those_of_the_networks_answers(swapped):
    document = json.loads((swapped / "results.json").read_text())
    matrices = pq.read_table(swapped / "matrices.parquet").to_pandas()
    assert len(matrices) == 5 * 2
    titles = {step["title"]: name for name, step in document["steps"].items()}
    held = read_holdout(swapped / "steps" / titles["train b/a, seed 0"] / "network.run")
    assert not np.any(held.ra >= 180)
    here = held.ra >= 90
    counts = [
        np.sum(here & (held.label == label) & ((held.p >= 0.5) == said))
        for label in ("elliptical", "spiral")
        for said in (False, True)
    ]
    row = matrices.set_index(["training", "region"]).loc["b/a", "b"]
    assert row[["ee", "es", "se", "ss"]].tolist() == counts
    fields = pq.read_table(swapped / "fields.parquet").to_pandas()
    assert {"galaxies per square degree", "seeing"} <= set(fields["quantity"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: None,
        lambda _: b"",
        lambda text: text[: len(text) // 2],
        lambda text: b"".join(text.splitlines(keepends=True)[:-9]),
        lambda text: text.replace(b",0.", b",\xff.", 1),
        lambda text: text.replace(b",spiral,", b",spirals,", 1),
        lambda text: text.replace(b"label", b"lab,el", 1),
        lambda text: text[:-8] + b"7.00000\n",
    ],
)
def test_damaged_answers_of_a_finished_network_are_told_in_one_line(swapped, tmp_path, damage):
    """Of an older version's step, too, whose record has no digests of files."""
    name = min((swapped / "steps").iterdir())
    folder = shutil.copytree(name, tmp_path / name.name)
    file = folder / "network.run" / "holdout.csv"
    held = holdout_of(folder)
    assert np.array_equal(held.p, read_holdout(folder / "network.run").p)
    content = damage(file.read_bytes())
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"holdout\.csv of a finished step is .*delete the f"):
        holdout_of(folder)
