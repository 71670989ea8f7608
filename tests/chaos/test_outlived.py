"""Workers that outlive a command: they take part in the next one, and write nothing of the last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
from chaos.drive import SETTINGS, drive
from chaos.little import two_nights
from surveys import tree

import engine.clusters.crew
import engine.task
from catalogs.errors import BusyError, IntegrityError
from engine import status
from engine.run import annotate
from engine.task import annotate_pixel


@pytest.fixture
def sky(tmp_path):
    first, both = two_nights(tmp_path)
    shutil.copytree(first, tmp_path / "sky.zarr")

    def grow() -> None:
        shutil.rmtree(tmp_path / "sky.zarr")
        shutil.copytree(both, tmp_path / "sky.zarr")

    return tmp_path / "sky.zarr", grow, both


def test_a_process_that_stays_sees_the_next_night(sky, brightness, tmp_path):
    survey, grow, both = sky
    drive(survey, brightness.path, tmp_path / "c")
    grow()
    assert drive(survey, brightness.path, tmp_path / "c").annotated == 40
    drive(both, brightness.path, tmp_path / "once/c")
    assert status.verify_catalog(tmp_path / "c") == status.verify_catalog(tmp_path / "once/c")


class Suspended:
    """A crew that takes work and does none of it while its driver lives."""

    def __init__(self) -> None:
        self.taken: list[tuple[object, object]] = []

    def run(self, _task, _careful, job, items, *_) -> Iterator[object]:
        self.taken += [(job, work) for work in items]
        raise RuntimeError("the driver died")
        yield

    @contextmanager
    def connect(self, *_: object, **__: object):
        yield self


@pytest.mark.parametrize("nights_before", [0, 1])
def test_a_worker_that_wakes_up_late_writes_nothing(nights_before, sky, brightness, tmp_path):
    survey, grow, _ = sky
    catalog = tmp_path / "c"
    if nights_before:
        drive(survey, brightness.path, catalog)
        grow()
    crew = Suspended()
    with (
        mock.patch.object(engine.clusters.crew, "connect", crew.connect),
        pytest.raises(RuntimeError, match="died"),
    ):
        annotate(survey, catalog, brightness.path, SETTINGS)
    assert crew.taken
    grow()
    drive(survey, brightness.path, catalog)
    expected = tree(catalog)
    for job, work in crew.taken:
        with pytest.raises(BusyError, match="another command is at work"):
            annotate_pixel(job, work)
    assert tree(catalog) == expected


def test_it_is_stopped_before_it_writes_even_if_it_computed_meanwhile(
    sky, brightness, tmp_path, monkeypatch
):
    survey, _, _ = sky
    crew = Suspended()
    with (
        mock.patch.object(engine.clusters.crew, "connect", crew.connect),
        pytest.raises(RuntimeError),
    ):
        annotate(survey, tmp_path / "c", brightness.path, SETTINGS)
    job, work = crew.taken[0]

    honest = engine.task.to_parquet

    def meanwhile(table):
        monkeypatch.undo()
        drive(survey, brightness.path, tmp_path / "c")
        return honest(table)

    monkeypatch.setattr(engine.task, "to_parquet", meanwhile)
    with pytest.raises(BusyError, match="another command is at work"):
        annotate_pixel(job, work)


@pytest.mark.parametrize(
    "edit",
    [
        lambda r: r["parts"][0]["statuses"].update(ok=9999),
        lambda r: r["parts"][0].update(rows=9999),
        lambda r: r["parts"].pop(),
        lambda r: r["used"].update(provider="another"),
    ],
)
def test_a_receipt_that_somebody_edited_is_refused(edit, sky, brightness, tmp_path):
    survey, _, _ = sky
    drive(survey, brightness.path, tmp_path / "c")
    receipt = next((tmp_path / "c/run/receipts").iterdir())
    told = json.loads(receipt.read_text())
    edit(told)
    receipt.write_text(json.dumps(told, indent=1, sort_keys=True))
    for look in (status.catalog_status, status.verify_catalog):
        with pytest.raises(IntegrityError, match=f"{receipt.name} is damaged"):
            look(tmp_path / "c")
    with pytest.raises(IntegrityError, match=f"{receipt.name} is damaged"):
        drive(survey, brightness.path, tmp_path / "c")


def test_a_plan_without_pixels_that_have_receipts_is_refused(sky, brightness, tmp_path):
    survey, _, _ = sky
    drive(survey, brightness.path, tmp_path / "c")
    plan = tmp_path / "c/run/plan.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"partitions": []}))
    with pytest.raises(IntegrityError, match="does not name"):
        status.catalog_status(tmp_path / "c")
    drive(survey, brightness.path, tmp_path / "c")
    assert status.catalog_status(tmp_path / "c").complete


def test_a_file_that_a_killed_run_left_beside_its_place_is_no_damage(sky, brightness, tmp_path):
    survey, grow, _ = sky
    drive(survey, brightness.path, tmp_path / "c")
    old = tree(tmp_path / "c")
    grow()
    drive(survey, brightness.path, tmp_path / "c")
    file = "dataset/Norder=0/Dir=0/Npix=0.parquet"
    now = tree(tmp_path / "c")
    assert old[file] != now[file]
    (tmp_path / "c/run/next").mkdir(exist_ok=True)
    shutil.move(tmp_path / "c" / file, tmp_path / "c/run/next/0-0.parquet")
    (tmp_path / "c/hats.properties").unlink()
    assert status.verify_catalog(tmp_path / "c") == 2
    drive(survey, brightness.path, tmp_path / "c")
    assert tree(tmp_path / "c") == now
