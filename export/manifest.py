"""What ``bundle.json`` says: answers, input contract, provenance, metrics, and what was compared.

The schema has a version. Version 1 knew two classes and one comparison; it is read as version 2
(`export.older`), which is what is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from catalogs.errors import InputError
from catalogs.schema import LABEL_PATTERN, LONGEST_LABEL, PROBABILITY_PREFIX
from catalogs.trees.tree import Tree

SCHEMA_VERSION = 2
MANIFEST, MODEL, SKY, CARD = "bundle.json", "model.onnx", "training_sky.moc.fits", "card.md"
INT8_MODEL, PARITY_TILES = "model.int8.onnx", "parity_tiles.csv"
MAX_BYTES = 1 << 30
SPIRAL = f"{PROBABILITY_PREFIX}spiral"

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Label = Annotated[str, Field(pattern=LABEL_PATTERN, max_length=LONGEST_LABEL)]
Line = Annotated[str, Field(pattern=LABEL_PATTERN, max_length=500)]
# A tree's are p_QUESTION_ANSWER.
Answer = Annotated[str, Field(pattern=LABEL_PATTERN, max_length=3 + 2 * LONGEST_LABEL)]
Number = int | float | str | bool | None
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class FileEntry(_Part):
    """Digest and size of one file of the bundle."""

    sha256: Digest
    bytes: int = Field(ge=0, le=MAX_BYTES)


class InputContract(_Part):
    """What the graph is fed: cutouts (n, height, width, channels), grey levels 0 to 255.

    ``crop`` is the central square [px] of the survey's cutouts that shows the framing on which
    the network was trained; smaller cutouts with that framing are given whole. Any height and
    width are accepted and scaled inside the graph to ``trained_size``.
    """

    name: str = "cutouts"
    crop: int = Field(gt=0, le=8192)
    trained_size: int = Field(gt=0, le=8192)
    channels: int = Field(gt=0, le=16)
    dtype: Literal["uint8", "uint16", "float32"] = "uint8"
    layout: Literal["NHWC"] = "NHWC"


class Metric(_Part):
    """A number measured on galaxies not trained on, with its 95% interval."""

    value: Finite
    low: Finite
    high: Finite
    n: int


class Provenance(_Part):
    """Where the weights of a network that skytally trained come from.

    ``votes`` says how a tree's votes were known; empty for classes.
    """

    survey: str
    data_fingerprint: str
    label_column: str
    counts: dict[str, dict[str, int]]
    regions: dict[str, str]
    seed: int
    code_version: str
    framing: str
    credit: str
    settings: dict[str, Number | dict[str, object] | list[object]]
    votes: str = ""


class Foreign(_Part):
    """A network that skytally did not train, and what its owner says of it.

    Attributes
    ----------
    model : str
        Name of the ONNX file that was given.
    sha256 : str
        Its digest, and through it that of weights beside it.
    contract : dict
        The contract, as it was read.
    framing, credit, training : str
        How its training cutouts were framed, whom it is owed to, on what it was trained; empty
        where the contract does not say.
    """

    model: str
    sha256: Digest
    contract: dict[str, object]
    framing: str = ""
    credit: str = ""
    training: str = ""


class Limits(_Part):
    """Past which of these a model is not written; None: no limit.

    Attributes
    ----------
    difference : float, optional
        Largest difference of a probability.
    confident_flips : int, optional
        Labels that differ where the reference is not torn (`export.parity.agreement.TORN`).
    flips : float, optional
        Share of labels that differ.
    shift : float, optional
        What a fraction's shift stays below with 97.5% confidence on either side.
    """

    difference: float | None = None
    confident_flips: int | None = None
    flips: float | None = None
    shift: float | None = None


class Shift(_Part):
    """By how much the fraction of an answer differs: found less reference, 95% interval."""

    reference: Share
    value: float
    low: float
    high: float

    @property
    def bound(self) -> float:
        """The larger end of the interval, whatever its sign."""
        return max(abs(self.low), abs(self.high))


class Flips(_Part):
    """How many labels of one question differ, of the cutouts that the question is asked of."""

    cutouts: int
    flips: int
    confident_flips: int


class Comparison(_Part):
    """A model's answers on one provider in one precision, against a reference's.

    Attributes
    ----------
    reference : str
        What it was compared with: the network in PyTorch, the foreign model, the fp32 model.
    source : str
        Whose galaxies were looked at.
    galaxies : int, optional
        Different galaxies; None: not recorded.
    cutouts : int
        What was made of them by turning, mirroring and shifting.
    sizes, batches : list of int
        Sides of the cutouts [px], and cutouts at a time.
    difference, mean_difference : float
        Of a probability: the largest, and the mean of the absolute ones.
    questions : dict of str to Flips
        By question; plain classes are one question, "label".
    shifts : dict of str to Shift
        By answer: of the spirals, or of each class where none is called so.
    limits : Limits
    runtime : str
    """

    precision: str
    provider: str
    reference: str
    source: str
    galaxies: int | None
    cutouts: int
    sizes: list[int]
    batches: list[int]
    difference: float
    mean_difference: float | None
    questions: dict[str, Flips]
    shifts: dict[str, Shift]
    limits: Limits
    runtime: str


class NotCompared(_Part):
    """A precision on a provider in which a bundle can answer, and why that was not compared."""

    provider: Label
    precision: Label
    because: Line


class Variant(_Part):
    """A model of another precision: whose galaxies set its ranges, and how many."""

    survey: str
    calibrated_on: int


@dataclass(frozen=True, slots=True)
class Question:
    """Answers of which a galaxy has one.

    Attributes
    ----------
    name : str
        Empty for plain classes.
    labels, answers : tuple of str
        The labels, and the bundle's answers with their probabilities.
    start : int
        Where its answers begin among the bundle's.
    """

    name: str
    labels: tuple[str, ...]
    answers: tuple[str, ...]
    start: int

    @property
    def at(self) -> slice:
        """Where its answers are among the bundle's."""
        return slice(self.start, self.start + len(self.answers))


