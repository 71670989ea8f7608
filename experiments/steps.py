"""An experiment's work in small steps, each kept on disk under a digest of all that decides it.

A step that is there is not made again, whichever experiment or command asks for it. One that was
interrupted is given back its own unfinished folder, so that what it runs (a training, an
annotation) goes on where it stopped. The record of a finished step has a digest of every file: what
was damaged since is refused before anything reads it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from catalogs.errors import IntegrityError
from catalogs.progress import Reporter
from catalogs.storage.disk import Disk, sync_folder

RECORD = "step.json"
UNFINISHED = ".unfinished"
FILES = "files"  # of a record; those of older versions have none
ROOT = Path(__file__).resolve().parent.parent

Make = Callable[[Path, Sequence[Path], Reporter], None]
"""Makes a step in an empty or unfinished folder, from the folders of the steps that it needs."""


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of work.

    Attributes
    ----------
    kind : str
        Such as ``train``; the folder's name begins with it.
    title : str
        What it is, for people.
    decides : mapping
        All that decides its result, besides the steps that it needs, as JSON values.
    make : callable
        See `Make`.
    needs : tuple of Step
    code : tuple of str
        Folders and files of this repository whose sources decide its result, too.
    packages : tuple of str
        Installed ones whose version decides it.
    """

    kind: str
    title: str
    decides: Mapping[str, Any]
    make: Make
    needs: tuple[Step, ...] = ()
    code: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Stands for the step's result: sha256, hex."""
        decides = {
            "kind": self.kind,
            "decides": self.decides,
            "needs": [step.digest for step in self.needs],
            "code": [code_of(name) for name in self.code],
        }
        if self.packages:
            decides["packages"] = {name: version(name) for name in self.packages}
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    @property
    def name(self) -> str:
        """Of the folder."""
        return f"{self.kind}-{self.digest[:16]}"


class Steps:
    """The steps that have been made, in one folder.

    Parameters
    ----------
    folder : Path
    reporter : Reporter
    """

    def __init__(self, folder: Path, reporter: Reporter) -> None:
        self.folder = folder
        self.records: dict[str, dict[str, Any]] = {}  # of the steps used, by name
        self._reporter = reporter

    def make(self, steps: Sequence[Step]) -> list[Path]:
        """Return the folders of some steps; what is missing is made, in their order.

        Raises
        ------
        IntegrityError
            The record of a step that is there cannot be read, or its files are not what they were.
        SkytallyError
            Whatever a step raises.
        """
        ordered = _with_needs(steps)
        missing = [step for step in ordered if not (self.folder / step.name / RECORD).is_file()]
        there = {step.name: step for step in ordered if step not in missing}
        records = {n: self.records.get(n) or self._record(step) for n, step in there.items()}
        if missing:
            self._reporter.event("steps", there=len(there), to_make=len(missing))
        for number, step in enumerate(missing):
            self._reporter.event("step", title=step.title, folder=step.name)
            records[step.name] = self._make(step)
            self._reporter.progress("steps", len(there) + number + 1, len(ordered), "steps")
        self.records |= {step.name: records[step.name] for step in ordered}
        return [self.folder / step.name for step in steps]

    def _make(self, step: Step) -> dict[str, Any]:
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = self.folder / f"{step.name}{UNFINISHED}"
        unfinished.mkdir(exist_ok=True)
        started = time.perf_counter()
        step.make(unfinished, [self.folder / one.name for one in step.needs], self._reporter)
        record = {
            "title": step.title,
            "digest": step.digest,
            "decides": step.decides,
            "needs": [one.name for one in step.needs],
            "seconds": round(time.perf_counter() - started, 1),
        }
        whole = record | {FILES: digests(unfinished)}
        Disk(unfinished).write(RECORD, (json.dumps(whole, indent=1) + "\n").encode())
        final = self.folder / step.name
        shutil.rmtree(final, ignore_errors=True)  # without a record it is nobody's
        unfinished.rename(final)
        sync_folder(self.folder)
        return record

    def _record(self, step: Step) -> dict[str, Any]:
        file = self.folder / step.name / RECORD
        try:
            record = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise IntegrityError(f"{file} cannot be read ({error}); remove its folder") from None
        if not isinstance(record, dict) or record.get("digest") != step.digest:
            raise IntegrityError(f"{file} is not what this step writes; remove its folder")
        written = record.pop(FILES, {})
        found = digests(file.parent) if written else {}
        for name, digest in written.items():
            if found.get(name) != digest:
                raise damaged(file.parent / name, file.parent)
        return record


def damaged(file: Path, folder: Path) -> IntegrityError:
    """Return what is said of a file of a finished step that is not what was written."""
    there = "is damaged" if file.is_file() else "is missing"
    return IntegrityError(
        f"{file} of a finished step {there}; delete the folder {folder} and run again, which makes "
        "it anew"
    )


def digests(folder: Path) -> dict[str, str]:
    """Return sha256, hex, of every file of a step but its record, by path."""
    found = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and name != RECORD:
            with file.open("rb") as stream:
                found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def _with_needs(steps: Sequence[Step]) -> list[Step]:
    """Return all that is to be there, each after what it needs."""
    found: dict[str, Step] = {}

    def add(step: Step) -> None:
        if step.digest not in found:
            for one in step.needs:
                add(one)
            found[step.digest] = step

    for step in steps:
        add(step)
    return list(found.values())


@lru_cache
def code_of(name: str) -> str:
    """Return a digest (sha256, hex) of a source file, or of all in a folder."""
    digest, place = hashlib.sha256(), ROOT / name
    for file in [place] if place.suffix else sorted(place.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
