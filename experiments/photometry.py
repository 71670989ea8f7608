"""The sky swap for a classifier of tables: Shamir 2023, Goddard & Shamir 2022.

A random forest on photometric columns learns spirals in one region and ellipticals in another, in
every combination. As in the poster, what it says of a region is compared with the classifier that
was trained and is tested there, class by class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings_class
from scipy import stats

from catalogs.audit.comparison.papers import binomial_test, mcnemar
from catalogs.audit.uniformity.verdict import holm
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter
from catalogs.sky import FloatArray, Region
from experiments import swaps
from experiments.fields import numbers
from experiments.lab import Experiment, Lab
from experiments.networks import Store
from experiments.product import Cell, Drawing, Product, Table, shown
from experiments.steps import Step
from experiments.swap_plan import PAPERS
from experiments.swap_words import COLUMNS, METHOD
from experiments.swaps import Answered, Training
from training import checkpoint
from training.settings import SplitSettings
from training.splits import TEST, TRAIN, at_most, sky_blocked, without_neighbours

ANSWERS = "answers.safetensors"
FEWEST = 20  # galaxies of a class in a region, to train on and to test on
LEVEL = 0.05
MEASURED = ("mag_g", "mag_r", "mag_i", "radius", "alpha")


@settings_class(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Settings:
    """What is asked.

    Attributes
    ----------
    regions : dict of str to str
        Name to ``RA0..RA1,DEC0..DEC1``; three in the poster, by default those of the sky swap.
    columns : tuple of str
        Columns of numbers that the classifier sees; by default some of a simulated survey.
    label, spiral, elliptical : str
        Column of labels, and the two classes.
    seeds : int
        Random splits of the sky's tiles.
    most : int
        Training galaxies of each class; the same number in every region.
    trees : int
        Of the forest.
    order : int
        Of the tiles that are split.
    test : float
        Their share that tests.
    """

    regions: Annotated[dict[str, str], Field(min_length=2)] = Field(
        default_factory=lambda: dict(PAPERS)
    )
    columns: Annotated[tuple[str, ...], Field(min_length=1)] = MEASURED
    label: str = "label"
    spiral: str = "spiral"
    elliptical: str = "elliptical"
    seeds: Annotated[int, Field(ge=1)] = 10
    most: Annotated[int, Field(ge=FEWEST)] = 3000
    trees: Annotated[int, Field(ge=10, le=5000)] = 200
    order: Annotated[int, Field(ge=0, le=12)] = 5
    test: Annotated[float, Field(gt=0, lt=1)] = 0.4


def trainings(settings: Settings) -> list[Training]:
    """Return every combination of a region of spirals and one of ellipticals."""
    return [Training(s, e) for e in settings.regions for s in settings.regions]


def forest_step(store: Store, settings: Settings, seed: int) -> Step:
    """Return the step that trains every combination on a split and answers its test galaxies."""
    values = {name: value for name, value in asdict(settings).items() if name != "seeds"}
    return Step(
        "forests",
        f"train forests on photometry, split {seed}",
        {"survey": store.content, "seed": seed, "settings": values},
        partial(_forests, store=store, settings=settings, seed=seed),
        store.needs,
    )


def _forests(
    folder: Path,
    needs: Sequence[Path],
    reporter: Reporter,
    *,
    store: Store,
    settings: Settings,
    seed: int,
) -> None:
    from sklearn.ensemble import RandomForestClassifier

    survey = Survey.open(store.at(needs))
    ra, dec, labels, table = _table(survey, settings)
    split = SplitSettings(order=settings.order, validation=0.0, test=settings.test, seed=seed)
    roles = without_neighbours(sky_blocked(ra, dec, split), ra, dec)
    rows = np.arange(len(ra))
    known = np.isin(labels, [settings.spiral, settings.elliptical]) & np.isfinite(table).all(axis=1)
    region = np.full(len(ra), -1)
    for k, text in enumerate(settings.regions.values()):
        inside = Region.parse(text).contains(ra, dec)
        if np.any(inside & (region >= 0)):
            raise InputError(f"regions overlap in {text}; a galaxy must lie in one of them")
        region[inside] = k
    spiral = labels == settings.spiral
    member = [
        [np.flatnonzero(known & (region == k) & (spiral == s) & (roles == TRAIN)) for s in (0, 1)]
        for k in range(len(settings.regions))
    ]
    tested = known & (region >= 0) & (roles == TEST)
    fewest = min(len(one) for pair in member for one in pair)
    least = min(
        int(np.sum(tested & (region == k) & (spiral == s)))
        for k in range(len(settings.regions))
        for s in (False, True)
    )
    if min(fewest, least) < FEWEST:
        raise InputError(
            f"a region has {fewest} galaxies of a class to train on and {least} to test on; "
            f"{FEWEST} are needed: choose larger regions, or a finer order"
        )
    count = min(settings.most, fewest)
    said = []
    for training in trainings(settings):
        e, s = (list(settings.regions).index(n) for n in (training.ellipticals, training.spirals))
        chosen = np.concatenate(
            [_drawn(member[e][0], count, seed), _drawn(member[s][1], count, seed)]
        )
        forest = RandomForestClassifier(settings.trees, random_state=seed, n_jobs=1)
        forest.fit(table[chosen], spiral[chosen])
        said.append(forest.predict(table[tested]))
        reporter.progress("forests", len(said), len(settings.regions) ** 2, "trainings")
    tensors = {
        "rows": rows[tested],
        "region": region[tested].astype(np.int64),
        "spiral": spiral[tested],
        "said": np.stack(said),
        "trained": np.array([count]),
    }
    named = {name: torch.from_numpy(values) for name, values in tensors.items()}
    checkpoint.write_tensors(folder / ANSWERS, named, {})


def _drawn(members: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Draw galaxies by their rows; a smaller draw is part of a larger one."""
    roles = at_most(np.full(len(members), TRAIN), np.full(len(members), ""), members, count, seed)
    return np.asarray(members[roles == TRAIN], np.int64)


