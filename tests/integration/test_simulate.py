"""One sky by 1, 2 and 7 workers; again after a kill; and by the command."""

from pathlib import Path

import pytest

from catalogs.errors import BusyError
from catalogs.storage.disk import Disk
from catalogs.synthetic import parts
from catalogs.synthetic.simulate import SimulationSettings
from engine.simulate import simulate

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
