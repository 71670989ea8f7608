"""The exceptions that skytally raises on purpose.

::

    SkytallyError               exit 20  a failure that a retry will not mend
    ├── InputError              exit 2   a value, file or flag that cannot be used
    ├── TooManyBadError         exit 3   more bad rows than --max-bad allows
    ├── BusyError               exit 75  somebody else holds the catalog, or try again later
    └── IntegrityError          exit 20  bytes on disk are not the bytes that were written

A message is one line: the value, what was expected, and the remedy.
"""

import unicodedata


def printable(text: str) -> str:
    """Return text as a terminal may show it: what moves the cursor or hides is written out.

    Names in tables and files are foreign: an escape sequence or a line break in one could forge
    what is printed. Control and format characters, lone surrogates and line separators are escaped.
    """
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in _UNSEEN else c
        for c in text
    )


_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


class SkytallyError(Exception):
    """A failure that a retry will not mend; base of all others."""

    exit_status = 20


class InputError(SkytallyError):
    """A value, file or flag given by the user cannot be used."""

    exit_status = 2


class TooManyBadError(SkytallyError):
    """More rows were bad than ``--max-bad`` allows."""

    exit_status = 3


class BusyError(SkytallyError):
    """Another process holds the resource; the same command may succeed later."""

    exit_status = 75


class IntegrityError(SkytallyError):
    """Stored bytes are missing or changed."""
