"""Audits with labels: columns and tables of truth, causes, refusals, what is reported."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from ppi_py import ppi_mean_ci
from sklearn.metrics import confusion_matrix
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from catalogs import sky
from catalogs.audit.labels import labelled
from catalogs.audit.labels.attribution import labelled_difference, rates_test, sky_difference
from catalogs.audit.labels.confusion import confusion
from catalogs.audit.labels.prediction_powered import Sample
from catalogs.audit.labels.remedies import fall, remedies
from catalogs.audit.reading.covariates import Covariates
from catalogs.audit.reading.table import read as read_all
from catalogs.audit.region import Cap, in_words, parse_part
from catalogs.audit.report import label_document
from catalogs.audit.report.document import headline
from catalogs.audit.run import AuditResult, audit, summary_lines
from catalogs.audit.settings import AuditSettings
from catalogs.errors import InputError
from catalogs.progress import Silent

BOX = sky.Region(0, 20, 0, 20)
NAMED = "ra=0:20,dec=0:20"
RATES, OTHER = (0.949, 0.9686), (0.9055, 0.9813)
WORLDS = {  # fraction of spirals and rates inside the box
    "sky": (0.55, RATES),
    "classifier": (0.49, (0.82, 0.985)),
    "both": (0.57, (0.99, 0.93)),
    "cancelling": (0.533, (0.8755, 0.9801)),
}


def world(name: str | None, seed: int = 3, number: int = 60_000) -> pa.Table:
    """Objects in a part of the sky, a third of them in the box, their truth and answers."""
    rng = np.random.default_rng(seed)
    third = number // 3
    ra = np.r_[rng.uniform(0, 20, third), rng.uniform(20, 60, number - third)]
    dec = np.r_[rng.uniform(0, 20, third), rng.uniform(-20, 20, number - third)]
    inside = BOX.contains(ra, dec)
    p, rates = WORLDS.get(name or "", (0.49, RATES))
    spiral = rng.random(len(ra)) < np.where(inside, p, 0.49)
    tpr, tnr = (np.where(inside, rates[i], RATES[i]) for i in (0, 1))
    called = rng.random(len(ra)) < np.where(spiral, tpr, 1 - tnr)
    names = np.array(["elliptical", "spiral"])
    return pa.table(
        {
            "id": np.arange(len(ra)) + 10**12,
            "ra": ra,
            "dec": dec,
            "label": names[called.astype(int)],
            "truth": names[spiral.astype(int)],
        }
    )


def labels_of(table: pa.Table, inside: int, outside: int, seed: int = 4) -> np.ndarray:
    """Rows that are drawn blind."""
    rng = np.random.default_rng(seed)
    within = BOX.contains(table["ra"].to_numpy(), table["dec"].to_numpy())
    parts = [
        rng.choice(np.flatnonzero(side), number, replace=False)
        for side, number in ((within, inside), (~within, outside))
    ]
    return np.sort(np.concatenate(parts))


def masked(table: pa.Table, rows: np.ndarray) -> pa.Table:
    known = np.zeros(table.num_rows, bool)
    known[rows] = True
    truth = pa.array(table["truth"].to_pylist(), mask=~known)
    return table.set_column(table.schema.get_field_index("truth"), "truth", truth)


def run(folder: Path, table: pa.Table, **settings: object) -> AuditResult:
    pq.write_table(table, folder / "sky.parquet")
    asked = AuditSettings(simulations=1000, **settings)  # type: ignore[arg-type]
    return audit(folder / "sky.parquet", folder / "sky.audit", asked)


def read(folder: Path, table: pa.Table, truth: str) -> dict[str, Any]:
    """Read without any test of the map; the part on labels."""
    pq.write_table(table, folder / "sky.parquet")
    asked = AuditSettings(truth=truth, region=NAMED)
    found = read_all(folder / "sky.parquet", asked, Covariates((), [], ""), Silent())
    assert found.labelled is not None
    assert found.matched is not None
    judged = labelled.attribute(found.labelled, parse_part(NAMED), named=True)
    return label_document.build(found.labelled, found.matched, [judged])


@pytest.mark.parametrize("name", ["sky", "classifier", "both", "cancelling"])
def test_the_cause_is_named(name: str, tmp_path: Path) -> None:
    table = world(name)
    chosen = labels_of(table, 2000, 8000)
    part = read(tmp_path, masked(table, chosen), "truth")
    assert part["attribution"]["cause"] == ("both" if name == "cancelling" else name)
    within = BOX.contains(*places(table, chosen))
    truth, label = (np.array(table[c].to_pylist())[chosen] for c in ("truth", "label"))
    for found, at in (
        (part["whole"], within | ~within),
        (part["attribution"]["inside"], within),
        (part["attribution"]["outside"], ~within),
    ):
        matrix = confusion_matrix(truth[at], label[at])
        assert np.array(found["matrix"]).tolist() == matrix.tolist()
        assert found["tpr"]["value"] == pytest.approx(matrix[1, 1] / matrix[1].sum())
        assert found["tnr"]["value"] == pytest.approx(matrix[0, 0] / matrix[0].sum())
        low, high = found["tnr"]["interval"]
        expected = proportion_confint(matrix[0, 0], matrix[0].sum(), method="wilson")
        assert (low, high) == pytest.approx(expected)


@pytest.mark.parametrize(("name", "alarm"), [("classifier", True), ("cancelling", False)])
def test_the_verdict_names_the_cause(name: str, alarm: bool, tmp_path: Path) -> None:
    """What mistakes hide from the map, labels show: beside the verdict, which is the alarm's."""
    table = world(name)
    known = masked(table, labels_of(table, 2000, 8000))
    known = known.append_column(
        "seeing", pa.array(np.random.default_rng(6).normal(1.2, 0.1, 60_000))
    )
    result = run(tmp_path, known, truth="truth", region=NAMED, covariates=("seeing",), effect=0.1)
    document = result.document
    assert document["nuisances"]["complete"] == document["labels"]["whole"]["objects"] == 60_000
    expected = "classifier" if alarm else "both"
    said = ("anisotropic", expected) if alarm else ("uniform", None)
    assert (document["verdict"], document["cause"]) == said
    assert (document["alarm"]["p"] < 0.05) == alarm
    assert [place["cause"] for place in document["cause_places"]] == [expected]
    apart = "labels show that both the sky and the classifier vary at RA 0° to 20°"
    assert (apart in headline(document)) == (not alarm)
    text = result.report.read_text(encoding="utf-8")
    assert "What the labels say" in text
    assert f"<b>{expected}</b>" in text
    assert any(line.startswith(f"Cause: {expected}") for line in summary_lines(result))
    assert len(document["reasons"]) == (2 if alarm else 0)
    assert json.loads((result.folder / "audit.json").read_text()) == document


