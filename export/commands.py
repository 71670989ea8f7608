"""The command ``skytally export``: which way a source becomes a bundle, and what is said of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from catalogs.errors import InputError
from catalogs.progress import Reporter
from export import check as checking
from export.bundle import Bundle
from export.check import Checked
from export.foreign import export_foreign, original_of
from export.manifest import Comparison
from export.parity.gate import Gate, Reference
from export.parity.told import told_apart, told_few
from export.parity.views import CUTOUTS

FOREIGN = ".onnx"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """See ``skytally export --help``."""

    contract: Path | None = None
    precisions: tuple[str, ...] = ("fp32",)
    calibrate: Path | None = None
    survey: Path | None = None
    cutouts: int = CUTOUTS
    replace: bool = False


def export(source: Path, to: Path, options: ExportOptions, reporter: Reporter) -> Bundle:
    """Make a bundle of a run, of a foreign model, or of a bundle and an int8 model.

    Raises
    ------
    InputError
        The options do not go together, or something is not there.
    IntegrityError
        The bundle would not answer as its source does; none is written.
    """
    if _is_foreign(source, options.contract):
        return _export_foreign(source, to, options, reporter)
    _need_torch()
    from export.convert import export as convert

    return convert(
        source,
        to,
        reporter,
        precisions=options.precisions,
        calibrate=options.calibrate,
        survey=options.survey,
        gate=Gate(options.cutouts),
        replace=options.replace,
    )


def _export_foreign(source: Path, to: Path, options: ExportOptions, reporter: Reporter) -> Bundle:
    if options.contract is None:
        raise InputError(f"{source} has no contract")
    if options.precisions != ("fp32",) or options.calibrate is not None:
        raise InputError(
            f"{source} becomes a bundle of fp32 first; then add int8 to that: `skytally export "
            f"{to} --to NEW.bundle --precision fp32,int8 --calibrate survey.zarr`"
        )
    return export_foreign(
        source,
        options.contract,
        to,
        reporter,
        survey=options.survey,
        gate=Gate(options.cutouts),
        replace=options.replace,
    )


def check(
    path: Path,
    source: Path | None,
    contract: Path | None,
    survey: Path | None,
    cutouts: int,
    reporter: Reporter,
) -> Checked:
    """Verify a bundle, and compare it again with its source where that is given."""
    original = None if source is None else partial(_original, source, contract)
    return checking.check(path, reporter, original=original, survey=survey, gate=Gate(cutouts))


def _original(source: Path, contract: Path | None, bundle: Bundle) -> Reference:
    if _is_foreign(source, contract) and contract is not None:
        return original_of(source, contract, bundle)
    _need_torch()
    from export.convert import original

    found, answers = original(source)
    if list(answers) != bundle.manifest.answers:
        raise InputError(f"{source} answers other questions than {bundle.path}")
    return found


def told(to: Path, bundle: Bundle) -> tuple[list[str], dict[str, Any]]:
    """Return what to say of a bundle that was made: lines, and facts."""
    lines = [f"{to}: exported, sha256 {bundle.sha256[:16]}"]
    left_out = told_apart(bundle.manifest.not_compared)
    few = told_few(bundle.manifest.parity)
    lines += _lines(bundle.manifest.parity, few, left_out)
    return lines, _facts(to, bundle, bundle.manifest.parity, few, left_out)


def told_check(path: Path, checked: Checked) -> tuple[list[str], dict[str, Any]]:
    """Return what to say of a bundle that was checked: lines, and facts."""
    bundle, left_out = checked.bundle, checked.not_compared
    lines = [f"{path}: every file is as it was made, and it answers, sha256 {bundle.sha256[:16]}"]
    # Without cutouts to compare again, what was compared when it was made is all that there is.
    few = told_few(checked.compared or bundle.manifest.parity)
    lines += _lines(checked.compared, few, left_out)
    return lines, _facts(path, bundle, checked.compared, few, left_out)


def _lines(
    compared: Sequence[Comparison], few: Sequence[str], left_out: Sequence[str]
) -> list[str]:
    lines = [_line(found) for found in compared]
    lines += [f"  warning: {what}" for what in few]
    return lines + [f"  not compared: {what}" for what in left_out]


def _facts(
    path: Path,
    bundle: Bundle,
    compared: Sequence[Comparison],
    few: Sequence[str],
    left_out: Sequence[str],
) -> dict[str, Any]:
    return {
        "bundle": str(path),
        "sha256": bundle.sha256,
        "parity": [found.model_dump(mode="json") for found in compared],
        "warnings": list(few),
        "not_compared": list(left_out),
    }


def _line(found: Comparison) -> str:
    flips = sum(question.flips for question in found.questions.values())
    shifts = "".join(
        f", fraction of {name} {s.value:+.4f} (95% {s.low:+.4f} to {s.high:+.4f})"
        for name, s in found.shifts.items()
    )
    return (
        f"  {found.precision} on {found.provider} against {found.reference}: {found.cutouts} "
        f"cutouts, largest difference {found.difference:.2g}, {flips} labels differ{shifts}"
    )


def _is_foreign(source: Path, contract: Path | None) -> bool:
    if (source.suffix == FOREIGN) != (contract is not None):
        raise InputError(
            f"{source}: a foreign model and its contract go together: "
            "`skytally export model.onnx --contract contract.toml --to NAME.bundle`"
        )
    return contract is not None


def _need_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise InputError("torch is not installed; pip install 'skytally[train]'")
