"""A decision tree, or plain classes: what can be answered about a galaxy.

A tree is a TOML file; ``gz2.toml`` beside this module is one::

    name = "gz2"
    spiral = ["q02_yes", "q04_spiral"]      # optional: answers that together mean "spiral"

    [[questions]]
    name = "q01"
    text = "Is the galaxy simply smooth and rounded, with no sign of a disk?"
    answers = [
        { name = "smooth", next = "q07", column = "t01_smooth_or_features_a01_smooth" },
        { name = "star_or_artifact" },      # without next: the volunteer is done
    ]

Plain classes are a tree of one question. A question may be reached in several ways (the way is
then summed over every path), but never twice on one path.

A *conditional* fraction says how those who were asked a question answered it; a *cumulative* one
(Dieleman, Willett & Dambre 2015, section 7.7) is that share of all volunteers: the conditional
one, times the share that was asked.
"""

from __future__ import annotations

import tomllib
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from catalogs.errors import InputError

MAX_BYTES = 1 << 20
SUFFIX = ".toml"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$", max_length=64)]
Text = Annotated[str, Field(max_length=500)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(_Part):
    """One answer: the question that follows, and the stem of its columns in a table of votes."""

    name: Name
    next: Name | None = None
    column: Text | None = None
    text: Text = ""


class Question(_Part):
    """One question and its answers, of which a volunteer gives one."""

    name: Name
    answers: tuple[Answer, ...] = Field(min_length=2, max_length=256)
    text: Text = ""


class Tree(_Part):
    """Questions, their answers, and who follows whom.

    Attributes
    ----------
    name : str
    questions : tuple of Question
        Their order, and that of the answers in each, is the order of a network's outputs.
    unscaled : tuple of str
        Questions whose fractions count as if everybody had been asked. The Galaxy Challenge's
        Q6 is one (Dieleman et al. 2015, section 7.7).
    spiral : tuple of str
        Answers, by `Tree.names`, that together mean "spiral"; no path holds two of them.
    title, credit : str
    """

    name: Name
    questions: tuple[Question, ...] = Field(min_length=1, max_length=256)
    unscaled: tuple[Name, ...] = ()
    spiral: tuple[Name, ...] = ()
    title: Text = ""
    credit: Text = ""

    @model_validator(mode="after")
    def _consistent(self) -> Tree:
        known = [question.name for question in self.questions]
        _unique("question", known)
        for question in self.questions:
            _unique(f"answer of {question.name}", [answer.name for answer in question.answers])
            for answer in question.answers:
                if answer.next is not None and answer.next not in known:
                    raise ValueError(f"{question.name} leads to {answer.next}, which is not there")
        for name in self.unscaled:
            if name not in known:
                raise ValueError(f"unscaled names {name}, which is no question")
        _unique("answer", list(self.names))
        _unique("spiral answer", list(self.spiral))
        for name in self.spiral:
            if name not in self.names:
                raise ValueError(f"spiral names {name}, which is no answer")
        if len(self.order) < len(known):
            lost = ", ".join(known[i] for i in range(len(known)) if i not in self.order)
            raise ValueError(f"{lost} can follow upon itself")
        self._spiral_is_one_thing()
        return self

    def _spiral_is_one_thing(self) -> None:
        """Refuse a sum of answers that one volunteer can give, since it is no probability."""
        chosen = [self.names.index(name) for name in self.spiral]
        for one in chosen:
            for other in chosen:
                question = self.question_of[other]
                on_one_path = question in self._reached[one] or len(self.roots) > 1
                if question != self.question_of[one] and on_one_path:
                    raise ValueError(
                        f"spiral adds {self.names[one]} and {self.names[other]}, but one "
                        "volunteer can give both"
                    )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every answer in order: ``q01_smooth``; of plain classes, the class alone."""
        plain = len(self.questions) == 1
        return tuple(
            answer.name if plain else f"{question.name}_{answer.name}"
            for question in self.questions
            for answer in question.answers
        )

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where the answers of each question lie among all answers."""
        stops = np.cumsum([len(question.answers) for question in self.questions]).tolist()
        return tuple(slice(a, b) for a, b in zip([0, *stops[:-1]], stops, strict=True))

    @cached_property
    def question_of(self) -> tuple[int, ...]:
        """Index of each answer's question."""
        return tuple(i for i, q in enumerate(self.questions) for _ in q.answers)

    @cached_property
    def parents(self) -> tuple[tuple[int, ...], ...]:
        """For each question, the answers (indices) that lead to it; none: asked first."""
        following = [answer.next for question in self.questions for answer in question.answers]
        return tuple(
            tuple(i for i, name in enumerate(following) if name == question.name)
            for question in self.questions
        )

    @cached_property
    def roots(self) -> tuple[int, ...]:
        """The questions (indices) that are asked of everybody."""
        return tuple(i for i, parents in enumerate(self.parents) if not parents)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The questions (indices), each after all that lead to it; without those in a circle."""
        placed: list[int] = []
        waiting = list(range(len(self.questions)))
        while ready := [
            i for i in waiting if all(self.question_of[p] in placed for p in self.parents[i])
        ]:
            placed += ready
            waiting = [i for i in waiting if i not in ready]
        return tuple(placed)

    @cached_property
    def _reached(self) -> tuple[frozenset[int], ...]:
        """The questions (indices) that can still be asked after each answer."""
        index = {question.name: i for i, question in enumerate(self.questions)}
        after: dict[int, frozenset[int]] = {}
        for i in reversed(self.order):
            after[i] = frozenset({i}).union(
                *(after[index[a.next]] for a in self.questions[i].answers if a.next is not None)
            )
        return tuple(
            frozenset() if answer.next is None else after[index[answer.next]]
            for question in self.questions
            for answer in question.answers
        )

    def counted_of_all(self, question: int) -> bool:
        """Whether a question's fractions are not scaled: asked of everybody, or taken as such."""
        return not self.parents[question] or self.questions[question].name in self.unscaled

    def with_unscaled(self, names: tuple[str, ...]) -> Tree:
        """Return the tree with other unscaled questions.

        Raises
        ------
        InputError
            One of them is no question of this tree.
        """
        return _validated({**self.model_dump(), "unscaled": names}, f"tree {self.name}")

    def with_spiral(self, names: tuple[str, ...]) -> Tree:
        """Return the tree with other answers that together mean spiral.

        Raises
        ------
        InputError
            One of them is no answer, is there twice, or a volunteer can give two of them.
        """
        return _validated({**self.model_dump(), "spiral": names}, f"tree {self.name}")

    def cumulative(self, conditional: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of all volunteers that gave each answer.

        Parameters
        ----------
        conditional : ndarray of float64, shape (n, answers)
            Shares of those who were asked. A question that nobody was asked has zeros.

        Returns
        -------
        ndarray of float64, shape (n, answers)
        """
        result = np.zeros_like(conditional)
        for i in self.order:
            asked = (
                np.ones(len(conditional))
                if self.counted_of_all(i)
                else result[:, list(self.parents[i])].sum(axis=1)
            )
            result[:, self.slices[i]] = conditional[:, self.slices[i]] * asked[:, None]
        return result


def read_tree(source: str | Path) -> Tree:
    """Read a tree: one that comes with skytally, by its name, or a TOML file.

    Parameters
    ----------
    source : str or Path
        ``gz2``, or the path of a file ending in ``.toml``.

    Raises
    ------
    InputError
        There is no such tree, the file cannot be read, or it is no tree; all of its faults.
    """
    if not str(source).endswith(SUFFIX):
        return _shipped(str(source))
    path = Path(source)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"tree {path} cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"tree {path} is larger than {MAX_BYTES} bytes; it is no tree")
    return _parsed(content, f"tree {path}")


def _shipped(name: str) -> Tree:
    files = {
        entry.name.removesuffix(SUFFIX): entry
        for entry in resources.files("catalogs.trees").iterdir()
        if entry.name.endswith(SUFFIX)
    }
    if name not in files:
        raise InputError(
            f"tree {name!r} is none of {', '.join(sorted(files))}, and no file ending in {SUFFIX}"
        )
    return _parsed(files[name].read_bytes(), f"tree {name}")


def _parsed(content: bytes, origin: str) -> Tree:
    try:
        values = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{origin} is not TOML: {error}") from None
    return _validated(values, origin)


def _validated(values: dict[str, object], origin: str) -> Tree:
    try:
        return Tree.model_validate(values)
    except ValidationError as error:
        found = "; ".join(
            ": ".join(part for part in (".".join(str(p) for p in item["loc"]), item["msg"]) if part)
            for item in error.errors(include_url=False, include_input=False)
        )
        raise InputError(f"{origin}: {found}") from None


def _unique(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{what} {name} is there twice")
