"""The part of ``audit.json`` on observing conditions, and its sentences in plain English."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.audit.conditions import resolution
from catalogs.audit.conditions.explained import Effect, Explained
from catalogs.audit.conditions.nuisances import Gathered
from catalogs.audit.conditions.residuals import Judged
from catalogs.audit.reading.covariates import Covariates
from catalogs.audit.settings import AuditSettings
from catalogs.audit.uniformity import fractions
from catalogs.audit.uniformity.dipole import Dipole

FloatArray = NDArray[np.float64]

_TESTS = ("global", "dipole", "scan", "tiles")
MODEL = "logit p = b0 + sum of b z + c (z^2 - 1), z = (covariate - mean)/sd; quasi-binomial"


def build(
    gathered: Gathered, explained: Explained | None, covariates: Covariates, settings: AuditSettings
) -> dict[str, Any]:
    """Return the part on observing conditions.

    Parameters
    ----------
    gathered : Gathered
    explained : Explained or None
        None where nothing could be fitted.
    covariates : Covariates
        Names and sources.
    settings : AuditSettings
    """
    document: dict[str, Any] = {
        "model": MODEL,
        "rows": gathered.rows,
        "complete": gathered.complete,
        "missing": dict(zip(covariates.names, gathered.missing, strict=True)),
        "sources": dict(zip(covariates.names, covariates.sources, strict=True)),
        "not_fitted": gathered.reason,
        "covariates": [],
        "tests": [],
        "alarm": None,
        "resolution_bias": _resolution(gathered.sample, gathered, covariates, settings),
        "resolution_bias_compared": [
            {"catalog": path}
            | _resolution(
                np.column_stack([answers, gathered.sample[:, 1:]]), gathered, covariates, settings
            )
            for path, answers in zip(settings.compare, gathered.others.T, strict=True)
        ],
    }
    if explained is None:
        return document
    before, after = explained.before, explained.after
    return document | {
        "fraction": explained.fraction,
        "overdispersion": explained.dispersion[0],
        "degrees_of_freedom": explained.dispersion[1],
        "null_deviance": explained.null_deviance,
        "deviance_explained": explained.null_deviance - explained.deviance,
        "covariates": [_effect(effect) for effect in explained.effects],
        "tests": [
            {"name": name, "before": _test(before, name), "after": _test(after, name)}
            for name in _TESTS
        ],
        "alarm": {"before": before.alarm, "after": after.alarm, "alpha": settings.alpha},
        "detectable_dipole": None if after.detectable is None else after.detectable.mean,
    }


def _resolution(
    sample: FloatArray, gathered: Gathered, covariates: Covariates, settings: AuditSettings
) -> dict[str, Any]:
    """Return L, or why there is none: never a zero in its place."""
    names, intrinsic = covariates.names, settings.intrinsic
    try:
        found = resolution.of_sample(sample, names, intrinsic, settings.seed, gathered.weights)
    except resolution.TooFewError as error:
        return {"absent": str(error)}
    leaves = f"{found.leaves} leaves of {', '.join(intrinsic)}"
    method = f"CV18, {leaves}" if intrinsic else "CV14 (reconstructed), one leaf"
    method += "" if gathered.weights is None else ", weighted"
    return {"absent": None, "method": method} | asdict(found)


def _effect(effect: Effect) -> dict[str, Any]:
    covariate, curve = effect.covariate, effect.curve
    low, high = fractions.wilson(curve.k, curve.n)
    return {
        "name": covariate.name,
        "dropped": covariate.dropped,
        "mean": covariate.mean,
        "sd": covariate.sd,
        "clipped_to": [covariate.low, covariate.high],
        "shared_with_others": covariate.shared,
        "coefficient": effect.coefficient,
        "quadratic": effect.quadratic,
        "fraction_per_sd": effect.per_sd,
        "p": effect.p,
        "deviance_alone": effect.deviance_alone,
        "deviance_beyond_others": effect.deviance_beyond,
        "dipole_after_it_alone": effect.dipole_alone,
        "curve": {
            "x": curve.x.tolist(),
            "n": curve.n.tolist(),
            "fraction": (curve.k / curve.n).tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
            "fitted": curve.fitted.tolist(),
        },
    }


def _test(judged: Judged, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "statistic": judged.statistic[name],
        "p": judged.p[name],
        "p_holm": judged.p_holm[name],
    }
    if name == "global":
        found["effect"] = judged.sigma_x
    if name == "dipole" and judged.dipole is not None:
        found |= _dipole(judged.dipole) | {"interval": judged.amplitude_interval}
    if name == "scan" and judged.cap is not None:
        found |= dict(zip(("ra", "dec", "radius", "effect"), judged.cap, strict=True))
    return found


def _dipole(dipole: Dipole) -> dict[str, Any]:
    ra, dec = dipole.pole
    return {"effect": dipole.amplitude, "ra": ra, "dec": dec, "vector": dipole.vector.tolist()}


# ------------------------------------------------------------------------------- sentences


def lines(document: dict[str, Any]) -> list[str]:
    """Return what was found, a few plain lines; none where no covariates were asked for."""
    part = document["nuisances"]
    if part is None:
        return []
    if part["not_fitted"]:
        return [f"Observing conditions: not regressed on, {part['not_fitted']}{_lacking(part)}"]
    said = [f"Observing conditions: {headline(document)}"]
    said += [f"{c['name']:>7}: {effect_text(c)}" for c in part["covariates"]]
    return [*said, *_further(part)]


def beside_the_table(document: dict[str, Any]) -> list[str]:
    """Return what `lines` says, without the covariates that a table shows."""
    part = document["nuisances"]
    if part is None:
        return []
    if part["not_fitted"]:
        return [f"not regressed on: {part['not_fitted']}{_lacking(part)}"]
    return [headline(document), *_further(part)]


def _further(part: dict[str, Any]) -> list[str]:
    """Return the resolution bias, and the rows that the regression does without."""
    said = []
    for bias in (part["resolution_bias"], *part["resolution_bias_compared"]):
        whose = f" of {bias['catalog']}" if "catalog" in bias else ""
        if bias["absent"] is None:
            said.append(
                f"Resolution bias L{whose} = {bias['value']:.4f} ± {bias['sd']:.4f}, without its "
                f"noise ({bias['noise']:.4f}) {bias['denoised']:.4f}: {bias['method']}, "
                f"{bias['bins']} bins of {bias['per_bin']}"
            )
        elif "alpha" in part["sources"]:
            said.append(f"No resolution bias L{whose}: {bias['absent']}")
    if part["complete"] < part["rows"]:
        said.append(
            f"Without all covariates, and so not in the regression: "
            f"{part['rows'] - part['complete']:,} of {part['rows']:,} rows{_lacking(part)}"
        )
    return said


def _lacking(part: dict[str, Any]) -> str:
    lacking = [f"{number:,} lack {name}" for name, number in part["missing"].items() if number]
    return f" ({', '.join(lacking)})" if lacking else ""


def headline(document: dict[str, Any]) -> str:
    """Return what the tests say before and after, as one sentence."""
    part = document["nuisances"]
    alarm, names = part["alarm"], _names(part)
    before, after = (alarm[when] is not None and alarm[when] < alarm["alpha"] for when in _WHEN)
    dipole = next(test for test in part["tests"] if test["name"] == "dipole")
    amplitudes = ""
    if "effect" in dipole["before"] and "effect" in dipole["after"]:
        amplitudes = (
            f"; the dipole is {dipole['before']['effect']:.4f} before and "
            f"{dipole['after']['effect']:.4f} after"
        )
    if before and after:
        return f"the alarm stays after regression on {names}{amplitudes}."
    if before:
        return f"the alarm goes after regression on {names}{amplitudes}."
    if after:
        return f"regression on {names} raises an alarm that was not there{amplitudes}."
    return f"no alarm before or after regression on {names}{amplitudes}."


_WHEN = ("before", "after")


def _names(part: dict[str, Any]) -> str:
    return ", ".join(c["name"] for c in part["covariates"] if c["dropped"] is None)


def effect_text(covariate: dict[str, Any]) -> str:
    """Return what one covariate does, in words."""
    if covariate["dropped"] is not None:
        return f"left out: {covariate['dropped']}"
    value, error = covariate["coefficient"]
    p = covariate["p"]
    text = (
        f"{covariate['fraction_per_sd']:+.4f} of the fraction per sd (log odds {value:+.4f} ± "
        f"{error:.4f}), p {p:.2g}; deviance {covariate['deviance_alone']:.1f} alone, "
        f"{covariate['deviance_beyond_others']:.1f} beyond the others"
    )
    if covariate["dipole_after_it_alone"] is not None:
        text += f"; dipole {covariate['dipole_after_it_alone']:.4f} after it alone"
    if covariate["shared_with_others"] > 0.9:
        text += f"; {covariate['shared_with_others']:.1%} of it is a function of the others"
    return text
