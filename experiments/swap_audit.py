"""Swapped networks annotate the whole survey; the audit of what they say differently."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalogs.audit.run import audit
from catalogs.audit.settings import AuditSettings
from catalogs.errors import InputError
from catalogs.progress import Reporter
from catalogs.sky import BoolArray, FloatArray, Regions
from catalogs.survey import tables
from experiments.networks import CATALOG, Store, annotate_step
from experiments.steps import Step
from experiments.swap_plan import (
    AUDITED_SPLIT,
    Settings,
    audited,
    audited_network,
    blocks,
    sky_of,
)
from training.splits import TEST, sky_blocked

AUDIT, UNSEEN = "audit", "unseen.parquet"


def audit_step(store: Store, settings: Settings, workers: int) -> Step | None:
    """Return the audit of swapped trainings, and all that it needs; None if none is asked for."""
    groups = audited(settings)
    if not groups:
        return None
    catalogs, names = [], []
    for training in groups:
        for seed in range(settings.audited_seeds):
            learnt = audited_network(store, settings, training, seed)
            title = f"annotate with {training}, seed {seed}"
            catalogs.append(annotate_step(store, learnt, title, workers))
            names.append(str(training).replace("/", "-"))
    return Step(
        "audit",
        f"audit {groups[0]} against {groups[1]}",
        {"groups": names, "effect": settings.effect, "answer": settings.spiral},
        partial(_audit, names=names, settings=settings),
        tuple(catalogs),
        ("catalogs/audit", "experiments"),
    )


def _audit(
    folder: Path,
    needs: Sequence[Path],
    reporter: Reporter,
    *,
    names: Sequence[str],
    settings: Settings,
) -> None:
    catalogs = [str(need / CATALOG) for need in needs]
    write_unseen(catalogs[0], folder / UNSEEN, settings)
    asked = AuditSettings(
        answer=settings.spiral,
        label="label",
        effect=settings.effect,
        compare=(catalogs[settings.audited_seeds],),
        swap=tuple(f"{name}={path}" for name, path in zip(names, catalogs, strict=True)),
    )
    audit(folder / UNSEEN, folder / AUDIT, asked, reporter)


def write_unseen(catalog: str, to: Path, settings: Settings) -> None:
    """Write the rows of a catalog that lie where no audited network learnt; see `unseen`."""
    writer = None
    for batch in tables.iter_batches(catalog):
        ra, dec = (batch.column(name).to_numpy() for name in ("ra", "dec"))
        writer = writer or pq.ParquetWriter(to, batch.schema)
        writer.write_batch(batch.filter(pa.array(unseen(ra, dec, settings))))
    if writer is not None:
        writer.close()
    if pq.read_metadata(to).num_rows == 0:
        raise InputError("no galaxy lies where no audited network learnt; set audited = []")


def unseen(ra: FloatArray, dec: FloatArray, settings: Settings) -> BoolArray:
    """Say which positions lie where no audited network learnt.

    Test tiles of the one split that all of them have, and all sky outside their regions. Whole
    tiles are left out, labelled galaxies and others, so that what is left has the sky's own mix.

    Parameters
    ----------
    ra, dec : ndarray of float64, shape (n,)
        deg.
    settings : Settings
    """
    tested = sky_blocked(ra, dec, blocks(settings, AUDITED_SPLIT)) == TEST
    if settings.train.adversary is not None:  # has seen unlabelled galaxies of training tiles
        return np.asarray(tested, np.bool_)
    skies = {sky for one in audited(settings) for sky in (one.spirals, one.ellipticals)}
    learnt = Regions.parse(" + ".join(sky_of(settings, sky) for sky in sorted(skies)))
    return np.asarray(tested | ~learnt.contains(ra, dec), np.bool_)


def read_audit(folder: Path) -> dict[str, Any]:
    """Return the content of the step's ``audit.json``."""
    document: dict[str, Any] = json.loads((folder / AUDIT / "audit.json").read_text())
    return document


def in_words(document: dict[str, Any], settings: Settings, rows: int) -> list[str]:
    """Return what the audit found, one sentence each.

    Parameters
    ----------
    document : dict
        From `read_audit`.
    settings : Settings
    rows : int
        Galaxies of the survey.
    """
    first, second = audited(settings)
    swap = document["compared"]["swap"]
    cause = f", cause {document['cause']}" if document["cause"] else ""
    used = document["counts"]["rows"]
    where = (
        f"Both {first} and {second} annotated the survey, {settings.audited_seeds} networks each, "
        f"which learnt from the same galaxies. Audited are the {used:,} of {rows:,} galaxies that "
        f"lie where none of them learnt: there the catalog of {first}, seed 0, is "
        f"{document['verdict']}{cause}."
    )
    told = [where]
    if swap is not None:
        tests = ", ".join(
            f"p {swap[f'{name}_p']:.2g} of {said}"
            for name, said in (
                ("fraction", "the difference"),
                ("dipole", "its dipole"),
                ("scan", "its largest patch"),
            )
            if swap[f"{name}_p"] is not None
        )
        told.append(
            f"On {swap['objects']:,} of them the fraction called spiral by {first} minus that by "
            f"{second} is {100 * swap['difference']:+.1f} points; by dealing the networks anew to "
            f"both trainings: {tests or 'no p of so few networks'}. All networks are of one split: "
            "this tells them from the spread of networks, not from that of the galaxies which a "
            "split happens to learn from; the swaps over splits do."
        )
    return told
