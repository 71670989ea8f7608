"""The gate: a bundle is written only if it answers as its original does, everywhere it can run."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.errors import InputError, IntegrityError
from catalogs.progress import Reporter
from export.answers import Answers, stacked
from export.bundle import Bundle
from export.manifest import Comparison, Limits, Manifest, NotCompared
from export.parity.agreement import TileShift, by_tile, flips, positives, shift, tiles_of
from export.parity.views import CUTOUTS, Views, made
from export.providers import LONGEST_SAYING, PROVIDERS, ProviderName, available, why_not
from export.session import PRECISIONS_OF, Precision, Session

BATCHES = (1, 7, 64)
REPEATED = 64  # batches of each smaller size, of cutouts that were answered in batches of 64
AT_OWN_SIZE = 64  # cutouts that are compared where nothing is scaled, too
EXACT = Limits(difference=1e-4, confident_flips=0)
ROUNDED = Limits(flips=0.005, shift=0.004)

Pixels = NDArray[Any]
Answer = Callable[[Pixels], Sequence[Answers]]


@dataclass(frozen=True, slots=True)
class Gate:
    """On how many cutouts is compared, and past which differences nothing is written.

    Attributes
    ----------
    cutouts : int
    exact, rounded : Limits
        Of fp32; of int8, bf16 and fp16.
    """

    cutouts: int = CUTOUTS
    exact: Limits = EXACT
    rounded: Limits = ROUNDED

    def __post_init__(self) -> None:
        if self.cutouts < BATCHES[-1]:
            raise InputError(f"{self.cutouts} cutouts are too few to compare; take 64 or more")


@dataclass(frozen=True, slots=True)
class Reference:
    """What a bundle is compared with.

    Attributes
    ----------
    name : str
        In words, with its version.
    answer : callable
        Cutouts to one array (n,) per answer of the bundle, in its order.
    """

    name: str
    answer: Answer


@dataclass(slots=True)
class Proof:
    """What was compared and what was not, and where on the sky answers differ."""

    comparisons: list[Comparison] = field(default_factory=list)
    not_compared: list[NotCompared] = field(default_factory=list)
    tiles: list[tuple[Comparison, TileShift]] = field(default_factory=list)

    def table(self) -> bytes:
        """Return the tiles as CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            [
                "precision",
                "provider",
                "answer",
                "order",
                "tile",
                "cutouts",
                "flips",
                "fraction",
                "shift",
                "low",
                "high",
            ]
        )
        for of, tile in self.tiles:
            s = tile.shift
            writer.writerow(
                [
                    *(of.precision, of.provider, tile.answer, tile.order, tile.tile),
                    *(tile.cutouts, tile.flips),
                    *(f"{value:.6f}" for value in (s.reference, s.value, s.low, s.high)),
                ]
            )
        return text.getvalue().encode()


def prove(
    bundle: Bundle,
    reference: Reference,
    views: Views,
    gate: Gate,
    reporter: Reporter,
    precisions: Sequence[str] | None = None,
) -> Proof:
    """Compare a bundle with its original, in each precision that it has on each provider here.

    Parameters
    ----------
    bundle : Bundle
        As it lies on disk: what is compared is what a catalog is made with.
    reference : Reference
    views : Views
    gate : Gate
    reporter : Reporter
        Told of every stage's progress; thousands of cutouts take a network a minute.
    precisions : sequence of str, optional
        Those to compare; by default all.

    Raises
    ------
    IntegrityError
        Something differs by more than the gate allows.
    """
    expected = _answers(reference.answer, views, f"ask {reference.name}", reporter)
    others = [(cutouts, _stack(reference.answer(cutouts))) for cutouts in _others(bundle, views)]
    tiles, order = tiles_of(views.galaxies.ra[views.galaxy], views.galaxies.dec[views.galaxy])
    proof = Proof()
    for provider, precision in askable(bundle.manifest, precisions):
        session = _opened(bundle, provider, precision)
        if isinstance(session, NotCompared):
            reporter.event("not compared", **session.model_dump())
            proof.not_compared.append(session)
            continue
        found = _answers(ask(session), views, f"ask {provider} {precision}", reporter)
        pairs = [(expected, found), *_in_small_batches(session, views, expected)]
        exact = precision == "fp32"
        if exact:
            pairs += [(want, _stack(ask(session)(cutouts))) for cutouts, want in others]
        before, after = positives(expected, bundle.manifest), positives(found, bundle.manifest)
        sizes = {views.galaxies.cutouts.shape[1]}
        comparison = Comparison(
            precision=precision,
            provider=provider,
            reference=reference.name,
            source=views.galaxies.source,
            galaxies=views.distinct,
            cutouts=len(views),
            sizes=sorted(sizes | {c.shape[1] for c, _ in others} if exact else sizes),
            batches=list(BATCHES),
            difference=float(np.max([_largest(want, got) for want, got in pairs])),
            mean_difference=float(np.abs(found.astype(np.float64) - expected).mean()),
            questions=flips(expected, found, bundle.manifest),
            shifts={name: shift(before[name], after[name], views.galaxy) for name in before},
            limits=gate.exact if exact else gate.rounded,
            runtime=f"onnxruntime {session.runtime_version}",
        )
        reporter.event("compared", **facts(comparison))
        refuse(comparison)
        proof.comparisons.append(comparison)
        for name in before:
            rows = by_tile(
                before[name], after[name], views.galaxy, tiles[views.galaxy], order, name
            )
            proof.tiles += [(comparison, row) for row in rows]
    return proof


