"""The kinds of table files, told apart by their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from catalogs.errors import InputError
from catalogs.survey.annotated_table import AnnotatedCatalog, is_annotated
from catalogs.survey.csv_table import CsvTable
from catalogs.survey.fits_table import FitsTable, VoTable
from catalogs.survey.parquet_table import PARQUET_ENDINGS, HatsCatalog, ParquetTable, primary_table
from catalogs.survey.table_source import Source

_KINDS: dict[tuple[str, ...], type[Source]] = {
    (".csv", ".csv.gz", ".tsv", ".tsv.gz"): CsvTable,
    PARQUET_ENDINGS: ParquetTable,
    (".fits", ".fit", ".fts", ".fits.gz"): FitsTable,
    (".vot", ".votable", ".xml"): VoTable,
}


def open_table(path: Path, text_columns: Sequence[str] = ()) -> Source:
    """Return the reader for what lies at ``path``, judged by its name; parameters as `Source`.

    Raises
    ------
    InputError
        Nothing is there, its ending is unknown, or it is a survey store.
    """
    if not path.exists():
        raise InputError(f"{path}: no such table; give a file or a catalog folder")
    if path.is_dir():
        return _open_folder(path)
    for endings, kind in _KINDS.items():
        if path.name.lower().endswith(endings):
            return kind(path, text_columns)
    known = ", ".join(ending for endings in _KINDS for ending in endings)
    raise InputError(f"{path}: unknown kind of table; its name must end in one of {known}")


def _open_folder(path: Path) -> Source:
    if (path / "zarr.json").exists():
        raise InputError(f"{path}: is a survey store, not a table; annotate it first")
    if (path / "collection.properties").exists():
        path = primary_table(path)
    if is_annotated(path):
        return AnnotatedCatalog(path)
    if (path / "dataset").is_dir() or (path / "hats.properties").exists():
        return HatsCatalog(path)
    return ParquetTable(path)
