"""Whether a split leaves every region galaxies enough: known before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from experiments.swap_plan import Settings, Split, blocks, regions_of
from training.labels import read_labels
from training.run import FEWEST as FEWEST_LEARNT
from training.splits import ROLE_NAMES, TEST, TRAIN, sky_blocked

FEWEST = 20  # test galaxies of a class in a region
NAMED = 3
SAID = {TRAIN: "training"}


def refuse_thin(
    survey: Survey, settings: Settings, splits: Iterable[Split], truth: str | None = None
) -> None:
    """Refuse splits in which a region lacks galaxies of a class.

    Every region lends either class to some training, and is answered by all of them.

    Parameters
    ----------
    survey : Survey
    settings : Settings
    splits : iterable of Split
    truth : str, optional
        Column of the classes by which test galaxies are judged, if not by their labels.

    Raises
    ------
    InputError
        Names the first of them: which region, role and class, and how many there are.
    """
    labels = read_labels(survey, settings.train)
    inside = {
        name: region.contains(labels.ra, labels.dec)
        for name, region in regions_of(settings).items()
    }
    right = labels.classes if truth is None else survey.column(truth).astype(str)[labels.rows]
    thin = []
    for split in splits:
        roles = sky_blocked(labels.ra, labels.dec, blocks(settings, split))
        for name, here in inside.items():
            for kind in (settings.spiral, settings.elliptical):
                for role, said in ROLE_NAMES.items():
                    classes = right if role == TEST else labels.classes
                    count = int(np.sum(roles[here & (classes == kind)] == role))
                    fewest = FEWEST if role == TEST else FEWEST_LEARNT
                    if count < fewest:
                        thin.append(
                            f"region {name} has {count} {SAID.get(role, said)} galaxies labelled "
                            f"{kind!r} in {split.name}, {fewest} are needed"
                        )
    if thin:
        more = f"; and {len(thin) - NAMED} more" if len(thin) > NAMED else ""
        raise InputError(
            f"{'; '.join(thin[:NAMED])}{more}: choose larger regions, a finer order, or another "
            "share that tests ([train.split] test); nothing was trained"
        )
