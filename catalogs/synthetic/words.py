"""A sky in words of one line, as flags and TOML files have them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from catalogs.config import read_toml
from catalogs.errors import InputError
from catalogs.sky import Region
from catalogs.synthetic.biases import TrainingRegion
from catalogs.synthetic.conditions import ConditionsName, ObservationSettings, check_name
from catalogs.synthetic.truth import Clustered, Dipole, Patch, Pattern


def read_dipole(text: str) -> Dipole:
    """Read ``AMPLITUDE,RA,DEC``, for example ``0.02,185,30``.

    Raises
    ------
    InputError
        The text has another form.
    """
    amplitude, ra, dec = _numbers(text, "dipole", "AMPLITUDE,RA,DEC, such as 0.02,185,30", (3,))
    return Dipole(amplitude, ra, dec)


def read_patch(text: str) -> Patch:
    """Read ``RA0..RA1,DEC0..DEC1:EXCESS``, for example ``180..200,0..20:0.05``.

    Raises
    ------
    InputError
        The text has another form.
    """
    region, _, excess = text.rpartition(":")
    if not region:
        raise InputError(
            f"patch {text!r} is not RA0..RA1,DEC0..DEC1:EXCESS, such as 180..200,0..20:0.05"
        )
    return Patch(Region.parse(region), _numbers(excess, "patch's excess", "a number", (1,))[0])


def read_clustered(text: str) -> Clustered:
    """Read ``RMS``, ``RMS,SLOPE`` or ``RMS,SLOPE,LMAX``, for example ``0.01,1.2``.

    Raises
    ------
    InputError
        The text has another form.
    """
    form = "RMS[,SLOPE[,LMAX]], such as 0.01,1.2,64"
    rms, *rest = _numbers(text, "clustered field", form, (1, 2, 3))
    default = Clustered(0)
    slope = rest[0] if rest else default.slope
    lmax = rest[1] if len(rest) > 1 else float(default.lmax)
    if lmax != int(lmax):
        raise InputError(f"clustered field {text!r}: LMAX must be a whole number")
    return Clustered(rms, slope, int(lmax))


def read_conditions(text: str) -> ConditionsName | ObservationSettings:
    """Read ``even``, ``uneven``, ``survey``, or a TOML file of `ObservationSettings`.

    Raises
    ------
    InputError
        No conditions have this name, or the file cannot be used; all that is wrong is named.
    """
    if not text.endswith(".toml"):
        check_name(text)
        return cast(ConditionsName, text)
    kinds = {field.name: type(field.default) for field in fields(ObservationSettings)}
    known = {name.replace("_", "-"): name for name in kinds} | {name: name for name in kinds}
    values = read_toml(Path(text))
    wrong: list[str] = []
    usable: dict[str, Any] = {}
    unknown = [repr(key) for key in values if key not in known]
    if unknown:
        flags = ", ".join(sorted(flag for flag in known if "_" not in flag))
        wrong.append(f"unknown {', '.join(unknown)}; 'conditions' knows {flags}")
    for name, value in ((known[key], value) for key, value in values.items() if key in known):
        wanted = (bool,) if kinds[name] is bool else (int, float)
        if isinstance(value, bool) == (kinds[name] is bool) and isinstance(value, wanted):
            usable[name] = value
        else:
            what = "true or false" if kinds[name] is bool else "a number"
            wrong.append(f"{name} = {value!r}: expected {what}")
    try:
        settings = ObservationSettings(**usable)
    except InputError as error:
        wrong.append(str(error))
    if wrong:
        raise InputError(f"conditions {text}: {'; '.join(wrong)}")
    return settings


def read_pattern(text: str) -> Pattern:
    """Read ``dipole:…``, ``patch:…`` or ``clustered:…``.

    Raises
    ------
    InputError
        The text has another form.
    """
    kind, _, rest = text.partition(":")
    if kind == "dipole":
        return read_dipole(rest)
    if kind == "patch":
        return read_patch(rest)
    if kind == "clustered":
        return read_clustered(rest)
    raise InputError(
        f"pattern {text!r} is not dipole:, patch: or clustered: and its numbers, such as "
        "dipole:0.2,185,30"
    )


def read_training(text: str) -> TrainingRegion:
    """Read ``RA0..RA1,DEC0..DEC1:CONDITION:DIFFERENCE``.

    For example ``180..200,0..20:seeing:0.4``.

    Raises
    ------
    InputError
        The text has another form.
    """
    parts = text.split(":")
    if len(parts) != 3:
        raise InputError(
            f"training region {text!r} is not RA0..RA1,DEC0..DEC1:CONDITION:DIFFERENCE, such as "
            "180..200,0..20:seeing:0.4"
        )
    difference = _numbers(parts[2], "training region's difference", "a number", (1,))[0]
    return TrainingRegion(Region.parse(parts[0]), parts[1], difference)  # type: ignore[arg-type]


def _numbers(text: str, what: str, form: str, counts: tuple[int, ...]) -> list[float]:
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts or not all(abs(value) < float("inf") for value in values):
        raise InputError(f"{what} {text!r} is not {form}")
    return values
