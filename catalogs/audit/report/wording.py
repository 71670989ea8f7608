"""What the report says beside its numbers: findings, settings, and the command."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from typing import Any

from catalogs.audit.report import document as sentences
from catalogs.audit.report import left_out_document, nuisance_document
from catalogs.audit.settings import AuditSettings
from catalogs.config import list_of


def findings(document: dict[str, Any]) -> list[str]:
    """Return the reasons of the verdict, one sentence each, the document's own first."""
    if document["verdict"] == "insufficient":
        return []  # the headline says them
    alpha, simulations = document["alarm"]["alpha"], document["settings"]["simulations"]
    said = [sentence(typeset(reason)) for reason in document["reasons"]]
    alarming = [t for t in document["tests"] if t["p_holm"] is not None and t["p_holm"] < alpha]
    for test in alarming:
        p = sentences.p_text(test["p"], simulations)
        said.append(
            typeset(f"{sentences.TEST_NAMES[test['name']]}: {sentences.effect_text(test)}; p {p}.")
        )
    judged = [test for test in document["tests"] if test["p_correlated"] is not None]
    if alarming and judged:
        values = " and ".join(
            f"{sentences.p_text(t['p_correlated'], simulations)} for the {_SHORT[t['name']]}"
            for t in judged
        )
        meaning = (
            "a sky that is clustered by itself could look so"
            if sentences.could_be_clustering(document)
            else "a Gaussian field as strong as the one fitted here seldom looks so; a single rich "
            "structure would"
        )
        said.append(typeset(f"If galaxies cluster, p is {values}: {meaning}."))
    if document["verdict"] == "uniform":
        made = [_SHORT[t["name"]] for t in document["tests"] if t["p"] is not None]
        said.append(f"None of the tests alarms at level {alpha:g} ({', '.join(made)}).")
        said += [flagged] if (flagged := sentences.flagged_text(document)) else []
    apart = document["counts"]["other_answer"]
    if apart:
        said.append(
            f"{apart:,} rows with another answer than those counted are in no denominator: what "
            "they are is not judged here."
        )
    said += [typeset(text)] if (text := left_out_document.sky_text(document["unanswered"])) else []
    if document["cause"] == "undetermined" and not (document["labels"] or document["compared"]):
        said.append(
            "One map alone cannot tell a sky that varies from a classifier that varies over the "
            "sky."
        )
    return said


_SHORT = {
    "global": "global uniformity",
    "dipole": "dipole",
    "scan": "cap scan",
    "tiles": "single tiles",
}


def sentence(text: str) -> str:
    """Return a clause as a sentence."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def typeset(text: str) -> str:
    """Return numbers as a printer sets them: a minus for a hyphen, powers of ten written out."""
    text = re.sub(r"(?<![\w.])-(?=\d)", "\u2212", text)
    return re.sub(
        r"(?<=\d)e([+-])0*(\d+)\b",
        lambda power: "×10" + (power[1].replace("+", "") + power[2]).translate(_SUPERSCRIPT),
        text,
    ).replace("p ≤ ", "p\u00a0≤\u00a0")


_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def conditions(document: dict[str, Any]) -> list[str]:
    """Return what is said of observing conditions; nothing where none were named."""
    said = nuisance_document.beside_the_table(document)
    return [sentence(typeset(line)) for line in said]


def again(document: dict[str, Any]) -> str:
    """Return the command that makes this audit again; options of the library only, as Python."""
    given, source = document["settings"], document["provenance"]["source"]
    changed = {
        f.name: given[f.name]
        for f in fields(AuditSettings)
        if f.name in given and given[f.name] != _plain(f.default)
    }
    if not set(changed) <= COMMAND_OPTIONS:
        arguments = ", ".join(f"{name}={_code(value)}" for name, value in changed.items())
        return (
            "from catalogs.audit.run import audit\n"
            "from catalogs.audit.settings import AuditSettings\n\n"
            f"audit({source!r}, {NAME!r}, AuditSettings({arguments}))"
        )
    words = ["skytally", "audit", source, "--to", NAME]
    for name, value in changed.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words += [flag]
        elif name in _REPEATED:
            words += [word for item in value for word in (flag, str(item))]
        elif isinstance(value, list):
            words += [flag, list_of(str(item) for item in value)]
        else:
            words += [flag, str(value)]
    return shlex.join(words)


def with_cutouts(document: dict[str, Any]) -> str:
    """Return the command that makes this audit again with example cutouts."""
    asked = document["settings"] | {"cutouts": "survey.zarr"}
    return again(document | {"settings": asked})


NAME = "again.audit"
# Options of `skytally audit` that are settings; the library has more.
COMMAND_OPTIONS = frozenset(
    {
        "answer",
        "among",
        "label",
        "ra",
        "dec",
        "probabilities",
        "weights",
        "order",
        "effect",
        "alpha",
        "seed",
    }
    | {"covariates", "intrinsic", "truth", "labels_blind", "region", "correct", "precision"}
    | {"compare", "swap", "experiments", "cutouts", "training_sky"}
)


_REPEATED = ("compare", "swap", "experiments")


def settings_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the settings that were given or have a default, as text."""
    return [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in document["settings"].items()
        if value not in (None, [])
    ]


def _plain(value: Any) -> Any:  # noqa: ANN401  # any setting
    return list(value) if isinstance(value, tuple) else value


def _code(value: Any) -> str:  # noqa: ANN401  # any setting
    return repr(tuple(value) if isinstance(value, list) else value)
