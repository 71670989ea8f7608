"""What people said about the galaxies of a survey store: classes, or votes down a tree."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.schema import LABEL_PATTERN, LONGEST_LABEL
from catalogs.sky import FloatArray
from catalogs.trees.tree import Tree, read_tree
from training.settings import DebiasSettings, TrainSettings, VoteSettings

# A standard deviation's full width at half maximum.
FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))


@dataclass(frozen=True, slots=True)
class Votes:
    """How volunteers answered a tree's questions.

    Attributes
    ----------
    conditional : ndarray of float64, shape (n, answers)
        Shares of those who were asked each question; zeros where nobody was.
    totals : ndarray of float64, shape (n,), optional
        Volunteers; None where the survey does not say.
    origin : str
        What the survey has: "counts", "fractions", or "fractions and totals".
    """

    tree: Tree
    conditional: FloatArray
    totals: FloatArray | None
    origin: str

    @property
    def asked(self) -> FloatArray:
        """Share of the volunteers who were asked each question, (n, questions)."""
        shares = self.tree.with_unscaled(()).cumulative(self.conditional)
        return np.stack([shares[:, s].sum(axis=1) for s in self.tree.slices], axis=1)

    @property
    def cumulative(self) -> FloatArray:
        """Shares of all volunteers, (n, answers); unscaled questions as if all were asked."""
        return self.tree.cumulative(self.conditional)

    @property
    def counts(self) -> FloatArray:
        """Volunteers who gave each answer, (n, answers); one volunteer where totals are unknown.

        Where there are only fractions and totals, their product: not whole numbers.
        """
        shares = self.tree.with_unscaled(()).cumulative(self.conditional)
        return shares if self.totals is None else shares * self.totals[:, None]

    def __getitem__(self, chosen: NDArray[Any]) -> Votes:
        totals = None if self.totals is None else self.totals[chosen]
        return Votes(self.tree, self.conditional[chosen], totals, self.origin)


@dataclass(frozen=True, slots=True)
class Labels:
    """The labelled rows of a survey, in store order.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Row in the store.
    classes : ndarray of str, shape (n,)
        With a tree, its name for every galaxy.
    names : tuple of str
        The classes that occur, sorted.
    ra, dec : ndarray of float64, shape (n,)
        ICRS, degrees.
    fingerprint : str
        Digest of the survey's content and of these labels.
    votes : Votes, optional
        With a tree.
    resolution : ndarray of float64, shape (n,), optional
        Radius over the point spread function's standard deviation, where labels are de-biased.
    features : ndarray of float64, shape (n, k), optional
        What decides the true class in a logistic regression, where theta is to be found.
    """

    rows: NDArray[np.int64]
    classes: NDArray[Any]
    names: tuple[str, ...]
    ra: FloatArray
    dec: FloatArray
    fingerprint: str
    votes: Votes | None = None
    resolution: FloatArray | None = None
    features: FloatArray | None = None

    @property
    def targets(self) -> NDArray[np.int64]:
        """Index of each row's class in ``names``."""
        return np.searchsorted(np.asarray(self.names), self.classes.astype(str)).astype(np.int64)

    @property
    def answers(self) -> tuple[str, ...]:
        """What the network answers: the classes, or the answers of the tree."""
        return self.names if self.votes is None else self.votes.tree.names


