"""The runs of the experiments: the sky of each, what is true there, and what its page says."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Rows = Sequence[Mapping[str, Any]]

ZOO = "Galaxy Zoo 1"
LARGE = "100,000 simulated, seeing with the class in field 1"
CONTROL = "100,000 simulated, nothing with the class"
BRIGHT = "100,000 simulated, background with the class"
WORLDS = "5,000 simulated a world"
UNKNOWN = "not known"


@dataclass(frozen=True)
class Run:
    """An experiment, the sky it ran on, and what is true there."""

    title: str
    sky: str
    truth: str


RUNS = {
    "gz1-swap": Run("Sky swap", ZOO, UNKNOWN),
    "large-swap": Run(
        "Sky swap",
        LARGE,
        "networks that learnt one class in field 1 and the other elsewhere must shift",
    ),
    "control-swap": Run("Sky swap", CONTROL, "no training sky matters but by the conditions"),
    "gz1-size": Run("Training size", ZOO, UNKNOWN),
    "large-size": Run("Training size", LARGE, "more labels help"),
    "gz1-blank": Run("Blank sky", ZOO, UNKNOWN),
    "large-blank": Run("Blank sky", LARGE, "sky without the galaxy tells nothing"),
    "control-blank": Run("Blank sky", CONTROL, "sky without the galaxy tells nothing"),
    "bright-blank": Run(
        "Blank sky", BRIGHT, "it tells the class; the sky of another galaxy does not"
    ),
    "gz1-probe": Run("Sky probe", ZOO, UNKNOWN),
    "large-probe": Run("Sky probe", LARGE, "fields differ in their conditions"),
    "control-probe": Run("Sky probe", CONTROL, "fields differ in their conditions"),
    "large-photometry": Run("Photometry", LARGE, "the training region matters, by alpha alone"),
    "control-photometry": Run("Photometry", CONTROL, "the training region does not matter"),
    "gz1-debias": Run("De-biasing", ZOO + ", radii measured, seeing assumed", UNKNOWN),
    "large-debias": Run(
        "De-biasing", LARGE, "theta 9.18; people miss disks that are poorly resolved"
    ),
    "large-remedies": Run("Remedies", LARGE, "the swap of fields 1 and 2 must shift"),
    "large-ddb": Run(
        "Remedies: the de-biasing loss",
        LARGE + "; networks learn from biased labels",
        "the swap of fields 1 and 2 must shift",
    ),
    "worlds-seeing": Run("Four worlds", WORLDS + ", seeing misleads", "four verdicts a seed"),
    "worlds-background": Run(
        "Four worlds", WORLDS + ", background misleads", "two verdicts a seed"
    ),
    "worlds-depth": Run("Four worlds", WORLDS + ", noise misleads", "two verdicts a seed"),
}


@dataclass(frozen=True)
class Results:
    """What an experiment wrote."""

    document: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "Results | None":
        """Return the results in a folder; None where there are none yet."""
        file = folder / "results.json"
        return cls(json.loads(file.read_text())) if file.is_file() else None

    def rows(self, table: str, **chosen: object) -> Rows:
        """Return the rows of a table that have these values; none where the table is not there."""
        tables = self.document["tables"]
        rows = tables[table]["rows"] if table in tables else []
        return [row for row in rows if all(row[name] == value for name, value in chosen.items())]


def glance(read: Mapping[str, Results | None]) -> str:
    """Return the table of all runs: what is true of the sky, and what was said."""
    lines = ["| run | experiment | sky | true there | said |", "|---|---|---|---|---|"]
    for name, found in read.items():
        run = RUNS[name]
        said = "not run" if found is None else cell(found.document["headline"])
        lines.append(f"| `{name}` | {run.title} | {run.sky} | {run.truth} | {said} |")
    return "\n".join(lines)


QUANTITIES = {
    "galaxies per square degree": "galaxies per square degree",
    "star_density": "stars per square arcmin",
    "mag_r": "magnitude r",
    "seeing": "seeing [arcsec]",
    "depth": "depth [mag]",
    "background": "background left [nmgy per square arcsec]",
    "airmass": "airmass",
    "ebv": "E(B-V) [mag]",
}


def regions(read: Mapping[str, Results | None]) -> str:
    """Return what the regions of the sky swaps are like, as DS22's table 2; means and scatter."""
    parts = []
    for name in ("large-swap", "control-swap", "gz1-swap"):
        if (found := read[name]) is None:
            continue
        rows = {row["quantity"]: row for row in found.rows("fields")}
        columns = found.document["tables"]["fields"]["columns"]
        fields = [one.removeprefix("mean ") for one in columns if one.startswith("mean ")]
        lines = [
            f"| `{name}`: mean ± standard deviation | {' | '.join(fields)} |",
            "|---" * (1 + len(fields)) + "|",
        ]
        for quantity, told in QUANTITIES.items():
            if (row := rows.get(quantity)) is not None:
                values = " | ".join(spread(row, field) for field in fields)
                lines.append(f"| {told} | {values} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) or "No sky swap was run."


def spread(row: Mapping[str, Any], field: str) -> str:
    """Return a mean and its standard deviation in a region."""
    mean, sd = row[f"mean {field}"], row[f"sd {field}"]
    return f"{mean:.4g}" if sd is None else f"{mean:.4g} ± {sd:.2g}"


def cell(text: str) -> str:
    """Return a text that cannot end a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def runs(read: Mapping[str, Results | None]) -> str:
    """Return what each run says of itself, in its own words."""
    parts = []
    for name, found in read.items():
        if found is None:
            continue
        document, run = found.document, RUNS[name]
        said = "\n".join(f"- {finding}" for finding in document["findings"])
        minutes = sum(step["seconds"] for step in document["steps"].values()) / 60
        parts.append(
            f"### {run.title}: {run.sky}\n\n**{document['headline']}** "
            f"(`{name}`: {scale(document)}, {minutes:.1f} minutes on a shared machine; sources "
            f"{document['versions']['sources']}.)\n\n"
            f"{said}"
        )
    return "\n\n".join(parts)


def scale(document: Mapping[str, Any]) -> str:
    """Return how large a run was."""
    seeds = document["settings"]["seeds"]
    said = f"{seeds} seed{'s' if seeds > 1 else ''}, {len(document['steps'])} steps"
    survey = document["survey"]
    return said if survey is None else f"{survey['rows']:,} galaxies, {said}"
