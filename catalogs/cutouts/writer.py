"""Making a survey store, and adding nights to it.

The root's ``zarr.json`` is the commit point of a new store and of every append: it is written
last, whole, and names what it commits by digest.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts import layout
from catalogs.cutouts.append import (
    ImageSource,
    SortedPart,
    SortedSurvey,
    SurveyTable,
    remove_append,
    write_append,
    write_sorted_append,
)
from catalogs.cutouts.columns import TEXT, as_kind, kind_of
from catalogs.cutouts.group import sync_tree
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter, Silent
from catalogs.storage.disk import disk_error, sync_folder
from catalogs.storage.place import Place, open_place

__all__ = [
    "ImageSource",
    "SortedPart",
    "SortedSurvey",
    "SurveyInfo",
    "SurveyTable",
    "append_survey",
    "write_sorted_survey",
    "write_survey",
]

FIRST = "00000"


@dataclass(frozen=True, slots=True)
class SurveyInfo:
    """What a store says of itself; see :class:`catalogs.cutouts.layout.StoreAttributes`.

    ``night`` is what people call the first append; its number by default.
    """

    name: str
    provenance: dict[str, Any] = field(default_factory=dict)
    framing: str | None = None
    crop: int | None = None
    pixel_scale: float | None = None
    bands: tuple[str, ...] = ("r", "g", "b")
    pixel_unit: str | None = None
    meanings: dict[str, tuple[str, str]] = field(default_factory=dict)
    encoding: layout.Encoding = "encoded"
    dtype: layout.RawDtype = "uint8"
    channels: int = 3
    night: str | None = None


def write_survey(
    where: str | Path,
    table: SurveyTable,
    images: ImageSource,
    info: SurveyInfo,
    reporter: Reporter | None = None,
) -> None:
    """Write a new survey store; it is one only when whole.

    On a disk it is written in a hidden folder beside ``where``, which any failure removes. A
    killed process leaves that folder, ``.NAME.zarr.*.partial``: it harms nothing and can be
    deleted. In a bucket, what a killed process leaves is no store, and the next one replaces it.

    Parameters
    ----------
    where : str or Path
        The store to make, ``NAME.zarr``; must not exist.
    table : SurveyTable
        Positions, identifiers and further columns.
    images : callable
        ``images(chunks)`` yields the images of each chunk of row numbers of ``table``; see
        `ImageSource`. An empty one is stored as it is and found when decoded.
    info : SurveyInfo
        What the store says of itself.
    reporter : Reporter, optional
        Receives progress.

    Raises
    ------
    InputError
        ``where`` exists or cannot be made, the table is empty, or identifiers are not unique.
    BusyError
        Another process writes there, or the storage does not answer now.
    SkytallyError
        The storage is full or failing.
    """
    place = open_place(where)
    _refuse_existing(place)
    if len(table.ids) == 0:
        raise InputError(f"no rows to write to {place.url}; check the table and its quarantine")
    kinds = {name: kind_of(values) for name, values in table.columns.items()}
    identifiers: layout.Identifiers = "text"
    if np.issubdtype(table.ids.dtype, np.integer):
        identifiers = "int64"

    def write(to: Place) -> None:
        told, rows = reporter or Silent(), len(table.ids)
        night = info.night or FIRST
        append = write_append(to, FIRST, night, table, images, _raw(info), told, (), rows)
        _write_root(to, append, kinds, identifiers, info)

    _write_new(place, write)


def write_sorted_survey(
    where: str | Path, survey: SortedSurvey, info: SurveyInfo, reporter: Reporter | None = None
) -> None:
    """Write a new survey store from rows that come in sky order, and are never held together.

    The store is the one that `write_survey` makes of the same rows, if ``survey.spans`` are. The
    memory that it takes is that of one partition's columns, of a batch of images, and 8 bytes for
    each identifier.

    Parameters
    ----------
    where : str or Path
        The store to make, ``NAME.zarr``; must not exist.
    survey : SortedSurvey
        Partitions in sky order. Identifiers are int64.
    info : SurveyInfo
        What the store says of itself.
    reporter : Reporter, optional
        Receives progress.

    Raises
    ------
    InputError
        ``where`` exists or cannot be made, or identifiers are not unique.
    BusyError, SkytallyError
        As for `write_survey`.
    """
    place = open_place(where)
    _refuse_existing(place)

    def write(to: Place) -> None:
        told, night = reporter or Silent(), info.night or FIRST
        append, kinds = write_sorted_append(to, FIRST, night, survey, _raw(info), told)
        _write_root(to, append, kinds, "int64", info)

    _write_new(place, write)


def _write_new(place: Place, write: Callable[[Place], None]) -> None:
    """Have a store written where nobody takes it for one, and put it in its place when whole."""
    if place.path is None:
        with place.hold(layout.LOCK):
            _refuse_existing(place)
            remove_append(place, FIRST)
            write(place)
        return
    path = place.path
    with _hidden_folder(path) as partial:
        write(open_place(partial))
        sync_tree(partial)
        _refuse_existing(place)
        partial.rename(path)
        sync_folder(path.parent)


def append_survey(
    where: str | Path,
    table: SurveyTable,
    images: ImageSource,
    night: str | None = None,
    reporter: Reporter | None = None,
) -> str | None:
    """Add a night's objects to a store, in time that depends on the night.

    A killed append leaves a group that nothing names; the next one replaces it.

    Parameters
    ----------
    where : str or Path
        The store.
    table : SurveyTable
        The night's rows; the columns must be those of the store.
    images : callable
        See `write_survey`; images must be of the store's kind.
    night : str, optional
        What people call it; its number by default.
    reporter : Reporter, optional
        Receives progress.

    Returns
    -------
    str or None
        The name of the new append; None when the store has this very night already.

    Raises
    ------
    InputError
        There is no store, columns or images are of another kind, identifiers are in the store
        already, or another night has this name.
    BusyError
        Another process appends, or the storage does not answer now.
    SkytallyError
        The storage is full or failing, or the store is damaged.
    """
    Survey.open(where)  # before a lock is put where there is no store
    place = open_place(where)
    with place.hold(layout.LOCK):
        survey = Survey.open(where)
        known = survey.attributes.appends
        name = f"{len(known):05d}"
        night = night or name
        if len(table.ids) == 0:
            raise InputError(f"no rows to add to {place.url}; check the table and its quarantine")
        table = _conform(table, survey)
        repeated = _check_new(survey, table, night)
        remove_append(place, name)
        try:
            append = write_append(
                place,
                name,
                night,
                table,
                images,
                survey.attributes.raw,
                reporter or Silent(),
                {partition.pixel for partition in survey.partitions},
                survey.rows + len(table.ids),
            )
            if repeated:
                _check_same(survey, append)
        except BaseException as error:
            remove_append(place, name)
            if isinstance(error, OSError):
                raise disk_error(Path(place.url), error) from error
            raise
        if repeated:
            remove_append(place, name)
            return None
        grown = survey.attributes.model_copy(update={"appends": (*known, append)})
        place.write(layout.METADATA, layout.root_document(grown))
        return name


def _conform(table: SurveyTable, survey: Survey) -> SurveyTable:
    """Return the table with the store's columns, each of the kind that it has there."""
    wanted = survey.attributes.columns
    missing = [name for name in wanted if name not in table.columns]
    unknown = [name for name in table.columns if name not in wanted]
    if missing or unknown:
        what = f"has no column {missing[0]!r}" if missing else f"has a column {unknown[0]!r}"
        other = "which the store has" if missing else "which the store has not"
        raise InputError(
            f"the table {what}, {other}; {survey.url} has {', '.join(wanted) or 'none'}: give "
            "every night the same columns"
        )
    ids = table.ids
    if survey.attributes.identifiers == TEXT:
        ids = np.asarray([str(i) for i in ids.tolist()], dtype=object)
    elif not np.issubdtype(ids.dtype, np.integer):
        raise InputError(
            f"identifiers are text here and whole numbers in {survey.url}; convert them"
        )
    columns = {name: as_kind(name, table.columns[name], kind) for name, kind in wanted.items()}
    return replace(table, ids=ids, columns=columns)