def test_a_cause_speaks_of_its_place_only(tmp_path: Path) -> None:
    """The classifier errs in the named box, and the sky varies elsewhere."""
    table = world("classifier")
    rng = np.random.default_rng(5)
    ra, dec = (table[name].to_numpy() for name in ("ra", "dec"))
    far = sky.Region(46, 56, -14, -4).contains(ra, dec)
    spiral = np.array(table["truth"].to_pylist()) == "spiral"
    spiral = np.where(far, rng.random(len(ra)) < 0.61, spiral)
    called = np.array(table["label"].to_pylist()) == "spiral"
    anew = rng.random(len(ra)) < np.where(spiral, RATES[0], 1 - RATES[1])
    called = np.where(far, anew, called)
    names = np.array(["elliptical", "spiral"])
    for name, values in (("truth", spiral), ("label", called)):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array(names[values.astype(int)]))
    rows = labels_of(table, 2000, 8000)
    document = run(tmp_path, masked(table, rows), truth="truth", region=NAMED).document
    assert document["labels"]["attribution"]["cause"] == "classifier"
    # Another place, which the labels of the box say nothing of, has labels of its own.
    assert document["cause"] == "both"
    assert [place["cause"] for place in document["cause_places"]] == ["classifier", "sky"]
    other = document["labels"]["elsewhere"][0]
    found = in_words(parse_part(other["region"]))
    assert parse_part(other["region"]).contains(51, -9).all()
    told = headline(document)
    assert "the classifier varies at RA 0° to 20°" in told
    assert f"the sky varies {found}" in told
    assert "unless the galaxies there are of another kind" in told
    page = (tmp_path / "sky.audit" / "report.html").read_text(encoding="utf-8")
    matrices = re.findall(r'class="plot matrix".*?<title[^>]*>([^:<]*):', page, re.S)
    places_asked = [f"{side} place {number}" for number in (1, 2) for side in ("inside", "outside")]
    assert matrices == ["whole sky", *places_asked]
    # Without labels there its alarm stays unexplained, and no cause is named.
    rows = rows[~Cap(51, -9, 22).contains(ra[rows], dec[rows])]
    document = run(tmp_path, masked(table, rows), truth="truth", region=NAMED).document
    assert document["cause"] == "undetermined"
    assert [place["cause"] for place in document["cause_places"]] == ["classifier"]
    assert "the map alarms elsewhere as well" in headline(document)


