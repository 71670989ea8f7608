"""True classes, where a survey knows them beside the labels that networks learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from experiments.networks import SHOWN
from experiments.swap_roles import FEWEST


def refuse_truth(
    survey: Survey,
    column: str,
    classes: Sequence[str],
    rows: NDArray[np.int64] | None = None,
    share: float = 1.0,
) -> None:
    """Refuse a column of true classes that are not those of the labels, or of too few galaxies.

    It may hold other classes besides, as of galaxies that are neither; those are not judged.

    Parameters
    ----------
    survey : Survey
    column : str
    classes : sequence of str
    rows : ndarray of int64, optional
        Of the survey, that may be tested; by default all.
    share : float
        Of these, that are tested.

    Raises
    ------
    InputError
        There is no such column, or of one of the classes fewer than 20 would be tested.
    """
    if column not in survey.column_names:
        raise InputError(f"{survey.url} has no column {column!r}, asked for as truth")
    held = survey.column(column).astype(str)
    values, counts = np.unique(held if rows is None else held[rows], return_counts=True)
    tested = {str(v): share * int(n) for v, n in zip(values, counts, strict=True)}
    if not set(classes) <= set(tested):
        some = ", ".join(list(tested)[:SHOWN]) + (", ..." if len(tested) > SHOWN else "")
        raise InputError(
            f"truth: column {column!r} of {survey.url} holds {some}; the classes of the labels are "
            f"{' and '.join(classes)}: name a column that holds these"
        )
    if min(tested[kind] for kind in classes) < FEWEST:
        few = " and ".join(f"{tested[kind]:.0f} {kind}" for kind in classes)
        raise InputError(
            f"truth: column {column!r} of {survey.url} would judge {few} test galaxies; {FEWEST} "
            "of each class are needed: leave truth out, or draw and test more"
        )


def true_classes(survey: Survey, column: str, ids: NDArray[np.str_]) -> NDArray[np.str_]:
    """Return the true class of galaxies that are named by their identifiers.

    Parameters
    ----------
    survey : Survey
    column : str
        From `refuse_truth`.
    ids : ndarray of str, shape (n,)

    Returns
    -------
    ndarray of str, shape (n,)
    """
    names = survey.column("id").astype(str)
    order = np.argsort(names)
    at = order[np.searchsorted(names, ids, sorter=order)]
    return np.asarray(survey.column(column).astype(str)[at])
