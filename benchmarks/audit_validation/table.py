"""The table as Markdown."""

from __future__ import annotations

from benchmarks.audit_validation.row import Check, Row

_HEAD = """# What the audit holds

Made by `make audit-validation`. Galaxies: 10^6 over a survey-like footprint of about 11,000 square
degrees (RA 110 to 265, Dec -4 to 65, b > 25; RA 315 to 45, Dec -10 to 34, b < -28), fraction .49,
drawn as counts of cells of nside 16 or 32 and tested by the audit's own functions. Monte Carlo p
values of a row share one null of 2,000 permuted skies (isotropic: 10,000; after a regression:
4,000; clustered: 400 drawn skies for each). Brackets: 95% interval of the simulation itself
(Clopper-Pearson for shares). A bound is reached when the value keeps it; where the interval goes
beyond the bound, it says so.

| case | what | must hold | found | reached | skies |
|---|---|---|---|---|---|
"""


def page(rows: list[Row]) -> str:
    """Return the whole document."""
    body = "\n".join(line for row in rows for line in lines(row))
    cases: dict[str, list[str]] = {}
    for row in rows:
        cases.setdefault(row.note, []).append(row.case)
    notes = "\n".join(f"- {'; '.join(of)}: {note}." for note, of in cases.items() if note)
    missed = [
        f"{row.case}, {check.what}"
        for row in rows
        for check in row.checks
        if check.reached is False
    ]
    total = sum(row.seconds for row in rows)
    said = f"Not reached: {'; '.join(missed)}." if missed else "Every bound is reached."
    return f"{_HEAD}{body}\n\n{said}\n\n{notes}\n\nProcessor time: {total / 60:.0f} minutes.\n"


def lines(row: Row) -> list[str]:
    """Return one line for each check."""
    return [
        f"| {row.case if at == 0 else ''} | {check.what} | {_bounds(check)} | {_found(check)} | "
        f"{_reached(check)} | {row.skies:,} |"
        for at, check in enumerate(row.checks)
    ]


def _bounds(check: Check) -> str:
    if check.at_least is not None and check.at_most is not None:
        return f"{check.at_least:g} to {check.at_most:g}"
    if check.at_least is not None:
        return f"≥ {check.at_least:g}"
    return "" if check.at_most is None else f"≤ {check.at_most:g}"


def _found(check: Check) -> str:
    return f"{check.value:.4g} [{check.low:.4g}, {check.high:.4g}]"


def _reached(check: Check) -> str:
    if check.reached is None:
        return ""
    beyond = (check.at_least is not None and check.low < check.at_least) or (
        check.at_most is not None and check.high > check.at_most
    )
    sure = "" if not check.reached or not beyond else " (interval goes beyond)"
    return ("yes" if check.reached else "**no**") + sure