class Manifest(_Part):
    """The contents of ``bundle.json``.

    Attributes
    ----------
    labels : list of str
        The classes; empty where a tree has questions.
    tree : Tree, optional
        Questions, answers, and who follows whom. Its answers are cumulative: the share of all
        volunteers, `Tree.cumulative`.
    answers : list of str
        Outputs of the graph: ``p_`` and each label, or each answer of the tree, in order, and
        ``p_spiral`` behind them where it is the sum of several.
    spiral : str, optional
        Which output says how spiral a galaxy is.
    threshold : float
        From which value of it on a galaxy is called spiral.
    precisions : dict
        The model of each precision that has one; the others than fp32 are ``variants``.
    parity : list of Comparison
        What was compared before the bundle was written.
    not_compared : list of NotCompared
        What could not be on that machine; of older bundles it is not recorded.
    """

    schema_version: Literal[2] = 2
    name: Label
    files: dict[str, FileEntry] = Field(default={}, max_length=16)
    labels: list[Label] = Field(max_length=4096)
    tree: Tree | None = None
    answers: list[Answer] = Field(min_length=2, max_length=4096)
    spiral: Answer | None
    threshold: float = Field(gt=0, lt=1)
    input: InputContract
    provenance: Provenance | Foreign
    metrics: dict[str, Metric]
    parity: list[Comparison]
    not_compared: list[NotCompared] = Field(default=[], max_length=64)
    precisions: dict[Literal["fp32", "int8"], str] = {"fp32": MODEL}
    variants: dict[Literal["int8"], Variant] = {}

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions of the tree, or the one that plain classes are."""
        if self.tree is None:
            return (Question("", tuple(self.labels), tuple(self.answers[: len(self.labels)]), 0),)
        return tuple(
            Question(
                question.name,
                tuple(answer.name for answer in question.answers),
                tuple(self.answers[at]),
                at.start,
            )
            for question, at in zip(self.tree.questions, self.tree.slices, strict=True)
        )

    @model_validator(mode="after")
    def _answers_follow(self) -> Manifest:
        if (self.tree is None) == (len(self.labels) < 2):
            raise ValueError("neither a tree nor at least two labels, or both")
        names = self.labels if self.tree is None else list(self.tree.names)
        expected = [f"{PROBABILITY_PREFIX}{name}" for name in names]
        if len(set(expected)) < len(expected):
            raise ValueError("labels names one twice")
        if self.answers not in (expected, [*expected, SPIRAL]) or self.answers.count(SPIRAL) > 1:
            raise ValueError("answers are not p_ and the labels, in order")
        if self.spiral is not None and self.spiral not in self.answers:
            raise ValueError("spiral does not name an answer")
        if self.spiral is None and SPIRAL in self.answers:
            raise ValueError("spiral does not name the answer p_spiral")
        return self

    @model_validator(mode="after")
    def _files_are_plain(self) -> Manifest:
        for name in self.files:
            if name in {"", ".", "..", MANIFEST} or set(name) & set("/\\\0"):
                raise ValueError("files lists a name that is not a plain file name")
        if self.precisions.get("fp32") != MODEL:
            raise ValueError(f"precisions does not name {MODEL} for fp32")
        if {"fp32", *self.variants} != set(self.precisions):
            raise ValueError("variants does not describe each precision but fp32")
        if len({MODEL, SKY, CARD, *self.precisions.values()}) != 2 + len(self.precisions):
            raise ValueError("precisions names a file twice")
        return self

    @property
    def required(self) -> set[str]:
        """Files without which the bundle is not whole."""
        found = {*self.precisions.values(), CARD}
        return found | {SKY} if isinstance(self.provenance, Provenance) else found


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Tell what a manifest that is being made cannot say.

    Raises
    ------
    InputError
        Names the first field that is at fault.
    """
    try:
        yield
    except ValidationError as error:
        raise InputError(f"{what}: {first_fault(error)}") from None


def first_fault(error: ValidationError) -> str:
    """Return the first of pydantic's faults: where, and what was expected."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "manifest"
    return f"{where}: {first['msg']}"
