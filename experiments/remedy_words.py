"""What the tables of remedies mean, and how it is done, in words."""

from __future__ import annotations

SUMMARY = {
    "remedy": "what was done against it",
    "splits": "pairs of networks",
    "shift": "fraction called spiral by the first training minus the other's, the same galaxies, "
    "mean of both regions and over splits",
    "shift_sd": "its standard deviation over splits",
    "shift_p": "that it is nothing, the split being the unit (Nadeau & Bengio 2003)",
    "anisotropy": "half of what this is in the first region more than in the second: what a map of "
    "either network shows and the sky has not",
    "anisotropy_sd": "its standard deviation over splits",
    "anisotropy_p": "that it is nothing, likewise",
    "accuracy": "balanced accuracy on both regions, mean over both trainings and splits",
    "accuracy_sd": "its standard deviation over splits",
    "shift_left": "shift over that without a remedy",
    "anisotropy_left": "the same of the anisotropy",
}
PAIRS = {
    "remedy": "what was done against it",
    "region": "whose test galaxies are answered",
    "split": "of the sky",
    "difference": "fraction called spiral by one training minus the other's",
    "fraction": "of spirals by the training named first in matrices",
    "fraction_swapped": "by the other one",
    "truth": "by the labels",
}
MATRICES = {
    "remedy": "what was done against it",
    "training": "regions that spirals/ellipticals were learnt from",
    "region": "whose test galaxies are answered",
    "split": "of the sky",
    "ee": "ellipticals called elliptical",
    "es": "ellipticals called spiral",
    "se": "spirals called elliptical",
    "ss": "spirals called spiral",
}
METHOD = (
    (
        "Both trainings of a split answer the same test galaxies, in tiles of both regions from "
        "which neither learnt: what truly is there is the same for both, so the difference is the "
        "classifiers': its mean is the shift, its difference between the regions the anisotropy. "
        "Without a remedy images are turned, mirrored and shifted only."
    ),
    (
        "labels: a random sample of each region's test galaxies corrects the fraction "
        "(prediction-powered), for the same answers; single galaxies keep theirs, so it has no "
        "accuracy. The sample is small, and its noise is shared by both trainings."
    ),
    (
        "A remedy that lowers the accuracy may lower the difference by that alone. Sky-balanced "
        "sampling evens out the tiles of a class, not what goes with the class in all of them."
    ),
    (
        "Reversal makes both regions alike in all that the features say, a true difference in the "
        "mix of classes included: where there is one, it hides it."
    ),
)
