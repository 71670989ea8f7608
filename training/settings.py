"""The settings of a training run: everything that decides its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal, Self

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

from catalogs.config import faults, parse
from training.answers import Normalise
from training.augment import AugmentSettings
from training.models import registry
from training.models.registry import Shape, kind_of

_STRICT = ConfigDict(extra="forbid")
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Loss = Literal["cross_entropy", "squared_error", "dirichlet", "debiased"]


@dataclass(frozen=True, slots=True, config=_STRICT)
class SplitSettings:
    """Sky blocks: HEALPix order, fractions of the blocks, and the seed of their roles.

    Order 3 has tiles of 7.3 degrees. Without an order, the coarsest from 3 on that gives 64
    blocks with galaxies, or 8 (14 arcmin).

    Parameters
    ----------
    order : int, optional
    validation, test : float
    seed : int
    fold : int
        Splits of one seed whose test blocks have nothing in common: fold 0, 1, ... 1/test - 1.
    most : int, optional
        At most so many galaxies of a class train, and so many validate, drawn by the seed; a
        smaller draw is part of a larger one.
    tested : tuple of str
        Regions ``RA0..RA1,DEC0..DEC1`` beyond which nothing is tested; by default everywhere.
    """

    order: Annotated[int, Field(ge=0, le=12)] | None = None
    validation: Fraction = 0.1
    test: Fraction = 0.2
    seed: int = 0
    fold: Annotated[int, Field(ge=0)] = 0
    most: Annotated[int, Field(gt=0)] | None = None
    tested: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fold_is_there(self) -> Self:
        if (self.fold + 1) * self.test > 1 + 1e-9:
            raise ValueError(f"split.fold: {self.test:g} of the blocks test in no fold {self.fold}")
        return self


@dataclass(frozen=True, slots=True, config=_STRICT)
class VoteSettings:
    """Where a survey store says how a tree's questions were answered.

    Parameters
    ----------
    ending : str
        What follows an answer's stem (its ``column`` in the tree's file, else its name) in the
        names of the columns.
    counted : bool
        The columns hold numbers of votes, not fractions of each question.
    total : str, optional
        With fractions: the column with the number of volunteers.
    """

    ending: str = "_debiased"
    counted: bool = False
    total: str | None = None

    @model_validator(mode="after")
    def _counts_have_totals(self) -> Self:
        if self.counted and self.total is not None:
            raise ValueError("votes.total: counts add up by themselves; leave it out")
        return self


@dataclass(frozen=True, slots=True, config=_STRICT)
class DebiasSettings:
    """Labels that call unresolved disks smooth; Medina-Rosales & Cabrera-Vives 2021.

    Parameters
    ----------
    disk : str
        The class that may be mistaken for the other one, never the other way round.
    resolution : str, optional
        Column of alpha, the radius over the standard deviation of the point spread function.
    radius, fwhm : str, optional
        Instead: column of the radius; column, or one number, of the point spread function's full
        width at half maximum, in the same unit.
    theta : float, optional
        The width of the bias; by default it is found by maximum likelihood from ``features``.
    features : tuple of str
        Columns on which the true class depends in a logistic regression.
    """

    disk: str = "spiral"
    resolution: str | None = None
    radius: str | None = None
    fwhm: Positive | str | None = None
    theta: Positive | None = None
    features: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _enough_is_known(self) -> Self:
        if (self.resolution is None) == (self.radius is None or self.fwhm is None):
            raise ValueError("debias: name the column of resolution, or radius and fwhm")
        if (self.theta is None) == (not self.features):
            raise ValueError("debias: give theta, or the features from which to find it")
        return self


@dataclass(frozen=True, slots=True, config=_STRICT)
class AdversarySettings:
    """Features that are not to tell the part of the sky; see `training.reversal`.

    Parameters
    ----------
    order : int, optional
        The parts are HEALPix tiles of this order.
    regions : dict of str to str
        Instead: name to ``RA0..RA1,DEC0..DEC1``, which must not overlap.
    strength, gamma : float
        lambda, the weight of the reversed gradient, rises from 0 to ``strength`` as
        2 / (1 + exp(-gamma p)) - 1, where p is the share of training that is done. The papers
        end at 1, with which short trainings of ours swing.
    hidden : int
        Width of the layer between the features and the parts.
    fewest, most : int
        Parts with fewer galaxies in training tiles are left out; of each at most so many are
        drawn, labelled or not.
    """

    order: Annotated[int, Field(ge=0, le=6)] | None = None
    regions: dict[str, str] = Field(default_factory=dict)
    strength: Positive = 0.3
    gamma: Positive = 10.0
    hidden: Annotated[int, Field(gt=0, le=4096)] = 64
    fewest: Annotated[int, Field(ge=2)] = 50
    most: Annotated[int, Field(ge=2)] = 1000

    @model_validator(mode="after")
    def _parts_are_named(self) -> Self:
        if (self.order is None) == (not self.regions):
            raise ValueError("adversary: give order, the HEALPix order of tiles, or regions")
        return self


@dataclass(frozen=True, slots=True, config=_STRICT)
class TrainSettings:
    """How a network is trained.

    Parameters
    ----------
    model : str
        The network, one of `training.models.registry.NETWORKS`, or ``package.module:Class``.
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
    certainty, min_certainty : str, float
        Column of the labels' certainty, and the least that is used.
    unconstrained : int
        Examples at the beginning for which a tree's raw outputs are only clipped to 0..1.
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
    patience : int
        Stop after so many epochs without a smaller validation loss, and keep the weights of the
        best epoch; 0: go to the end.
    sampling : {"plain", "sky"}
        Every galaxy once an epoch; or drawn so that every tile of the split weighs the same
        within each class.
    balanced : bool, optional
        Weight the classes equally in the loss, however many galaxies each has. By default so in
        the cross-entropy of classes; never in the de-biasing likelihood, which weights would
        bias; a tree has one class.
    precision : {"bf16", "fp32"}
        Arithmetic of convolutions and dense layers in training; weights are fp32 in both.
    device : {"cpu", "cuda"}
        Where to train; of several cards all are used, each for its share of a batch
        (`torch.nn.DataParallel`). A seed shows the same views of the same galaxies everywhere;
        weights agree to the bit only on the CPU.
    threads : int
        Torch's threads; part of the settings because sums depend on it in the last bit. One: on
        a shared machine two threads, waiting for each other, were four times slower.
    seed : int
        Of initial weights, order, augmentation and dropout.
    regions : dict of str to str
        Class name to the region (``RA0..RA1,DEC0..DEC1``, several with ``+`` between them) its
        training galaxies come from.
    views : {1, 2, 4}
        Views of each cutout whose log-odds are averaged when the network answers, inside the
        graph: as it is; and mirrored on its diagonal; and both turned by 180 degrees.
    shape : dataclass
        The network's sizes; what is not given is as in the paper, see the network's module.
    framing, credit : str
        How the cutouts are framed, and whom labels and images are owed to; for the card.
    """

    model: registry.ModelName = "shamir"
    label: str = "label"
    tree: str | None = None
    unscaled: tuple[str, ...] = ()
    loss: Loss | None = None
    normalise: Literal["rectify", "softmax"] | None = None
    certainty: str | None = None
    min_certainty: Annotated[float, Field(ge=0, le=1)] = 0.9
    unconstrained: Annotated[int, Field(ge=0)] = 0
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
    patience: Annotated[int, Field(ge=0)] = 0
    sampling: Literal["plain", "sky"] = "plain"
    balanced: bool | None = None
    precision: Literal["bf16", "fp32"] = "bf16"
    device: Literal["cpu", "cuda"] = "cpu"
    threads: Annotated[int, Field(gt=0)] = 1
    seed: int = 0
    regions: dict[str, str] = Field(default_factory=dict)
    views: Literal[1, 2, 4] = 1
    framing: str = ""
    credit: str = ""
    shape: Shape = Field(default_factory=lambda given: _default_shape(given))
    augment: AugmentSettings | None = Field(default_factory=AugmentSettings)
    split: SplitSettings = Field(default_factory=SplitSettings)
    votes: VoteSettings = Field(default_factory=VoteSettings)
    debias: DebiasSettings | None = None
    adversary: AdversarySettings | None = None

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
                raise ValueError(faults(error)) from None
        if not isinstance(value, type(default)):
            raise ValueError(  # noqa: TRY004  (pydantic reports ValueErrors)
                f"a {type(value).__name__} is not the {type(default).__name__} of this model"
            )
        return value

    @model_validator(mode="after")
    def _views_mean_something(self) -> Self:
        if self.views > 1 and not kind_of(self.model).network.turns:
            raise ValueError(f"views: the {self.model} network turns its images itself; leave it 1")
        return self

    @model_validator(mode="after")
    def _loss_fits_the_answers(self) -> Self:
        fitting: tuple[Loss, ...] = ("cross_entropy", "debiased")
        if self.tree is not None:
            fitting = ("squared_error", "dirichlet", "cross_entropy")
        if self.objective not in fitting:
            what = "classes" if self.tree is None else "a tree"
            raise ValueError(f"loss: {self.objective} is not for {what}; {', '.join(fitting)} are")
        if (self.debias is None) == (self.objective == "debiased"):
            raise ValueError("loss: debiased and the table [debias] go together")
        if self.objective == "debiased" and self.balanced:
            raise ValueError(
                "balanced: true with the loss debiased would bias its likelihood; leave it out "
                "(a run that was trained so is to be trained again)"
            )
        if self.objective == "cross_entropy" and self.normalisation == "rectify" and self.tree:
            raise ValueError('loss: the cross-entropy of a tree needs normalise = "softmax"')
        votes = self.votes
        if self.objective == "dirichlet" and not votes.counted and votes.total is None:
            raise ValueError(
                "loss: dirichlet counts votes; set votes.counted, or name the column of "
                "volunteers with votes.total"
            )
        return self

    @property
    def objective(self) -> Loss:
        """The loss, settled."""
        return self.loss or ("cross_entropy" if self.tree is None else "squared_error")

    @property
    def weighted(self) -> bool:
        """Whether the classes have the same weight in the loss, settled."""
        classes = self.objective == "cross_entropy" and self.tree is None
        return classes and self.balanced is not False

    @property
    def normalisation(self) -> Normalise:
        """How raw outputs become the fractions of a question, settled."""
        if self.objective == "dirichlet":
            return "dirichlet"
        return self.normalise or ("rectify" if self.model == "dieleman" else "softmax")


def _default_shape(given: Mapping[str, Any]) -> Shape:
    """Return the sizes of the network that the settings before ``shape`` name."""
    return kind_of(given.get("model", "shamir")).shape


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
    return parse(TrainSettings, values, origin)


_ADAPTER = TypeAdapter(TrainSettings)
