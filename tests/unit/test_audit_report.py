"""The report: what it says and may load, and what a real browser makes of it."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import healpy
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import Page, browser, executable
from scipy import stats

import skytally
from catalogs import sky
from catalogs.audit.report import document as sentences
from catalogs.audit.report import wording
from catalogs.audit.report.figures import funnel, posterior
from catalogs.audit.report.figures.projection import Mollweide, boundary, outlines
from catalogs.audit.report.page import render
from catalogs.audit.run import AuditResult, audit, summary_lines
from catalogs.audit.settings import DEFAULT_RADII, AuditSettings
from catalogs.audit.uniformity.analysis import tile_table
from catalogs.audit.uniformity.dipole import Dipole
from catalogs.audit.uniformity.tiles import TileCounts

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'{{7*7}}"
WIDE, PHONE = 1280, 390


def table(number: int, name: str, answer: str) -> pa.Table:
    rng = np.random.default_rng(50)
    ra, dec = rng.uniform(0, 360, number), np.degrees(np.arcsin(rng.uniform(-1, 1, number)))
    p = 0.4 + 0.3 * sky.Region(150, 200, 0, 40).contains(ra, dec)
    said = np.where(rng.random(number) < p, answer, "other")
    return pa.table({"ra": ra, "dec": dec, name: said})


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> AuditResult:
    """An audit in which every text from the user is an attack."""
    folder = tmp_path_factory.mktemp("audit") / "<b onclick=alert(3)>"
    folder.mkdir()
    answer = HOSTILE.replace("|", "")
    pq.write_table(table(60_000, HOSTILE, answer), folder / "sky.parquet")
    settings = AuditSettings(answer=answer, label=HOSTILE, simulations=1000, min_n=10)
    return audit(folder / "sky.parquet", folder / "sky.audit", settings)


class Reader(html.parser.HTMLParser):
    """Everything that a page has, as its tags stand there."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def read(result: AuditResult) -> tuple[str, Reader]:
    text, reader = result.report.read_text(encoding="utf-8"), Reader()
    reader.feed(text)
    return text, reader