def places(table: pa.Table, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return table["ra"].to_numpy()[rows], table["dec"].to_numpy()[rows]


def test_an_even_sky_has_no_cause(tmp_path: Path) -> None:
    table = world(None)
    known = masked(table, labels_of(table, 2000, 8000))
    result = run(tmp_path, known, truth="truth", region=NAMED, effect=0.1)
    document = result.document
    assert (document["verdict"], document["cause"]) == ("uniform", None)
    assert document["labels"]["attribution"]["cause"] == "undetermined"
    # Which axis is worst is said wherever a mean over axes is.
    found = document["detectable"]["dipole"]
    assert found["worst"] > found["mean"]
    worst = f"{found['worst']:.4f} along the worst axis"
    assert worst in headline(document)
    assert any(worst in line and "80% power" in line for line in summary_lines(result)[2:])
    # Colours of the dipole's regions turn round on a dark page; their order does not.
    page = (tmp_path / "sky.audit" / "report.html").read_text(encoding="utf-8")
    assert "95% of the posterior probability, from the inside out" in page


def test_the_scan_finds_the_region_and_tiles_with_labels_are_corrected(tmp_path: Path) -> None:
    table = world("classifier")
    rows = labels_of(table, 3000, 3000)
    result = run(tmp_path, masked(table, rows), truth="truth", correct=True, precision=0.02)
    assert (result.document["verdict"], result.document["cause"]) == ("anisotropic", "classifier")
    found = result.document["labels"]["attribution"]
    assert any("found by the scan" in note for note in found["notes"])
    # Objects inside are those in the cells of the scan whose centres lie in the cap it found.
    places_ = table["ra"].to_numpy(), table["dec"].to_numpy()
    cell = healpy.ang2pix(16, *places_, nest=True, lonlat=True)
    cap = parse_part(found["region"])
    inside = cap.contains(*healpy.pix2ang(16, cell, nest=True, lonlat=True))
    assert found["inside"]["objects"] == np.sum(inside)
    tiles = pq.read_table(result.folder / "tiles.parquet").to_pandas()
    tiles = tiles[tiles.order == 3].set_index("tile")
    sky_map = healpy.read_map(
        result.folder / "corrected.fits", field=None, nest=True, partial=False, dtype=np.float64
    )
    names = Table.read(result.folder / "corrected.fits", hdu=1).colnames
    maps = dict(zip(names, sky_map, strict=True))
    at = healpy.ang2pix(8, *places_, nest=True, lonlat=True)
    truth, answer = (
        (np.array(table[c].to_pylist()) == "spiral").astype(float) for c in ("truth", "label")
    )
    known = np.isin(np.arange(table.num_rows), rows)
    f = np.cov(truth[known], answer[known])[0, 1] / answer.var(ddof=1)  # slope of all labels
    compared = 0
    for tile, row in tiles.iterrows():
        mine, rest = (at == tile) & known, (at == tile) & ~known
        assert row.labels == mine.sum()
        assert maps["labels"][tile] == mine.sum()
        if mine.sum() < 100:
            assert np.isnan(row.corrected)
            assert maps["corrected"][tile] == healpy.UNSEEN
            continue
        t = min(1, f * (known.sum() - 1) / known.sum() * rest.sum() / (mine | rest).sum())
        bounds = ppi_mean_ci(truth[mine], answer[mine], answer[rest], alpha=0.05, lam=t)
        theirs = float(np.mean([np.squeeze(bound) for bound in bounds]))
        assert row.corrected == pytest.approx(theirs, abs=1e-6)
        assert row.corrected_low < bounds[0] < bounds[1] < row.corrected_high
        assert maps["corrected"][tile] == row.corrected
        # More labels are needed where the interval is wider than wanted.
        if row.corrected_high - row.corrected < 0.019:
            assert row.labels_needed < 1.3 * row.labels
        compared += 1
    assert compared > 5
    part = result.document["labels"]["tiles"]
    assert (part["corrected"], part["uncorrected"]) == (compared, len(tiles) - compared)
    lacking = (tiles.labels_needed - tiles.labels).clip(lower=0)
    assert part["labels_missing"] == lacking.sum()
    assert part["most_wanting"][0]["needed"] > part["most_wanting"][0]["labels"]
    drawn = part["map"]
    assert [row["tile"] for row in drawn] == tiles.index[tiles.corrected.notna()].tolist()
    for row in drawn:
        mine = tiles.loc[row["tile"]]
        assert (row["corrected"], row["low"], row["high"]) == pytest.approx(
            (mine.corrected, mine.corrected_low, mine.corrected_high)
        )
        assert (row["labels"], row["objects"]) == (mine.labels, mine.n)
    page = result.report.read_text(encoding="utf-8")
    shown = re.search(r'aria-labelledby="corrected-t".*?</svg>', page, re.DOTALL)
    assert shown is not None
    paths = re.findall(r'<path class="(u|d\w)" d=', shown[0])
    # A tile across the map's edge has two outlines.
    assert compared <= sum(name != "u" for name in paths) <= compared + 4
    assert f"Corrected fraction in {compared} tiles" in shown[0]
    assert "prediction-powered, tuned from all labels" in page
    assert "Newcombe 1998" in page
    assert "McNemar" not in page
    names = [remedy["name"] for remedy in result.document["labels"]["remedies"]]
    assert names == ["sky-balanced training set"]


def test_few_labels_correct_nothing(tmp_path: Path) -> None:
    table = world(None, number=6000)
    with pytest.raises(InputError, match="99 labels for the whole sky"):
        run(tmp_path, masked(table, np.arange(99)), truth="truth", correct=True)


SAID = ("spiral", "within 10° of RA 0.0°, Dec +0.0°")
FEW = ([[50, 5], [30, 70]], [[300, 10], [20, 180]])


@pytest.mark.parametrize(
    ("inside", "outside", "cause", "names"),
    [
        ((0.9, 0.9), (0.95, 0.95), "classifier", ["sky", "background"]),
        ((0.8, 0.96), (0.95, 0.96), "both", ["sky", "de-biasing"]),
        ((0.8, 0.98), (0.95, 0.95), "classifier", ["sky", "de-biasing"]),
        ((0.98, 0.8), (0.95, 0.95), "classifier", ["sky", "de-biasing"]),
        ((0.95, 0.9), (0.95, 0.95), "classifier", ["sky", "de-biasing"]),
        ((0.92, 0.94), (0.95, 0.95), "classifier", ["sky", "more labels"]),
        ((0.95, 0.95), (0.95, 0.95), "sky", ["none"]),
        ((0.95, 0.95), (0.95, 0.95), "undetermined", ["more labels"]),
    ],
)
def test_remedies_follow_the_mistakes(
    inside: tuple[float, float], outside: tuple[float, float], cause: str, names: list[str]
) -> None:
    def side(tpr: float, tnr: float) -> Sample:
        matrix = [[2000 * tnr, 2000 - 2000 * tnr], [2000 - 2000 * tpr, 2000 * tpr]]
        return Sample.of_labels(matrix, 1000, 500)

    found = labelled.Attribution(
        Cap(0, 0, 10),
        True,
        cause,
        *(confusion(side(*rates), hard=True) for rates in (inside, inside, outside)),
        rates_test(side(*inside), side(*outside)),
        0.5,
        False,
        sky_difference(side(*inside), side(*outside)),
        labelled_difference(side(*inside), side(*outside)),
        labelled.DrawTests(1.0, ()),
        (),
    )
    picked = replace(found, drawn=labelled.DrawTests(1e-4, ()), obstacles=("no blind draw",))
    assert [remedy.name for remedy in remedies(picked, *SAID)] == ["labels drawn blind"]
    # A cap that the scan found on an even map names nothing, whatever its labels say.
    even = labelled.in_noise(found)
    assert even.cause == "undetermined"
    assert "the map does not alarm" in even.obstacles[-1]
    assert [remedy.name for remedy in remedies(even, *SAID)] == ["more labels"]
    got = remedies(found, *SAID, ("seeing",))
    assert all(remedy.name.startswith(name) for remedy, name in zip(got, names, strict=True))
    assert ("seeing" in got[-1].why) == (names[-1] == "de-biasing")
    assert SAID[1] in got[-1].why or names[-1] == "more labels"
    if names == ["sky", "more labels"]:
        assert "whether others are taken for spiral more often as well (by +0.0100" in got[-1].why
    # Without a blurring condition one kind of mistake more and one less is a leaning classifier.
    opposite = (inside[0] - outside[0]) * (inside[1] - outside[1]) < 0
    assert (len(remedies(found, *SAID)) < len(got)) == opposite


def test_a_fall_of_a_rate_has_newcombes_interval() -> None:
    rates = [confusion(Sample.of_labels(m, 0, 0), hard=True).tpr for m in FEW]
    found = fall("true members", "missed", *rates)
    assert found is not None
    (a, b) = ((m[1][1], sum(m[1])) for m in FEW)
    low, high = confint_proportions_2indep(*b, *a, method="newcomb", compare="diff")
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.sign == 1
    assert found.spared(replace(found, value=0.7))
    assert not found.spared(found)


def test_few_labels_name_no_cause(tmp_path: Path) -> None:
    table = world("sky")
    found = read(tmp_path, masked(table, labels_of(table, 60, 900)), "truth")["attribution"]
    assert (found["cause"], found["rates"], found["sky"]) == ("undetermined", None, None)
    assert "60 labels inside" in found["obstacles"][0]


def test_labels_picked_by_their_answers_name_no_cause(tmp_path: Path) -> None:
    table = world("sky")
    called = np.array(table["label"].to_pylist()) == "spiral"
    rng = np.random.default_rng(9)
    picked = np.flatnonzero(rng.random(table.num_rows) < np.where(called, 0.08, 0.04))
    found = read(tmp_path, masked(table, picked), "truth")["attribution"]
    assert found["cause"] == "undetermined"
    assert found["sky"]["p"] < 0.025
    assert "no blind draw" in found["obstacles"][-1]


def test_labels_that_are_no_blind_draw_correct_nothing(tmp_path: Path) -> None:
    table = world("sky", number=20_000)
    called = np.array(table["label"].to_pylist()) == "spiral"
    rng = np.random.default_rng(9)
    picked = np.flatnonzero(rng.random(table.num_rows) < np.where(called, 0.3, 0.2))
    with pytest.raises(InputError, match="no blind draw of the catalog, and corrected") as error:
        run(tmp_path, masked(table, picked), truth="truth", correct=True)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "sky.audit").exists()
    # Tiles labelled at different rates are a blind draw within each, though not of the sky.
    east = table["ra"].to_numpy() < 20
    uneven = np.flatnonzero(rng.random(table.num_rows) < np.where(east, 0.5, 0.1))
    result = run(tmp_path, masked(table, uneven), truth="truth", correct=True)
    assert result.document["labels"]["tiles"]["corrected"] > 5


