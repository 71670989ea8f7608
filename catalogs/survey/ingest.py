"""From a table and its images to a survey store: every row stored, or quarantined with a reason."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from catalogs.cutouts.columns import TEXT
from catalogs.cutouts.layout import RawPixels
from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import (
    FIRST,
    ImageSource,
    SurveyInfo,
    SurveyTable,
    append_survey,
    write_survey,
)
from catalogs.errors import InputError, IntegrityError
from catalogs.progress import Reporter, Silent
from catalogs.schema import LABEL_COLUMN
from catalogs.sky import BoolArray, FloatArray
from catalogs.storage.place import is_remote, open_place
from catalogs.survey.bad_rows import BadRows, find_bad_rows
from catalogs.survey.columns import (
    class_column,
    further_columns,
    id_values,
    identifiers,
    labels,
    plain,
    require_classes,
    stored_names,
)
from catalogs.survey.images import FoundImages, find_images
from catalogs.survey.night import Night
from catalogs.survey.recipe import IngestSettings, Recipe, as_before, resolve
from catalogs.survey.tables import EmptyTableError, column_names, positions, read_table

__all__ = ["IngestResult", "IngestSettings", "ingest"]


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What became of the rows; ``stored + quarantined`` is the number of rows of the table.

    ``written`` is False when nothing was to do: the survey held all of them already, or a night
    has none.
    """

    stored: int
    quarantined: int
    reasons: dict[str, int]
    unused_images: int
    written: bool = True


def ingest(
    table: Path,
    images: str,
    to: str | Path,
    settings: IngestSettings,
    reporter: Reporter | None = None,
) -> IngestResult:
    """Write a survey store from a table and the images that it names, or add a night to one.

    The store, or its new night, appears only when whole; see `write_survey` and `append_survey`
    for what a killed process leaves. What is not said of a night is as in the first ingest.

    Parameters
    ----------
    table : Path
        CSV, Parquet, FITS, VOTable or HATS.
    images : str
        A folder with one image per object, named by its identifier; a column of the table with
        paths, absolute or from the table's folder; or one array file. See
        :mod:`catalogs.survey.images`.
    to : path or URL
        The store to make or to add to, ``NAME.zarr``.

    Raises
    ------
    InputError
        A file, folder or column is missing or cannot be used; ``to`` exists, or with ``append``
        does not; or its columns or images are of another kind.
    TooManyBadError
        More rows than ``max_bad`` have no place on the sky, no image, or are duplicates.
    BusyError
        Another process adds to this store.
    SkytallyError
        An image vanished meanwhile, or the disk is full or failing.

    Notes
    -----
    A night without rows, also the first, writes nothing; a table that is no night must have some.
    """
    reporter = reporter or Silent()
    night = None
    if settings.append:
        night = Night(Survey.open(to), settings.night)
        settings = as_before(settings, night.survey.attributes)
    else:
        _refuse_existing(to)
    try:
        prepared = _prepare(table, images, to, settings, night, reporter)
    except EmptyTableError:
        if night is None and settings.night is None:
            raise
        return IngestResult(0, 0, {}, 0, written=False)  # clouds: such nights come, unattended
    result = prepared.result
    if prepared.table is None:
        return replace(result, written=False)
    append: str | None = FIRST
    if night is None:
        write_survey(to, prepared.table, prepared.images, prepared.info, reporter)
    else:
        append = append_survey(to, prepared.table, prepared.images, night.name, reporter)
    if append is not None:
        _check_complete(Survey.open(to), append, result)
    return replace(result, written=append is not None)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is to be written, in the store's terms; the table is None when nothing is to do."""

    table: SurveyTable | None
    images: ImageSource
    info: SurveyInfo
    result: IngestResult


