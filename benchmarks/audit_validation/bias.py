"""The scale of the labelling bias, and the noise floor of the resolution bias."""

from __future__ import annotations

import numpy as np
from scipy import special

from benchmarks.audit_validation.row import Row, mean, share
from catalogs.audit.conditions.resolution import resolution_bias
from training.debias import estimate_theta

THETA, GALAXIES = 9.18, 97_600


def theta(skies: int) -> Row:
    """Galaxies as in the labels of Medina-Rosales & Cabrera-Vives 2021, theta recovered."""
    rng = np.random.default_rng(109)
    found, errors = [], []
    for _ in range(skies):
        x = rng.normal(size=(GALAXIES, 2))
        disk = rng.random(GALAXIES) < special.expit(0.3 + 1.5 * x[:, 0] - x[:, 1])
        alpha = np.exp(rng.normal(np.log(9), 0.6, GALAXIES))
        called = disk & (rng.random(GALAXIES) >= np.exp(-(alpha**2) / (2 * THETA**2)))
        result = estimate_theta(alpha, called.astype(np.int64), x)
        found.append(result.value)
        errors.append(result.error)
    off = np.array(found) - THETA
    checks = [
        mean("theta", found, at_least=THETA - 0.1, at_most=THETA + 0.1),
        share("within .10", np.abs(off) <= 0.1),
        share("within two of its errors", np.abs(off) <= 2 * np.array(errors)),
    ]
    note = f"standard deviation {np.std(found):.3f}, mean stated error {np.mean(errors):.3f}"
    return Row("theta", f"theta at N = {GALAXIES:,}", skies, checks, note)


def noise_floor(skies: int) -> Row:
    """Answers that do not depend on resolution; the rms of L over tables against the formula."""
    rng = np.random.default_rng(110)
    squared, left = [], []
    size = 58 * 8 * 8
    for _ in range(skies):
        y = rng.random(50 * size) < 0.5
        found = resolution_bias(
            y, rng.random(len(y)), rng.random((len(y), 3)), rng, depth=3, bootstraps=4
        )
        squared.append(found.value**2 + found.sd**2 * 3 / 4)
        left.append(found.denoised)
    formula = np.sqrt(2 * 0.25 * 7 / (8 * 58))
    rms = np.sqrt(np.array(squared))
    checks = [
        mean("L over the formula's .0868", rms / formula, at_least=0.95, at_most=1.05),
        mean("de-noised L", left),
    ]
    return Row("noise floor", "L's noise floor (n = 58, N_A = 8, 8 leaves)", skies, checks)
