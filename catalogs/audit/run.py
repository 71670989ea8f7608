"""Audit a table: read it, test it, and write ``NAME.audit/`` in one step."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from catalogs.audit.causes import by_labels, by_others, pairs_in_cap, scanned_cap
from catalogs.audit.comparison.paired import (
    difference_over_the_sky,
    difference_tiles,
)
from catalogs.audit.comparison.swap import judge_swap
from catalogs.audit.conditions.explained import explain
from catalogs.audit.labels.correction import CorrectedTiles, correct, require_blind
from catalogs.audit.labels.remedies import remedies
from catalogs.audit.reading import experiments, inputs, training_sky
from catalogs.audit.reading.covariates import Covariates
from catalogs.audit.reading.table import Read
from catalogs.audit.reading.table import read as read_table
from catalogs.audit.report import (
    covariate_plots,
    cutouts,
    experiment_document,
    label_document,
    nuisance_document,
    paired_document,
    plots,
    products,
)
from catalogs.audit.report import document as documents
from catalogs.audit.report.page import render
from catalogs.audit.settings import AuditSettings
from catalogs.audit.uniformity.analysis import Analysis, analyse
from catalogs.errors import InputError, SkytallyError, printable
from catalogs.progress import Reporter, Silent
from catalogs.survey import tables


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What an audit found; ``document`` is the content of ``folder / "audit.json"``."""

    folder: Path
    document: dict[str, Any]
    analysis: Analysis

    @property
    def verdict(self) -> str:
        """``uniform``, ``anisotropic`` or ``insufficient``."""
        return str(self.document["verdict"])

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.folder / "report.html"


def audit(
    source: str | PathLike[str],
    to: str | PathLike[str],
    settings: AuditSettings | None = None,
    reporter: Reporter | None = None,
) -> AuditResult:
    """Audit the answers of a table for variation over the sky.

    Parameters
    ----------
    source : path-like
        A skytally catalog, or any table that `catalogs.survey.tables` reads.
    to : path-like
        The audit's folder; an earlier audit there is replaced, anything else is refused.
    settings : AuditSettings, optional
    reporter : Reporter, optional

    Returns
    -------
    AuditResult

    Raises
    ------
    InputError
        The table or a column cannot be used, no row is left, or ``to`` is no audit.
    SkytallyError
        The audit cannot be written (disk full, no permission).
    """
    settings = AuditSettings() if settings is None else settings
    reporter = Silent() if reporter is None else reporter
    # A URL stays text: as a path it would lose a slash.
    source, to = source if isinstance(source, str) else Path(source), Path(to)
    _refuse_foreign(to)
    names = tables.column_names(source)
    covariates = Covariates(settings.covariates, names, str(source), settings.intrinsic)
    beside = [experiments.read_experiment(folder, source) for folder in settings.experiments]
    read = read_table(source, settings, covariates, reporter)
    counts = read.counts
    reporter.event("testing", answers=counts.total, tiles=len(counts.tiles))
    analysis, found = by_labels(analyse(counts, settings), read, settings)
    analysis = by_others(analysis, read, settings)
    if settings.correct and read.labelled is not None:
        require_blind(read.labelled, analysis.order, found)
    corrected = _corrected(analysis, read, settings)
    document = documents.build(
        analysis, counts, read.tally, read.columns, settings, str(source), read.census
    )
    document["provenance"]["inputs"] = inputs.identify(source, settings, covariates)
    if read.gathered is not None:
        evidence = read.gathered.evidence
        explained = None if evidence is None else explain(evidence, analysis.order, settings)
        document["nuisances"] = documents.plain(
            nuisance_document.build(read.gathered, explained, covariates, settings)
        )
    if read.pairs or read.seeds is not None:
        document["compared"] = documents.plain(compared(analysis, read, settings))
    if beside:
        document["experiments"] = documents.plain(experiment_document.build(beside))
    if read.labelled is not None and read.matched is not None:
        part = label_document.build(read.labelled, read.matched, found)
        part["tiles"] = label_document.tiles_part(analysis.tables[0], corrected[0], settings)
        blurring = label_document.blurring(document)
        part["remedies"] = [
            asdict(remedy)
            for one in found
            for remedy in remedies(one, settings.answer, label_document.place(one), blurring)
        ]
        document["labels"] = documents.plain(part)
    training, gallery = None, None
    if settings.training_sky is not None:
        training = training_sky.read_tiles(settings.training_sky)
        if read.labelled is not None:
            document["notes"].append(label_document.seen_note(read.labelled, training))
    if settings.cutouts is not None:
        table = analysis.tables[0]
        gallery = cutouts.gather(settings.cutouts, source, read.columns, table, settings)
    page = render(document, analysis, training, gallery)
    try:
        shown = corrected if settings.correct else ()
        _write(to, document, page, analysis, read, settings, shown)
    except OSError as error:
        raise SkytallyError(
            f"{to}: the audit cannot be written: {error.strerror or error}; free space or name "
            "another folder"
        ) from error
    reporter.event("audited", verdict=document["verdict"], p=document["alarm"]["p"], folder=str(to))
    return AuditResult(to, document, analysis)