def read_labels(survey: Survey, settings: TrainSettings) -> Labels:
    """Read what is known of which rows.

    Raises
    ------
    InputError
        A column is missing, there are no two classes, or votes are impossible.
    """
    digest = hashlib.sha256()
    for append in survey.attributes.appends:
        digest.update(bytes.fromhex(append.fingerprint))
    ra, dec = survey.column("ra"), survey.column("dec")
    known = _certain(survey, settings)
    resolution = features = votes = None
    if settings.debias is not None:
        resolution = _resolution(survey, settings.debias)
        features = _numbers(survey, settings.debias.features)
        known &= (resolution > 0) & np.isfinite(features).all(axis=1)
    if settings.tree is None:
        values = survey.column(settings.label)
        known &= np.asarray([v is not None and v != "" for v in values], dtype=np.bool_)
        classes = np.asarray([str(value) for value in values[known]], dtype=object)
        names = tuple(sorted(set(classes.tolist())))
        if len(names) < 2:
            shown = ", ".join(names) or "none"
            raise InputError(
                f"column {settings.label!r} of {survey.url} has {len(names)} classes ({shown}); "
                "training needs two or more: name them with `skytally ingest --classes`"
            )
        for name in names:
            if len(name) > LONGEST_LABEL or not re.fullmatch(LABEL_PATTERN, name):
                raise InputError(
                    f"column {settings.label!r} of {survey.url} has the class {name[:80]!r}; a "
                    f"class is of 1 to {LONGEST_LABEL} printable characters: name it with "
                    "`skytally ingest --classes`"
                )
    else:
        tree = read_tree(settings.tree).with_unscaled(settings.unscaled)
        every = _read_votes(survey, tree, settings.votes)
        known &= every.asked[:, list(tree.roots)].min(axis=1) > 0
        votes = every[known]
        names = (tree.name,)
        classes = np.full(int(known.sum()), tree.name, dtype=object)
        digest.update(tree.model_dump_json().encode())
        digest.update(votes.conditional.tobytes())
        digest.update(b"" if votes.totals is None else votes.totals.tobytes())
    rows = np.flatnonzero(known).astype(np.int64)
    digest.update("\n".join(f"{r} {c}" for r, c in zip(rows, classes, strict=True)).encode())
    for extra in (resolution, features):
        digest.update(b"" if extra is None else extra[known].tobytes())
    return Labels(
        rows=rows,
        classes=classes,
        names=names,
        ra=ra[known],
        dec=dec[known],
        fingerprint=digest.hexdigest(),
        votes=votes,
        resolution=None if resolution is None else resolution[known],
        features=None if features is None else features[known],
    )


def _certain(survey: Survey, settings: TrainSettings) -> NDArray[np.bool_]:
    """Say which rows' labels are certain enough."""
    if settings.certainty is None:
        return np.ones(len(survey.column("ra")), dtype=np.bool_)
    (certainty,) = _numbers(survey, (settings.certainty,)).T
    return np.asarray(certainty >= settings.min_certainty, dtype=np.bool_)


def _read_votes(survey: Survey, tree: Tree, settings: VoteSettings) -> Votes:
    """Read the votes of every row of the store."""
    stems = [answer.column for question in tree.questions for answer in question.answers]
    columns = [(s or name) + settings.ending for s, name in zip(stems, tree.names, strict=True)]
    values = np.nan_to_num(_numbers(survey, tuple(columns)), nan=0.0)
    if (values < 0).any():
        worst = columns[int(values.min(axis=0).argmin())]
        raise InputError(f"column {worst!r} of {survey.url} has negative votes; see [votes]")
    conditional = np.zeros_like(values)
    for s in tree.slices:
        total = values[:, s].sum(axis=1, keepdims=True)
        np.divide(values[:, s], total, out=conditional[:, s], where=total > 0)
    if settings.counted:
        roots = np.concatenate([np.arange(len(tree.names))[tree.slices[i]] for i in tree.roots])
        totals = values[:, roots].sum(axis=1) / len(tree.roots)
        return Votes(tree, conditional, totals, "counts")
    if settings.total is None:
        return Votes(tree, conditional, None, "fractions")
    (totals,) = np.nan_to_num(_numbers(survey, (settings.total,)), nan=0.0).T
    return Votes(tree, conditional, totals, "fractions and totals")


def _resolution(survey: Survey, settings: DebiasSettings) -> FloatArray:
    """Return alpha = r / sigma = 2 sqrt(2 ln 2) r / FWHM of every row; nan where unknown."""
    if settings.resolution is not None:
        return _numbers(survey, (settings.resolution,))[:, 0]
    assert settings.radius is not None
    assert settings.fwhm is not None
    radius = _numbers(survey, (settings.radius,))[:, 0]
    if isinstance(settings.fwhm, str):
        return FWHM * radius / _numbers(survey, (settings.fwhm,))[:, 0]
    return FWHM * radius / settings.fwhm


def _numbers(survey: Survey, names: tuple[str, ...]) -> FloatArray:
    """Return columns of numbers, float64 (rows, columns); null is nan."""
    missing = [name for name in names if name not in survey.column_names]
    if missing:
        raise InputError(
            f"{survey.url} has no column {', '.join(map(repr, missing[:3]))}"
            f"{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}; "
            f"it has {', '.join(survey.column_names[:8])} ..."
        )
    columns = []
    for name in names:
        try:
            columns.append(survey.column(name).astype(np.float64))
        except (TypeError, ValueError):
            raise InputError(f"column {name!r} of {survey.url} does not hold numbers") from None
    return np.stack(columns, axis=1) if columns else np.zeros((len(survey.column("ra")), 0))