def _prepare(
    table: Path,
    images: str,
    to: str | Path,
    settings: IngestSettings,
    night: Night | None,
    reporter: Reporter,
) -> _Prepared:
    """Read the table; what it takes in memory is free again when the store is written."""
    given = _read(table, images, settings, night, reporter)
    good, counts = given.bad.good, given.bad.counts
    kept = np.flatnonzero(good).astype(np.int64)
    survey_table = None
    if night is None or not given.bad.all_stored:
        given.bad.check(settings.max_bad)
        survey_table = SurveyTable(
            ids=id_values(given.ids.filter(pa.array(good))),
            ra=np.mod(given.ra[kept], 360.0),
            dec=given.dec[kept],
            columns=_columns(given, good, night, reporter),
            input_row=kept,
            quarantine=given.bad.table(given.rows, given.ids, given.recipe.id_column),
        )
    raw = given.images.raw or RawPixels("uint8", 3)
    info = SurveyInfo(
        name=PurePosixPath(str(to)).stem,
        crop=settings.crop,
        provenance={"table": table.name, "images": images, **given.recipe.to_provenance()},
        encoding="encoded" if given.images.raw is None else "raw",
        dtype=raw.dtype,
        channels=raw.channels,
        night=settings.night,
    )
    result = IngestResult(len(kept), len(good) - len(kept), counts, given.images.unused)
    return _Prepared(survey_table, given.images.source(kept), info, result)


@dataclass(frozen=True, slots=True)
class _Given:
    """A table as it was read: what is in it, and what of it cannot be stored."""

    rows: pa.Table
    names: dict[str, str]
    recipe: Recipe
    ids: pa.ChunkedArray
    ra: FloatArray
    dec: FloatArray
    images: FoundImages
    bad: BadRows


def _read(
    table: Path, images: str, settings: IngestSettings, night: Night | None, reporter: Reporter
) -> _Given:
    names = column_names(table)
    recipe = resolve(settings, names, table)
    stored = stored_names(names, {recipe.id_column, recipe.ra, recipe.dec})
    as_written = {recipe.id_column, images}
    if night is None:
        as_written.add(recipe.class_column or "")
    else:  # one night's values may all look like numbers
        kinds = night.survey.attributes.columns
        as_written |= {name for name, there in stored.items() if kinds.get(there) == TEXT}
    rows = plain(read_table(table, text_columns=[name for name in names if name in as_written]))
    ra, dec = positions(rows, recipe.ra, recipe.dec)
    ids = identifiers(rows.column(recipe.id_column), recipe.id_column)
    found = find_images(rows, ids, images, table, reporter)
    known = np.zeros(len(ids), dtype=np.bool_)
    if night is not None:
        night.check_pixels(found.raw)
        ids = night.identifiers(ids, recipe.id_column)
        known = night.known(ids)
    if recipe.classes is not None and recipe.class_column is None:
        recipe = replace(recipe, class_column=class_column(recipe.classes, rows, list(stored)))
    bad = find_bad_rows(ids, ra, dec, found.reasons, known)
    return _Given(rows, stored, recipe, ids, ra, dec, found, bad)


def _columns(
    given: _Given, good: BoolArray, night: Night | None, reporter: Reporter
) -> dict[str, NDArray[Any]]:
    """Return the further columns of the rows that are stored, and their labels."""
    made = {}
    classes, name = given.recipe.classes, given.recipe.class_column
    if classes is not None and name is not None:
        made[LABEL_COLUMN] = labels(classes, given.rows.column(name).filter(pa.array(good)), name)
    if night is None:
        names = given.names
        if classes is not None and name is not None:
            require_classes(classes, made[LABEL_COLUMN], name)
    else:
        names = night.known_names(given.names, given.rows, reporter)
    return further_columns(given.rows, names, good, reporter) | made


def _refuse_existing(to: str | Path) -> None:
    there = open_place(to).size("zarr.json") is not None if is_remote(to) else os.path.lexists(to)
    if there:
        raise InputError(
            f"{to} exists already; name another store, remove it first, or add to it with --append"
        )


def _check_complete(survey: Survey, append: str, result: IngestResult) -> None:
    """Read back what is on disk: store and quarantine together are the input, each row once."""
    stored = survey.column("input_row", append)
    table = survey.quarantine(append)
    quarantined = np.empty(0, np.int64) if table is None else table.column("input_row").to_numpy()
    found = np.concatenate([stored, quarantined])
    if (len(stored), len(quarantined)) != (result.stored, result.quarantined) or not np.array_equal(
        np.sort(found), np.arange(len(found))
    ):
        raise IntegrityError(
            f"{survey.url}: {len(stored)} stored and {len(quarantined)} quarantined rows are not "
            f"the {result.stored + result.quarantined} rows of the table; restore the store from "
            "a copy and ingest again"
        )
