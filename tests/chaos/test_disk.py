"""A disk that is full or failing, and too many open files: one line, and a later run completes."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos import shim
from chaos.checks import differences, false_receipts, files_of
from chaos.drive import drive
from chaos.forks import Forks
from chaos.little import two_nights
from chaos.runs import Command, Group, said_by
from chaos.shim import Shim
from surveys import brightness_bundle

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(sys.platform != "linux", reason="preloads a library of Linux calls"),
]
ERRORS = (errno.EIO, errno.ENOSPC, errno.EMFILE)
STEP = 4  # every so many operations one at which all begins to fail; `errno` takes turns


@pytest.fixture(scope="module")
def clean(in_memory) -> Command:
    folder: Path = in_memory("disk")
    survey = two_nights(folder)[1]
    model = brightness_bundle(folder / "brightness.bundle").path
    command = Command(survey, model, folder / "clean" / "catalog")
    drive(command.survey, command.model, command.catalog)
    return command


@pytest.fixture(scope="module")
def forks(clean, tmp_path_factory) -> Iterator[Forks]:
    with Forks(shim.library(tmp_path_factory), clean.survey.parent) as forks:
        yield forks


def violations(
    status: int, said: list[str], catalog: Path, clean: Command, finish: Callable[[], object]
) -> list[str]:
    """Return what is wrong with how a command failed, or with the catalog after another one."""
    wrong = [] if status in (20, 75) else [f"exit status {status}"]
    if len(said) != 1 or not said[0].startswith("skytally: "):
        wrong.append(f"said {said}")
    wrong += false_receipts(files_of(catalog))
    finish()
    return wrong + differences(catalog, clean.catalog)


def failures(clean: Command, forks: Forks, in_memory, library: Path, broken: str | None = None):
    """Yield what is wrong when files begin to fail at one operation after another."""
    folder = in_memory("failing")
    survey, model = clean.survey, clean.model
    seen = Shim(library, folder / "0" / "catalog", folder / "notes")
    forks.run((survey,), model, folder / "0" / "catalog", seen.environment())
    for at in range(2, seen.count, STEP):
        catalog = folder / f"{at}" / "catalog"
        error = ERRORS[at // STEP % len(ERRORS)]
        watched = Shim(library, catalog, folder / "notes")
        environment = watched.environment(fail=("any", at, error))
        ended = forks.run((survey,), model, catalog, environment, broken)
        wrong = violations(
            ended.status,
            said_by(ended.said),
            catalog,
            clean,
            lambda catalog=catalog: drive(survey, model, catalog),
        )
        yield (at, errno.errorcode[error], wrong)


def test_whatever_fails_is_told_in_one_line_and_mended_by_the_next_run(
    clean, forks, in_memory, tmp_path_factory
):
    found = list(failures(clean, forks, in_memory, shim.library(tmp_path_factory)))
    assert [failure for failure in found if failure[2]] == []
    assert len(found) > 15


def test_a_writer_that_does_not_hear_of_failures_is_found(
    clean, forks, in_memory, tmp_path_factory
):
    library = shim.library(tmp_path_factory)
    assert next(f for f in failures(clean, forks, in_memory, library, "deaf") if f[2])


@pytest.mark.parametrize(
    ("fail", "said"),
    [
        (("sync", 12, errno.EIO), "Input/output error"),
        (("write", 5, errno.ENOSPC), "No space left on device"),
        (("create", 6, errno.EMFILE), "Too many open files"),
    ],
)
def test_what_fails_in_a_worker_is_told_by_the_command(
    fail, said, clean, in_memory, tmp_path_factory
):
    folder = in_memory("worker")
    command = Command(clean.survey, clean.model, folder / "catalog")
    watched = Shim(shim.library(tmp_path_factory), command.catalog, folder / "notes")
    group = Group(command.line("--workers", "1"), folder / "stderr", watched.environment(fail=fail))
    status = group.wait()
    lines = said_by(group.said)
    assert group.left_behind() == []
    assert (
        violations(
            status,
            lines,
            command.catalog,
            clean,
            lambda: drive(command.survey, command.model, command.catalog),
        )
        == []
    )
    assert said in lines[0]


def test_a_real_limit_of_open_files(clean, in_memory):
    folder = in_memory("limit")
    command = Command(clean.survey, clean.model, folder / "catalog")
    done = subprocess.run(
        command.line("--workers", "1"),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24)),
    )
    assert (
        violations(
            done.returncode,
            said_by(done.stderr),
            command.catalog,
            clean,
            lambda: drive(command.survey, command.model, command.catalog),
        )
        == []
    )
