"""The settings of a training run: everything that decides its result."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass

from catalogs.errors import InputError
from training.answers import Normalise
from training.augment import AugmentSettings
from training.models import registry
from training.models.dieleman import CROP
from training.models.registry import NETWORKS, Shape
from training.models.shamir import ShamirShape

_STRICT = ConfigDict(extra="forbid")
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Loss = Literal["cross_entropy", "squared_error", "dirichlet", "debiased"]


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
    model : str
        The network, one of `training.models.registry.NETWORKS`.
    label : str
        Column of the survey store with class names; null or empty where there is no label.
    tree : str, optional
        The decision tree whose questions the network answers instead: ``gz2``, or a TOML file.
    unscaled : tuple of str
        The tree's questions that count as if everybody had been asked; for the Galaxy Challenge
        ``q06``.
    loss : {"cross_entropy", "squared_error", "dirichlet", "debiased"}, optional
        See `training.losses`. By default the cross-entropy for classes, the squared error of
        cumulative fractions for a tree.
    normalise : {"rectify", "softmax"}, optional
        How raw outputs become the fractions of a question, see `training.answers`. By default
        softmax, but for the network of Dieleman et al. 2015, who rectify.
    crop : int, optional
        Central square of the survey's cutouts [px]; by default what the survey asks for, else
        the network's own of Galaxy Zoo's 424.
    epochs, batch : int
    optimiser : {"adamw", "nesterov"}
        AdamW (Loshchilov & Hutter 2019; Adam, without decay), or stochastic gradient descent
        with Nesterov's momentum.
    betas : (float, float)
        Memories of AdamW's means of gradients and of their squares; the first is also
        Nesterov's momentum.
    learning_rate, weight_decay : float
        The rate rises over ``warmup`` steps and then follows a cosine to zero when ``cosine``.
    drops : tuple of float
        Shares of the run after which the rate is a tenth of what it was.
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
    shape : dataclass
        The network's sizes; what is not given is as in the paper, see the network's module.
    framing, credit : str
        How the cutouts are framed, and whom labels and images are owed to; for the card.
    """

    model: registry.Name = "shamir"
    label: str = "label"
    tree: str | None = None
    unscaled: tuple[str, ...] = ()
    loss: Loss | None = None
    normalise: Literal["rectify", "softmax"] | None = None
    crop: Annotated[int, Field(gt=0, le=8192)] | None = None
    epochs: Annotated[int, Field(gt=0)] = 40
    batch: Annotated[int, Field(gt=1)] = 64
    optimiser: Literal["adamw", "nesterov"] = "adamw"
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    learning_rate: Positive = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    warmup: Annotated[int, Field(ge=0)] = 150
    cosine: bool = True
    drops: tuple[Fraction, ...] = ()
    average: Fraction = 0.998
    balanced: bool = True
    precision: Literal["bf16", "fp32"] = "bf16"
    threads: Annotated[int, Field(gt=0)] = 1
    seed: int = 0
    regions: dict[str, str] = Field(default_factory=dict)
    views: Literal[1, 2, 4] = 1
    framing: str = ""
    credit: str = ""
    shape: Shape = Field(default_factory=lambda given: _default_shape(given))
    augment: AugmentSettings | None = Field(default_factory=AugmentSettings)
    split: SplitSettings = Field(default_factory=SplitSettings)

    @field_validator("shape", mode="before")
    @classmethod
    def _of_the_model(cls, value: object, info: ValidationInfo) -> object:
        """Read a table as the chosen network's sizes; what it does not name stays as it is."""
        default = _default_shape(info.data)
        if isinstance(value, Mapping):
            try:
                return TypeAdapter(type(default)).validate_python(
                    {**asdict(default), **value}, extra="forbid"
                )
            except ValidationError as error:
                raise ValueError(_faults(error)) from None
        if not isinstance(value, type(default)):
            raise ValueError(  # noqa: TRY004  (pydantic reports ValueErrors)
                f"a {type(value).__name__} is not the {type(default).__name__} of this model"
            )
        return value

    @model_validator(mode="after")
    def _views_mean_something(self) -> Self:
        if self.views > 1 and not NETWORKS[self.model].network.turns:
            raise ValueError(f"views: the {self.model} network turns its images itself; leave it 1")
        return self

    @property
    def objective(self) -> Loss:
        """The loss, settled."""
        return self.loss or ("cross_entropy" if self.tree is None else "squared_error")

    @property
    def normalisation(self) -> Normalise:
        """How raw outputs become the fractions of a question, settled."""
        if self.objective == "dirichlet":
            return "dirichlet"
        return self.normalise or ("rectify" if self.model == "dieleman" else "softmax")


def _default_shape(given: Mapping[str, Any]) -> Shape:
    """Return the sizes of the network that the settings before ``shape`` name."""
    return NETWORKS[given.get("model", "shamir")].shape


def default_settings(model: registry.Name = "shamir") -> TrainSettings:
    """Return what this package trains a network with, where nothing else is asked for."""
    settings = TrainSettings(model=model)
    if model == "dieleman":
        # Without normalised layers and with small first weights, it is stuck at the mean answer
        # after a few of AdamW's steps at 1e-3.
        return replace(settings, learning_rate=1e-4, weight_decay=0.0)
    return settings


def paper_settings(model: registry.Name = "shamir") -> TrainSettings:
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
    if model == "equivariant":
        raise InputError("the equivariant network is of no paper; use --preset default")
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
        return replace(plain, epochs=250, balanced=True, shape=shape)
    if model == "dieleman":
        return replace(
            plain,
            epochs=451,
            batch=16,
            optimiser="nesterov",
            learning_rate=0.04,
            drops=(18 / 25, 23 / 25),
            augment=AugmentSettings(
                zoom=1.3,
                shift=4 / CROP,
                gain=0.0,
                colour=0.0,
                saturation=0.0,
                background=0.0,
                noise=0.0,
                blur=0.0,
            ),
        )
    return replace(plain, betas=(0.9, 0.99))


PRESETS: dict[str, Callable[[registry.Name], TrainSettings]] = {
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
    changed = _merged(changed, given or {})
    model = changed.get("model", "shamir")
    if model not in NETWORKS:
        raise InputError(f"model {model!r} is none of {', '.join(get_args(registry.Name))}")
    return parse_settings(_merged(dump(PRESETS[preset](model)), changed), "training settings")


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
        raise InputError(f"{origin}: {_faults(error)}") from None


def _faults(error: ValidationError) -> str:
    """Return all that is wrong in one line."""
    return "; ".join(
        ": ".join(part for part in (".".join(map(str, item["loc"])), item["msg"]) if part)
        for item in error.errors(include_url=False, include_input=False)
    )


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``below`` with the values of ``above``, table by table."""
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(old, value) if both and old is not None else value
    return merged


_ADAPTER = TypeAdapter(TrainSettings)
