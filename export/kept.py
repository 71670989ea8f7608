"""What a training run kept for its export, and which galaxies of a survey it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts.store import Survey
from catalogs.errors import IntegrityError
from export.parity.views import Galaxies
from training import checkpoint
from training.checkpoint import Run
from training.splits import TRAIN, sky_blocked

if TYPE_CHECKING:
    from torch import Tensor

REMEDY = "train again, or compare on --survey"


def kept_examples(run: Run) -> Galaxies:
    """Return the held-out cutouts that a run kept, and where they are.

    Raises
    ------
    IntegrityError
        The file is not what a training on this framing writes.
    """
    file, side = run.path / checkpoint.EXAMPLES, run.data.crop
    kept = checkpoint.read_tensors(file)
    if "cutouts" not in kept or len(kept["cutouts"].shape) == 0:
        raise IntegrityError(f"{file} has no cutouts; {REMEDY}")
    count = len(kept["cutouts"])
    expected = {"cutouts": f"torch.uint8 ({count}, {side}, {side}, 3)"}
    if set(kept) != {"cutouts"}:  # runs of old kept no places
        expected |= dict.fromkeys(("ra", "dec"), f"torch.float64 ({count},)")
    found = {name: _kind(tensor) for name, tensor in kept.items()}
    if found != expected or count == 0:
        raise IntegrityError(f"{file} has {found!s:.300}; {expected} were expected: {REMEDY}")
    nowhere = np.full(count, np.nan)
    ra, dec = (kept[name].numpy() if name in kept else nowhere for name in ("ra", "dec"))
    if (np.abs(dec) > 90).any() or (np.abs(ra) > 360).any():
        raise IntegrityError(f"{file} has places that are not on the sky; {REMEDY}")
    return Galaxies(kept["cutouts"].numpy(), ra, dec, run.data.survey)


def _kind(tensor: Tensor) -> str:
    """Return data type and shape, in words: torch is for `export.convert` to load."""
    return f"{tensor.dtype} {tuple(tensor.shape)}"


def held_out(survey: Path, run: Run) -> NDArray[np.bool_]:
    """Return which rows of a survey lie on sky from which the run was not trained."""
    store = Survey.open(survey)
    roles = sky_blocked(store.column("ra"), store.column("dec"), run.settings.split)
    return np.asarray(roles != TRAIN, dtype=np.bool_)


def training_sky(run: Run) -> bytes:
    """Return the map of the sky from which a run was trained, a MOC in FITS.

    Raises
    ------
    IntegrityError
        It cannot be read.
    """
    file = run.path / checkpoint.SKY
    try:
        return file.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{file} cannot be read ({error.strerror}); train again") from None
