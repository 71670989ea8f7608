"""The part of ``audit.json`` on experiments of the same survey, and its sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from catalogs.audit.comparison.chance import LEVEL
from catalogs.audit.reading.experiments import BLANK_SKY, SKY_PROBE, Found, Told

# What may be said of them, and no more: STATISTICS, step 9.
NOTE = (
    "Supporting evidence, no part of the verdict or its cause: the networks are the experiment's "
    "own, not the audited one."
)
_MEANING = {
    BLANK_SKY: "That a class is told from patches beside the galaxy has three possible reasons, "
    "which this does not tell apart: the galaxy's own outskirts, which reach into the patch; noise "
    "and neighbours, magnified where a cutout's scale follows the galaxy's size; and how galaxies "
    "were observed, if labels go with that. So even honest corners may tell it.",
    SKY_PROBE: "That the part of the sky is told means that cutouts carry marks of where they were "
    "taken, or that galaxies differ between the parts; not that a classifier's answers follow it.",
}
_CHANCE = {
    BLANK_SKY: f"Better than chance: one-sided exact binomial p below {LEVEL:g}. It and the "
    "Clopper-Pearson intervals take galaxies as independent.",
    SKY_PROBE: f"Better than chance: p below {LEVEL:g} when blocks of sky exchange parts. The "
    "exact binomial p and the Clopper-Pearson intervals take galaxies as independent, which those "
    "of a block are not.",
}
_ASKED = {BLANK_SKY: "the class", SKY_PROBE: "the part of the sky"}
_BY = {
    "corner": "corners of cutouts",
    "random": "random places beside the galaxies",
    "elsewhere": "corners of other galaxies' cutouts in the same tile",
    "network": "cutouts, by a network",
    "features": "a classifier's features, by a line",
}


def build(found: Sequence[Found]) -> list[dict[str, Any]]:
    """Return the part on experiments."""
    return [
        {
            "folder": one.folder,
            "experiment": one.experiment,
            "survey_name": one.survey_name,
            "survey_uuid": one.survey_uuid,
            "same_survey": one.same_survey,
            "label": one.label,
            "level": LEVEL,
            "told": [_told(told) for told in one.told],
            "notes": [
                NOTE,
                _MEANING[one.experiment],
                _CHANCE[one.experiment],
                *_unchecked(one),
            ],
        }
        for one in found
    ]


def _told(told: Told) -> dict[str, Any]:
    test = told.test
    return {
        "what": told.what,
        "n": test.n,
        "right": test.right,
        "accuracy": test.accuracy,
        "interval": [test.low, test.high],
        "chance": test.chance,
        "p_binomial": test.p,
        "p_fisher": test.fisher_p,
        "blocks": None if told.blocks is None else asdict(told.blocks),
        "p": told.p,
        "tells": told.tells,
    }


def _unchecked(one: Found) -> list[str]:
    if one.same_survey:
        return []
    return [f"Not checked: the audited table does not say whether its survey is {one.survey_name}."]


def headline(part: dict[str, Any]) -> str:
    """Return what an experiment found, as one sentence."""
    telling = [_BY[told["what"]] for told in part["told"] if told["tells"]]
    silent = [_BY[told["what"]] for told in part["told"] if not told["tells"]]
    asked, said = _ASKED[part["experiment"]], []
    if telling:
        said.append(f"{asked} is told better than chance from {' and from '.join(telling)}")
    if silent:
        said.append(
            f"these networks do not show that {asked} is told from {' or from '.join(silent)}"
        )
    return "; ".join(said)


def told_text(told: dict[str, Any]) -> str:
    """Return what one kind of network told, in words."""
    low, high = told["interval"]
    text = (
        f"from {_BY[told['what']]}: {told['right']:,} of {told['n']:,} right, "
        f"{told['accuracy']:.1%} ({low:.1%} to {high:.1%}), chance {told['chance']:.1%}, exact "
        f"binomial p {told['p_binomial']:.2g}"
    )
    if (blocks := told["blocks"]) is not None:
        text += (
            f"; balanced accuracy {blocks['balanced_accuracy']:.1%}, with blocks exchanged "
            f"{blocks['permuted']:.1%} ± {blocks['permuted_sd']:.1%}, p {blocks['p']:.2g}"
        )
    return text


def lines(document: dict[str, Any]) -> list[str]:
    """Return the part as lines for a terminal."""
    said = []
    for part in document["experiments"] or []:
        said.append(f"Experiment {part['experiment']} ({part['folder']}): {headline(part)}")
        said += [f"  {told_text(told)}" for told in part["told"]]
    return [*said, f"  {NOTE}"] if said else []
