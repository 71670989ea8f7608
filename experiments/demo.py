"""The main job on a simulated sky: observe it twice, annotate both surveys, audit both.

The galaxies are the same and their true spiral fraction is isotropic. One survey sees them under
even conditions, the other under conditions that vary over the sky. Whatever the second audit
finds, the classifier put it there.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from catalogs.annotated import names
from catalogs.audit.run import audit
from catalogs.audit.settings import AuditSettings
from catalogs.errors import InputError
from catalogs.progress import Reporter, Silent
from catalogs.synthetic.conditions import ConditionsName
from catalogs.synthetic.simulate import SimulationSettings
from engine.run import AnnotateSettings, annotate
from engine.simulate import simulate
from engine.summary import AnnotateResult
from export.bundle import shipped
from export.manifest import SKY

SURVEYS: tuple[ConditionsName, ...] = ("even", "uneven")


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What the demonstration does.

    Attributes
    ----------
    galaxies : int
        Galaxies of the simulated sky, each observed twice.
    seed : int
        Of the sky.
    workers : int
        Processes that simulate and annotate.
    effect : float
        Dipole amplitude that must be detectable for the verdict ``uniform``; 20,000 galaxies
        can show .05, not the .02 that is asked of a large survey.
    alpha : float
        Level of the alarm. At the usual .05 one even sky in 22 is called anisotropic by chance
        (measured at this size); a first look at skytally should not be one of these.
    model : Path, optional
        A model bundle; the one that ships with skytally by default.
    """

    galaxies: int = 20_000
    seed: int = 1
    workers: int = 2
    effect: float = 0.05
    alpha: float = 0.01
    model: Path | None = None

    def simulation(self, conditions: ConditionsName) -> SimulationSettings:
        """Return the settings of one survey's simulation."""
        return SimulationSettings(
            galaxies=self.galaxies, seed=self.seed, conditions=conditions, workers=self.workers
        )