def test_labels_of_bright_objects_name_no_sky(tmp_path: Path) -> None:
    """An even sky; faint spirals are missed inside the box, and only bright objects have labels."""
    table = world(None)
    rng = np.random.default_rng(12)
    inside = BOX.contains(table["ra"].to_numpy(), table["dec"].to_numpy())
    bright = rng.random(table.num_rows) < 0.4
    missed = inside & ~bright & (rng.random(table.num_rows) < 0.12)
    label = np.where(missed, "elliptical", np.array(table["label"].to_pylist()))
    table = table.set_column(3, "label", pa.array(label))
    rows = np.flatnonzero(bright & (rng.random(table.num_rows) < 0.05))
    found = read(tmp_path, masked(table, rows), "truth")["attribution"]
    # Corrected fractions differ, mistakes of the labelled do not, and their answers are like those
    # of the others: all that made it the sky.
    assert found["sky"]["p"] < 0.025 < found["rates"]["p"]
    assert found["blind"]["p"] > found["blind"]["level"]
    assert found["cause"] == "undetermined"
    assert "they alone differ by" in found["obstacles"][-1]
    known = np.array(table["truth"].to_pylist())[rows] == "spiral"
    a, b = known[inside[rows]], known[~inside[rows]]
    assert found["labels_alone"]["difference"] == pytest.approx(a.mean() - b.mean())
    z = (a.mean() - b.mean()) / np.hypot(a.std() / len(a) ** 0.5, b.std() / len(b) ** 0.5)
    assert found["labels_alone"]["z"] == pytest.approx(z, rel=0.02)
    told = "\n".join(label_document._attribution_lines(found, "spiral"))
    assert "do mistakes differ? no sign of it" in told
    assert "do labels alone show it? no sign of it" in told


