"""What varies, the sky or the classifier, in plain English."""

from __future__ import annotations

from typing import Any

from catalogs.audit.labels import attribution

_UNDETERMINED = "whether the sky or the classifier varies is undetermined"
_CAUSES = {
    "classifier": "that the classifier varies, and no variation of the sky",
    "sky": "that the sky varies, and no variation of the classifier",
    "both": "that both the sky and the classifier vary",
}
_VARYING = {
    "classifier": "the classifier varies",
    "sky": "the sky varies",
    "both": "both the sky and the classifier vary",
}


def of_a_region(document: dict[str, Any]) -> str:
    """Say what labels show of a named region where the map does not alarm; empty without."""
    places = document.get("cause_places", [])
    if not places:
        return ""
    cause, where = _VARYING[places[0]["cause"]], places[0]["where"]
    return (
        f" But {_labels_show(document)} that {cause} {where} against the rest: a question of its "
        f"own, of two tests at {attribution.LEVEL:g} each, so it is found by chance in up to "
        f"{2 * attribution.LEVEL:.0%} of even skies, and is no part of the verdict"
        f"{_other_galaxies(document)}{_same_images(document)}."
    )


def _other_galaxies(document: dict[str, Any]) -> str:
    """Say what else a classifier that varies may be, where nothing was read that could tell."""
    named = {place["cause"] for place in document["cause_places"]} - {"sky"}
    if not named or document["settings"]["intrinsic"]:
        return ""
    return "; unless the galaxies there are of another kind, which --intrinsic covariates tell"


def _same_images(document: dict[str, Any]) -> str:
    """Say what labels cannot tell of a sky that they show."""
    if document["cause_basis"] != "labels":
        return ""
    if not {place["cause"] for place in document["cause_places"]} & {"sky", "both"}:
        return ""
    part = document.get("nuisances")
    text = (
        "; labels of galaxies that the network learnt from cannot tell these apart, and labels "
        "made from the same images may share what these hide"
    )
    if part is None or part["alarm"] is None:
        return text
    before, after = (part["alarm"][when] for when in ("before", "after"))
    alpha, galaxies = part["alarm"]["alpha"], document["settings"]["intrinsic"]
    observing = [
        one["name"]
        for one in part["covariates"]
        if one["dropped"] is None and one["name"] not in galaxies
    ]
    goes = before is not None and before < alpha and (after is None or after >= alpha)
    if goes and observing:
        text += f", and the alarm goes after regression on {', '.join(observing)}: this may be so"
    return f"{text} here" if goes and observing else text


def _labels_show(document: dict[str, Any]) -> str:
    declared = document["settings"]["labels_blind"]
    return "labels, declared a blind draw, show" if declared else "labels show"


def of_the_sky(document: dict[str, Any]) -> str:
    """Return what varies, and where that was found, as a clause."""
    cause, places = document["cause"], document.get("cause_places", [])
    if not places:
        return _UNDETERMINED
    if document["cause_basis"] == "comparison":
        text = (
            f"the classifier varies {places[0]['where']}, where another network shows less than "
            "half of the effect on the same objects, for what it tells apart; whether the sky "
            "varies as well was not asked"
        )
    elif len(places) == 1 and cause != "undetermined":
        text = f"{_labels_show(document)} {_CAUSES[cause]} ({places[0]['where']} against the rest)"
    else:
        each = [f"{_VARYING[place['cause']]} {place['where']}" for place in places]
        text = f"{_labels_show(document)} that {' and that '.join(each)}"
    text += _other_galaxies(document) + _same_images(document)
    if cause == "undetermined":
        text += "; the map alarms elsewhere as well, which that does not explain"
    return text