@dataclass(frozen=True, slots=True)
class SurveyOutcome:
    """One survey, from the sky to its verdict; seconds are 0 for what was complete before.

    Attributes
    ----------
    conditions : str
        ``even`` or ``uneven``.
    verdict : str
        Of the audit.
    fraction : float
        Spirals among the answers.
    alarm_p : float, optional
        The audit's adjusted p value.
    dipole, dipole_p, detectable : float, optional
        Amplitude found, its p value, and the amplitude detectable with 80% power.
    simulate_seconds, annotate_seconds, audit_seconds : float
        Wall-clock time of the stages.
    placement : str
        Workers, decoder, provider and precision that annotated it.
    report : str
        Where the report lies.
    """

    conditions: str
    verdict: str
    fraction: float
    alarm_p: float | None
    dipole: float | None
    dipole_p: float | None
    detectable: float | None
    simulate_seconds: float
    annotate_seconds: float
    audit_seconds: float
    placement: str
    report: str


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Both surveys, and the time of the whole demonstration."""

    galaxies: int
    seed: int
    effect: float
    alpha: float
    surveys: tuple[SurveyOutcome, ...]
    seconds: float

    @property
    def verdicts(self) -> dict[str, str]:
        """Verdict by conditions."""
        return {outcome.conditions: outcome.verdict for outcome in self.surveys}


def run_demo(
    out: Path, settings: DemoSettings | None = None, reporter: Reporter | None = None
) -> DemoResult:
    """Simulate, annotate and audit both surveys; what is complete on disk is kept.

    Parameters
    ----------
    out : Path
        Folder of the surveys (``even.zarr``), catalogs (``even``) and audits (``even.audit``).
    settings : DemoSettings, optional
    reporter : Reporter, optional

    Raises
    ------
    InputError
        ``out`` holds a demonstration with other settings, or cannot be made.
    """
    settings = settings or DemoSettings()
    reporter = reporter or Silent()
    start = time.perf_counter()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be made: {error.strerror}; name another folder") from error
    surveys = tuple(_one_survey(out, name, settings, reporter) for name in SURVEYS)
    return DemoResult(
        galaxies=settings.galaxies,
        seed=settings.seed,
        effect=settings.effect,
        alpha=settings.alpha,
        surveys=surveys,
        seconds=time.perf_counter() - start,
    )


def _one_survey(
    out: Path, name: ConditionsName, settings: DemoSettings, reporter: Reporter
) -> SurveyOutcome:
    simulated = simulate(out / f"{name}.zarr", settings.simulation(name), reporter)
    annotated = annotate(
        simulated.path,
        out / name,
        settings.model,
        AnnotateSettings(workers=settings.workers),
        reporter,
    )
    if not annotated.annotated:
        reporter.event("annotation complete already", path=str(out / name), rows=annotated.rows)
    folder = out / f"{name}.audit"
    trained = (settings.model or shipped()) / SKY
    asked = AuditSettings(
        effect=settings.effect,
        alpha=settings.alpha,
        cutouts=str(simulated.path),
        training_sky=str(trained) if trained.is_file() else None,
    )
    start = time.perf_counter()
    audited = not _audit_is_current(folder, asked, annotated)
    if audited:
        audit(out / name, folder, asked, reporter)
    else:
        reporter.event("audit complete already", path=str(folder))
    seconds = time.perf_counter() - start
    document = json.loads((folder / "audit.json").read_text())
    dipole = next(test for test in document["tests"] if test["name"] == "dipole")
    detectable = document["detectable"]["dipole"]
    return SurveyOutcome(
        conditions=name,
        verdict=document["verdict"],
        fraction=document["sky"]["fraction"],
        alarm_p=document["alarm"]["p"],
        dipole=dipole["effect"],
        dipole_p=dipole["p"],
        detectable=detectable["mean"] if detectable else None,
        simulate_seconds=simulated.seconds,
        annotate_seconds=annotated.seconds if annotated.annotated else 0.0,
        audit_seconds=seconds if audited else 0.0,
        placement=str(annotated.placement),
        report=str(folder / "report.html"),
    )


def _audit_is_current(folder: Path, asked: AuditSettings, catalog: AnnotateResult) -> bool:
    """Say whether an audit of this very catalog, with these settings, is on disk."""
    file = folder / "audit.json"
    if catalog.annotated or not file.is_file():
        return False
    if file.stat().st_mtime < (Path(catalog.labels_at) / names.PROPERTIES).stat().st_mtime:
        return False
    try:
        document = json.loads(file.read_text())
        found = (
            document["settings"],
            document["provenance"]["source"],
            document["counts"]["rows"],
        )
    except (ValueError, KeyError, TypeError):
        return False
    wanted = json.loads(json.dumps(asdict(asked)))
    return found == (wanted, str(catalog.labels_at), catalog.rows)


def demo_lines(result: DemoResult) -> list[str]:
    """Return the two verdicts, rates and times as a table for a terminal."""
    rows = [("", [outcome.conditions for outcome in result.surveys])]
    rows += [
        (title, [show(outcome) for outcome in result.surveys])
        for title, show in (
            ("verdict", lambda o: o.verdict),
            ("spirals among the answers", lambda o: f"{o.fraction:.3f}"),
            ("p of the alarm", lambda o: _number(o.alarm_p, ".2g")),
            ("dipole found", lambda o: _number(o.dipole, ".3f")),
            ("dipole detectable (80% power)", lambda o: _number(o.detectable, ".3f")),
            ("simulate", lambda o: _stage(result.galaxies, o.simulate_seconds)),
            ("annotate", lambda o: _stage(result.galaxies, o.annotate_seconds)),
            ("audit", lambda o: _stage(None, o.audit_seconds)),
        )
    ]
    width = max(len(title) for title, _ in rows)
    column = max(len(cell) for _, cells in rows for cell in cells)
    table = [
        f"{title:<{width}}  " + "  ".join(f"{cell:>{column}}" for cell in cells)
        for title, cells in rows
    ]
    opening = (
        f"The same {result.galaxies} simulated galaxies (seed {result.seed}), isotropic in truth, "
        "under two sets of observing conditions:"
    )
    closing = (
        f"'anisotropic' needs an alarm below {result.alpha:g}, 'uniform' a detectable dipole of "
        f"{result.effect:g} or less. All in {result.seconds:.0f} s."
    )
    return [
        opening,
        "",
        *(line.rstrip() for line in table),
        "",
        closing,
        f"Annotated with {result.surveys[0].placement}.",
        *(f"Report, {outcome.conditions}: {outcome.report}" for outcome in result.surveys),
    ]


def _number(value: float | None, form: str) -> str:
    return "none" if value is None else format(value, form)


def _stage(galaxies: int | None, seconds: float) -> str:
    if seconds == 0:
        return "complete already"
    return f"{seconds:.1f} s" + (f", {galaxies / seconds:.0f}/s" if galaxies else "")