def faint_missed(labels: float, bright_only: bool) -> pa.Table:
    """An even sky; faint spirals are missed inside the box; labels of some, blind or bright."""
    table = world(None)
    rng = np.random.default_rng(12)
    inside = BOX.contains(table["ra"].to_numpy(), table["dec"].to_numpy())
    mag = rng.uniform(14, 18, table.num_rows)
    missed = inside & (mag > 15.6) & (rng.random(table.num_rows) < 0.12)
    label = np.where(missed, "elliptical", np.array(table["label"].to_pylist()))
    table = table.set_column(3, "label", pa.array(label)).append_column("mag", pa.array(mag))
    pick = rng.random(table.num_rows) < labels
    return masked(table, np.flatnonzero(pick & (mag < 15.6) if bright_only else pick))


def asked_of_the_box(folder: Path, table: pa.Table, **settings: Any) -> labelled.Attribution:
    pq.write_table(table, folder / "sky.parquet")
    asked = AuditSettings(truth="truth", region=NAMED, **settings)
    covariates = Covariates(asked.covariates, table.column_names, "", asked.intrinsic)
    found = read_all(folder / "sky.parquet", asked, covariates, Silent())
    assert found.labelled is not None
    return labelled.attribute(found.labelled, parse_part(NAMED), named=True)