def _table(
    survey: Survey, settings: Settings
) -> tuple[FloatArray, FloatArray, NDArray[np.str_], FloatArray]:
    """Return positions, labels and the classifier's columns, float64 (rows, columns)."""
    there = numbers(survey)
    missing = [name for name in settings.columns if name not in there]
    if missing:
        raise InputError(
            f"{survey.url} has no column of numbers {missing[0]!r}; it has "
            f"{', '.join(sorted(there)[:8])} ..."
        )
    if settings.label not in survey.column_names:
        raise InputError(f"{survey.url} has no column {settings.label!r} of labels")
    table = np.column_stack([there[name] for name in settings.columns])
    labels = survey.column(settings.label).astype(str)
    return survey.column("ra"), survey.column("dec"), labels, table


def run(lab: Lab, settings: Settings) -> Product:
    """Train every combination on every split, and compare."""
    store = Store.of(lab)
    folders = lab.steps.make([forest_step(store, settings, n) for n in range(settings.seeds)])
    answered: list[Answered] = []
    trained = []
    for seed, folder in enumerate(folders):
        values = {k: v.numpy() for k, v in checkpoint.read_tensors(folder / ANSWERS).items()}
        trained.append(int(values["trained"][0]))
        answered += [
            Answered(training, name, f"seed {seed}", values["spiral"][here], said[here])
            for training, said in zip(trainings(settings), values["said"], strict=True)
            for k, name in enumerate(settings.regions)
            for here in [values["region"] == k]
        ]
    return product(answered, min(trained), settings)


def against_home(answered: Sequence[Answered]) -> list[dict[str, Cell]]:
    """Test each class of each region against the classifier trained and tested there.

    The poster's test, two-sided binomial of how many of a class are found against the home
    classifier's fraction, taken as known; and McNemar's on the same galaxies. Both with the
    corrections of Holm and of Benjamini and Hochberg over all tests of the split.

    Parameters
    ----------
    answered : sequence of Answered
        Of one split.
    """
    home = {one.region: one for one in answered if one.training == Training(one.region, one.region)}
    rows: list[dict[str, Cell]] = []
    for one in answered:
        if one.training == Training(one.region, one.region):
            continue
        other = home[one.region]
        for name, members in (("elliptical", ~one.spiral), ("spiral", one.spiral)):
            right = (one.said == one.spiral)[members]
            right_home = (other.said == other.spiral)[members]
            k, n, at_home = int(right.sum()), len(right), int(right_home.sum())
            pairs = int(np.sum(right & ~right_home)), int(np.sum(~right & right_home))
            row: dict[str, Cell] = {"training": str(one.training), "region": one.region}
            row |= {"class": name, "n": n, "found": k, "found_home": at_home}
            row |= {"p": binomial_test(k, n, at_home / n).p_two_sided, "mcnemar_p": mcnemar(*pairs)}
            rows.append(row)
    for name in ("p", "mcnemar_p"):
        values = np.array([row[name] for row in rows], np.float64)
        for how, corrected in (
            ("holm", holm(values.tolist())),
            ("bh", stats.false_discovery_control(values)),
        ):
            for row, value in zip(rows, corrected.tolist(), strict=True):
                row[f"{name}_{how}"] = value
    return rows