def test_nothing_is_loaded_and_nothing_foreign_runs(hostile: AuditResult) -> None:
    text, page = read(hostile)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    for kind in ("style", "script"):
        own = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        assert len(own) == 1
        digest = base64.b64encode(hashlib.sha256(own[0].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    scripts = [a for tag, a in page.tags if tag == "script"]
    assert [a.get("type") for a in scripts] == ["application/json", None]
    assert not [name for _, a in page.tags for name in a if name.startswith("on")]
    assert not [a for _, a in page.tags if "style" in a]
    linked = [a[key] for _, a in page.tags for key in ("src", "href", "xlink:href") if key in a]
    assert all(link and link.startswith(("#", "data:")) for link in linked)
    assert "<img src=x" not in text
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in text
    data = re.search(r'id="map-data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    assert json.loads(data[1])[0]["nside"] == 4


def test_the_page_can_be_read_aloud(hostile: AuditResult) -> None:
    text, page = read(hostile)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("h1") == tags.count("main") == tags.count("nav") == 1
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    known = {a["id"] for _, a in page.tags if "id" in a}
    assert len(known) == sum("id" in a for _, a in page.tags)
    pointed = [a[key] for _, a in page.tags for key in ("aria-labelledby", "for") if a.get(key)]
    pointed += [a["href"][1:] for _, a in page.tags if (a.get("href") or "").startswith("#")]
    assert set(pointed) <= known
    for tag, attributes in page.tags:
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-labelledby"]
        if tag == "section":
            assert attributes["aria-labelledby"]
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
    assert tags.count("figure") == tags.count("figcaption")
    assert all(test["name"] in text for test in hostile.document["tests"])


def test_the_command_makes_the_audit_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = HOSTILE.replace("|", "")
    pq.write_table(table(2_000, HOSTILE, answer), tmp_path / "it's a table.parquet")
    settings = AuditSettings(answer=answer, label=HOSTILE, simulations=1000, radii=(90.0,))
    monkeypatch.chdir(tmp_path)
    document = audit("it's a table.parquet", "first.audit", settings).document
    code = wording.again(document)  # 1,000 simulations are no option of the command
    exec(code, {})  # what a reader would do
    assert json.loads((tmp_path / wording.NAME / "audit.json").read_text()) == document

    given = document["settings"] | {"simulations": 2000, "radii": list(DEFAULT_RADII)}
    words = shlex.split(wording.again(document | {"settings": given}))
    assert words[:3] == ["skytally", "audit", "it's a table.parquet"]
    assert words[words.index("--answer") + 1] == answer
    shown = subprocess.run(
        [sys.executable, "-m", "skytally", "audit", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(skytally.__file__).parent,
    ).stdout
    for option in wording.COMMAND_OPTIONS:
        assert f"--{option.replace('_', '-')}" in shown


# ------------------------------------------------------------------ in a browser

needs_browser = pytest.mark.skipif(executable() is None, reason="no Chromium here")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_chromium_complains_of_nothing(
    hostile: AuditResult, chromium: Page, scheme: str, width: int
) -> None:
    chromium.media(scheme)
    chromium.open(hostile.report, width)
    assert chromium.run("document.title").startswith("Sky audit: anisotropic")
    assert chromium.run("document.documentElement.scrollWidth") <= width
    assert chromium.run("typeof window.alerted") == "undefined"
    background = chromium.run("getComputedStyle(document.body).backgroundColor")
    shade = [int(v) for v in re.findall(r"\d+", background)]
    assert (max(shade) < 60) == (scheme == "dark")
    assert chromium.run(CONTRAST) >= 4.5
    assert chromium.troubles == []
    assert {url.partition(":")[0] for url in chromium.requests} <= {"file", "data"}


# The smallest contrast of text with its background (WCAG 2.1, section 1.4.3).
CONTRAST = """(() => {
  const light = (c) => {
    const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (e) => {
    const c = getComputedStyle(e).backgroundColor;
    return c === "rgba(0, 0, 0, 0)" && e.parentElement ? behind(e.parentElement) : c;
  };
  const texts = [...document.querySelectorAll("p, li, dt, dd, th, td, h1 span, h1 small, a, text")];
  return Math.min(...texts.filter((e) => e.textContent.trim()).map((e) => {
    const style = getComputedStyle(e);
    const [a, b] = [light(e.tagName === "text" ? style.fill : style.color), light(behind(e))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }));
})()"""


def field(page: Page, name: str) -> str:
    return page.run(f"document.querySelector('[data-field={name}]').textContent")


@needs_browser
def test_a_tile_answers_to_mouse_and_keyboard(hostile: AuditResult, chromium: Page) -> None:
    chromium.media()
    chromium.open(hostile.report, WIDE)
    first = hostile.analysis.tables[0]
    most = int(np.argmax(np.abs(first.z)))
    assert field(chromium, "tile") == f"{first.tiles[most]} (nside 4)"
    assert field(chromium, "n") == f"{first.n[most]:,}"
    assert field(chromium, "state") == "flagged"

    other = int(first.tiles[np.argmin(np.abs(first.z))])
    path = f"document.querySelector('g.tiles').children[{at_path(chromium, other)}]"
    box = chromium.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])"
                       f"({path}.getBoundingClientRect())")  # fmt: skip
    chromium.run(f"window.scrollTo(0, {box[1] - 300})")
    y = box[1] - chromium.run("window.scrollY")
    chromium.mouse("mouseMoved", box[0], y)
    assert field(chromium, "tile") == f"{other} (nside 4)"
    chromium.mouse("mouseMoved", 5, 5)
    assert field(chromium, "tile") == f"{first.tiles[most]} (nside 4)"
    for kind in ("mousePressed", "mouseReleased"):
        chromium.mouse(kind, box[0], y, button="left", clickCount=1)
    chromium.mouse("mouseMoved", 5, 5)
    assert field(chromium, "tile") == f"{other} (nside 4)"

    chromium.run("document.getElementById('map').focus()")
    chromium.key("ArrowRight")
    assert field(chromium, "tile") != f"{other} (nside 4)"
    assert field(chromium, "tile") in chromium.run("document.getElementById('said').textContent")
    chromium.key("Home")
    assert field(chromium, "tile") == f"{first.tiles[most]} (nside 4)"
    whole = view(chromium)
    chromium.key("+")
    assert view(chromium)[2] < whole[2]
    chromium.key("0")
    assert view(chromium) == whole
    chromium.run("document.querySelector('input[value=z]').click()")
    kinds = chromium.run(
        "[...document.querySelector('g.tiles').children].map(p => p.getAttribute('class'))"
    )
    assert kinds[at_path(chromium, int(first.tiles[most]))] == "da"
    chromium.run("document.querySelector('input[name=nside][value=\"1\"]').click()")
    assert field(chromium, "tile").endswith("(nside 16)")
    assert chromium.troubles == []


def at_path(page: Page, tile: int) -> int:
    return page.run(
        "(t => { const i = t.tile.indexOf(" + str(tile) + ");"
        " return t.path ? t.path.indexOf(i) : i; })"
        "(JSON.parse(document.getElementById('map-data').textContent)[0])"
    )


def view(page: Page) -> list[float]:
    box = page.run("document.querySelector('#map svg').getAttribute('viewBox')")
    return [float(value) for value in box.split()]


@needs_browser
def test_print_is_light_and_whole(hostile: AuditResult, chromium: Page) -> None:
    chromium.media("dark")
    chromium.open(hostile.report, WIDE)
    content = chromium.pdf()
    assert content.startswith(b"%PDF")
    chromium.media("dark", "print")
    assert chromium.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    chromium.size(700, 900)  # A4 without its margins
    wide = chromium.run(
        "[...document.querySelectorAll('svg, table, pre')].filter(e => e.offsetParent !== null ||"
        " e.tagName === 'svg').map(e => e.getBoundingClientRect().right)"
    )
    assert max(wide) <= 700
    assert chromium.troubles == []


@needs_browser
def test_a_whole_sky_at_nside_32_is_under_five_megabytes(
    hostile: AuditResult, chromium: Page, tmp_path: Path
) -> None:
    rng = np.random.default_rng(51)
    tiles = np.arange(12 * 4**5)
    n = rng.integers(900, 1200, len(tiles))
    k = rng.binomial(n, 0.4).astype(np.float64)
    counts = TileCounts(5, tiles, n, k, float(k.sum()), labels=True)
    tested = tile_table(counts, AuditSettings(min_difference=0), testing=True)
    analysis = replace(hostile.analysis, order=5, tables=(tested,))
    page = tmp_path / "report.html"
    page.write_text(render(hostile.document, analysis), encoding="utf-8")
    assert page.stat().st_size < 5_000_000
    chromium.open(page, WIDE)
    assert chromium.run("document.querySelectorAll('#map g.tiles path').length") >= len(tiles)
    assert chromium.troubles == []


# ------------------------------------------------------------------ figures


def test_the_posterior_of_the_direction_is_that_of_draws() -> None:
    covariance = np.diag([4e-4, 1e-4, 2.25e-4])
    dipole = Dipole(np.array([0.01, 0.02, -0.005]), covariance, 0.0)
    order = 3
    centres = sky.unit_vectors(*sky.tile_centres(np.arange(12 * 4**order), order))
    density = posterior.direction_density(dipole, centres)
    draws = np.random.default_rng(52).multivariate_normal(dipole.vector, covariance, 400_000)
    pixel = healpy.vec2pix(2**order, *draws.T, nest=True)
    share = np.bincount(pixel, minlength=12 * 4**order) / len(draws)
    np.testing.assert_allclose(density / density.sum(), share, atol=6e-4)
    found, tiles, reached = posterior.regions(dipole)
    inside = np.isin(healpy.vec2pix(2**found, *draws.T, nest=True), tiles)
    assert inside.mean() == pytest.approx(0.95, abs=0.004)
    assert reached[-1] >= 0.95

    lengths = np.linalg.norm(draws, axis=1)
    amplitudes = np.linspace(0, 0.15, 301)
    density = posterior.amplitude_density(dipole, amplitudes)
    mean = (amplitudes * density).sum() * 0.0005
    assert mean == pytest.approx(lengths.mean(), rel=0.01)


@pytest.mark.parametrize("strength", [0.0, 1.0, 8.0, 200.0])
def test_the_posterior_stays_finite(strength: float) -> None:
    dipole = Dipole(np.array([0.0, 0.0, strength * 0.01]), np.eye(3) * 1e-4, 0.0)
    _, tiles, share = posterior.regions(dipole)
    assert np.all(np.isfinite(share))
    z = sky.unit_vectors(*sky.tile_centres(tiles, posterior.regions(dipole)[0]))[:, 2]
    assert (z.min() > 0) == (strength >= 8)


def test_funnel_limits_hold_their_share() -> None:
    n = np.array([37.0, 150.0, 2000.0])
    for level in (0.95, 0.998):
        low, high = funnel.limits(n, 0.3, 0.21, level, labels=True)
        inside = stats.binom.cdf(np.floor(high * n), n, 0.3) - stats.binom.cdf(
            np.ceil(low * n) - 1, n, 0.3
        )
        np.testing.assert_allclose(inside, level, atol=0.03)
        flat = funnel.limits(n, 0.3, 0.21, level, labels=False)
        np.testing.assert_allclose((low[-1], high[-1]), (flat[0][-1], flat[1][-1]), atol=2e-3)


def test_outlines_hold_their_tiles_and_nothing_leaves_the_map() -> None:
    order, projection = 3, Mollweide(120.0)
    tiles = np.arange(12 * 4**order)
    shapes, owner = outlines(tiles, order, projection)
    assert set(owner.tolist()) == set(tiles.tolist())
    corners = np.concatenate(shapes)
    assert np.all((corners[:, 0] / 2) ** 2 + corners[:, 1] ** 2 <= 1 + 1e-9)

    def area(xy: np.ndarray) -> float:
        x, y = xy.T
        return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2

    # Mollweide keeps areas: each tile has its share of the ellipse.
    mine = np.bincount(owner, [area(shape) for shape in shapes])
    np.testing.assert_allclose(mine, 2 * np.pi / len(tiles), rtol=0.03)


def test_a_footprints_outline_is_closed() -> None:
    inside = sky.Region(40, 90, -20, 30)
    order = 4
    tiles = np.arange(12 * 4**order)
    cells = tiles[inside.contains(*sky.tile_centres(tiles, order))]
    ends = np.round(np.concatenate(boundary(cells, order, Mollweide(60.0))), 6)
    _, times = np.unique(ends, axis=0, return_counts=True)
    assert np.all(times % 2 == 0)
    assert len(boundary(tiles, order, Mollweide(0.0))) == 0


def test_a_name_forges_no_line_of_the_summary(hostile: AuditResult) -> None:
    forged = "a\nVerdict: uniform\x1b]0;title\x07\u2028\u202e\x9b31m"
    settings = hostile.document["settings"] | {"answer": forged}
    lines = summary_lines(replace(hostile, document=hostile.document | {"settings": settings}))
    assert sum(line.startswith("Verdict:") for line in "\n".join(lines).splitlines()) == 1
    assert not set("\n\x1b\x07\u2028\u202e\x9b") & set("".join(lines))
    assert any(r"a\nVerdict: uniform\x1b]0;title\x07\u2028\u202e\x9b31m" in line for line in lines)


def test_flagged_tiles_beside_no_alarm_are_told(hostile: AuditResult) -> None:
    document = hostile.document | {"verdict": "uniform"}
    made = sum(test["p"] is not None for test in document["tests"])
    assert sentences.flagged_text(document | {"flagged": []}) == ""
    said = f"One tile has q < 0.05; over {made} tests this does not alarm."
    beside = document | {"flagged": [{}]}
    assert said in sentences.summary(beside)
    assert said in wording.findings(beside)
    assert sentences.flagged_text(beside | {"verdict": "anisotropic"}) == ""


@pytest.mark.parametrize(
    ("p_clustered", "cause", "said"),
    [
        ((0.2, 0.06), "undetermined", True),
        ((0.2, 0.01), "undetermined", False),
        ((0.2, 0.03), "undetermined", True),  # the smaller of two looks
        ((0.2, 0.2), "classifier", False),
        ((None, None), "undetermined", False),
    ],
)
def test_the_first_sentence_says_when_clustering_suffices(p_clustered, cause, said) -> None:
    document = {
        "verdict": "anisotropic",
        "cause": cause,
        "settings": {"answer": "spiral"},
        "alarm": {"p": 0.001, "alpha": 0.05},
        "tests": [{"p_correlated": None}, *({"p_correlated": p} for p in p_clustered)],
    }
    assert ("clustered by itself could look so" in sentences.headline(document)) == said


def test_an_impossible_dipole_is_not_told_as_one() -> None:
    test = {"name": "dipole", "effect": 0.03, "interval": (0.01, 0.2), "ra": 10.0, "dec": -5.0}
    assert "amplitude 0.0300" in sentences.effect_text(test)
    test |= {"effect": 6.3, "interval": (0.1, 31.0)}
    assert sentences.effect_text(test).startswith("amplitude not constrained (fit 6.3000")
