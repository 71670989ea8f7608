"""What the report says beside its numbers: findings, method, references, and the command."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from typing import Any

from catalogs.audit.report import document as sentences
from catalogs.audit.report import nuisance_document
from catalogs.audit.settings import AuditSettings
from catalogs.config import list_of

_REFERENCES = (
    "Dhar & Shamir 2022, Astronomy and Computing 38, 100545: the training sky shifts fractions",
    "Górski et al. 2005, ApJ 622, 759: HEALPix",
    "Wilson 1927, JASA 22, 209; Brown, Cai & DasGupta 2001, Statistical Science 16, 101: intervals",
    "Clopper & Pearson 1934, Biometrika 26, 404: exact intervals (in the tables)",
    "Lancaster 1961, JASA 56, 223: mid-p",
    "Benjamini & Hochberg 1995, JRSS B 57, 289: false discovery rate",
    "DerSimonian & Laird 1986, Controlled Clinical Trials 7, 177: extra variance",
    "Kulldorff 1997, Communications in Statistics 26, 1481: the scan",
    "Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9, 39: Monte Carlo p values",
    "Holm 1979, Scandinavian Journal of Statistics 6, 65: the alarm",
    "Patterson & Thompson 1971, Biometrika 58, 545: restricted likelihood of the clustered sky",
    "Spiegelhalter 2005, Statistics in Medicine 24, 1185: funnel plot",
    "Cabrera-Vives, Miller & Schneider 2018, AJ 156, 284: resolution bias (with covariate alpha)",
    "Angelopoulos et al. 2023, Science 382, 669: prediction-powered inference (with labels)",
)


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
            "they are, and where, is not judged here."
        )
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


def method(document: dict[str, Any]) -> list[str]:
    """Return the steps of this audit, in order."""
    s, sky = document["settings"], document["sky"]
    doubles = (
        "Positions that occur more than once were kept."
        if s["keep_duplicates"]
        else "Of objects at the same position only the first counts."
    )
    radii = ", ".join(f"{radius:g}" for radius in s["radii"])
    steps = f"""
        Rows without a valid position or answer, or not ok, were left out. {doubles}
        Answers were counted in nested HEALPix tiles (ICRS); nside {sky["nside"]} is tested, tiles \
with {s["min_n"]} answers or more. Intervals of tiles are Wilson's.
        Global uniformity: Pearson's X² of the tiles; the scatter of true fractions after \
DerSimonian & Laird.
        Dipole: weighted least squares of f = p + A·d; χ² with three degrees of freedom. An \
amplitude is absolute, not relative to the fraction.
        Cap scan: caps of {radii} degrees against the rest of the sky; the largest |z|.
        Single tiles: each against the rest of the sky (mid-p), Benjamini-Hochberg q. Flagged: q \
below {s["alpha"]:g} and a difference of at least {s["min_difference"]:g}.
        p of the first three from {s["simulations"]:,} permutations of the answers over fixed \
positions (seed {s["seed"]}).
        Alarm: {document["alarm"]["method"]}, level {document["alarm"]["alpha"]:g}. Without one, \
the sky is uniform if the dipole test alone would find a dipole of {s["effect"]:g} with 80% power, \
averaged over its direction, else the data are insufficient.
        p, clustered: dipole and scan again under the Gaussian likelihood of a clustered sky; it \
informs, and does not raise the alarm.
    """
    return [step.strip() for step in steps.strip().splitlines()]


def references() -> tuple[str, ...]:
    """Return the papers of the method."""
    return _REFERENCES


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
    | {"covariates", "intrinsic", "truth", "region", "correct", "precision", "compare", "swap"}
    | {"cutouts", "training_sky"}
)


_REPEATED = ("compare", "swap")


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