def product(answered: Sequence[Answered], trained: int, settings: Settings) -> Product:
    """Return what all forests say together."""
    splits = list(dict.fromkeys(one.split for one in answered))
    tests: list[dict[str, Cell]] = []
    for split in splits:
        of_split = [one for one in answered if one.split == split]
        tests += [{"split": split, **row} for row in against_home(of_split)]
    first = [row for row in tests if row["split"] == splits[0]]
    matrix = _as_in_the_poster(first, settings)
    rows = swaps.matrices(answered)
    same = swaps.same_galaxies(swaps.pairs(answered), settings.test / (1 - settings.test))
    counts: list[dict[str, Cell]] = []
    for name in ("p", "p_holm", "p_bh", "mcnemar_p", "mcnemar_p_holm", "mcnemar_p_bh"):
        below = [
            [float(row[name] or 0) < LEVEL for row in tests if row["split"] == s] for s in splits
        ]
        counts.append(
            {
                "test": name,
                "of": len(first),
                "first": int(sum(below[0])),
                "mean": float(np.mean([sum(one) for one in below])),
            }
        )
    return Product(
        headline=_headline(counts),
        findings=[*(_count_in_words(row) for row in counts), *_largest(same)],
        tables=(
            Table("poster", "p as in the poster, first split", _poster_columns(settings), matrix),
            Table("counts", f"Tests below {LEVEL}", _COUNTS, counts),
            Table("same-galaxies", "The fraction of spirals", COLUMNS["same"], same),
            Table("spread", "Every training on every region", _SPREAD, swaps.spread(rows)),
            Table("tests", "Every test", _TESTS, tests, shown=False),
            Table("matrices", "Confusion matrices", COLUMNS["matrices"], rows, shown=False),
        ),
        drawings=(_draw(first, settings),),
        method=(
            _FOREST.format(trees=settings.trees, n=trained, columns=", ".join(settings.columns)),
            _POSTER,
            *METHOD,
        ),
        facts={"counts": counts, "trained": trained},
    )


_FOREST = (
    "Random forests of {trees} trees learn from {n:,} galaxies of either class or more, the same "
    "number in every region of a split, and see {columns}."
)
_POSTER = (
    "The poster's p: two-sided binomial, of how many test galaxies of a class are found, against "
    "the fraction that the classifier trained and tested in that region finds, taken as known. Its "
    "rows are the regions of ellipticals/spirals. Holm's correction holds the chance of any false "
    "alarm below the level, Benjamini and Hochberg's the share of false ones among the alarms."
)
_COUNTS = {
    "test": "which p; mcnemar_p is right for the same galaxies",
    "of": "tests of a split",
    "first": f"below {LEVEL} in the first split",
    "mean": "mean over splits",
}
_SPREAD = {name: said for name, said in COLUMNS["spread"].items() if name != "over"}
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


def _as_in_the_poster(
    tests: Sequence[Mapping[str, Cell]], settings: Settings
) -> list[dict[str, Cell]]:
    """Return the matrix of p: a row per training, two columns per region; None at home."""
    found = {(row["training"], row["region"], row["class"]): row["p"] for row in tests}
    return [
        {
            "trained": f"{training.ellipticals}/{training.spirals}",
            **{
                f"{region} {letter}": found.get((str(training), region, name))
                for region in settings.regions
                for letter, name in (("E", "elliptical"), ("S", "spiral"))
            },
        }
        for training in trainings(settings)
    ]


def _poster_columns(settings: Settings) -> dict[str, str]:
    return {
        "trained": "regions that ellipticals/spirals were learnt from",
        **{
            f"{region} {letter}": f"p of the {name} galaxies of {region} against home"
            for region in settings.regions
            for letter, name in (("E", "elliptical"), ("S", "spiral"))
        },
    }


def _headline(counts: Sequence[Mapping[str, Cell]]) -> str:
    row = next(row for row in counts if row["test"] == "mcnemar_p_holm")
    if not row["first"]:
        return "No test of the first split shows that the training region matters."
    return (
        f"The training region matters: {row['first']} of {row['of']} tests of the first split, "
        "after Holm's correction."
    )


def _count_in_words(row: Mapping[str, Cell]) -> str:
    return (
        f"{row['test']}: {row['first']} of {row['of']} below {LEVEL} in the first split, "
        f"{float(row['mean'] or 0):.1f} on average."
    )


def _largest(same: Sequence[Mapping[str, Cell]]) -> list[str]:
    if not same:
        return []
    row = max(same, key=lambda one: abs(float(one["balanced_difference"] or 0)))
    said = (
        f"Largest shift: trained on {row['training']} (spirals/ellipticals), "
        f"{100 * float(row['balanced_difference'] or 0):+.1f} points of spirals in "
        f"{row['region']}, p over splits {shown(row['balanced_p'])}."
    )
    return [said]


def _draw(tests: Sequence[Mapping[str, Cell]], settings: Settings) -> Drawing:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained", facecolor="white")
    axes = figure.subplots()
    columns = [(r, name) for r in settings.regions for name in ("elliptical", "spiral")]
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
    axes.set_xticks(range(len(columns)), [f"{r} {name[0].upper()}" for r, name in columns])
    axes.set_yticks(
        range(len(names)), [f"{t.ellipticals}/{t.spirals}" for t in trainings(settings)]
    )
    axes.set(xlabel="tested", ylabel="trained, E/S")
    figure.colorbar(image, label="-log10 p")
    small = sum(float(row["p"] or 0) < LEVEL for row in tests)
    return Drawing(
        "poster",
        "p against the classifier of the region itself",
        f"Matrix of p values; {small} of {len(tests)} are below {LEVEL}.",
        "As in the poster (Shamir 2023): trained on a region of ellipticals and one of spirals, "
        "tested on ellipticals and spirals of each region. Not corrected for many tests.",
        figure,
    )


EXPERIMENT = Experiment(Settings, run)
