"""The experiments by name, with what each one asks. Listing them loads none."""

from __future__ import annotations

from typing import NamedTuple

from catalogs.errors import InputError


class Entry(NamedTuple):
    """One line of the list: the module, what is asked, and whether a survey is."""

    module: str
    summary: str
    survey: bool = True


LISTED = {
    "training-size": Entry(
        "training_size", "Accuracy against training set size (Dhar & Shamir 2022)"
    ),
    "sky-swap": Entry(
        "sky_swap", "Spirals learnt on one sky, ellipticals on another (Dhar & Shamir 2022)"
    ),
    "four-worlds": Entry(
        "four_worlds", "Sky, classifier, both, neither: is the audit right (simulates)", False
    ),
    "blank-sky": Entry("blank_sky", "Whether the class is told from sky without the galaxy [S23]"),
    "sky-probe": Entry("sky_probe", "Whether a cutout tells the part of the sky it is from"),
    "debias": Entry("debias", "Biased labels, de-biased labels and the de-biasing loss [MC21]"),
    "photometry": Entry("photometry", "The sky swap for a classifier of photometric columns [S23]"),
    "remedies": Entry("remedies", "The swap with each remedy: what is left, and at what cost"),
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
