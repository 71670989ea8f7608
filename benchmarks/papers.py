"""The papers' numbers beside ours, of whatever experiments have been run.

    python -m benchmarks.papers --from out/experiments --page docs/results/experiments.md

Reads ``results.json`` of the experiments named in `RUNS`, and writes what they say between the
page's marks; one that is not there is said to be not run.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.papers_runs import RUNS, Results, Rows, glance, regions, runs
from experiments.product import p_beside
from experiments.swapped_words import standing

NOT_RUN = "not run"


@dataclass(frozen=True)
class Line:
    """A number of a paper, where ours is, and why they differ."""

    paper: str
    what: str
    theirs: str
    runs: tuple[str, ...]
    ours: Callable[[Results], str]
    why: str


def percent(value: float | None, digits: int = 1, sign: bool = False) -> str:
    if value is None:
        return "–"
    return f"{100 * value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def p_value(value: float | None) -> str:
    if value is None:
        return "–"
    if value == 0:
        return "below 1e-300"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def sizes(found: Results) -> str:
    """Balanced accuracy by the galaxies that were trained on."""
    said = [f"{row['size']:,}: {percent(row['balanced_accuracy'])}" for row in found.rows("sizes")]
    return f"balanced accuracy [%] by galaxies of a class: {', '.join(said)}"


def same_galaxies(found: Results) -> str:
    """The largest shift between two trainings on the same galaxies."""
    rows = found.rows("same-galaxies")
    most = max(rows, key=lambda row: abs(row["balanced_difference"]))
    return (
        f"{percent(most['balanced_difference'], sign=True)} points at most ({most['training']} on "
        f"{most['region']}, p over {most['splits']} splits {p_value(most['balanced_p'])}, "
        f"{len(rows)} looked at); {percent(most['detectable'])} would have been found with 80% "
        "power"
    )


def swapped(found: Results) -> str:
    """Both classes of two regions swapped, the first test of the sky swap."""
    rows = found.rows("distances")
    count = sum(bool(standing(row)) for row in rows)
    said = "; ".join(
        f"{row['first']} and {row['second']} {_measured(row, 'shift')}, between the regions "
        f"{_measured(row, 'anisotropy')}, rates p {p_beside(row['rates_p'], row['level'])}"
        for row in rows
    )
    return (
        f"{count} of {len(rows)} beyond chance over {rows[0]['splits']} splits (p below "
        f"{rows[0]['level']:.2g}): {said}"
    )


def _measured(row: Mapping[str, Any], name: str) -> str:
    told = p_beside(row[f"{name}_p"], row["level"])
    return f"{percent(row[name], sign=True)} points (p {told})"


def two_regions(found: Results) -> str:
    """The largest difference of one network between two regions."""
    rows = found.rows("two-regions")
    most = max(rows, key=lambda row: abs(row["balanced_difference"]))
    return (
        f"{percent(most['balanced_difference'], sign=True)} points at most ({most['training']}, "
        f"{most['first']} less {most['second']}, p over splits {p_value(most['balanced_p'])}, "
        f"{len(rows)} looked at)"
    )


def split_spread(found: Results) -> str:
    """How much the accuracy depends on the split, where training and test sky differ most."""
    rows = found.rows("spread", over="seeds")
    sds = [row["accuracy_sd"] for row in rows if row["accuracy_sd"] is not None]
    if not sds:
        return "one split"
    apart = [row for row in rows if _skies_differ(row["training"])] or rows
    most = max(apart, key=lambda row: row["splits"])
    root = most["splits"] ** 0.5
    return (
        f"{most['training']} on {most['region']}, {most['splits']} splits: "
        f"{most['es_mean']:.1f} ± {most['es_sd'] / root:.1f} ellipticals wrong, {most['es_most']} "
        f"at most; {most['se_mean']:.1f} ± {most['se_sd'] / root:.1f} spirals, {most['se_most']}; "
        f"standard deviation of a split's accuracy {percent(min(sds))} to {percent(max(sds))} "
        "points, by training and region"
    )


def _skies_differ(training: str) -> bool:
    spirals, _, ellipticals = training.partition("/")
    return spirals != ellipticals


def blank(found: Results) -> str:
    """The class told from patches of sky."""
    said = [
        f"{row['place']} {percent(row['accuracy'])}% of {row['n']:,} (chance "
        f"{percent(row['chance'])}%, p {p_value(row['p'])})"
        for row in found.rows("places")
    ]
    return "; ".join(said)


def poster(found: Results) -> str:
    """How many tests of the photometric swap are significant, within splits and over them."""
    counts = {row["test"]: row for row in found.rows("counts")}
    plain, holm, bh = (counts[name] for name in ("p", "p_holm", "p_bh"))
    return (
        f"{plain['mean']:.1f} of {plain['of']} below .05; after Holm {holm['mean']:.1f}, after "
        f"Benjamini and Hochberg {bh['mean']:.1f} (means over splits; forests differ, whatever "
        f"the region). {_over_splits(found.rows('over-splits'))}"
    )


def _over_splits(rows: Rows) -> str:
    """How many differences from home stand, the split being the unit."""
    known = [row["p_holm"] for row in rows if row["p_holm"] is not None]
    if not known:
        return "No p over splits"
    stand = sum(p < 0.05 for p in known)
    return f"Over {rows[0]['splits']} splits {stand} of {len(rows)} differences stand after Holm"


def theta(found: Results) -> str:
    """The width of the labelling bias."""
    row = found.rows("theta")[0]
    return f"{row['theta']:.2f}" + (f" ± {row['error']:.2f}" if row["error"] else " (given)")


def resolution_bias(found: Results) -> str:
    """How much answers follow the resolution, by what was learnt from."""
    rows = [row for row in found.rows("means") if row["cv14"] is not None]
    said = []
    for row in rows:
        cv18 = "" if row["cv18"] is None else f", CV18 {row['cv18']:.3f}"
        said.append(f"{row['who']}: CV14 {row['cv14']:.3f}{cv18}")
    said += [
        f"the loss changes {row['measure'].upper()} by {row['difference']:+.3f} (p over "
        f"{row['seeds']} seeds {p_value(row['p'])}, after Holm {p_value(row['p_holm'])})"
        for row in found.rows("differences", who="de-biasing loss")
        if row["measure"] in ("cv14", "cv18")
    ]
    return "; ".join(said).replace("by -", "by −") or "too few test galaxies"


REFERENCES = {
    "label": "against the biased labels",
    "corrected": "against the de-biased labels",
    "true": "against the truth",
}


def right(found: Results) -> str:
    """Accuracy, precision, recall and F1 of the networks, against all that is known."""
    rows = [
        row
        for row in found.rows("means")
        if row["who"] in ("biased labels", "de-biased labels", "de-biasing loss")
    ]
    said = []
    for kind, against in REFERENCES.items():
        if f"{kind}_accuracy" not in rows[0]:
            continue
        told = []
        for row in rows:
            scores = [row[f"{kind}_{name}"] for name in ("accuracy", "precision", "recall", "f1")]
            numbers = " ".join("–" if one is None else f"{one:.3f}" for one in scores)
            told.append(f"{row['who']} {numbers}")
        said.append(f"{against}: {'; '.join(told)}")
    return ". ".join(said)


def changed(found: Results) -> str:
    """Galaxies labelled smooth that become disks."""
    rows = found.rows("changed")
    known = [row for row in rows if row["truth"] is not None]
    disks = f", {sum(row['truth'] == 'spiral' for row in known)} truly disks" if known else ""
    back = found.document["facts"]["changed_back"]
    return f"{len(rows)} test galaxies{disks}; {back} labelled disks called smooth"


SKIES = ("gz1-swap", "large-swap", "control-swap")
BIASES = ("gz1-debias", "large-debias")
FEWER = (
    "Theirs: 120 px, 250 epochs, 2,000 to 3,000 training and 3,000 to 8,000 test galaxies of a "
    "class. Ours: 64 px, 10 to 12 epochs, at most 500 a class. "
)
LINES = (
    Line(
        "DS22, figure 2",
        "accuracy against training size",
        "flat from about 1,000 of a class",
        ("gz1-size", "large-size"),
        sizes,
        "Theirs are labels of certainty ≥ .9 in Pan-STARRS at 120 px. Galaxy Zoo 1's here are the "
        "largest vote, however small, which bounds the accuracy; the simulated ones are the truth.",
    ),
    Line(
        "DS22, tables 3 and 6; 12 and 14",
        "same galaxies, two trainings",
        "2.8 points (Pan-STARRS, p 6.4e-13); 11.6 (SDSS); one pair of networks each",
        SKIES,
        same_galaxies,
        FEWER + "Theirs are single pairs of networks, tested as if the other fraction were known; "
        "ours are means over splits, the network being the unit, with both classes weighted alike.",
    ),
    Line(
        "DS22, tables 6 to 9, 12 to 15",
        "same galaxies, both classes swapped",
        "1/2 against 2/1: -0.1 points on 1 (p .876), -2.5 on 2 (p 9e-6), mean -1.3; A/B against "
        "B/A: +11.6 on A (p 1e-36), +0.3 on B (p .784), mean +5.9",
        SKIES,
        swapped,
        "As above; theirs are two-sample tests of one pair of networks. The bias that was put into "
        "field 1 of the simulated sky must be in the pairs with 1 and in no other.",
    ),
    Line(
        "DS22, tables 6 to 9, 12 to 15",
        "one network, two regions",
        "+0.6 (z 1.1), +1.8 (z 3.2), +4.0 (z 4.4), +7.3 points (z 8.0)",
        SKIES,
        two_regions,
        "As above. Their regions have as many galaxies of each class; ours are weighted to that.",
    ),
    Line(
        "DS22, tables 6 and 7",
        "spread over random splits",
        "100 splits; table 6: 247.4 ± 1.1 of 8,000 ellipticals wrong, 291 at most; 406.1 ± 1.4 "
        "spirals. Table 7: 216.2 ± 1 and 473 ± 1.4",
        SKIES,
        split_spread,
        "± is the standard error of the mean as the paper has it, as if splits shared nothing; "
        "they share most galaxies. Our splits are of sky tiles, with other numbers of test "
        "galaxies in each, so counts vary more.",
    ),
    Line(
        "S23",
        "class told from sky beside the galaxy",
        "no number at hand",
        ("gz1-blank", "large-blank", "control-blank", "bright-blank"),
        blank,
        "Corners show the galaxy's outskirts and its frame as well as how it was observed; where "
        "frames follow the galaxy's size (Galaxy Zoo's), honest sky tells the class, too. "
        "Elsewhere: another galaxy's corner, of the same tile.",
    ),
    Line(
        "S23",
        "photometry, three regions, nine trainings",
        "10 of 48 p below .05, the smallest 5.8e-4; after Holm 2, after Benjamini and Hochberg 4",
        ("large-photometry", "control-photometry"),
        poster,
        "Real photometry of three fields against simulated columns, noiseless; alpha alone "
        "carries the bias that was put in. Within a split any two forests differ; over splits the "
        "region is asked.",
    ),
    Line(
        "Goddard & Shamir 2022",
        "photometric catalog by training region",
        "no number at hand",
        (),
        poster,
        "No photometric columns of real galaxies here. The simulated ones of the line above are "
        "the truth without noise, so a bias of photometry itself is not tested.",
    ),
    Line(
        "MC21",
        "theta",
        "9.18 (CV14's regression)",
        BIASES,
        theta,
        "On Galaxy Zoo 1 radii are measured from the pictures, the seeing of 1.4 arcsec is "
        "assumed (theta is inversely proportional to it), and two colours and a concentration of "
        "the pictures stand for Sersic index, ellipticity and half-light radius. Simulated: 9.18 "
        "is the truth.",
    ),
    Line(
        "MC21, table 1",
        "bias L of the answers, ResNet50",
        "CV14, CV18: on biased labels .4893, .3795; on de-biased ones .2969, .3246; with the loss "
        ".3382, .2873",
        BIASES,
        resolution_bias,
        "L depends on the sample, its resolution and the number of leaves; CV14's is "
        "reconstructed. Theirs: 121,984 galaxies of Galaxy Zoo 2, and intrinsic properties that "
        "ours have not.",
    ),
    Line(
        "MC21",
        "accuracy, precision, recall, F1",
        "ResNet50: .921 .921 .921 .921 on biased labels; .896 .866 .879 .872 on de-biased ones",
        BIASES,
        right,
        "Theirs on de-biased labels are scored against de-biased labels. Another network (64 px, "
        "at most 15 epochs), few galaxies, and Galaxy Zoo 1's largest vote, de-biased by a model "
        "and not by Galaxy Zoo 2's own votes. Against biased labels a de-biased network must lose "
        "accuracy.",
    ),
    Line(
        "MC21",
        "smooth to disk",
        "ten test galaxies with Hubble images, none the other way",
        BIASES,
        changed,
        "No Hubble images here; in the simulation the truth is known.",
    ),
)


def papers(read: Mapping[str, Results | None]) -> str:
    """Return the table of the papers' numbers."""
    lines = ["| paper | what | theirs | ours | why they differ |", "|---|---|---|---|---|"]
    for line in LINES:
        told = []
        for name in line.runs:
            found = read[name]
            told.append(f"{name}: {NOT_RUN if found is None else line.ours(found)}")
        ours = "<br>".join(told) or "–"
        lines.append(f"| {line.paper} | {line.what} | {line.theirs} | {ours} | {line.why} |")
    return "\n".join(lines)


def marked(page: str, mark: str, content: str) -> str:
    """Return a page with other content between ``<!-- mark -->`` and ``<!-- /mark -->``."""
    before, opened, rest = page.partition(f"<!-- {mark} -->")
    _, closed, after = rest.partition(f"<!-- /{mark} -->")
    if not (opened and closed):
        raise SystemExit(f"the page has no <!-- {mark} --> and <!-- /{mark} -->; put them in")
    return f"{before}{opened}\n\n{content}\n\n{closed}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="folder", type=Path, required=True)
    parser.add_argument("--page", type=Path, default=Path("docs/results/experiments.md"))
    given = parser.parse_args()
    read = {name: Results.read(given.folder / name) for name in RUNS}
    page = given.page.read_text()
    for mark, content in (
        ("glance", glance(read)),
        ("fields", regions(read)),
        ("runs", runs(read)),
        ("papers", papers(read)),
    ):
        page = marked(page, mark, content)
    given.page.write_text(page)
    there = [name for name, found in read.items() if found is not None]
    print(
        f"{given.page}: {len(there)} of {len(read)} runs{': ' if there else ''}{', '.join(there)}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
