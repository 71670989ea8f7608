"""Where the settings of a training run come from: a preset, a file, and what is said besides."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from catalogs.errors import InputError
from training.augment import AugmentSettings
from training.models import registry
from training.models.dieleman import CROP
from training.models.registry import NETWORKS, kind_of
from training.models.shamir import ShamirShape
from training.settings import TrainSettings, dump, parse_settings


def default_settings(model: registry.ModelName = "shamir") -> TrainSettings:
    """Return what this package trains a network with, where nothing else is asked for."""
    settings = TrainSettings(model=model)
    if model == "dieleman":
        # Without normalised layers and with small first weights, it is stuck at the mean answer
        # after a few of AdamW's steps at 1e-3.
        return replace(settings, learning_rate=1e-4, weight_decay=0.0, unconstrained=10_000)
    return settings


def paper_settings(model: registry.ModelName = "shamir") -> TrainSettings:
    """Return a network's training as its paper describes it.

    What a paper does not give is as in Keras: batches of 32, a rate of 0.001. Only Dhar & Shamir
    2022 balance the classes, and only Dieleman et al. 2015 augment.

    - Dhar & Shamir 2022, section 2.1: Adam, binary cross-entropy, 250 epochs, classes of equal
      size (here: equal weight), no augmentation; no batch normalisation or dropout.
    - Dieleman et al. 2015, sections 7.4 and 7.8: Nesterov's momentum of 0.9, batches of 16; 25
      million examples of 55,420 galaxies (451 epochs); the rate of 0.04 is a tenth after 18 and
      again after 23 of these 25 million.
    - Medina-Rosales & Cabrera-Vives 2021, section 3.2: Adam with (0.9, 0.99). Deep Galaxy V2, as
      they train it beside their own.

    Raises
    ------
    InputError
        The network comes from no paper.
    """
    if model == "equivariant" or model not in NETWORKS:
        raise InputError(f"the network {model} is of no paper; use --preset default")
    plain = TrainSettings(
        model=model,
        batch=32,
        learning_rate=1e-3,
        weight_decay=0.0,
        warmup=0,
        cosine=False,
        average=0.0,
        balanced=False,
        precision="fp32",
        augment=None,
    )
    if model == "shamir":
        shape = ShamirShape(dropout=0.0, batch_norm=False)
        return replace(plain, epochs=250, balanced=None, shape=shape)
    if model == "dieleman":
        return replace(
            plain,
            epochs=451,
            batch=16,
            optimiser="nesterov",
            learning_rate=0.04,
            drops=(18 / 25, 23 / 25),
            unconstrained=10_000,
            augment=AugmentSettings(
                zoom=1.3,
                shift=4 / CROP,
                gain=0.0,
                colour=0.0,
                saturation=0.0,
                background=0.0,
                noise=0.0,
                blur=0.0,
                brightness=0.5,
            ),
        )
    return replace(plain, betas=(0.9, 0.99))


PRESETS: dict[str, Callable[[registry.ModelName], TrainSettings]] = {
    "default": default_settings,
    "paper": paper_settings,
}


def read_settings(
    preset: str = "default", path: Path | None = None, given: Mapping[str, Any] | None = None
) -> TrainSettings:
    """Return a preset's settings, changed by a TOML file, changed by what was given besides.

    Parameters
    ----------
    preset : str
        One of `PRESETS`, for the network that the file or the values name.
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
    changed: Mapping[str, Any] = {}
    if path is not None:
        try:
            changed = tomllib.loads(path.read_text())
        except OSError as error:
            raise InputError(f"settings {path} cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"settings {path} is not TOML: {error}") from None
    changed = merged(changed, given or {})
    model = changed.get("model", "shamir")
    kind_of(model)
    return parse_settings(merged(dump(PRESETS[preset](model)), changed), "training settings")


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``below`` with the values of ``above``, table by table."""
    joined = dict(below)
    for name, value in above.items():
        old = joined.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = merged(old, value)
        joined[name] = value
    return joined
