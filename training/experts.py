"""Which galaxies of an annotated catalog experts are to look at."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv
from pydantic import Field, TypeAdapter, ValidationError

from catalogs.annotated import names
from catalogs.config import faults
from catalogs.errors import InputError, IntegrityError
from catalogs.storage.place import open_place
from catalogs.survey.tables import read_table
from training import checkpoint
from training.checkpoint import Run
from training.triage import Level

_LEVELS = TypeAdapter(Annotated[list[Level], Field(min_length=1)])


def read_levels(run: Path, question: str | None = None) -> tuple[list[Level], str | None]:
    """Return what thresholds buy on a run's held-out galaxies, and the question.

    Parameters
    ----------
    run : Path
        A complete run.
    question : str, optional
        Of a tree; by default its first.

    Raises
    ------
    InputError
        No such run or question, or about no held-out galaxy half of the volunteers were asked it.
    IntegrityError
        A file of the run is missing or damaged.
    """
    tree, file = Run.open(run).data.questions, run / checkpoint.METRICS
    found = checkpoint.read_json(file)
    if tree is None:
        if question is not None:
            raise InputError(f"{run} answers no tree; leave out the question")
    else:
        known = [q.name for q in tree.questions]
        question = question or known[tree.roots[0]]
        if question not in known:
            raise InputError(f"{run} has no question {question!r}, but {', '.join(known)}")
        found = (found.get("questions") or {}).get(question) or {}
        if found.get("galaxies") == 0:
            raise InputError(f"{run}: {question} is asked of no held-out galaxy")
    if "triage" not in found:
        raise InputError(f"{run} was trained before triage was; train it again")
    try:
        return _LEVELS.validate_python(found["triage"]), question
    except ValidationError as error:
        raise IntegrityError(f"{file}: triage: {faults(error)}; train again") from None


def for_experts(
    catalog: str, to: Path, confidence: float, question: str | None = None
) -> dict[str, int]:
    """Write the galaxies of a catalog that are to be looked at, the least sure first.

    Parameters
    ----------
    catalog : str
        Annotated with the run's bundle: path or URL.
    to : Path
        CSV to make: identifier, position, label, confidence and answers.
    confidence : float
        From here on galaxies are accepted.
    question : str, optional
        Of a tree.

    Returns
    -------
    dict of str to int
        How many are ``accepted``, ``listed``, and ``without`` an answer: image unusable, or the
        question not asked.

    Raises
    ------
    InputError
        No such catalog, it is not complete or has no such answers, or ``to`` exists.
    """
    if to.exists():
        raise InputError(f"{to} exists already; name another file, or remove it first")
    if open_place(catalog).size(names.PROPERTIES) is None:
        raise InputError(f"{catalog} is no complete annotated catalog; run `skytally annotate`")
    ending = "" if question is None else f"_{question}"
    sure, label = f"confidence{ending}", f"label{ending}"
    table = read_table(catalog)
    if sure not in table.column_names:
        raise InputError(f"{catalog} has no column {sure!r}; did this run's bundle annotate it?")
    prefix = "p_" if question is None else f"p_{question}_"
    answers = [name for name in table.column_names if name.startswith(prefix)]
    answered = table.filter(pc.is_valid(table[sure]))
    listed = answered.filter(pc.less(answered[sure], pa.scalar(confidence, pa.float64())))
    listed = listed.sort_by([(sure, "ascending"), ("id", "ascending")])
    text = io.BytesIO()
    csv.write_csv(listed.select(["id", "ra", "dec", label, sure, *answers]), text)
    checkpoint.write_bytes(to, text.getvalue())
    return {
        "accepted": answered.num_rows - listed.num_rows,
        "listed": listed.num_rows,
        "without": table.num_rows - answered.num_rows,
    }
