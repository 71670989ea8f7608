"""Whether a bundle is whole and answers: what a user asks before trusting one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from catalogs.errors import IntegrityError
from export.bundle import Bundle
from export.session import Session

ROUNDING = 1e-5


def check(path: Path) -> Bundle:
    """Open a bundle, verify every file, and run its graph at both sizes that it promises.

    Raises
    ------
    InputError
        There is no bundle at ``path``, or no ONNX Runtime is installed.
    IntegrityError
        A file is not what was written, or the graph does not run or does not answer with
        probabilities that sum to one.
    """
    bundle = Bundle.open(path)
    session = Session(bundle)
    contract = bundle.manifest.input
    random = np.random.default_rng(0)
    for size in sorted({contract.crop, contract.trained_size}):
        cutouts = random.integers(0, 256, (3, size, size, contract.channels), dtype=np.uint8)
        cutouts[0] = 0
        try:
            answers = session.run(cutouts)
        except Exception as error:  # ONNX Runtime's exceptions share no public base
            raise IntegrityError(
                f"{path}: the graph does not run on {size} px cutouts: {error}".splitlines()[0]
            ) from error
        values = np.stack(list(answers.values()))
        good = values.shape == (len(answers), 3) and np.all((values >= 0) & (values <= 1))
        if not good or np.abs(values.sum(axis=0) - 1).max() > ROUNDING:
            raise IntegrityError(
                f"{path}: the answers on {size} px cutouts are no probabilities that sum to one; "
                "export it again"
            )
    return bundle
