"""`annotate` with its pixels done in this process: no Dask, all else the engine's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import engine.clusters.crew
from engine.plan import Work
from engine.run import AnnotateResult, AnnotateSettings, annotate
from engine.task import Job, Outcome

SETTINGS = AnnotateSettings(workers=1, decoder="reference", max_bad=1.0)


class _Alone:
    """A crew of nobody but this process."""

    def run(
        self,
        task: Callable[..., Outcome],
        _careful: object,
        job: Job,
        items: Iterable[Work],
        *_: object,
    ) -> Iterator[Outcome]:
        for work in items:
            yield task(job, work)


@contextmanager
def _alone(*_: object, **__: object) -> Iterator[_Alone]:
    yield _Alone()


def drive(
    survey: Path, model: Path, catalog: Path, settings: AnnotateSettings = SETTINGS
) -> AnnotateResult:
    """Annotate in this process, one pixel after another."""
    with mock.patch.object(engine.clusters.crew, "connect", _alone):
        return annotate(survey, catalog, model, settings)