def _check_new(survey: Survey, table: SurveyTable, night: str) -> bool:
    """Return whether this may be a night that the store has already; refuse what is neither."""
    appends = survey.attributes.appends
    known = survey.known_ids(table.ids)
    if known.all() and any(len(table.ids) == append.rows for append in appends):
        return True
    if known.any():
        raise InputError(_stored_already(survey, night, table.ids[known]))
    if night in {append.night for append in appends}:
        raise InputError(
            f"{survey.url} has a night {night!r} already, with other objects; name this one "
            "otherwise"
        )
    return False


def _check_same(survey: Survey, append: layout.Append) -> None:
    if append.fingerprint not in {known.fingerprint for known in survey.attributes.appends}:
        raise InputError(_stored_already(survey, append.night))


def _stored_already(survey: Survey, night: str, ids: NDArray[Any] | None = None) -> str:
    which = "the objects" if ids is None else f"{len(ids)} objects (such as {ids[0]})"
    return (
        f"{which} of night {night!r} are in {survey.url} already, with other images or values; "
        "leave them out"
    )


def _refuse_existing(place: Place) -> None:
    there = (
        place.size(layout.METADATA) is not None
        if place.path is None
        else os.path.lexists(place.path)
    )
    if there:
        raise InputError(f"{place.url} exists already; name another store, or remove it first")


@contextmanager
def _hidden_folder(path: Path) -> Iterator[Path]:
    """Make a folder beside ``path``, and remove it unless it was renamed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise disk_error(path, error) from error
        raise InputError(
            f"{path} cannot be written: {error.strerror}; name a store in a folder that you may "
            "write to"
        ) from None
    folder = Path(made)
    try:
        folder.chmod(0o755)
        yield folder
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _raw(info: SurveyInfo) -> layout.RawPixels | None:
    return layout.RawPixels(info.dtype, info.channels) if info.encoding == "raw" else None


def _write_root(
    place: Place,
    append: layout.Append,
    columns: dict[str, str],
    identifiers: layout.Identifiers,
    info: SurveyInfo,
) -> None:
    place.write(f"{layout.APPENDS}/{layout.METADATA}", layout.group_document({}))
    content = f"{info.encoding} {info.dtype} {info.channels} {append.fingerprint}"
    attributes = layout.StoreAttributes(
        uuid=str(uuid.uuid5(uuid.NAMESPACE_OID, content)),
        name=info.name,
        bands=info.bands,
        pixel_unit=info.pixel_unit,
        meanings=info.meanings,
        pixel_scale=info.pixel_scale,
        encoding=info.encoding,
        dtype=info.dtype,
        channels=info.channels,
        framing=info.framing,
        crop=info.crop,
        identifiers=identifiers,
        columns=columns,
        provenance=info.provenance,
        appends=(append,),
    )
    place.create(layout.METADATA, layout.root_document(attributes))