def test_a_declared_draw_names_a_sky_that_labels_alone_do_not_show(tmp_path: Path) -> None:
    table = world("sky")
    known = masked(table, labels_of(table, 300, 1200))
    known = known.append_column("mag", pa.array(np.random.default_rng(7).normal(17, 1, 60_000)))
    asked = {"truth": "truth", "region": NAMED, "covariates": ("mag",), "intrinsic": ("mag",)}
    by_default = run(tmp_path, known, **asked)
    found = by_default.document["labels"]["attribution"]
    assert found["sky"]["p"] < 0.001 < 0.025 < found["labels_alone"]["p"]
    assert by_default.document["cause"] == "undetermined"
    assert "it would be sky if" in found["obstacles"][-1]
    assert "--labels-blind" in found["obstacles"][-1]
    declared = run(tmp_path, known, labels_blind=True, **asked)
    assert declared.document["cause"] == "sky"
    assert "labels, declared a blind draw, show that the sky varies" in headline(declared.document)
    assert "made from the same images may share what these hide" in headline(declared.document)
    blind = declared.document["labels"]["attribution"]["blind"]
    assert blind["declared"]
    assert blind["covariates"][0]["p"] > 0.001 < blind["p"]
    page = declared.report.read_text(encoding="utf-8")
    for text in ("\n".join(summary_lines(declared)), page):
        assert re.search(r"are declared a blind draw.*are they other objects\?", text, re.I | re.S)
        assert "among objects of equal mag? no sign of it" in text.replace("No ", "no ")
        assert f"mag p {blind['covariates'][0]['p']:.2g}" in text
        assert re.search(r"the labels say (.|&#39;)elliptical\1 \d+", text, re.I)
    assert "labels_blind=True" in page
    with pytest.raises(InputError, match="labels_blind needs labels"):
        AuditSettings(labels_blind=True)


def test_magnitudes_refute_a_declared_draw_of_bright_objects(tmp_path: Path) -> None:
    table = faint_missed(0.05, bright_only=True)
    believed = asked_of_the_box(tmp_path, table, labels_blind=True)
    assert believed.cause == "sky"  # nothing was read that could tell
    found = asked_of_the_box(tmp_path, table, labels_blind=True, covariates=("mag",))
    assert found.cause == "undetermined"
    mag = table["mag"].to_numpy()
    known = np.array([truth is not None for truth in table["truth"].to_pylist()])
    inside = BOX.contains(table["ra"].to_numpy(), table["dec"].to_numpy())
    assert found.drawn is not None
    draw = found.drawn.covariates[0]
    side = inside if draw.where == "inside the region" else ~inside
    assert (draw.known, draw.others) == pytest.approx(
        (mag[known & side].mean(), mag[~known & side].mean())
    )
    assert (
        f"in mag (mean {draw.known:.4g} against {draw.others:.4g} {draw.where}"
        in (found.obstacles[0])
    )
    assert [one.name for one in remedies(found, *SAID)] == ["labels drawn blind"]
    with pytest.raises(InputError, match=r"in mag \(mean .* within tiles"):
        run(tmp_path, table, truth="truth", correct=True, covariates=("mag",))
    # Labels that are a draw of all, at another density inside, are none the worse for it.
    blind = faint_missed(0.05, bright_only=False)
    known = np.array([truth is not None for truth in blind["truth"].to_pylist()])
    thinner = np.flatnonzero(known & (inside | (np.arange(len(known)) % 4 == 0)))
    fair = asked_of_the_box(tmp_path, masked(blind, thinner), covariates=("mag",))
    assert fair.drawn is not None
    assert fair.drawn.refuted is None
    assert fair.cause == "classifier"


def test_what_has_no_value_is_a_class_of_its_own(tmp_path: Path) -> None:
    """Redshifts that only labelled objects have, or that only some of them lack."""
    table = world(None, number=9000)
    table = masked(table, labels_of(table, 500, 1000))
    known = np.array([truth is not None for truth in table["truth"].to_pylist()])
    rng = np.random.default_rng(18)
    z = rng.uniform(0, 0.2, 9000)

    def drawn(missing: np.ndarray) -> labelled.DrawTests:
        column = pa.array(z, mask=missing)
        found = asked_of_the_box(tmp_path, table.append_column("z", column), covariates=("z",))
        assert found.drawn is not None
        return found.drawn

    assert drawn(rng.random(9000) < 0.4).refuted is None
    assert drawn(rng.random(9000) < 0.4 * known).refuted is not None
    assert "against no value" in (drawn(~known).refuted or "")
    assert drawn(np.ones(9000, bool)).covariates == ()


