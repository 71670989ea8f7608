"""Flags and settings from a TOML file: unknown names are refused, all mistakes at once."""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from catalogs.errors import InputError

if TYPE_CHECKING:
    from pydantic import ValidationError

Settings = TypeVar("Settings")


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file says.

    Raises
    ------
    InputError
        The file cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"config {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"config {path} is not TOML: {error}") from None


def parse(kind: type[Settings], values: Mapping[str, Any], origin: str) -> Settings:
    """Return settings, a dataclass of pydantic's, from TOML or JSON values.

    Raises
    ------
    InputError
        Unknown names or impossible values, all of them in one line.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        raise InputError(f"{origin}: {faults(error)}") from None


def faults(error: ValidationError) -> str:
    """Return all that is wrong with settings in one line."""
    return "; ".join(
        ": ".join(part for part in (".".join(map(str, item["loc"])), item["msg"]) if part)
        for item in error.errors(include_url=False, include_input=False)
    )


def read_flags(path: Path, command: str, known: Mapping[str, str]) -> dict[str, Any]:
    """Return a command's parameters from a TOML file.

    Parameters
    ----------
    path : Path
        The file; several values of one flag may be an array (``columns = ["mag", "z"]``), which
        becomes a list as `names_in` reads it.
    command : str
        The command's name, for messages.
    known : mapping of str to str
        Flags without dashes in front, and the parameter that each one sets.

    Raises
    ------
    InputError
        The file cannot be read, is not TOML, or has unknown keys, which are all named.
    """
    values = read_toml(path)
    unknown = [key for key in values if key not in known]
    if unknown:
        flags = sorted({flag for flag in known if "_" not in flag})
        raise InputError(
            f"config {path}: unknown {', '.join(repr(key) for key in unknown)}; "
            f"'{command}' knows {', '.join(flags)}"
        )
    return {
        known[key]: list_of(map(str, value)) if isinstance(value, list) else value
        for key, value in values.items()
    }


def names_in(text: str | None) -> tuple[str, ...]:
    """Return the names of a list that is separated by commas; none without one.

    A name that has a comma in it stands in double quotes, as in a CSV file: ``"u-g, dered",z``.

    Raises
    ------
    InputError
        A quote is not closed, or more follows it than a comma.
    """
    if text is None:
        return ()
    try:
        names = next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise InputError(
            f'list {text!r}: {error}; write names with a comma in double quotes: "a,b",c'
        ) from None
    return tuple(name.rstrip() for name in names or [""])


def list_of(names: Iterable[str]) -> str:
    """Return names as a list that `names_in` reads."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()
