"""What a later night must be to fit a survey; the store compares the columns themselves."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from catalogs.cutouts import layout
from catalogs.cutouts.columns import TEXT
from catalogs.cutouts.layout import RawPixels
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter
from catalogs.sky import BoolArray
from catalogs.survey.columns import id_values
from catalogs.survey.pixels import described


class Night:
    """A night that is added to a survey, or has been added to it before.

    Parameters
    ----------
    survey : Survey
        The survey as it is.
    name : str or None
        What the night is called.
    """

    def __init__(self, survey: Survey, name: str | None) -> None:
        self.survey = survey
        self.name = name

    @property
    def before(self) -> layout.Append | None:
        """The append that holds a night of this name already."""
        appends = self.survey.attributes.appends
        return next((append for append in appends if append.night == self.name), None)

    def known(self, ids: pa.ChunkedArray) -> BoolArray:
        """Return which identifiers other nights have brought, shape (n,)."""
        known = np.zeros(len(ids), dtype=np.bool_)
        given = np.flatnonzero(np.asarray(ids.is_valid()))
        values = id_values(ids.take(pa.array(given)))
        known[given] = self.survey.known_ids(values)
        if self.before is not None:  # identifiers are unique: its own are no other night's
            own = self.survey.column("id", self.before.name)
            known[given] &= ~np.isin(values, own)
        return known

    def identifiers(self, ids: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
        """Return the night's identifiers in the type of the survey's.

        Raises
        ------
        InputError
            They are text, and the survey's are integers.
        """
        if self.survey.attributes.identifiers == TEXT:
            return ids.cast(pa.string())
        if not pa.types.is_integer(ids.type) and ids.null_count < len(ids):
            example = str(ids.drop_null()[0].as_py())
            raise InputError(
                f"--id {name!r} holds text such as {example[:40]!r}, the identifiers of "
                f"{self.survey.url} are integers; name another column"
            )
        return ids.cast(pa.int64())

    def check_pixels(self, raw: RawPixels | None) -> None:
        """Refuse images of another kind than the survey's.

        Raises
        ------
        InputError
            They are.
        """
        own = self.survey.attributes.raw
        if raw != own:
            raise InputError(
                f"this night's images are {described(raw)}, those of {self.survey.url} are "
                f"{described(own)}; a survey holds one kind: ingest them into another"
            )

    def known_names(
        self, names: dict[str, str], rows: pa.Table, reporter: Reporter
    ) -> dict[str, str]:
        """Return those further columns that the survey has, and tell of the rest.

        Parameters
        ----------
        names : dict of str to str
            The name under which a survey holds each of them.
        rows : pyarrow.Table
            The night's table.
        reporter : Reporter
            Told of those that are left out.
        """
        kept = {}
        for name, stored in names.items():
            if stored in self.survey.attributes.columns:
                kept[name] = stored
            else:
                kind, reason = str(rows.column(name).type), "the survey has no such column"
                reporter.event("column left out", column=name, type=kind, reason=reason)
        return kept
