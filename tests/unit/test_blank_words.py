"""What the blank-sky experiment says where networks and simple numbers disagree."""

from __future__ import annotations

import pytest

from experiments import blank_words

NAMES = ("elliptical", "spiral")


def rows(told: str) -> list[dict]:
    return [
        {"place": place, "p": 1e-9 if place == told else 0.4} for place in ("corner", "elsewhere")
    ]


def levels(**p: float) -> list[dict]:
    return [
        {
            "place": place,
            "of_pixels": "mean",
            "elliptical": 6.25,
            "spiral": 5.75,
            "p": p.get(place, 1),
        }
        for place in ("corner", "random", "elsewhere")
    ]


@pytest.mark.parametrize(
    ("told", "p", "said"),
    [
        ("corner", {"corner": 1e-11}, "Corner patches tell the class."),
        ("none", {}, "Nothing shows that corner patches or patches beside other galaxies tell"),
        # .004 is below .01, but three numbers were looked at.
        ("none", {"corner": 0.004}, "Nothing shows that corner patches or patches beside other"),
        ("none", {"corner": 0.003}, "Grey levels of corner patches differ by class, though"),
        ("corner", {"elsewhere": 1e-5}, "Corner patches tell the class; grey levels of patches"),
    ],
)
def test_the_headline_says_what_networks_and_what_grey_levels_tell(told, p, said):
    assert blank_words.headline(rows(told), levels(**p)).startswith(said)


def test_reasons_are_given_where_only_grey_levels_tell():
    said = blank_words.reasons(rows("none"), levels(corner=1e-11), NAMES, follow=False)
    assert "mean of corner patches 6.2500 and 5.7500 (p = 1e−11)" in said[0]
    assert said[1].startswith("Possible reasons")
    assert blank_words.reasons(rows("none"), levels(), NAMES, follow=False) == []


def test_grey_levels_of_other_galaxies_sky_are_of_its_part():
    told = rows("corner")
    said = blank_words.reasons(told, levels(elsewhere=1e-8), NAMES, follow=False)
    assert "mean of patches beside other galaxies" in said[0]
    assert "has other grey levels by class: so something of that part" in said[-1]
    assert not any("not with its part" in one for one in said)
    said = blank_words.reasons(told, levels(), NAMES, follow=False)
    assert "not with its part of the sky" in said[-1]
