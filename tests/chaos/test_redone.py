"""Work handed out again after its process died anywhere in its commit: finished, not redone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
from chaos.drive import SETTINGS, drive
from chaos.little import two_nights
from surveys import tree

import engine.clusters.crew
from catalogs.storage.disk import Disk
from engine.run import annotate


class Died(BaseException):
    """The process ended here."""


def dying_after(step: str) -> mock._patch:
    """A disk on which a process ends right after one kind of step, once."""
    real = getattr(Disk, step)
    deaths = iter([True])

    def then_die(self, name, *rest):
        real(self, name, *rest)
        if step != "create" or "receipts" in name:
            for _ in deaths:
                raise Died

    return mock.patch.object(Disk, step, then_die)


class Twice:
    """A crew whose first process dies, and whose second is given the same work."""

    def __init__(self, step: str | None) -> None:
        self.step = step
        self.rows = 0

    def run(self, task, _careful, job, items, *_) -> Iterator[object]:
        for work in items:
            if self.step is None:
                task(job, work)
            else:
                with dying_after(self.step):
                    try:
                        task(job, work)
                    except Died:
                        self.rows += 1
            yield task(job, work)

    @contextmanager
    def connect(self, *_: object, **__: object):
        yield self


@pytest.mark.parametrize("step", [None, "create", "move", "remove"])
def test_work_given_out_again_is_finished(step, brightness, tmp_path):
    first, both = two_nights(tmp_path)
    drive(first, brightness.path, tmp_path / "one/catalog")
    drive(both, brightness.path, tmp_path / "one/catalog")

    again = tmp_path / "two/catalog"
    drive(first, brightness.path, again)
    crew = Twice(step)
    with mock.patch.object(engine.clusters.crew, "connect", crew.connect):
        result = annotate(both, again, brightness.path, SETTINGS)
    assert result.annotated == 40
    assert crew.rows >= (step is not None)
    assert tree(again) == tree(tmp_path / "one/catalog")