def summary_lines(result: AuditResult) -> list[str]:
    """Return the result in plain English, a few lines for a terminal."""
    lines = [*documents.summary(result.document), f"Report: {result.report}"]
    return [printable(line) for line in lines]


def compared(analysis: Analysis, read: Read, settings: AuditSettings) -> dict[str, Any]:
    """Return the part of the document on other catalogs."""
    in_cap = pairs_in_cap(analysis, read)
    catalogs = [
        paired_document.build_pair(
            path,
            pairs,
            difference_tiles(pairs, analysis.order, settings.min_n),
            difference_over_the_sky(pairs, analysis.order, settings),
            seen,
        )
        for path, pairs, seen in zip(settings.compare, read.pairs, in_cap, strict=True)
    ]
    paired_document.correct_for_number(catalogs)
    swap = None
    if read.seeds is not None:
        groups = [group for group, _ in settings.swapped]
        swap = paired_document.build_swap(judge_swap(read.seeds, groups, analysis.order, settings))
    return {"catalogs": catalogs, "swap": swap}


def _corrected(
    analysis: Analysis, read: Read, settings: AuditSettings
) -> tuple[CorrectedTiles, ...]:
    """Return the corrected fractions of each table of tiles; nothing without labels."""
    if read.labelled is None:
        return ()
    return tuple(
        correct(read.labelled, table.order, table.tiles, settings.precision)
        for table in analysis.tables
    )


def _write(
    to: Path,
    document: dict[str, Any],
    page: str,
    analysis: Analysis,
    read: Read,
    settings: AuditSettings,
    corrected: tuple[CorrectedTiles, ...],
) -> None:
    """Write everything beside the goal, then put it in place by renaming."""
    to.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
    try:
        table = analysis.tables[0]
        products.write_table(analysis.tables, settings.answer, made / "tiles.parquet", corrected)
        products.write_maps(analysis.tables, settings.answer, made / "tiles.fits")
        if corrected:
            products.write_corrected(corrected[0], table, made / "corrected.fits")
        if read.pairs:
            differences = [difference_tiles(pair, analysis.order, 1) for pair in read.pairs]
            named = list(zip(settings.compare, differences, strict=True))
            products.write_differences(named, made / "differences.fits")
        products.write_flagged(table, made / "flagged.moc.fits")
        if (cap := scanned_cap(analysis)) is not None:
            products.write_scanned(cap, made / "scan.moc.fits")
        plots.draw_maps(analysis, settings.answer, made, alpha=settings.alpha)
        if document["nuisances"] is not None:
            covariate_plots.draw(document["nuisances"], settings.answer, made)
        (made / "report.html").write_text(page, encoding="utf-8")
        (made / "audit.json").write_text(documents.to_json(document), encoding="utf-8")
        made.chmod(0o755)
        _replace(made, to)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _replace(made: Path, to: Path) -> None:
    _refuse_foreign(to)
    if not to.exists():
        made.rename(to)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{to.name}.old.", dir=to.parent))
    try:
        to.rename(old / "audit")
        try:
            made.rename(to)
        except OSError:
            (old / "audit").rename(to)
            raise
    finally:
        if to.exists():
            shutil.rmtree(old, ignore_errors=True)


def _refuse_foreign(to: Path) -> None:
    """Only an audit, or an empty folder, may be replaced."""
    above = next(parent for parent in to.absolute().parents if parent.exists())
    if not above.is_dir():
        raise InputError(f"{to}: {above} is not a folder; name a folder for the audit elsewhere")
    if to.is_symlink() or (to.exists() and not to.is_dir()):
        raise InputError(f"{to}: is not a folder; name a new folder for the audit")
    if not to.exists() or not any(to.iterdir()):
        return
    own = {"audit.json", "report.html", *products.FILES, *plots.FILES, *covariate_plots.FILES}
    strangers = sorted(e.name for e in to.iterdir() if e.name not in own or not e.is_file())
    if strangers:
        raise InputError(
            f"{to}: holds {strangers[0]!r}, which is no file of an audit; move it, or name a new "
            "folder for the audit"
        )
    try:
        previous = json.loads((to / "audit.json").read_text(encoding="utf-8"))
        known = {"schema_version", "verdict", "tests"} <= set(previous)
    except (OSError, ValueError, TypeError):
        known = False
    if not known:
        raise InputError(f"{to}: exists and is not an audit; name a new folder for the audit")
