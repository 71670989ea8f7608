"""Experiments on the same survey, from the ``results.json`` that ``skytally experiment`` writes.

Two of them say something beside an audit (docs/experiments.md): ``blank-sky``, whether the class is
told from patches of sky beside the galaxy, and ``sky-probe``, whether the part of the sky is told
from the cutout. Their counts are read and tested here anew; what the file calls their p must agree.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from catalogs.audit.comparison.chance import LEVEL, AgainstChance, against_chance
from catalogs.audit.reading.lineage import lineage
from catalogs.errors import InputError
from catalogs.storage.place import open_place

RESULTS = "results.json"
BLANK_SKY, SKY_PROBE = "blank-sky", "sky-probe"
_SCHEMA = 1
_MOST_BYTES = 256 << 20
_KINDS = {BLANK_SKY: ("corner", "random", "elsewhere"), SKY_PROBE: ("network", "features")}
_SAME = 1e-6  # relative, of a p that was computed elsewhere


@dataclass(frozen=True, slots=True)
class Blocks:
    """A balanced accuracy among those found when blocks of sky exchange their parts.

    ``chance`` is one over the number of parts; ``permuted`` and ``permuted_sd`` are the mean and
    standard deviation of the exchanges; ``p`` is one-sided.
    """

    number: int
    balanced_accuracy: float
    chance: float
    permuted: float
    permuted_sd: float
    p: float


@dataclass(frozen=True, slots=True)
class Told:
    """What one kind of network told: of which patch or by which probe, and against chance."""

    what: str
    test: AgainstChance
    blocks: Blocks | None

    @property
    def p(self) -> float:
        """The p that judges: of exchanged blocks where there are such, else the binomial."""
        return self.test.p if self.blocks is None else self.blocks.p

    @property
    def tells(self) -> bool:
        """Whether it is better than chance at the level of such experiments."""
        return self.p < LEVEL


@dataclass(frozen=True, slots=True)
class Found:
    """One experiment: its name, its survey, and what its networks told.

    ``same_survey`` is None where the audited table does not say its survey; another survey than
    the table's is refused. ``label`` names the survey's column of classes.
    """

    folder: str
    experiment: str
    survey_name: str
    survey_uuid: str
    same_survey: bool | None
    label: str
    told: tuple[Told, ...]


def read_experiment(folder: str, source: str | Path) -> Found:
    """Read an experiment's folder.

    Parameters
    ----------
    folder : str
        With `RESULTS`.
    source : str or Path
        The audited table, whose survey must be the experiment's where it says one.

    Raises
    ------
    InputError
        There is no such file, it is of another experiment or survey, or its numbers disagree.
    """
    where = f"{folder}/{RESULTS}"
    document = _document(folder, where)
    name = document.get("experiment")
    if name not in _KINDS:
        raise InputError(
            f"{where}: is of the experiment {name!r}; an audit reads {BLANK_SKY} and {SKY_PROBE}"
        )
    try:
        _same("schema_version", document["schema_version"], _SCHEMA)
        survey, label = document["survey"], str(document["settings"]["train"]["label"])
        uuid, called = str(survey["uuid"]), str(survey["name"])
        told = (_blank_sky if name == BLANK_SKY else _sky_probe)(document)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise InputError(
            f"{where}: is not what 'skytally experiment {name}' writes ({error!r}); run it again"
        ) from error
    for one in told:
        if one.what not in _KINDS[name]:
            raise InputError(f"{where}: {one.what!r} is none of {', '.join(_KINDS[name])}")
    origin = lineage(source)
    if origin is not None and origin["survey_uuid"] != uuid:
        raise InputError(
            f"{where}: is of survey {called!r} ({uuid}), {source} of {origin['survey_name']!r} "
            f"({origin['survey_uuid']}); name an experiment on the same survey"
        )
    same = None if origin is None else True
    return Found(folder, name, called, uuid, same, label, told)


def _document(folder: str, where: str) -> dict[str, Any]:
    place = open_place(folder)
    size = place.size(RESULTS)
    if size is None:
        raise InputError(f"{where}: is not there; name the folder of an experiment that is done")
    if size > _MOST_BYTES:
        raise InputError(f"{where}: {size} bytes are more than an experiment says ({_MOST_BYTES})")
    try:
        found = json.loads(place.read(RESULTS))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is no JSON ({error}); run the experiment again") from error
    if not isinstance(found, dict):
        raise InputError(f"{where}: is no JSON object; run the experiment again")
    return found


def _blank_sky(document: dict[str, Any]) -> tuple[Told, ...]:
    table = document["tables"]["places"]
    cells = [name for name in table["columns"] if "_as_" in name]
    told = []
    for row in table["rows"]:
        test = _tested(np.reshape([_count(row[name]) for name in cells], (2, 2)), row["n"])
        _same("p", row["p"], test.p)
        _same("right", row["right"], test.right)
        told.append(Told(str(row["place"]), test, None))
    return tuple(told)


def _sky_probe(document: dict[str, Any]) -> tuple[Told, ...]:
    tables, names = document["tables"], document["facts"]["tiles"]
    told = []
    for row in tables["probes"]["rows"]:
        of_tile = {
            one["tile"]: [_count(one[f"as {name}"]) for name in names]
            for one in tables["tiles"]["rows"]
            if one["probe"] == row["probe"]
        }
        test = _tested(np.array([of_tile[name] for name in names]), row["n"])
        _same("chance", row["chance"], 1 / len(names))
        blocks = Blocks(
            _count(row["blocks"]),
            *(_share(row[key]) for key in ("balanced_accuracy", "chance", "permuted")),
            *(_share(row[key]) for key in ("permuted_sd", "p")),
        )
        told.append(Told(str(row["probe"]), test, blocks))
    return tuple(told)


def _tested(table: np.ndarray, n: object) -> AgainstChance:
    _same("n", n, int(table.sum()))
    return against_chance(table.astype(np.int64))


def _same(name: str, said: object, counted: float) -> None:
    """Refuse a number that is not what follows from the counts."""
    if not isinstance(said, int | float) or not math.isclose(said, counted, rel_tol=_SAME):
        raise ValueError(f"{name} is {said!r}, expected {counted:g}")


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise ValueError(f"{value!r} is no count")
    return value


def _share(value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{value!r} does not lie within 0 and 1")
    return float(value)
