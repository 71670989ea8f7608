"""What the blank-sky experiment's tables mean, and what it says in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from catalogs.audit.comparison.chance import LEVEL
from experiments.patches import Geometry, Place
from experiments.product import Cell, p_text, shown

PATCHES = {
    "corner": "corners of the galaxy's own cutout",
    "random": "places anywhere around the galaxy in its own cutout",
    "elsewhere": "corners of other galaxies' cutouts in the same tile of the sky",
}
_NAMES = {
    "corner": "corner patches",
    "random": "patches at random places",
    "elsewhere": "patches beside other galaxies",
}
OWN = ("corner", "random")
PLACE = "corner and random: in the galaxy's cutout; elsewhere: in another's of the same tile"
FOLD = "which network; its test tiles are in no other fold"
POWER = {"detectable": f"accuracy found with 80% power at level {LEVEL}"}
TILES = (
    "Test tiles hold no training galaxy and none within 2 arcsec of one. As many galaxies of "
    "either class are drawn, so chance is one half if all folds are run; else it is the share of "
    f"the larger class. The binomial test is one-sided and exact; the level is {LEVEL} for each "
    "place. It takes galaxies as independent."
)
MEANING = (
    "Telling the class from such patches shows that something beside the galaxy's inner light goes "
    "with the label. It shows neither that labels go with how galaxies were observed, nor how much "
    "a classifier of whole cutouts uses it."
)
_OUTSKIRTS = "the galaxy's own outskirts, which reach into the patch"
_FRAME = (
    "noise and neighbours, magnified with the galaxy where the frame follows its size, which goes "
    "with its class; ellipticals have more neighbours, too"
)
_OBSERVED = "how galaxies were observed, if labels go with that"


def headline(rows: Sequence[Mapping[str, Cell]], levels: Sequence[Mapping[str, Cell]]) -> str:
    """Return which patches tell the class, to networks or by simple numbers, and no reason."""
    told = [str(row["place"]) for row in rows if _tells(row)]
    plain = [str(row["place"]) for row in differing(levels) if row["place"] not in told]
    said = []
    if told:
        said.append(f"{' and '.join(_NAMES[place] for place in told)} tell the class")
    if plain:
        names = " and ".join(_NAMES[place] for place in dict.fromkeys(plain))
        said.append(f"grey levels of {names} differ by class, though no network tells it by these")
    if not said:
        asked = " or ".join(_NAMES[str(row["place"])] for row in rows)
        return f"Nothing shows that {asked} tell the class."
    whole = "; ".join(said)
    return f"{whole[0].upper()}{whole[1:]}."


def differing(levels: Sequence[Mapping[str, Cell]]) -> list[Mapping[str, Cell]]:
    """Return the simple numbers that differ by class, at Bonferroni's level of all of them."""
    return [row for row in levels if float(row["p"] or 0) < LEVEL / len(levels)]


def finding(row: Mapping[str, Cell]) -> str:
    """Return what was told at a place."""
    return (
        f"{_NAMES[str(row['place'])].capitalize()}: {shown(row['right'])} of {shown(row['n'])} "
        f"right, {_percent(row['accuracy'])} ({_percent(row['low'])} to {_percent(row['high'])}), "
        f"chance {_percent(row['chance'])}, {p_text(row['p'])}; with 80% power "
        f"{_percent(row['detectable'])} would have been found at level {LEVEL}."
    )


def reasons(
    rows: Sequence[Mapping[str, Cell]],
    levels: Sequence[Mapping[str, Cell]],
    names: tuple[str, ...],
    follow: bool,
) -> list[str]:
    """Return why patches may tell the class: the galaxy's own light first where it may be seen."""
    own = [row for row in rows if row["place"] in OWN and _tells(row)]
    bright = differing(levels)
    beside = any(row["place"] in OWN for row in bright)
    elsewhere = any(row["place"] == "elsewhere" for row in bright)
    differ = "; ".join(
        f"{row['of_pixels']} of {_NAMES[str(row['place'])]} {shown(row[names[0]])} and "
        f"{shown(row[names[1]])} ({p_text(row['p'])})"
        for row in bright
    )
    said = []
    if bright:
        said.append(
            f"Grey levels differ between {names[0]} and {names[1]} galaxies, medians: {differ}; "
            f"below {LEVEL / len(levels):.2g} counts, as {len(levels)} numbers were looked at."
        )
    if own or beside:
        first = [_OUTSKIRTS, _FRAME] if follow or beside else [_FRAME, _OUTSKIRTS]
        order = [*first, _OBSERVED] if follow or beside else [_OBSERVED, *first]
        frames = "follow the galaxies' sizes, or may" if follow else "have one scale"
        said.append(
            f"Possible reasons, which this does not tell apart (frames {frames}): "
            f"(1) {order[0]}; (2) {order[1]}; (3) {order[2]}."
        )
    other = next((row for row in rows if row["place"] == "elsewhere"), None)
    if other is None:
        return said
    if _tells(other) or elsewhere:
        how = "tells the class" if _tells(other) else "has other grey levels by class"
        said.append(
            f"Sky beside other galaxies of the same tile {how}: so something of that part "
            "of the sky goes with it, its observing conditions or how crowded it is."
        )
    elif own:
        said.append(
            "Sky beside other galaxies of the same tile is not shown to tell the class: what tells "
            "it goes with the single galaxy, as far as this can see, not with its part of the sky."
        )
    return said


def patches(where: Mapping[Place, Geometry]) -> list[str]:
    """Return where the patches are from."""
    said = []
    for place, one in where.items():
        text = (
            f"{place.capitalize()}: patches of {one.patch} px from {PATCHES[place]} of {one.side} "
            f"px, one a galaxy, at least {one.radius:.3g} px from the centre."
        )
        if one.repeated > 1:
            text += f" Each pixel is shown {one.repeated} by {one.repeated} times."
        said.append(text)
    if "elsewhere" in where:
        said.append(
            "For patches from elsewhere each galaxy is given the corner of another one of its tile "
            "of the sky: it shows the same part of the sky, and nothing of the galaxy whose class "
            "is asked. Galaxies that are alone in their tile are left out."
        )
    return said


def columns(names: tuple[str, ...]) -> dict[str, str]:
    """Return what the columns of the tests mean."""
    return {
        "n": "test patches",
        "right": "of these told right",
        "accuracy": "share told right",
        "low": "lower bound of its 95% interval (Clopper and Pearson)",
        "high": "upper bound",
        "chance": "share of the larger class",
        "p": "one-sided exact binomial p against chance",
        "fisher_p": "one-sided p of Fisher's exact test",
        **{
            f"{a}_as_{b}": f"patches for a galaxy labelled {a}, told as {b}"
            for a in names
            for b in names
        },
    }


def _tells(row: Mapping[str, Cell]) -> bool:
    return float(row["p"] or 0) < LEVEL


def _percent(value: Cell) -> str:
    return f"{100 * float(value or 0):.1f}%"
