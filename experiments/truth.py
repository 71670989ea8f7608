"""True classes, where a survey knows them beside the labels that networks learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts.store import Survey
from catalogs.errors import InputError

SHOWN = 6  # values of a column, in a message


def refuse_truth(survey: Survey, column: str, classes: Sequence[str]) -> None:
    """Refuse a column of true classes that are not those of the labels.

    It may hold other classes besides, as of galaxies that are neither; those are not judged.

    Raises
    ------
    InputError
        There is no such column, or it lacks one of the classes.
    """
    if column not in survey.column_names:
        raise InputError(f"{survey.url} has no column {column!r}, asked for as truth")
    values = np.unique(survey.column(column).astype(str)).tolist()
    if not set(classes) <= set(values):
        some = ", ".join(values[:SHOWN]) + (", ..." if len(values) > SHOWN else "")
        raise InputError(
            f"truth: column {column!r} of {survey.url} holds {some}; the classes of the labels are "
            f"{' and '.join(classes)}: name a column that holds these"
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
