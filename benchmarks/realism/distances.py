"""How far two samples are from each other, measure by measure and all together."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import ks_2samp, wasserstein_distance
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from training.metrics import Measured, roc_auc

RESAMPLES = 200


def distances(
    real: pd.DataFrame, simulated: pd.DataFrame, measures: list[str], seed: int = 0
) -> pd.DataFrame:
    """Compare two samples, one row per measure.

    ``ks`` is the Kolmogorov-Smirnov statistic, ``wasserstein`` the first Wasserstein distance in
    units of the real standard deviation. ``ks_chance`` and ``wasserstein_chance`` are the 95th
    percentiles of both when two samples of these sizes are drawn from the real one: nothing below
    them can be told from chance.

    Returns
    -------
    DataFrame
        Indexed by measure, with ``real``, ``simulated`` (medians) and the four distances, and
        the share of galaxies of each sample that could not be measured.
    """
    rng = np.random.default_rng(seed)
    rows = {}
    for name in measures:
        a, b = (table[name].to_numpy(np.float64) for table in (real, simulated))
        lost = [float(np.mean(~np.isfinite(values))) for values in (a, b)]
        a, b = a[np.isfinite(a)], b[np.isfinite(b)]
        ks, wasserstein = _apart(a, b, a.std())
        again = [
            _apart(rng.choice(a, len(a)), rng.choice(a, len(b)), a.std()) for _ in range(RESAMPLES)
        ]
        rows[name] = {
            "real": np.median(a),
            "simulated": np.median(b),
            "ks": ks,
            "ks_chance": np.quantile([pair[0] for pair in again], 0.95),
            "wasserstein": wasserstein,
            "wasserstein_chance": np.quantile([pair[1] for pair in again], 0.95),
            "real_lost": lost[0],
            "simulated_lost": lost[1],
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _apart(a: NDArray[np.float64], b: NDArray[np.float64], unit: float) -> tuple[float, float]:
    return float(ks_2samp(a, b, method="asymp").statistic), float(wasserstein_distance(a, b) / unit)


def told_apart(
    real: pd.DataFrame, simulated: pd.DataFrame, measures: list[str], seed: int = 0
) -> Measured:
    """Return the ROC AUC with which a random forest tells real from simulated by the measures.

    Cross-validated in five folds (a classifier two-sample test, Lopez-Paz & Oquab 2017): 0.5 is
    as good as real, 1 is seen through at once.
    """
    values = pd.concat([real[measures], simulated[measures]]).to_numpy(np.float64)
    target = np.repeat([0, 1], [len(real), len(simulated)])
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    forest = RandomForestClassifier(200, min_samples_leaf=0.02, random_state=seed)
    score = cross_val_predict(forest, values, target, cv=folds, method="predict_proba")[:, 1]
    return roc_auc(score, target)
