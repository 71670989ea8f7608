"""What an audit read, so that somebody else can tell whether theirs is the same."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from catalogs.audit.reading.covariates import Covariates
from catalogs.audit.reading.experiments import RESULTS
from catalogs.audit.reading.lineage import lineage
from catalogs.audit.reading.truth import truth_table
from catalogs.audit.settings import AuditSettings
from catalogs.storage import digest
from catalogs.storage.digest import Digest
from catalogs.survey.parquet_table import single_file
from catalogs.survey.table_formats import open_table


def identify(
    source: str | Path, settings: AuditSettings, covariates: Covariates
) -> list[dict[str, Any]]:
    """Return role, place and sha256 of every table and map; of catalogs their origin, too.

    Parameters
    ----------
    source : str or Path
        The audited table.
    settings : AuditSettings
    covariates : Covariates

    Returns
    -------
    list of dict
        ``role``, ``path``, ``sha256``, ``of`` (how it is made, see `catalogs.storage.digest`) and
        ``catalog`` (see `lineage`), the audited table first.
    """
    truth = truth_table(source, settings)
    tables = [
        ("audited", str(source)),
        *([] if truth is None else [("truth", truth)]),
        *(("compared", path) for path in settings.compare),
        *((f"seed of {group}", path) for group, path in settings.swapped),
    ]
    files = [(f"map {name}", path) for name, path in covariates.maps.items()]
    files += [("experiment", f"{folder}/{RESULTS}") for folder in settings.experiments]
    return [_input(role, path, open_table(path).digest()) for role, path in tables] + [
        _input(role, path, of_single(path)) for role, path in files
    ]


def of_single(path: str) -> Digest:
    """Return the digest of one file on a disk or in a bucket."""
    found = single_file(path)
    if found is None:
        raise FileNotFoundError(path)
    return digest.of_file(*found)


def _input(role: str, path: str, found: Digest) -> dict[str, Any]:
    return {"role": role, "path": path, **asdict(found), "catalog": lineage(path)}
