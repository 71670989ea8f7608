"""Whether a bundle is whole and answers: what a user asks before trusting one."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from catalogs.errors import InputError, IntegrityError
from catalogs.progress import Reporter, Silent
from export.answers import stacked
from export.bundle import Bundle
from export.manifest import Comparison, Foreign, Manifest, NotCompared
from export.parity.gate import Gate, Reference, askable, own_fp32, prove
from export.parity.told import told_apart
from export.parity.views import Views, made, of_survey
from export.session import Session

ROUNDING = 1e-5
FEW = 3

# Makes, of the run or of the foreign model that is given, what the bundle is compared with.
Original = Callable[[Bundle], Reference]


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found of a bundle.

    Attributes
    ----------
    bundle : Bundle
        Every file of it is what was written, and its graphs answer.
    compared : list of Comparison
        What was compared again.
    not_compared : list of str
        What was not, and what it would take; a sentence each.
    """

    bundle: Bundle
    compared: list[Comparison] = field(default_factory=list)
    not_compared: list[str] = field(default_factory=list)


def check(
    path: Path,
    reporter: Reporter | None = None,
    *,
    original: Original | None = None,
    survey: Path | None = None,
    gate: Gate | None = None,
) -> Checked:
    """Open a bundle, verify every file, run its graphs, and compare again what can be compared.

    Parameters
    ----------
    path : Path
    reporter : Reporter, optional
    original : callable, optional
        What the bundle was made from. Without it, other precisions and providers are compared
        with the bundle's own fp32 model on the CPU.
    survey : Path, optional
        Whose cutouts are looked at; without it nothing is compared.
    gate : Gate, optional

    Raises
    ------
    InputError
        There is no bundle at ``path``, or no ONNX Runtime is installed.
    IntegrityError
        A file is not what was written; a graph does not run, or does not answer with
        probabilities that sum to one; or answers differ by more than the limits.
    """
    reporter, gate = reporter or Silent(), gate or Gate()
    bundle = Bundle.open(path)
    for precision in bundle.manifest.precisions:
        _answers(bundle, Session(bundle, precision=precision))
    found = Checked(bundle)
    if survey is None:
        found.not_compared.append("answers on real cutouts: give --survey survey.zarr")
    if original is None:
        found.not_compared.append(_why_not(bundle))
    if any(not comparison.shifts for comparison in bundle.manifest.parity):
        found.not_compared.append(
            "the shift of a fraction, when it was made: its manifest is of schema version 1, which "
            "did not measure it"
        )
    if survey is None:
        found.not_compared.extend(_when_it_was_made(bundle.manifest))
        return found
    galaxies = of_survey(survey, bundle.manifest.input.crop, gate.cutouts)
    reference = own_fp32(bundle) if original is None else original(bundle)
    views = Views(galaxies, gate.cutouts)
    proof = prove(bundle, reference, views, gate, reporter)
    found.compared.extend(proof.comparisons)
    found.not_compared.extend(told_apart(proof.not_compared))
    return found


def _when_it_was_made(manifest: Manifest) -> list[str]:
    """Return what the manifest's comparisons leave out, with the reason where it is recorded."""
    because = {(one.provider, one.precision): one for one in manifest.not_compared}
    done = {(one.provider, one.precision) for one in manifest.parity}
    left_out = [
        because.get(
            (provider, precision),
            NotCompared(provider=provider, precision=precision, because="no reason is recorded"),
        )
        for provider, precision in askable(manifest)
        if (provider, precision) not in done
    ]
    return [f"when it was made, {what}" for what in told_apart(left_out)]


def _why_not(bundle: Bundle) -> str:
    if isinstance(bundle.manifest.provenance, Foreign):
        return (
            f"the original {bundle.manifest.provenance.model}: give it with its contract, "
            f"`skytally export {bundle.manifest.provenance.model} --contract contract.toml --check "
            f"{bundle.path}`"
        )
    if importlib.util.find_spec("torch") is None:
        return (
            "the network in PyTorch: torch is not installed here; pip install 'skytally[train]', "
            f"and give its run, `skytally export NAME.run --check {bundle.path}`"
        )
    return (
        "the network in PyTorch: its run is not given; "
        f"`skytally export NAME.run --check {bundle.path}`"
    )


def _answers(bundle: Bundle, session: Session) -> None:
    """Run a graph at both sizes that the bundle promises."""
    contract, manifest = bundle.manifest.input, bundle.manifest
    for size in sorted({contract.crop, contract.trained_size}):
        cutouts = made(size, contract.channels, contract.dtype)[:FEW]
        cutouts[0] = 0
        try:
            answers = stacked(session.run(cutouts), manifest).astype(np.float64)
        except InputError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions share no public base
            raise IntegrityError(
                f"{bundle.path}: the graph does not run on {size} px cutouts: {error}".splitlines()[
                    0
                ]
            ) from error
        good = bool(np.all((answers >= 0) & (answers <= 1)))
        for question in manifest.questions:
            total = answers[:, question.at].sum(axis=1)
            # A tree's question sums to the share of volunteers that come to it.
            least = 1 - ROUNDING if manifest.tree is None else 0
            good &= bool(np.all((total >= least) & (total <= 1 + ROUNDING)))
        if not good:
            raise IntegrityError(
                f"{bundle.path}: the answers on {size} px cutouts are no probabilities that sum to "
                "one; export it again"
            )
