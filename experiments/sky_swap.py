"""Learn spirals on one sky and ellipticals on another, answer on a third: Dhar & Shamir 2022.

Tables 1 to 16 of Astronomy and Computing 38, 100545, on the regions of any survey, with the tests
of the paper and the right ones; then whole catalogs of swapped networks, audited on the sky.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from catalogs.errors import InputError
from catalogs.sky import Region
from experiments import fields, maps, swap_audit, swap_words, swapped, swapped_words, swaps
from experiments.lab import Experiment, Lab
from experiments.networks import Store, holdout_of, refuse_other_classes
from experiments.product import Cell, Drawing, Product, Table
from experiments.swap_plan import Planned, Settings, plan, regions_of
from experiments.swap_roles import FEWEST, refuse_thin
from experiments.swap_words import COLUMNS, METHOD
from experiments.swaps import Answered


def run(lab: Lab, settings: Settings) -> Product:
    """Train every combination on every split, annotate with the swapped ones, and compare."""
    regions = regions_of(settings)
    refuse_other_classes(lab, settings.train, settings.spiral, settings.elliptical)
    store = Store.of(lab)
    planned = plan(store, settings)
    whole = swap_audit.audit_step(store, settings, lab.workers)
    refuse_thin(lab.survey, settings, dict.fromkeys(one.split for one in planned))
    folders = lab.steps.make([one.step for one in planned])
    answered = [
        answers
        for one, folder in zip(planned, folders, strict=True)
        for answers in _answers(one, folder, regions, settings)
    ]
    document = None
    if whole is not None:
        (folder,) = lab.steps.make([whole])
        document = swap_audit.read_audit(folder)
    survey = lab.survey
    place = (survey.column("ra"), survey.column("dec"))
    labels = survey.column(settings.train.label)
    table = fields.properties(*place, fields.numbers(survey), labels, regions)
    told = [] if document is None else swap_audit.in_words(document, settings, survey.rows)
    found = product(answered, table, settings)
    audit = {
        "audit": None if document is None else document["compared"],
        "verdict": None if document is None else document["verdict"],
    }
    return replace(found, findings=[*found.findings, *told], facts={**found.facts, **audit})


def _answers(
    one: Planned, folder: Path, regions: Mapping[str, Region], settings: Settings
) -> list[Answered]:
    """Return a network's answers on the test galaxies of each region."""
    held = holdout_of(folder)
    both = np.isin(held.label, [settings.spiral, settings.elliptical])
    found = []
    for name, region in regions.items():
        here = both & region.contains(held.ra, held.dec)
        spiral = held.label[here] == settings.spiral
        if min(spiral.sum(), (~spiral).sum()) < FEWEST:
            raise InputError(
                f"region {name} has {spiral.sum()} and {(~spiral).sum()} test galaxies of the "
                f"classes whose images can be read, {one.split.name}; {FEWEST} are needed"
            )
        # Of two classes the second's probability: spiral comes after elliptical, or before.
        said = (held.p[here] >= 0.5) == (settings.spiral > settings.elliptical)
        found.append(Answered(one.training, name, one.split.name, spiral, said))
    return found


