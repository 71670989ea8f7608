"""The sky swap for a classifier of tables: Shamir 2023, Goddard & Shamir 2022.

A random forest on photometric columns learns spirals in one region and ellipticals in another, in
every combination. What it says of a region is compared with the classifier that was trained and is
tested there, class by class: over splits, and within one as in the poster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from catalogs.cutouts.store import Survey
from experiments import home, swaps
from experiments.forests import Settings, answers_of, forest_step, trainings
from experiments.home import LEVEL
from experiments.lab import Experiment, Lab
from experiments.networks import Store
from experiments.product import Cell, Drawing, Product, Table, p_text, points
from experiments.swap_words import COLUMNS
from experiments.swaps import Answered

# Columns of a simulated survey that know how a galaxy was observed.
OBSERVED = ("alpha", "seeing", "background", "depth", "sky", "airmass", "extinction")
NAMED = 4  # differences in one finding


def run(lab: Lab, settings: Settings) -> Product:
    """Train every combination on every split, and compare."""
    store = Store.of(lab)
    folders = lab.steps.make([forest_step(store, settings, n) for n in range(settings.seeds)])
    read = [answers_of(folder, settings, seed) for seed, folder in enumerate(folders)]
    answered = [one for answers, _ in read for one in answers]
    return product(answered, min(n for _, n in read), settings, seen(lab.survey, settings))


def seen(survey: Survey, settings: Settings) -> list[str]:
    """Return what must be said of the columns that forests see, of a simulated survey."""
    if "simulation" not in survey.attributes.provenance:
        return []
    observed = [name for name in settings.columns if name in OBSERVED]
    said = (
        "The survey is simulated: its magnitudes, radii and shapes are the truth without noise. Of "
        f"the columns seen, {'only ' if observed else ''}{' and '.join(observed) or 'none'} "
        f"know{'s' if len(observed) < 2 else ''} how a galaxy was observed."
    )
    return [said]


def product(
    answered: Sequence[Answered], trained: int, settings: Settings, notes: Sequence[str] = ()
) -> Product:
    """Return what all forests say together."""
    splits = list(dict.fromkeys(one.split for one in answered))
    tests: list[dict[str, Cell]] = []
    for split in splits:
        of_split = [one for one in answered if one.split == split]
        tests += [{"split": split, **row} for row in home.against_home(of_split)]
    first = [row for row in tests if row["split"] == splits[0]]
    over = home.over_splits(answered, settings.test / (1 - settings.test))
    rows = swaps.matrices(answered)
    counts = _counts(tests, splits)
    return Product(
        headline=_headline(over, len(splits)),
        findings=[*_standing(over), *_largest(over), *_counts_in_words(counts), *notes],
        tables=(
            Table("over-splits", "Against home, over splits", _OVER, over),
            Table(
                "poster",
                "p as in the poster, first split: these forests differ",
                _poster_columns(settings),
                _as_in_the_poster(first, settings),
            ),
            Table("counts", f"Tests of forest against forest below {LEVEL}", _COUNTS, counts),
            Table("spread", "Every training on every region", _SPREAD, swaps.spread(rows)),
            Table("tests", "Every test", _TESTS, tests, shown=False),
            Table("matrices", "Confusion matrices", COLUMNS["matrices"], rows, shown=False),
        ),
        drawings=(_draw(first, settings),),
        method=(
            _FOREST.format(trees=settings.trees, n=trained, columns=", ".join(settings.columns)),
            _OVER_SPLITS,
            _POSTER,
        ),
        facts={"over": over, "counts": counts, "trained": trained},
    )


_FOREST = (
    "Random forests of {trees} trees learn from {n:,} galaxies of either class or more, the same "
    "number in every region of a split, and see {columns}. A training is named by the regions of "
    "its spirals/ellipticals (S/E), everywhere on this page; the poster prints E/S."
)
_OVER_SPLITS = (
    "Whether the training region matters is asked over splits, which draw other training and test "
    "tiles: the difference from the forest that learnt in the tested region, of the spirals found, "
    "of the ellipticals found, and of the fraction called spiral if both classes were equally "
    "many. Its p is that of a t test that allows for the galaxies which splits share (Nadeau & "
    "Bengio 2003), corrected by Holm for all rows. All splits are of one sky: what differs between "
    "the regions' galaxies themselves counts, too."
)
_POSTER = (
    "The poster's p: two-sided binomial, of how many test galaxies of a class are found, against "
    "the fraction that the classifier trained and tested in that region finds, taken as known. It "
    "and McNemar's, which is right for the same galaxies, ask whether these two forests differ. "
    "Two forests that learnt from other galaxies of one sky do, too; with enough test galaxies "
    "any two are told apart. Holm's correction holds the chance of any false alarm below the "
    "level, Benjamini and Hochberg's the share of false ones among the alarms."
)
_OVER = {
    "training": "regions that spirals/ellipticals were learnt from",
    "region": "region whose test galaxies are answered",
    "what": "fraction that is compared with the forest trained in this region",
    "splits": "random splits",
    "difference": "mean over splits of the fraction less home's",
    "sd": "its standard deviation over splits",
    "p": "two-sided, over splits that share galaxies (Nadeau & Bengio 2003)",
    "p_holm": "after Holm's correction for all rows",
    "detectable": f"difference found with 80% power at level {LEVEL} over the number of rows",
}
_COUNTS = {
    "test": "which p; mcnemar_p is right for the same galaxies",
    "of": "tests of a split",
    "first": f"below {LEVEL} in the first split",
    "mean": "mean over splits",
}
_SPREAD = {name: said for name, said in COLUMNS["spread"].items() if name != "over"}
SHORT = 6  # letters of a label that stand beside each other
LETTERS = (("S", "spiral"), ("E", "elliptical"))
_TESTS = {
    "split": "random split",
    "training": "regions that spirals/ellipticals were learnt from",
    "region": "region whose test galaxies are answered",
    "class": "of the test galaxies",
    "n": "test galaxies of this class",
    "found": "of these called by their class",
    "found_home": "the same by the classifier trained in that region",
    "p": "two-sided binomial, as in the poster",
    "p_holm": "after Holm's correction",
    "p_bh": "after Benjamini and Hochberg's",
    "mcnemar_p": "McNemar's exact p, the same galaxies",
    "mcnemar_p_holm": "after Holm's correction",
    "mcnemar_p_bh": "after Benjamini and Hochberg's",
}


def _counts(tests: Sequence[Mapping[str, Cell]], splits: Sequence[str]) -> list[dict[str, Cell]]:
    """Return how many tests of a split are below the level."""
    rows: list[dict[str, Cell]] = []
    for name in ("p", "p_holm", "p_bh", "mcnemar_p", "mcnemar_p_holm", "mcnemar_p_bh"):
        below = [
            sum(float(row[name] or 0) < LEVEL for row in tests if row["split"] == one)
            for one in splits
        ]
        row: dict[str, Cell] = {"test": name, "of": len(tests) // len(splits)}
        rows.append(row | {"first": below[0], "mean": float(np.mean(below))})
    return rows


def _as_in_the_poster(
    tests: Sequence[Mapping[str, Cell]], settings: Settings
) -> list[dict[str, Cell]]:
    """Return the matrix of p: a row per training, two columns per region; None at home."""
    found = {(row["training"], row["region"], row["class"]): row["p"] for row in tests}
    return [
        {
            "trained": str(training),
            **{
                f"{region} {letter}": found.get((str(training), region, name))
                for region in settings.regions
                for letter, name in LETTERS
            },
        }
        for training in trainings(settings)
    ]


def _poster_columns(settings: Settings) -> dict[str, str]:
    return {
        "trained": "regions that spirals/ellipticals were learnt from",
        **{
            f"{region} {letter}": f"p of the {name} galaxies of {region} against home"
            for region in settings.regions
            for letter, name in LETTERS
        },
    }


def _headline(over: Sequence[Mapping[str, Cell]], splits: int) -> str:
    standing = [row for row in over if home.stands(row)]
    if standing:
        return (
            f"The training region matters: {len(standing)} of {len(over)} differences from the "
            f"forest of the region itself stand over {splits} splits, after Holm's correction."
        )
    if all(row["p"] is None for row in over):
        return (
            f"No p over splits with {splits}: whether the training region matters is not shown; "
            "set more seeds."
        )
    return f"Nothing shows over {splits} splits that the training region matters."


def _standing(over: Sequence[Mapping[str, Cell]]) -> list[str]:
    """Name the differences that stand, up to four, the largest first."""
    rows = sorted(filter(home.stands, over), key=_size, reverse=True)
    if not rows:
        return []
    named = "; ".join(f"{_named(row)} (after Holm {p_text(row['p_holm'])})" for row in rows[:NAMED])
    more = f"; and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return [f"These {len(rows)} of {len(over)} stand, by size: {named}{more}."]


def _size(row: Mapping[str, Cell]) -> float:
    return abs(float(row["difference"] or 0))


def _named(row: Mapping[str, Cell]) -> str:
    return (
        f"trained on {row['training']} (spirals/ellipticals), {row['what']}, "
        f"{100 * float(row['difference'] or 0):+.1f} points in {row['region']}"
    )


def _largest(over: Sequence[Mapping[str, Cell]]) -> list[str]:
    row = max(over, key=_size)
    tested = (
        "no p, so it is not shown"
        if row["p"] is None
        else f"over {row['splits']} splits {p_text(row['p'])}, after Holm {p_text(row['p_holm'])}: "
        f"it {'stands' if home.stands(row) else 'does not stand'}"
    )
    said = f"The largest of {len(over)} differences: {_named(row)}; {tested}."
    known = [float(one["detectable"]) for one in over if one["detectable"] is not None]
    power = (
        f"With 80% power a difference of {points(min(known))} to {points(max(known))} points, by "
        "row, would have been found at this level."
        if known
        else "Its power cannot be told."
    )
    return [said, power]


def _counts_in_words(counts: Sequence[Mapping[str, Cell]]) -> list[str]:
    at = {str(row["test"]): row for row in counts}
    said = []
    for name, words in (
        ("p", "the poster's binomial p"),
        ("mcnemar_p", "McNemar's p"),
    ):
        of = [at[f"{name}{how}"] for how in ("", "_holm", "_bh")]
        first = "{} of {} below {}, {} after Holm, {} after Benjamini and Hochberg".format(
            of[0]["first"], of[0]["of"], LEVEL, of[1]["first"], of[2]["first"]
        )
        mean = ", ".join(f"{float(row['mean'] or 0):.1f}" for row in of)
        said.append(
            f"Forest against forest, {words} in the first split: {first} (means over splits {mean})"
            ". These forests differ; that says nothing of the region."
        )
    return said


def _draw(tests: Sequence[Mapping[str, Cell]], settings: Settings) -> Drawing:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained", facecolor="white")
    axes = figure.subplots()
    columns = [(r, name) for r in settings.regions for _, name in LETTERS]
    values = np.full((len(trainings(settings)), len(columns)), np.nan)
    names = [str(training) for training in trainings(settings)]
    for row in tests:
        place = columns.index((str(row["region"]), str(row["class"])))
        values[names.index(str(row["training"])), place] = float(row["p"] or 0)
    shade = -np.log10(np.maximum(values, 1e-12))
    image = axes.imshow(shade, cmap="Blues", vmin=0, vmax=6, aspect="auto")
    for (i, j), p in np.ndenumerate(values):
        text = "–" if np.isnan(p) else f"{p:.2g}"
        axes.text(j, i, text, ha="center", va="center", fontsize=7, color="1" if p < 1e-4 else "0")
    labels = [f"{r} {name[0].upper()}" for r, name in columns]
    axes.set_xticks(range(len(columns)), labels)
    if max(map(len, labels)) > SHORT:
        axes.tick_params(axis="x", rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="tested", ylabel="trained, S/E")
    figure.colorbar(image, label="-log10 p")
    small = sum(float(row["p"] or 0) < LEVEL for row in tests)
    return Drawing(
        "poster",
        "p against the forest of the region itself, first split",
        f"Matrix of p values; {small} of {len(tests)} are below {LEVEL}.",
        "As in the poster (Shamir 2023): trained on a region of spirals and one of ellipticals, "
        "S/E, tested on spirals and ellipticals of each region. Not corrected for many tests; a "
        "small p says that these two forests differ.",
        figure,
    )


EXPERIMENT = Experiment(Settings, run)
