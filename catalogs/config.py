"""Flags from a TOML file: the same names as on the command line, all mistakes at once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from catalogs.errors import InputError


def read_flags(path: Path, command: str, known: Mapping[str, str]) -> dict[str, Any]:
    """Return a command's parameters from a TOML file.

    Parameters
    ----------
    path : Path
        The file; several values of one flag may be an array (``columns = ["mag", "z"]``).
    command : str
        The command's name, for messages.
    known : mapping of str to str
        Flags without dashes in front, and the parameter that each one sets.

    Raises
    ------
    InputError
        The file cannot be read, is not TOML, or has unknown keys, which are all named.
    """
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"config {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"config {path} is not TOML: {error}") from None
    unknown = [key for key in values if key not in known]
    if unknown:
        flags = sorted({flag for flag in known if "_" not in flag})
        raise InputError(
            f"config {path}: unknown {', '.join(repr(key) for key in unknown)}; "
            f"'{command}' knows {', '.join(flags)}"
        )
    return {
        known[key]: ",".join(map(str, value)) if isinstance(value, list) else value
        for key, value in values.items()
    }