def test_easier_galaxies_inside_are_no_other_classifier(tmp_path: Path) -> None:
    """The classifier sees each image alike everywhere; three of four are bright inside."""
    rng = np.random.default_rng(14)
    number = 60_000
    table = world(None, number=number)
    inside = BOX.contains(table["ra"].to_numpy(), table["dec"].to_numpy())
    bright = rng.random(number) < np.where(inside, 0.75, 0.4)
    mag = np.where(bright, rng.uniform(14, 16, number), rng.uniform(16, 18, number))
    spiral = rng.random(number) < np.where(inside, 0.43, 0.49)
    right = rng.random(number) < np.where(bright, 0.97, 0.8)
    names = np.array(["elliptical", "spiral"])
    table = pa.table(
        {
            **{name: table[name] for name in ("id", "ra", "dec")},
            "label": names[(spiral == right).astype(int)],
            "truth": names[spiral.astype(int)],
            "mag": mag,
        }
    )
    table = masked(table, labels_of(table, 2000, 8000))
    declared = {"labels_blind": True, "covariates": ("mag",)}
    assert asked_of_the_box(tmp_path, table, **declared).cause == "both"
    found = asked_of_the_box(tmp_path, table, **declared, intrinsic=("mag",))
    assert found.p_rates is not None
    assert found.p_rates < 1e-6 < 0.025 < found.p_equal[0][1]
    assert found.cause == "sky"


def test_a_table_of_labels_is_matched_by_id_or_position(tmp_path: Path) -> None:
    table = world("classifier")
    rows = labels_of(table, 2000, 8000)
    asked = read(tmp_path, masked(table, rows), "truth")
    labels = table.take(rows)
    catalog = table.drop_columns("truth")
    rng = np.random.default_rng(5)
    order = rng.permutation(len(rows))
    # Labels as text, in another order, with one that contradicts itself.
    by_id = pa.table({"id": labels["id"].cast(pa.string()), "kind": labels["truth"]}).take(order)
    csv.write_csv(by_id, tmp_path / "labels.csv")
    found = read(tmp_path, catalog, f"{tmp_path}/labels.csv:kind")
    assert found["attribution"] == asked["attribution"]
    assert (found["source"]["how"], found["source"]["matched"]) == ("id", 10_000)
    # Positions half an arcsecond off, an object without label 1.5 arcsec from one with label,
    # and a label where there is no object.
    shifted = pa.table(
        {
            "RA": np.r_[labels["ra"].to_numpy(), 200.0],
            "DEC": np.r_[np.clip(labels["dec"].to_numpy() + 0.5 / 3600, -90, 90), 89.9],
            "truth": [*labels["truth"].to_pylist(), "spiral"],
        }
    ).take(rng.permutation(len(rows) + 1))
    pq.write_table(shifted, tmp_path / "labels.parquet")
    extra = pa.table(
        {
            "id": [1],
            "ra": labels["ra"][:1],
            "dec": [labels["dec"][0].as_py() + 2.0 / 3600],
            "label": ["spiral"],
        }
    )
    both = pa.concat_tables([extra, catalog])
    found = read(tmp_path, both, f"{tmp_path}/labels.parquet")
    assert found["whole"]["matrix"] == asked["whole"]["matrix"]
    assert found["source"] | {"source": ""} == {
        "source": "",
        "how": "position",
        "labels": 10_001,
        "matched": 10_000,
        "contradicting": 0,
        "no_shape": 0,
        "values": [("elliptical", 5144), ("spiral", 4857)],
        "counted": "labels: truth is spiral",
    }


def test_numbers_are_labels_of_any_answer(tmp_path: Path) -> None:
    table = world("sky", number=6000)
    spiral = np.array(table["truth"].to_pylist()) == "spiral"
    merger = np.where(np.array(table["label"].to_pylist()) == "spiral", "merger", "other")
    expected = read(tmp_path, table, "truth")["whole"]["matrix"]
    table = table.set_column(3, "label", pa.array(merger))
    for truth in (spiral, spiral.astype(np.int8), spiral.astype(float)):
        known = table.set_column(4, "truth", pa.array(truth))
        pq.write_table(known, tmp_path / "sky.parquet")
        asked = AuditSettings(truth="truth", answer="merger")
        found = read_all(tmp_path / "sky.parquet", asked, Covariates((), [], ""), Silent())
        assert found.labelled is not None
        whole = confusion(found.labelled.tiles.sum(), hard=True)
        assert np.array(whole.matrix).tolist() == np.array(expected).tolist()


