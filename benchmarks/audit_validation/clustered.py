"""Skies that are clustered by themselves: healpy's Gaussian fields with C_l ~ l^-1.2."""

from __future__ import annotations

import healpy
import numpy as np

from benchmarks.audit_validation.row import Row, share
from benchmarks.audit_validation.skies import FloatArray, Lab, P, lab

TOTAL = 1_000_000
_SIMULATIONS = 400
_SLOPE = 1.2


def field(bench: Lab, rms: float) -> FloatArray:
    """A field on the cells, with this rms between pixels of nside 16 over the whole sky."""
    l = np.arange(1, 128)  # noqa: E741  (its name everywhere)
    np.random.seed(bench.rng.integers(2**31))  # noqa: NPY002  (healpy draws from it)
    drawn = healpy.ud_grade(healpy.synfast(np.concatenate([[0.0], l**-_SLOPE]), 64), 16)
    cells = bench.battery.cells
    nested = healpy.reorder(drawn * (rms / drawn.std()), r2n=True)
    return np.asarray(nested[cells.tiles >> (2 * (cells.order - 4))])


def clustered(rms: float, skies: int, dipole: float = 0.0) -> Row:
    bench = lab(TOTAL, 106)
    judge = bench.battery.clustered(P * (1 - P))
    p, naive = [], []
    for axis in bench.axes(skies):
        mean = P + field(bench, rms) + dipole * bench.vectors() @ axis
        k = bench.skies(mean, 1)
        found = judge.judge(bench.battery.clustered_fractions(k[0]), _SIMULATIONS, bench.rng)
        p.append((found.dipole_p, found.scan_p))
        naive.append(bench.p_values(k)[0, 1])
    p = np.array(p)
    bounds = {} if dipole or not rms else {"at_most": 0.15}
    checks = [
        share("dipole, p_correlated < .05", p[:, 0] < 0.05, **bounds),
        share("scan, p_correlated < .05", p[:, 1] < 0.05),
        share("dipole, binomial p < .05", np.array(naive) < 0.05),
    ]
    also = f" and a dipole of {dipole:.1%}" if dipole else ""
    what = f"clustered field of {rms:.1%}" if rms else "no clustering"
    return Row(f"{what}{also}", f"{what}{also}", skies, checks)
