"""`annotate` with its pixels done in this process: no Dask, all else the engine's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import engine.cluster
from engine.run import AnnotateResult, AnnotateSettings, annotate

SETTINGS = AnnotateSettings(workers=1, decoder="reference", max_bad=1.0)


@contextmanager
def _nobody(*_: object) -> Iterator[None]:
    yield None


def drive(
    survey: Path, model: Path, catalog: Path, settings: AnnotateSettings = SETTINGS
) -> AnnotateResult:
    """Annotate in this process, one pixel after another."""
    with (
        mock.patch.object(engine.cluster, "connect", _nobody),
        mock.patch.object(
            engine.cluster,
            "run_everywhere",
            lambda _, function, shared, items: (function(shared, item) for item in items),
        ),
    ):
        return annotate(survey, catalog, model, settings)
