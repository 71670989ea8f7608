"""One pass over a table: its answers and what goes with them, summed per tile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from catalogs.audit.comparison.paired import Pairs, gather_pairs
from catalogs.audit.comparison.swap import Seeds, gather_seeds
from catalogs.audit.conditions.nuisances import Gathered, gather
from catalogs.audit.labels import labelled, strata
from catalogs.audit.labels.census import NO_SHAPE, Census
from catalogs.audit.labels.labelled import Labelled
from catalogs.audit.reading.answers import (
    Beside,
    Columns,
    Tally,
    check_answer_occurs,
    find_columns,
    iter_answers,
)
from catalogs.audit.reading.covariates import Covariates, Weights
from catalogs.audit.reading.duplicates import APART, FirstOfObject
from catalogs.audit.reading.identifiers import own_id
from catalogs.audit.reading.lineage import lineage
from catalogs.audit.reading.others import Other
from catalogs.audit.reading.truth import Matched, Truth
from catalogs.audit.region import parse_part
from catalogs.audit.settings import FEWEST_LABELS, FINEST_ORDER, AuditSettings
from catalogs.audit.uniformity.tiles import TileAccumulator, TileCounts
from catalogs.errors import InputError
from catalogs.progress import Reporter
from catalogs.survey import tables

_UNEVEN = 1.1  # a factor of a tile's error that is worth a word


@dataclass(frozen=True, slots=True)
class Read:
    """What was read of a table.

    ``gathered`` is None without covariates, ``pairs`` empty without catalogs to compare with,
    ``seeds`` None without a swap, ``labelled`` and ``matched`` without labels; ``census`` counts
    the rows with a position, an answer or none.
    """

    counts: TileCounts
    tally: Tally
    columns: Columns
    gathered: Gathered | None
    pairs: list[Pairs]
    seeds: Seeds | None
    labelled: Labelled | None
    matched: Matched | None
    census: Census


def read(
    source: str | Path, settings: AuditSettings, covariates: Covariates, reporter: Reporter
) -> Read:
    """Read a table once, in bounded memory, into counts per tile and what goes with them.

    Raises
    ------
    InputError
        The table or a column cannot be used, or no row is left.
    """
    columns = find_columns(source, settings)
    tally = Tally()
    rows = tables.row_count(source)
    order = max(FINEST_ORDER, settings.order or 0)
    tiles = TileAccumulator(order)
    gathered, labels = None, None
    truth = None if settings.truth is None else Truth(source, columns, settings)
    beside: list[Beside] = [covariates] if covariates.names else []
    beside += [] if truth is None else [truth]
    swapped = [path for _, path in settings.swapped]
    others = [Other(path, source, settings) for path in (*settings.compare, *swapped)]
    beside += others
    weighted = settings.weights is not None
    if settings.weights is not None:
        beside.append(Weights(settings.weights, tables.column_names(source), str(source)))
    width = 1 + len(covariates.names)
    truth_at = None if truth is None else width
    start = width + (truth is not None)
    pairs: list[Pairs] = []
    seeds = None
    numbers = start + len(others) + weighted
    ids = None if settings.keep_duplicates else _ids_to_compare(source)
    named = None if settings.region is None else parse_part(settings.region)
    census = Census(order, named)
    with FirstOfObject(numbers, ids=ids is not None, every=settings.keep_duplicates) as kept:
        for pixels, values, keys in iter_answers(
            source, columns, settings, tally, beside, ids, unanswered=True
        ):
            use = ~np.isnan(values[:, 0])
            if weighted:
                there = np.isfinite(values[:, -1])
                tally.no_weight += int(np.sum(use & ~there))
                pixels, values, keys, use = pixels[there], values[there], keys[there], use[there]
            said = None if truth_at is None else values[:, truth_at]
            census.add(pixels, values[:, 0], said)
            if said is not None:
                said[said == NO_SHAPE] = np.nan
            kept.add(pixels[use], values[use], keys[use])
            tally.used += int(use.sum())
            reporter.progress("read", tally.rows, max(rows or 0, tally.rows), "rows")
        for pixels, values in kept.unique():
            tiles.add(pixels, values[:, 0], values[:, -1] if weighted else None)
        tally.same_id, tally.same_place = kept.same_id, kept.same_place
        if 2 * kept.far > kept.same_id:
            raise InputError(
                f"{source}: {kept.far:,} of {kept.same_id:,} rows whose id {ids!r} an earlier row "
                f"has lie more than {APART:g} arcsec from it, so the ids are not of objects; "
                "rename or remove the column"
            )
        unit = tiles.unit if weighted and tiles.rows else None
        compared = slice(start, start + len(settings.compare))
        if covariates.names:
            gathered = gather(kept.unique, covariates.names, order, unit, compared)
        if truth is not None:
            labels = labelled.gather(kept.unique, width, order, named, unit)
            labels = replace(labels, declared=settings.labels_blind, census=census)
            if gathered is not None and len(gathered.sample):
                sample = gathered.sample[:, 1:]
                by = strata.gather(
                    kept.unique,
                    covariates.names,
                    settings.intrinsic,
                    sample,
                    width,
                    named,
                    unit,
                )
                labels = replace(labels, strata=by)
        swaps = slice(compared.stop, start + len(others))
        pairs = [
            gather_pairs(kept.unique, at, truth_at, order, unit)
            for at in range(compared.start, compared.stop)
        ]
        if swapped:
            seeds = gather_seeds(kept.unique, swaps, truth_at, order)
            if not seeds.n.any():
                raise InputError("swap: no object was answered by all catalogs; pairs are by id")
        for path, pair in zip(settings.compare, pairs, strict=True):
            if not pair.n.any():
                raise InputError(f"{path}: no object of {source} has an answer there, by id")
    check_answer_occurs(tally, columns, settings)
    if tally.used == 0:
        raise InputError(
            f"{source}: none of {tally.rows} rows can be used ({tally.not_ok} not ok, "
            f"{tally.no_position} without a position, {tally.no_answer} without an answer, "
            f"{tally.other_answer} with another than those counted"
            f"{f', {tally.no_weight} without a weight' if weighted else ''})"
        )
    counts = tiles.counts()
    tally.used = tiles.rows
    if weighted:
        tally.counted += _weighting(settings.weights, tiles, counts)
    matched = None
    if truth is not None and labels is not None:
        known = round(float(labels.tiles.labelled.n.sum()))
        matched = truth.finish(known, labels.mistakes, census.no_shape)
        if settings.correct and known < FEWEST_LABELS:
            raise InputError(
                f"correct: {known} labels for the whole sky, at least {FEWEST_LABELS} are needed; "
                "name more labels, or audit without correct"
            )
    return Read(counts, tally, columns, gathered, pairs, seeds, labels, matched, census)


def _ids_to_compare(source: str | Path) -> str | None:
    """Return the id column; None without, and of a catalog of skytally's, where ids are unique."""
    return None if lineage(source) is not None else own_id(tables.column_names(source))


def _weighting(name: str | None, tiles: TileAccumulator, counts: TileCounts) -> str:
    """Say what weights do to the numbers."""
    uneven = tiles.uneven_weights()
    text = f"; weighted by {name}, {tiles.rows:,} rows count as {counts.total:,}"
    if uneven > _UNEVEN:
        text += (
            f"; weights scatter differently over the sky (errors by factors of up to "
            f"{uneven:.2f}), and each tile has its own error"
        )
    return text
