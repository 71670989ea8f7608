"""The settings of a training run: everything that decides its result."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from catalogs.errors import InputError
from training.augment import AugmentSettings
from training.models.shamir import ShamirShape

_STRICT = ConfigDict(extra="forbid")
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, slots=True, config=_STRICT)
class SplitSettings:
    """Sky blocks: HEALPix order, fractions of the blocks, and the seed of their roles.

    Order 3 has tiles of 7.3 degrees. Without an order, the coarsest from 3 on that gives 64
    blocks with galaxies, or 8 (14 arcmin).
    """

    order: Annotated[int, Field(ge=0, le=12)] | None = None
    validation: Fraction = 0.1
    test: Fraction = 0.2
    seed: int = 0


@dataclass(frozen=True, slots=True, config=_STRICT)
class TrainSettings:
    """How a network is trained.

    Parameters
    ----------
    model : {"shamir"}
        The network.
    label : str
        Column of the survey store with class names; null or empty where there is no label.
    crop : int, optional
        Central square of the survey's cutouts [px]; by default what the survey asks for, or 240.
    epochs, batch : int
    learning_rate, weight_decay : float
        Of AdamW (Loshchilov & Hutter 2019); the rate rises over ``warmup`` steps and then
        follows a cosine to zero when ``cosine``.
    average : float
        Decay per step of the running mean of the weights that is kept as the result; 0: the
        last weights themselves.
    balanced : bool
        Weight the classes equally in the loss, however many galaxies each has.
    precision : {"bf16", "fp32"}
        Arithmetic of convolutions and dense layers in training; weights are fp32 in both.
    threads : int
        Torch's threads; part of the settings because sums depend on it in the last bit. One: on
        a shared machine two threads, waiting for each other, were four times slower.
    seed : int
        Of initial weights, order, augmentation and dropout.
    regions : dict of str to str
        Class name to the region (``RA0..RA1,DEC0..DEC1``) its training galaxies come from.
    views : {1, 2, 4}
        Views of each cutout whose log-odds are averaged when the network answers, inside the
        graph: as it is; and mirrored on its diagonal; and both turned by 180 degrees.
    framing, credit : str
        How the cutouts are framed, and whom labels and images are owed to; for the card.
    """

    model: Literal["shamir"] = "shamir"
    label: str = "label"
    crop: Annotated[int, Field(gt=0, le=8192)] | None = None
    epochs: Annotated[int, Field(gt=0)] = 40
    batch: Annotated[int, Field(gt=1)] = 64
    learning_rate: Positive = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    warmup: Annotated[int, Field(ge=0)] = 150
    cosine: bool = True
    average: Fraction = 0.998
    balanced: bool = True
    precision: Literal["bf16", "fp32"] = "bf16"
    threads: Annotated[int, Field(gt=0)] = 1
    seed: int = 0
    regions: dict[str, str] = Field(default_factory=dict)
    views: Literal[1, 2, 4] = 1
    framing: str = ""
    credit: str = ""
    shape: ShamirShape = Field(default_factory=ShamirShape)
    augment: AugmentSettings | None = Field(default_factory=AugmentSettings)
    split: SplitSettings = Field(default_factory=SplitSettings)


def paper_settings(seed: int = 0) -> TrainSettings:
    """Return the training of Dhar & Shamir 2022, section 2.1.

    Adam, binary cross-entropy, 250 epochs, classes of equal size (here: equal weight), no
    augmentation, no batch normalisation or dropout. The paper gives neither batch size nor rate;
    those are Keras' defaults (32 and 0.001).
    """
    return TrainSettings(
        epochs=250,
        batch=32,
        learning_rate=1e-3,
        weight_decay=0.0,
        warmup=0,
        cosine=False,
        average=0.0,
        precision="fp32",
        seed=seed,
        shape=ShamirShape(dropout=0.0, batch_norm=False),
        augment=None,
    )


PRESETS: dict[str, Callable[[], TrainSettings]] = {
    "default": TrainSettings,
    "paper": paper_settings,
}


def read_settings(
    preset: str = "default", path: Path | None = None, given: Mapping[str, Any] | None = None
) -> TrainSettings:
    """Return a preset's settings, changed by a TOML file, changed by what was given besides.

    Parameters
    ----------
    preset : str
        One of `PRESETS`.
    path : Path, optional
        TOML with the names of `TrainSettings`; tables for ``shape``, ``augment``, ``split``.
    given : mapping, optional
        Further values, the last word.

    Raises
    ------
    InputError
        An unknown preset, an unreadable file, unknown names or values out of range; all of the
        settings' faults at once.
    """
    if preset not in PRESETS:
        raise InputError(f"preset {preset!r} is none of {', '.join(PRESETS)}")
    values = dump(PRESETS[preset]())
    if path is not None:
        try:
            values = _merged(values, tomllib.loads(path.read_text()))
        except OSError as error:
            raise InputError(f"settings {path} cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"settings {path} is not TOML: {error}") from None
    return parse_settings(_merged(values, given or {}), "training settings")


def dump(settings: TrainSettings) -> dict[str, Any]:
    """Return settings as JSON values."""
    values: dict[str, Any] = _ADAPTER.dump_python(settings, mode="json")
    return values


def parse_settings(values: Mapping[str, Any], origin: str) -> TrainSettings:
    """Read settings from JSON or TOML values.

    Raises
    ------
    InputError
        Unknown names or impossible values, all of them in one line.
    """
    try:
        return _ADAPTER.validate_python(dict(values))
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors(include_url=False, include_input=False)
        )
        raise InputError(f"{origin}: {found}") from None


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``below`` with the values of ``above``, table by table."""
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(old, value) if both and old is not None else value
    return merged


_ADAPTER = TypeAdapter(TrainSettings)
