"""A complete catalog as one file: FITS, VOTable, CSV or Parquet."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from catalogs.annotated import names
from catalogs.errors import InputError
from catalogs.storage.disk import TEMPORARY_SUFFIX, disk_error
from catalogs.storage.place import open_place
from catalogs.survey.tables import read_table

FORMATS = (".fits", ".vot", ".csv", ".parquet")


def convert(catalog: str | Path, to: Path) -> int:
    """Write a catalog as one file and return its number of rows.

    Parameters
    ----------
    catalog : str or Path
        A complete annotated catalog: a path, or a URL such as ``s3://bucket/catalog``.
    to : Path
        File to make; its ending says the format.

    Raises
    ------
    InputError
        No such catalog, it is not complete, the ending is unknown, or ``to`` exists.
    """
    if to.suffix not in FORMATS:
        raise InputError(f"{to} has no ending of {', '.join(FORMATS)}; choose one of these")
    if to.exists():
        raise InputError(f"{to} exists already; name another file, or remove it first")
    place = open_place(catalog)
    if place.size(names.PLAN) is None:
        raise InputError(f"{catalog} is no annotated catalog; make one with `skytally annotate`")
    if place.size(names.PROPERTIES) is None:
        raise InputError(f"{catalog} is not complete; run the same `skytally annotate` again")
    if not to.parent.is_dir():
        raise InputError(f"{to.parent} is not a folder; make it first, or name another place")
    table = read_table(catalog)
    partial = to.with_name(f".{to.name}{TEMPORARY_SUFFIX}")
    try:
        if to.suffix == ".parquet":
            pq.write_table(table, partial)
        elif to.suffix == ".csv":
            csv.write_csv(table, partial)
        else:
            kind = {".fits": "fits", ".vot": "votable"}[to.suffix]
            _write_astropy(table, partial, kind)
        partial.replace(to)
    except OSError as error:
        with suppress(OSError):  # a folder that takes no file has none to remove
            partial.unlink(missing_ok=True)
        raise disk_error(to, error) from error
    except (AssertionError, TypeError, UnicodeError, ValueError) as error:  # astropy's, too
        partial.unlink(missing_ok=True)
        reason = " ".join(str(error).split())
        raise InputError(
            f"{catalog} cannot be written as {to.suffix}: {reason}; choose .parquet or .csv"
        ) from error
    return int(table.num_rows)


def _write_astropy(table: pa.Table, to: Path, kind: str) -> None:
    from astropy.io.fits.verify import VerifyWarning

    with warnings.catch_warnings():
        # A column's name that cannot be written is an error of its own, which is told once.
        warnings.simplefilter("ignore", VerifyWarning)
        _astropy(table).write(to, format=kind, overwrite=True)


def _astropy(table: pa.Table) -> Any:  # noqa: ANN401  (astropy has no types)
    """Return an astropy table; nulls are masked, but NaN in float columns and "" in text."""
    from astropy.table import MaskedColumn, Table

    columns = []
    for name in table.column_names:
        values = table.column(name).combine_chunks()
        if pa.types.is_floating(values.type):
            columns.append(MaskedColumn(values.to_numpy(zero_copy_only=False), name=name))
        elif pa.types.is_integer(values.type) or pa.types.is_boolean(values.type):
            filled = values.fill_null(False if pa.types.is_boolean(values.type) else 0)
            mask = np.asarray(values.is_null())
            data = filled.to_numpy(zero_copy_only=False)
            columns.append(MaskedColumn(data, name=name, mask=mask if mask.any() else False))
        else:
            text = values.cast(pa.string()).fill_null("").to_pylist()
            columns.append(MaskedColumn(np.asarray(text, dtype=np.str_), name=name))
    return Table(columns)
