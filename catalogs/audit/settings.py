"""What an audit is asked to do."""

from __future__ import annotations

import math
from dataclasses import dataclass

from catalogs.audit.region import parse_part
from catalogs.errors import InputError

FEWEST_LABELS = 100  # below, neither a fraction is corrected nor a cause named
SMALLEST_ALPHA = 1e-4
_DECIDED = 8.0  # simulations times alpha: the least p, of four tests after Holm, is half of alpha
TESTING_ORDER = 3
FINEST_ORDER = 5
LARGEST_ORDER = 6
MEDIAN_N = 200
MOST_COVARIATES = 20
MOST_OTHERS = 50
MOST_EXPERIMENTS = 10
DEFAULT_ANSWER = "spiral"
EVERY_ANSWER = "all"
NO_SHAPE = (
    *("merger", "mergers", "merging", "unknown", "uncertain", "unsure", "undetermined", "unclear"),
    *("dont_know", "don't know", "dont know", "artifact", "artefact", "star", "star_or_artifact"),
)  # in any case
# What software writes for no value, as it writes it: "none" may be a class, "None" is not.
NO_VALUE = ("", "nan", "NaN", "None", "null", "NULL", "N/A", "n/a", "NA", "<NA>", "NaT", "-", "--")
DEFAULT_RADII = (5.0, 10.0, 15.0, 20.0, 30.0, 90.0)  # degrees


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Options of an audit; the defaults are those of the published procedure.

    Parameters
    ----------
    answer : str
        The answer whose fraction is audited: a value of the label column (several joined by
        ``|`` count together), or the name after ``p_``. In a column of numbers or booleans 0 or
        ``false`` counts the zeros; 1, ``true``, the column's name or the default the ones.
    among : str, optional
        The answers that make up the denominator, joined by ``|``, or ``all``. By default all that a
        column of labels says but those that tell no shape: mergers, unknown, artefacts
        (`NO_SHAPE`), which are left out and counted.
    label : str, optional
        Answer column; found by name when it is unambiguous.
    ra, dec : str, optional
        Position columns; ``ra`` and ``dec`` in any case by default.
    probabilities : bool
        Sum probabilities instead of counting hard labels.
    weights : str, optional
        Column of positive weights: for how many objects a row stands. Fractions, rates and
        differences are weighted means; a row counts as w/u answers, u = sum w^2/sum w over the
        whole table, so that errors are those of the effective number. Rows without are left out.
    order : int, optional
        HEALPix order of the tests, 0 to 6; by default the largest up to 3 (nside 8) whose
        occupied tiles hold 200 answers in the median.
    min_n : int
        Tiles with fewer answers are not tested.
    alpha : float
        Level of the alarm and of the false discovery rate, .0001 at least.
    min_difference : float
        Smallest difference of a tile from the rest that is flagged.
    effect : float
        Dipole amplitude that must be detectable for the verdict ``uniform``.
    radii : tuple of float
        Radii of the scanned caps, degrees.
    simulations : int
        Permuted skies behind the Monte Carlo p values.
    seed : int
        Seed of the permutations.
    keep_duplicates : bool
        Count every row of a position that occurs more than once; by default the first only.
    covariates : tuple of str
        Observing conditions whose part in the fraction is estimated: columns, or ``NAME=PATH`` of
        HEALPix maps in FITS (``NAME=PATH:G`` where these do not say their coordinates).
    intrinsic : tuple of str
        Those of them that are properties of the galaxies, at equal values of which the resolution
        bias compares well and badly resolved ones.
    truth : str, optional
        Labels of some objects, drawn without a look at the answers: a column of the table, or
        ``TABLE[:COLUMN]``, matched by id, else by position.
    labels_blind : bool
        A declaration by who made the labels: within each place that is compared the labelled
        objects were drawn at random, whatever their answer, brightness or size, and the classifier
        was not trained on them. The draw is tested as far as answers and covariates can tell, the
        training is not; without it a sky is named only where the labelled
        objects alone show it.
    region : str, optional
        The part of the sky where labels are compared with the rest, ``ra=0:20,dec=0:20`` or
        ``cap:RA,DEC,RADIUS``, chosen before the answers were seen; by default the cap that the
        scan finds.
    correct : bool
        Write corrected fractions of the tiles with enough labels.
    precision : float
        Half the width of a corrected fraction's interval, for which needed labels are counted.
    compare : tuple of str
        Catalogs in which other networks answered the same objects; paired by id.
    swap : tuple of str
        ``GROUP=CATALOG`` for every seed of two groups, such as two training skies.
    experiments : tuple of str
        Folders of the experiments ``blank-sky`` and ``sky-probe`` on the same survey, shown beside
        the audit; they decide nothing.
    cutouts : str, optional
        Survey store from which the report shows galaxies of deviant tiles; nothing else depends
        on it.
    training_sky : str, optional
        Coverage map, or bundle, of the classifier's training sky; the report's map outlines it.

    Raises
    ------
    InputError
        A value lies outside its range.
    """

    answer: str = DEFAULT_ANSWER
    among: str | None = None
    label: str | None = None
    ra: str | None = None
    dec: str | None = None
    probabilities: bool = False
    weights: str | None = None
    order: int | None = None
    min_n: int = 100
    alpha: float = 0.05
    min_difference: float = 0.01
    effect: float = 0.02
    radii: tuple[float, ...] = DEFAULT_RADII
    simulations: int = 2000
    seed: int = 0
    keep_duplicates: bool = False
    covariates: tuple[str, ...] = ()
    intrinsic: tuple[str, ...] = ()
    truth: str | None = None
    labels_blind: bool = False
    region: str | None = None
    correct: bool = False
    precision: float = 0.01
    compare: tuple[str, ...] = ()
    swap: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    cutouts: str | None = None
    training_sky: str | None = None

    @property
    def swapped(self) -> list[tuple[str, str]]:
        """Group and catalog of each seed."""
        parts = (one.partition("=") for one in self.swap)
        return [(group.strip(), path) for group, _, path in parts]

    @property
    def denominator(self) -> list[str] | None:
        """The values of the label column that are counted; None where `left_out` says it."""
        if self.among is None or self.among == EVERY_ANSWER:
            return None
        return [value.strip() for value in self.among.split("|")]

    @property
    def left_out(self) -> list[str]:
        """The values of the label column, in small letters, that are not counted."""
        if self.among is not None:
            return []
        asked = {value.lower() for value in self.values}
        return [name for name in NO_SHAPE if name not in asked]

    @property
    def values(self) -> list[str]:
        """The values of the label column that count together."""
        return [value.strip() for value in self.answer.split("|")]

    def __post_init__(self) -> None:
        if not all(self.values):
            raise InputError("answer is empty; name the answer to audit, such as spiral")
        counted = self.denominator
        missing = [value for value in self.values if counted is not None and value not in counted]
        if missing:
            raise InputError(f"among {self.among!r}: lacks the answer {missing[0]!r} itself")
        if self.order is not None and not 0 <= self.order <= LARGEST_ORDER:
            raise InputError(f"order {self.order}: expected 0 to {LARGEST_ORDER} (nside 1 to 64)")
        for name, value, least in (
            ("alpha", self.alpha, SMALLEST_ALPHA),
            ("effect", self.effect, 0),
        ):
            if not max(least, 1e-300) <= value < 1:
                below = f"{least:g} (what simulated skies can decide)" if least else "above 0"
                raise InputError(f"{name} {value}: expected {below} to below 1")
        if self.simulations * self.alpha < _DECIDED:
            object.__setattr__(self, "simulations", math.ceil(_DECIDED / self.alpha))
        if not 0 <= self.min_difference < 1:
            raise InputError(f"min_difference {self.min_difference}: expected 0 to 1")
        if self.min_n < 1:
            raise InputError(f"min_n {self.min_n}: expected at least 1")
        if self.simulations < 1000:
            raise InputError(
                f"simulations {self.simulations}: expected at least 1000, for p values below .01"
            )
        if not self.radii or not all(0 < radius <= 90 for radius in self.radii):
            raise InputError(f"radii {self.radii}: expected degrees above 0 and up to 90")
        if len(self.covariates) > MOST_COVARIATES:
            raise InputError(
                f"{len(self.covariates)} covariates: expected at most {MOST_COVARIATES}"
            )
        if self.weights is not None and self.swap:
            raise InputError(
                f"weights {self.weights!r} and swap: the unit of a swap is the seed, its objects "
                "are not weighted; leave out one of the two"
            )
        if self.region is not None:
            parse_part(self.region)
        needing = {
            "correct": self.correct,
            "labels_blind": self.labels_blind,
            f"region {self.region!r}": self.region is not None,
        }
        if self.truth is None and any(needing.values()):
            what = next(name for name, asked in needing.items() if asked)
            raise InputError(f"{what} needs labels; name them with truth")
        groups = {group for group, _ in self.swapped}
        if self.swap and (len(groups) != 2 or not all(g and c for g, c in self.swapped)):
            raise InputError(
                f"swap {', '.join(self.swap)}: expected GROUP=CATALOG for every seed of two groups"
            )
        named = (*self.compare, *(path for _, path in self.swapped))
        if len(named) > MOST_OTHERS:
            raise InputError(f"{len(named)} other catalogs: expected at most {MOST_OTHERS}")
        if len(self.experiments) > MOST_EXPERIMENTS:
            raise InputError(
                f"{len(self.experiments)} experiments: expected at most {MOST_EXPERIMENTS}"
            )
        if not 0 < self.precision < 0.5:
            raise InputError(f"precision {self.precision}: expected a number between 0 and 0.5")
        if self.seed < 0:
            raise InputError(f"seed {self.seed}: expected 0 or more")
