"""The kinds of table files, told apart by their names."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from catalogs.errors import InputError
from catalogs.storage.place import is_remote, open_place
from catalogs.survey.annotated_table import AnnotatedCatalog, is_annotated
from catalogs.survey.csv_table import CsvTable
from catalogs.survey.fits_table import FitsTable, VoTable
from catalogs.survey.parquet_table import (
    COLLECTION_PROPERTIES,
    HATS_DATASET,
    HATS_PROPERTIES,
    PARQUET_ENDINGS,
    HatsCatalog,
    ParquetTable,
    primary_table,
    single_file,
)
from catalogs.survey.table_source import Source

_KINDS: dict[tuple[str, ...], type[Source]] = {
    (".csv", ".csv.gz", ".tsv", ".tsv.gz"): CsvTable,
    PARQUET_ENDINGS: ParquetTable,
    (".fits", ".fit", ".fts", ".fits.gz"): FitsTable,
    (".vot", ".votable", ".xml"): VoTable,
}


def open_table(where: str | PathLike[str], text_columns: Sequence[str] = ()) -> Source:
    """Return the reader for what lies at a path or URL, judged by its name.

    Other parameters as `Source`.

    Raises
    ------
    InputError
        Nothing is there, its ending is unknown, or it is a survey store.
    """
    if isinstance(where, str) and is_remote(where):
        if single_file(where) is not None:
            return _open_remote_file(where, text_columns)
        return _open_folder(where)
    path = Path(where)
    if not path.exists():
        raise InputError(f"{path}: no such table; give a file or a catalog folder")
    if path.is_dir():
        return _open_folder(path)
    for endings, kind in _KINDS.items():
        if path.name.lower().endswith(endings):
            return kind(path, text_columns)
    known = ", ".join(ending for endings in _KINDS for ending in endings)
    raise InputError(f"{path}: unknown kind of table; its name must end in one of {known}")


def _open_remote_file(where: str, text_columns: Sequence[str]) -> Source:
    if where.rstrip("/").lower().endswith(PARQUET_ENDINGS):
        return ParquetTable(where, text_columns)
    raise InputError(
        f"{where}: of single files in a bucket only Parquet is read; copy it to a disk first"
    )


def _open_folder(where: str | Path) -> Source:
    place = open_place(where)
    if place.size("zarr.json") is not None:
        raise InputError(f"{where}: is a survey store, not a table; annotate it first")
    if place.size(COLLECTION_PROPERTIES) is not None:
        where = primary_table(place)
        place = open_place(where)
    if is_annotated(place):
        return AnnotatedCatalog(where)
    if place.size(HATS_PROPERTIES) is not None or place.names(HATS_DATASET):
        return HatsCatalog(where)
    if is_remote(where) and not place.names():
        raise InputError(f"{where}: no such table; give a Parquet file or a catalog folder")
    return ParquetTable(where)