def test_contradicting_labels_are_left_out(tmp_path: Path) -> None:
    table = world(None, number=6000)
    labels = pa.table({"id": [10**12, 10**12 + 1, 10**12, 10**12 + 1], "truth": [1, 0, 0, 0]})
    pq.write_table(labels, tmp_path / "l.parquet")
    source = read(tmp_path, table.drop_columns("truth"), str(tmp_path / "l.parquet"))["source"]
    assert (source["matched"], source["contradicting"]) == (1, 1)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ("tuth", "neither a column of"),
        ("l.parquet:kinds", "no column 'kinds'"),
        ("l.parquet", "which column holds the labels"),
        ("l.parquet:kind", "never says 'spiral'"),
        ("l.parquet:far", "not of the same objects"),
        ("l.parquet:none", "holds no label"),
        ("other.parquet:truth", "no object of the catalog has a label"),
        ("empty", "no object of the catalog has a label"),
    ],
)
def test_bad_labels_are_refused_in_one_line(truth: str, message: str, tmp_path: Path) -> None:
    table = world(None, number=3000).drop_columns("truth")
    table = table.append_column("empty", pa.nulls(table.num_rows, pa.string()))
    labels = pa.table(
        {
            "id": table["id"][:400],
            "ra": np.roll(table["ra"].to_numpy()[:400], 1),
            "dec": table["dec"][:400],
            "kind": np.tile(["disk", "smooth"], 200),
            "far": np.tile([0, 1], 200),
            "none": pa.nulls(400, pa.int8()),
        }
    )
    pq.write_table(labels, tmp_path / "l.parquet")
    pq.write_table(pa.table({"id": [1, 2], "truth": [0, 1]}), tmp_path / "other.parquet")
    asked = truth if ".parquet" not in truth else str(tmp_path / truth)
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path, table, asked)
    assert "\n" not in str(error.value)


def test_labels_that_are_the_answers_are_refused(tmp_path: Path) -> None:
    table = world("classifier", number=6000)
    with pytest.raises(InputError, match=r"truth 'label': is the column of the answers") as error:
        read(tmp_path, table, "label")
    assert "\n" not in str(error.value)
    # A copy under another name, beside the answers or in a table; of some rows only.
    copied = table.append_column("copy", table["label"])
    pq.write_table(copied.slice(500, 1200), tmp_path / "l.parquet")
    for truth in ("copy", f"{tmp_path}/l.parquet:copy"):
        with pytest.raises(InputError, match=r"copy': all [16],[0-9]+ labels equal") as error:
            read(tmp_path, copied if truth == "copy" else table, truth)
        assert "\n" not in str(error.value)
    # Probabilities, copied: labels are those from .5 on.
    p = np.random.default_rng(1).random(6000)
    soft = table.append_column("p", pa.array(p)).append_column("copy", pa.array(p))
    pq.write_table(soft, tmp_path / "sky.parquet")
    asked = AuditSettings(truth="copy", label="p", probabilities=True)
    with pytest.raises(InputError, match="all 6,000 labels equal the answers"):
        read_all(tmp_path / "sky.parquet", asked, Covariates((), [], ""), Silent())
    # A good classifier without a mistake among few labels is no copy.
    perfect = masked(table.set_column(4, "truth", table["label"]), np.arange(400))
    assert read(tmp_path, perfect, "truth")["whole"]["labels"] == 400


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("ra=350:10,dec=-5:5", (355, 0), (15, 0)),
        ("180..200,0..20", (190, 10), (190, 20)),
        ("cap:180,60,5", (172, 61), (168, 60)),
    ],
)
def test_regions(text: str, inside: tuple[float, float], outside: tuple[float, float]) -> None:
    part = parse_part(text)
    assert part.contains(*inside).all()
    assert not part.contains(*outside).any()
    assert parse_part(str(part)) == part


@pytest.mark.parametrize("text", ["cap:1,2", "cap:400,0,5", "cap:1,2,95", "ra=0:20", "0..20", ""])
def test_bad_regions_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="region"):
        parse_part(text)
    with pytest.raises(InputError, match="region"):
        AuditSettings(truth="truth", region=text)


def test_a_region_or_a_correction_needs_labels() -> None:
    assert Cap(1, 2, 3).contains(1, 2).all()
    with pytest.raises(InputError, match="needs labels"):
        AuditSettings(region="cap:1,2,3")
    with pytest.raises(InputError, match="needs labels"):
        AuditSettings(correct=True)
