"""Manifests of schema version 1, read as what they would be today.

Version 1 had two classes, one comparison with PyTorch, and of an int8 model one with fp32; the
shift of the spiral fraction was not measured, so it is not there.
"""

from __future__ import annotations

from typing import Any

OLDEST = 1


def upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest of version 1 as one of version 2, neither of them checked yet.

    Raises
    ------
    KeyError, TypeError, AttributeError
        It is no manifest of version 1.
    """
    old = dict(values)
    parity, variants = old.pop("parity"), old.pop("variants", {})
    survey = old["provenance"]["survey"]
    exact = {"difference": parity["tolerance"], "confident_flips": 0}
    comparisons = [_comparison("fp32", "torch", survey, parity, parity["sizes"], exact)]
    comparisons += [
        _comparison(name, "fp32", v["survey"], v, [], {"flips": v["allowed_share"]})
        for name, v in variants.items()
    ]
    return old | {
        "schema_version": 2,
        "parity": comparisons,
        "variants": {
            name: {"survey": v["survey"], "calibrated_on": v["calibrated_on"]}
            for name, v in variants.items()
        },
    }


def _comparison(
    precision: str,
    reference: str,
    source: str,
    old: dict[str, Any],
    sizes: list[int],
    limits: dict[str, Any],
) -> dict[str, Any]:
    images, flips = old["images"], old["label_differences"]
    return {
        "precision": precision,
        "provider": "cpu",
        "reference": reference,
        "source": source,
        "galaxies": None,
        "cutouts": images,
        "sizes": sizes,
        "batches": [32],
        "difference": old["max_abs_difference"],
        "mean_difference": old.get("mean_abs_difference"),
        "questions": {"label": {"cutouts": images, "flips": flips, "confident_flips": flips}},
        "shifts": {},
        "limits": limits,
        "runtime": old["runtime"],
    }
