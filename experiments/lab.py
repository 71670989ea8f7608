"""What every experiment has: a survey, a folder, and steps that are kept."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter

from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter, Silent
from catalogs.storage.disk import Disk
from experiments import writing
from experiments.listing import entry
from experiments.product import Product
from experiments.steps import Steps

MOST_SEEDS = 1000  # the papers have 100 at most
MARK, LOCK, STEPS = "experiment.json", ".lock", "steps"


@dataclass(frozen=True)
class Lab:
    """Where an experiment works.

    Attributes
    ----------
    out : Path
    path : Path, optional
        The survey store; None where the experiment simulates its own.
    workers : int
        Processes that simulate and annotate.
    reporter : Reporter
    """

    out: Path
    path: Path | None
    workers: int
    reporter: Reporter

    @cached_property
    def survey(self) -> Survey:
        """The survey store, opened."""
        assert self.path is not None
        return Survey.open(self.path)

    @cached_property
    def steps(self) -> Steps:
        """What has been made, and makes more."""
        return Steps(self.out / STEPS, self.reporter)

    @property
    def survey_record(self) -> dict[str, Any] | None:
        """The survey for the record: where and what it is, and a digest of its content."""
        if self.path is None:
            return None
        attributes = self.survey.attributes
        return {
            "path": str(self.path),
            "name": attributes.name,
            "uuid": attributes.uuid,
            "rows": self.survey.rows,
            "fingerprint": fingerprint(self.survey),
        }


class Run(Protocol):
    """Runs an experiment with its settings, an instance of `Experiment.settings`."""

    def __call__(self, lab: Lab, settings: Any, /) -> Product:  # noqa: ANN401
        """Return what was found."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """What the module of an experiment defines as ``EXPERIMENT``.

    Attributes
    ----------
    settings : type
        A frozen dataclass with a field ``seeds``; its fields are the names in TOML.
    run : callable
    """

    settings: type[Any]
    run: Run


def fingerprint(survey: Survey) -> str:
    """Return a digest (hex) of all that a survey holds."""
    return "".join(append.fingerprint[:16] for append in survey.attributes.appends)


def run(
    name: str,
    to: Path,
    survey: Path | None = None,
    settings: Any = None,  # noqa: ANN401  (each experiment has settings of its own)
    workers: int = 2,
    reporter: Reporter | None = None,
    again: str = "",
) -> Product:
    """Run an experiment; what is complete in its folder is kept.

    Parameters
    ----------
    name : str
        One of `experiments.listing.LISTED`.
    to : Path
        Folder of steps, tables, figures and page. Run again with other settings, it keeps the
        steps that these have in common.
    survey : Path, optional
        Survey store; not for experiments that simulate their own.
    settings : optional
        An instance of the experiment's settings.
    workers : int
    reporter : Reporter, optional
    again : str
        The command, for the record.

    Raises
    ------
    InputError
        No such experiment, a survey too many or missing, seeds without end, or ``to`` is something
        else.
    BusyError
        Another process works in this folder.
    """
    listed = entry(name)
    if listed.survey != (survey is not None):
        raise InputError(
            f"{name} needs --survey survey.zarr"
            if listed.survey
            else f"{name} simulates its own sky; leave out --survey"
        )
    experiment = load(name)
    settings = experiment.settings() if settings is None else settings
    _refuse_endless(settings)
    _own(to, name)
    lab = Lab(to, survey, workers, reporter or Silent())
    with Disk(to).hold(LOCK):
        if survey is not None:
            _ = lab.survey  # what is no survey fails before anything is made
        product = experiment.run(lab, settings)
        made = {
            "title": listed.title,
            "settings": TypeAdapter(experiment.settings).dump_python(settings, mode="json"),
            "survey": lab.survey_record,
            "again": again or f"experiments.lab.run({name!r}, ...)",
            "steps": lab.steps.records,
        }
        writing.write(to, name, product, made)
    return product


def load(name: str) -> Experiment:
    """Return an experiment by its name."""
    found: Experiment = importlib.import_module(f"experiments.{entry(name).module}").EXPERIMENT
    return found


def _refuse_endless(settings: Any) -> None:  # noqa: ANN401
    """Refuse more seeds than anybody waits for; their plan alone would take long."""
    asked = {name: getattr(settings, name, 0) for name in ("seeds", "audited_seeds")}
    asked |= {f"seeds_of {n}": count for n, count in getattr(settings, "seeds_of", {}).items()}
    for name, count in asked.items():
        if count > MOST_SEEDS:
            raise InputError(f"{name} = {count:,}: at most {MOST_SEEDS:,} are run; set fewer")


def _own(to: Path, name: str) -> None:
    """Make the folder an experiment's; refuse one that is something else."""
    if to.is_symlink() or (to.exists() and not to.is_dir()):
        raise InputError(f"{to} is not a folder; name a folder for the experiment")
    mark = to / MARK
    if not mark.is_file():
        if to.exists() and {path.name for path in to.iterdir()} - {LOCK}:
            raise InputError(f"{to} exists and holds no experiment; name a new folder")
        Disk(to).write(MARK, json.dumps({"experiment": name}).encode())
        return
    try:
        found = json.loads(mark.read_bytes())["experiment"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found != name:
        raise InputError(f"{to} holds the experiment {found!r}, not {name!r}; name a new folder")
