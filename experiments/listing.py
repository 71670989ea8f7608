"""The experiments by name, with what each one asks. Listing them loads none."""

from __future__ import annotations

from typing import NamedTuple

from catalogs.errors import InputError


class Entry(NamedTuple):
    """One line of the list: the module, what is asked, the page's title, whether of a survey."""

    module: str
    summary: str
    title: str
    survey: bool = True


LISTED = {
    "training-size": Entry(
        "training_size",
        "Accuracy against training set size (Dhar & Shamir 2022)",
        "How accuracy grows with the number of training galaxies",
    ),
    "sky-swap": Entry(
        "sky_swap",
        "Spirals learnt on one sky, ellipticals on another (Dhar & Shamir 2022)",
        "Does it matter on which sky a network learnt?",
    ),
    "four-worlds": Entry(
        "four_worlds",
        "Simulates its sky: sky, classifier, both, neither: is the audit right",
        "The sky varies, the classifier, both or neither: is the audit right?",
        False,
    ),
    "blank-sky": Entry(
        "blank_sky",
        "Whether the class is told from sky beside the galaxy (Shamir 2023)",
        "Is a galaxy's class told from the sky beside it?",
    ),
    "sky-probe": Entry(
        "sky_probe",
        "Whether a cutout tells the part of the sky it is from",
        "Does a cutout tell the part of the sky it is from?",
    ),
    "debias": Entry(
        "debias",
        "Biased and de-biased labels, de-biasing loss (Medina-Rosales & Cabrera-Vives 2021)",
        "What de-biased labels and the de-biasing loss change",
    ),
    "photometry": Entry(
        "photometry",
        "The sky swap for a classifier of photometric columns (Shamir 2023)",
        "Does it matter on which sky a classifier of photometry learnt?",
    ),
    "remedies": Entry(
        "remedies",
        "The swap with each remedy: what is left, and at what cost",
        "Remedies against the training sky: what is left, and at what cost?",
    ),
}


def entry(name: str) -> Entry:
    """Return what is listed of an experiment.

    Raises
    ------
    InputError
        There is none of this name.
    """
    if name not in LISTED:
        raise InputError(f"experiment {name!r} is none of {', '.join(LISTED)}")
    return LISTED[name]


def lines() -> str:
    """Return the list for people, one line each."""
    width = max(map(len, LISTED))
    return "\n".join(f"{name:<{width}}  {one.summary}" for name, one in LISTED.items())