def refuse(found: Comparison) -> None:
    """Refuse what differs by more than its limits.

    Raises
    ------
    IntegrityError
        Names the first limit that is not kept.
    """
    limits, faults = found.limits, []
    if limits.difference is not None and not found.difference <= limits.difference:
        faults.append(f"a probability by {found.difference:.2g} (at most {limits.difference:g})")
    for name, flipped in found.questions.items():
        share = flipped.flips / max(flipped.cutouts, 1)
        if limits.confident_flips is not None and flipped.confident_flips > limits.confident_flips:
            faults.append(f"{flipped.confident_flips} labels of {name} that were not in doubt")
        if limits.flips is not None and share >= limits.flips:
            faults.append(f"{share:.2%} of the labels of {name} (less than {limits.flips:.2%})")
    for name, moved in found.shifts.items():
        if limits.shift is not None and moved.bound >= limits.shift:
            faults.append(
                f"the fraction of {name} by {moved.value:+.4f}, 95% {moved.low:+.4f} to "
                f"{moved.high:+.4f} (less than {limits.shift:g})"
            )
    if faults or not np.isfinite(found.difference):
        raise IntegrityError(
            f"{found.precision} on {found.provider} differs from {found.reference} on "
            f"{found.cutouts} cutouts of {found.source} in "
            f"{'; '.join(faults) or 'answers that are no numbers'}"
        )


def facts(found: Comparison) -> dict[str, object]:
    """Return a comparison in a line's worth of facts."""
    shifts = {name: [s.value, s.low, s.high] for name, s in found.shifts.items()}
    return {
        "precision": found.precision,
        "provider": found.provider,
        "reference": found.reference,
        "cutouts": found.cutouts,
        "largest_difference": found.difference,
        "flips": sum(question.flips for question in found.questions.values()),
        "shifts": shifts,
    }


def askable(
    manifest: Manifest, precisions: Sequence[str] | None = None
) -> list[tuple[ProviderName, Precision]]:
    """Return on which providers, here or elsewhere, a bundle can answer in which precisions.

    Parameters
    ----------
    manifest : Manifest
    precisions : sequence of str, optional
        Those that count; by default all.
    """
    files = manifest.precisions
    return [
        (provider, precision)
        for provider in PROVIDERS
        for precision in PRECISIONS_OF[provider]
        if (precisions is None or precision in precisions)
        and (precision != "int8" or precision in files)
    ]


def _opened(bundle: Bundle, provider: ProviderName, precision: Precision) -> Session | NotCompared:
    """Open a bundle, or say why this machine cannot; the CPU can always."""
    if provider != "cpu" and provider not in {found.name for found in available()}:
        because, _, _ = why_not(provider).partition(";")  # without the remedy
    else:
        try:
            return Session(bundle, provider, precision)
        except InputError as error:
            if provider == "cpu":
                raise
            # A build may offer a card that this machine does not have.
            because = str(error).replace(str(bundle.path), bundle.path.name)
    line = "".join(c if c.isprintable() else " " for c in because)[:LONGEST_SAYING]
    return NotCompared(provider=provider, precision=precision, because=line)


def own_fp32(bundle: Bundle) -> Reference:
    """Return a bundle's fp32 model on the CPU as what others are compared with."""
    session = Session(bundle)
    return Reference(f"the fp32 model, onnxruntime {session.runtime_version} cpu", ask(session))


def ask(session: Session) -> Answer:
    """Return what answers cutouts with a session's bundle."""
    manifest = session.bundle.manifest
    return lambda cutouts: list(stacked(session.run(cutouts), manifest).T)


def _answers(ask: Answer, views: Views, stage: str, reporter: Reporter) -> Answers:
    parts = []
    done = 0
    for cutouts in views.batches(BATCHES[-1]):
        parts.append(_stack(ask(cutouts)))
        done += len(cutouts)
        reporter.progress(stage, done, len(views), "cutouts")
    return np.concatenate(parts)


def _in_small_batches(
    session: Session, views: Views, expected: Answers
) -> Iterator[tuple[Answers, Answers]]:
    answer = ask(session)
    for size in BATCHES[:-1]:
        found = np.concatenate([_stack(answer(c)) for c in views.batches(size, REPEATED * size)])
        yield expected[: len(found)], found


def _others(bundle: Bundle, views: Views) -> list[Pixels]:
    """Return cutouts that fp32 is compared on besides: made ones, and real ones of its size."""
    contract = bundle.manifest.input
    side, size = views.galaxies.cutouts.shape[1], contract.trained_size
    found = [made(s, contract.channels, contract.dtype) for s in sorted({side, size})]
    if side > size:
        edge = (side - size) // 2
        inner = slice(edge, edge + size)
        found.append(np.ascontiguousarray(views.galaxies.cutouts[:AT_OWN_SIZE, inner, inner]))
    return found


def _stack(answers: Sequence[Answers]) -> Answers:
    return np.stack([np.asarray(a, dtype=np.float32) for a in answers], axis=1)


def _largest(expected: Answers, found: Answers) -> float:
    """Return the largest difference; NaN where an answer is no number."""
    return float(np.abs(found.astype(np.float64) - expected).max())
