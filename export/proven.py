"""A bundle is written only after it has been compared with what it was made from."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from catalogs.errors import InputError, IntegrityError
from catalogs.progress import Reporter
from export import bundle as bundles
from export.bundle import Bundle
from export.card import card
from export.manifest import CARD, PARITY_TILES, Manifest
from export.parity.gate import Gate, Reference, askable, prove
from export.parity.views import Views


def write_proven(
    to: Path,
    manifest: Manifest,
    files: Mapping[str, bytes],
    reference: Reference,
    views: Views,
    gate: Gate,
    reporter: Reporter,
    *,
    precisions: Sequence[str] | None = None,
    replace: bool = False,
) -> Bundle:
    """Write a bundle that answers as its reference does, with its card; else none.

    Parameters
    ----------
    to : Path
        ``NAME.bundle``.
    manifest : Manifest
        Without ``files``; what is found out here is added to its ``parity`` and ``not_compared``.
    files : mapping of str to bytes
        Models and training sky; of a bundle that is added to, its table of tiles, too.
    reference : Reference
    views : Views
        Cutouts that both answer.
    gate : Gate
    reporter : Reporter
    precisions : sequence of str, optional
        Those to compare; by default all.
    replace : bool
        Put the new bundle in the place of an old one at ``to``.

    Raises
    ------
    InputError
        ``to`` exists.
    IntegrityError
        They differ by more than the gate allows.
    """
    if to.exists() and not replace:
        raise InputError(f"{to} exists already; choose another name or remove it")
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as folder:
        trial = bundles.write(Path(folder) / to.name, manifest, {**files, CARD: b""}, replace=False)
        try:
            proof = prove(trial, reference, views, gate, reporter, precisions)
        except IntegrityError as error:
            raise IntegrityError(f"{error}; no bundle was written") from error
    finished = dict(files)
    if proof.tiles:
        table = proof.table()
        if PARITY_TILES in files:
            table = files[PARITY_TILES] + table.partition(b"\n")[2]
        finished[PARITY_TILES] = table
    asked = askable(manifest, precisions)
    earlier = [one for one in manifest.not_compared if (one.provider, one.precision) not in asked]
    complete = manifest.model_copy(
        update={
            "parity": [*manifest.parity, *proof.comparisons],
            "not_compared": [*earlier, *proof.not_compared],
            "files": {name: bundles.entry_of(content) for name, content in finished.items()},
        }
    )
    return bundles.write(to, complete, {**finished, CARD: card(complete).encode()}, replace=replace)