def product(
    answered: Sequence[Answered],
    properties: Sequence[dict[str, Cell]],
    settings: Settings,
) -> Product:
    """Return what all networks say together."""
    regions = regions_of(settings)
    by_seed = [one for one in answered if one.split.startswith("seed")]
    by_fold = [one for one in answered if one.split.startswith("fold")]
    split = settings.train.split
    ratio = split.test / (1 - split.test - split.validation)
    rows = swaps.matrices(answered)
    over = [
        {"over": kind, **row}
        for kind, chosen in (("seeds", by_seed), ("folds", by_fold))
        for row in swaps.spread(swaps.matrices(chosen))
    ]
    pairs = swaps.pairs(by_seed)
    same = swaps.same_galaxies(pairs, ratio)
    between = maps.two_regions(by_seed, ratio)
    distances: list[dict[str, Cell]] = []
    angles = {(a, b): fields.apart(regions[a], regions[b]) for a, b in combinations(regions, 2)}
    for row in swapped.full_swaps(by_seed, ratio):
        pair = str(row["first"]), str(row["second"])
        distances.append(row | {"apart": angles[pair]})
    angle = swapped.by_angle(by_seed, angles, ratio)
    accuracies = [(one.matrix.tpr + one.matrix.tnr) / 2 for one in by_seed]
    of_sky = [row for row in properties if fields.is_of_the_sky(str(row["quantity"]))]
    others = [row for row in properties if not fields.is_of_the_sky(str(row["quantity"]))]
    against = fields.against_bias(of_sky, distances)
    beside = [] if against else fields.beside_bias(of_sky, distances)
    sides, like = _fields_columns(regions), fields.side_by_side(of_sky)
    tables = [
        Table("distances", "Two regions swapped", COLUMNS["distances"], distances),
        Table("confusion", "Confusion matrices", COLUMNS["confusion"], swaps.summed(by_seed)),
        Table("same-galaxies", "The same galaxies, two networks", COLUMNS["same"], same),
        Table("two-regions", "One network, two regions", COLUMNS["maps"], between),
        Table("spread", "Every training on every region, over splits", COLUMNS["spread"], over),
        Table("angle", "Near and far", COLUMNS["angle"], [angle] if angle else []),
        Table("fields", "What the regions are like", _told(sides, like), like),
        Table(
            "fields-bias", "Properties beside the shift", _told(COLUMNS["beside"], beside), beside
        ),
        Table("fields-rank", "Properties against the shift", COLUMNS["against"], against),
        Table(
            "fields-galaxies",
            "What the regions' galaxies are like",
            sides,
            fields.side_by_side(others),
            shown=False,
        ),
        Table("matrices", "Every confusion matrix", COLUMNS["matrices"], rows, shown=False),
        Table("pairs", "The same galaxies, split by split", COLUMNS["pairs"], pairs, shown=False),
        Table(
            "two-regions-pairs",
            "Two regions, split by split",
            COLUMNS["maps_by_split"],
            maps.split_by_split(by_seed),
            shown=False,
        ),
    ]
    return Product(
        headline=swapped_words.headline(distances),
        findings=[
            *swapped_words.pairs_in_words(distances, angle),
            *swap_words.same_in_words(same),
            *swap_words.maps_in_words(between),
            swap_words.accuracy_in_words(accuracies),
        ],
        tables=[table for table in tables if table.rows],
        drawings=(_draw(distances, same),) if same else (),
        method=METHOD,
        facts={
            "test_over_train": ratio,
            "train": asdict(split),
        },
    )


def _fields_columns(regions: Mapping[str, Region]) -> dict[str, str]:
    columns = {"quantity": "a column of the survey, or a count"}
    for name in regions:
        columns[f"mean {name}"] = f"mean, or count, in {name}"
        columns[f"sd {name}"] = f"standard deviation in {name}"
    return columns


def _told(columns: Mapping[str, str], rows: Sequence[Mapping[str, Cell]]) -> dict[str, str]:
    """Return the columns in which some row has a value."""
    return {
        name: meaning
        for name, meaning in columns.items()
        if any(row.get(name) is not None for row in rows)
    }


def _draw(distances: Sequence[Mapping[str, Cell]], same: Sequence[Mapping[str, Cell]]) -> Drawing:
    rows = [
        ("#b5541c", f"{a}/{b} against {b}/{a}", row["shift"], row["shift_sd"])
        for row in distances
        for a, b in [(row["first"], row["second"])]
    ]
    rows += [
        (
            "#7a5195",
            f"the same, {row['first']} minus {row['second']}, half",
            row["anisotropy"],
            row["anisotropy_sd"],
        )
        for row in distances
    ]
    rows += [
        (
            "#14598c",
            f"{row['training']} against {row['region']}/{row['region']}, on {row['region']}",
            row["balanced_difference"],
            row["balanced_sd"],
        )
        for row in same
    ]
    figure = Figure(figsize=(6.4, 1.0 + 0.26 * len(rows)), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for k, (colour, _, value, sd) in enumerate(rows):
        bar = None if sd is None else [100 * float(sd)]
        axes.errorbar([100 * float(value or 0)], [k], xerr=bar, fmt="o", color=colour, capsize=2)
    axes.axvline(0, color="0.6", linewidth=1)
    axes.set_yticks(range(len(rows)), [name for _, name, _, _ in rows])
    axes.invert_yaxis()
    axes.set(xlabel="called spiral more [points]")
    said = "; ".join(f"{name}: {100 * float(value or 0):+.1f}" for _, name, value, _ in rows)
    return Drawing(
        "shifts",
        "The same galaxies, two networks",
        f"Difference in points of the fraction called spiral, both classes alike. {said}.",
        "Spirals/ellipticals learnt from; both classes weighted alike. Red: two regions swapped, "
        "mean of both. Violet: half of what that is in one region more than in the other. Blue: "
        "against the region's own. Bars: standard deviation over random splits.",
        figure,
    )


EXPERIMENT = Experiment(Settings, run)
