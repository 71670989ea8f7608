"""The contract of a foreign network: what its owner says that it takes and answers.

::

    spiral = ["spiral"]             # answers that together mean spiral; none: leave it out
    threshold = 0.5                 # from which probability on a galaxy is called so
    training = "who trained it, on what"
    credit = "whom it is owed to"

    [input]
    crop = 240                      # central pixels of the survey's cutouts that it should see
    size = 224                      # pixels of the image that it takes
    layout = "NCHW"                 # or NHWC
    channels = "RGB"                # or BGR, or grey: the mean of the three
    range = [0.0, 1.0]              # what grey levels 0 and 255 become, before ...
    mean = [0.485, 0.456, 0.406]    # ... this is subtracted, and the rest ...
    sd = [0.229, 0.224, 0.225]      # ... divided by this; one number, or one a channel

    [output]
    activation = "softmax"          # what is still to be applied: softmax, sigmoid, dirichlet, none
    answers = ["elliptical", "spiral"]      # its columns, in order; or tree = "gz2"
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from catalogs.errors import InputError
from catalogs.trees.tree import Tree, read_tree
from export.manifest import Label

MAX_BYTES = 1 << 20

Text = Annotated[str, Field(max_length=2000)]
Side = Annotated[int, Field(gt=0, le=8192)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Activation = Literal["none", "softmax", "sigmoid", "dirichlet"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ForeignInput(_Part):
    """What the network takes.

    Attributes
    ----------
    name : str, optional
        Its input; not needed where it has one.
    crop : int
        Central square [px] of the survey's cutouts that shows the framing of its training;
        smaller cutouts are given whole.
    size : int
        Side of the square images that it takes [px].
    layout : {"NCHW", "NHWC"}
    channels : {"RGB", "BGR", "grey"}
        ``grey``: one channel, the mean of the three.
    range : (float, float)
        What grey levels 0 and 255 become first.
    mean, sd : float or list of float
        Then ``(x - mean) / sd``; one number, or one for each channel in the network's order.
    framing : str
        How its training cutouts were framed, for the card.
    """

    name: str | None = None
    crop: Side
    size: Side
    layout: Literal["NCHW", "NHWC"]
    channels: Literal["RGB", "BGR", "grey"] = "RGB"
    range: tuple[Finite, Finite] = (0.0, 1.0)
    mean: Finite | tuple[Finite, ...] = 0.0
    sd: Positive | tuple[Positive, ...] = 1.0
    framing: Text = ""

    @property
    def planes(self) -> int:
        """How many channels the network takes."""
        return 1 if self.channels == "grey" else 3

    @model_validator(mode="after")
    def _one_a_channel(self) -> ForeignInput:
        for name in ("mean", "sd"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != self.planes:
                raise ValueError(f"{name} has {len(value)} numbers for {self.planes} channels")
        if self.range[0] == self.range[1]:
            raise ValueError("range has no width")
        return self


class ForeignOutput(_Part):
    """What the network answers.

    Attributes
    ----------
    name : str, optional
        Its output; not needed where it has one.
    activation : {"none", "softmax", "sigmoid", "dirichlet"}
        What turns the numbers into probabilities: nothing, they are; a softmax over the answers
        of each question; a sigmoid of one number, the log-odds of the second of two answers;
        division by their sum, of the concentrations of a Dirichlet distribution (Walmsley et al.
        2022, MNRAS 509, 3966: Zoobot).
    answers : list of str
        The classes, in the order of its columns; or
    tree : str
        a decision tree, ``gz2`` or a TOML file, whose answers are its columns. They are shares of
        those who are asked the question.
    """

    name: str | None = None
    activation: Activation
    answers: tuple[Label, ...] = ()
    tree: str | None = None

    @model_validator(mode="after")
    def _answers_or_tree(self) -> ForeignOutput:
        if bool(self.answers) == (self.tree is not None):
            raise ValueError("give answers, or a tree")
        if self.tree is None and len(self.answers) < 2:
            raise ValueError("answers are fewer than two")
        _unique("answers", self.answers)
        if self.activation == "sigmoid" and len(self.answers) != 2:
            raise ValueError("a sigmoid is of one number and two answers")
        return self


class Contract(_Part):
    """What the owner of a foreign network says of it; see the module."""

    input: ForeignInput
    output: ForeignOutput
    spiral: tuple[str, ...] | None = None
    threshold: float = Field(default=0.5, gt=0, lt=1)
    training: Text = ""
    credit: Text = ""

    @model_validator(mode="after")
    def _spiral_is_one_thing(self) -> Contract:
        _unique("spiral", self.spiral or ())
        names = self.output.answers
        for name in self.spiral or ():
            if self.output.tree is None and name not in names:
                raise ValueError(f"spiral names {name}; the answers are {', '.join(names)}")
        if "spiral" in names and (self.spiral or ("spiral",)) != ("spiral",):
            raise ValueError("an answer is called spiral, so spiral can name no other")
        return self

    def tree(self) -> Tree | None:
        """Return the decision tree that the contract names, spiral as the contract says.

        Raises
        ------
        InputError
            There is none of this name, or its answers do not add up to spiral.
        """
        if self.output.tree is None:
            return None
        tree = read_tree(self.output.tree)
        return tree if self.spiral is None else tree.with_spiral(self.spiral)


def _unique(what: str, names: tuple[str, ...]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{what} names {name} twice")


def read_contract(path: Path) -> Contract:
    """Read a contract.

    Raises
    ------
    InputError
        The file cannot be read or is no contract; all of its faults in one line.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        values = tomllib.loads(content.decode()) if len(content) <= MAX_BYTES else {}
    except OSError as error:
        raise InputError(f"contract {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"contract {path} is not TOML: {error}") from None
    try:
        return Contract.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            ": ".join(part for part in (".".join(map(str, item["loc"])), item["msg"]) if part)
            for item in error.errors(include_url=False, include_input=False)
        )
        raise InputError(f"contract {path}: {faults}") from None
