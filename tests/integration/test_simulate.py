"""One sky by 1, 2 and 7 workers; again after a kill; and by the command."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from catalogs.cutouts.store import Survey
from catalogs.errors import BusyError
from catalogs.storage.disk import Disk
from catalogs.synthetic import parts
from catalogs.synthetic.simulate import SimulationSettings
from engine.simulate import simulate

ROOT = Path(__file__).resolve().parent.parent.parent
SETTINGS = SimulationSettings(galaxies=400, seed=4, conditions="uneven", size=32, workers=1)


def files(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def with_workers(workers: int) -> SimulationSettings:
    return SimulationSettings(galaxies=400, seed=4, conditions="uneven", size=32, workers=workers)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("alone") / "s.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "0")
        assert simulate(store, SETTINGS).made
    return store


@pytest.mark.parametrize("workers", [2, 7])
def test_the_store_is_the_same_whoever_makes_it(alone, tmp_path, monkeypatch, workers):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    store = tmp_path / "s.zarr"
    assert simulate(store, with_workers(workers)).made
    assert files(store) == files(alone)
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]
    assert not simulate(store, SETTINGS).made


def test_what_was_done_when_it_was_interrupted_is_not_done_again(alone, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    store, done = tmp_path / "s.zarr", []

    def interrupted(job: parts.Job, piece: parts.Piece, tick: object = None) -> int:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(piece)
        return parts.make_part(job, piece, tick)

    def counted(job: parts.Job, piece: parts.Piece, tick: object = None) -> int:
        done.append(piece)
        return parts.make_part(job, piece, tick)

    monkeypatch.setattr("catalogs.synthetic.simulate.make_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate(store, SETTINGS)
    assert not store.exists()
    monkeypatch.setattr("catalogs.synthetic.simulate.make_part", counted)
    simulate(store, SETTINGS)
    assert len(done) == len(set(done)) > 3
    assert files(store) == files(alone)
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


def test_two_simulations_of_one_store_at_once_are_refused(tmp_path):
    with Disk(tmp_path / ".s.zarr.simulation").hold(".lock"), pytest.raises(BusyError):
        simulate(tmp_path / "s.zarr", SETTINGS)


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "skytally", "simulate", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def test_the_command_makes_what_a_file_asks_for(tmp_path):
    sky = tmp_path / "sky.toml"
    sky.write_text(
        "galaxies = 30\nseed = 5\ndipole = [0.1, 185, 30]\nclustered = 0.02\ntheta = 8.0\n"
        'size = 48\npixels = "float32"\npixel-scale = 0.396\nworkers = 1\n'
        'imitate = "patch:180..200,0..20:0.1"\ntraining-region = "180..200,0..20:seeing:0.4"\n'
    )
    store = tmp_path / "s.zarr"
    done = command(store, "--config", sky, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["galaxies"] == 30
    survey = Survey.open(store)
    assert survey.attributes.raw is not None
    assert survey.attributes.image_size == (48, 48)
    assert survey.attributes.pixel_scale == 0.396
    assert survey.attributes.bands == ("g", "r", "i")
    assert "nanomaggies per square of 0.396 arcsec" in str(survey.attributes.pixel_unit)
    record = survey.attributes.provenance["simulation"]
    assert record["dipole"] == {"amplitude": 0.1, "ra": 185, "dec": 30}
    assert record["clustered"]["rms"] == 0.02
    assert record["labels"]["theta"] == 8.0
    assert record["neighbours"] == SimulationSettings().neighbours
    assert {"truth", "human_label", "votes", "certainty", "seeing"} <= set(survey.column_names)
    partition = survey.partitions[0]
    (images,) = survey.read_images(partition, survey.read_rows(partition))
    assert images.stack is not None
    assert images.stack.dtype == np.float32
    # A galaxy's light is in its middle.
    middle = images.stack[:, 18:30, 18:30].mean(axis=(1, 2, 3))
    edge = np.median(images.stack[:, :4], axis=(1, 2, 3))
    assert (middle > edge).all()
    again = command(store, "--config", sky)
    assert "complete already" in again.stdout


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--dipole", "0.6,1,2"], "choose smaller values"),
        (["--patch", "1..2:0.1"], "region '1..2' is not"),
        (["--conditions", "foggy"], "conditions 'foggy'"),
        (["--cluster", "somewhere"], "cluster 'somewhere'"),
    ],
)
def test_a_sky_that_cannot_be_is_refused_in_one_line(tmp_path, flags, said):
    done = command(tmp_path / "s.zarr", *flags)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
