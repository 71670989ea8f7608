"""Names that travel from part to part: columns, statuses, and classes made from a column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.errors import InputError

HEALPIX_COLUMN = "_healpix_29"
LABEL_COLUMN = "label"
NIGHT_COLUMN = "night"  # which append of the survey brought the object
PROBABILITY_PREFIX = "p_"

# Classes become columns of catalogs and words on terminals: one line, printable.
LABEL_PATTERN = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$"
LONGEST_LABEL = 64

OK = "ok"
DECODE_ERROR = "decode_error"
CHECKSUM_ERROR = "checksum_error"
BLANK = "blank"
TOO_SMALL = "too_small"
BAD_PIXELS = "bad_pixels"
NO_ANSWER = "no_answer"
STATUSES = (OK, DECODE_ERROR, CHECKSUM_ERROR, BLANK, TOO_SMALL, BAD_PIXELS, NO_ANSWER)


@dataclass(frozen=True, slots=True)
class ClassMap:
    """Which values of a column mean which class, such as spiral = clockwise or anticlockwise.

    Values that no class names have no label (null).
    """

    classes: tuple[tuple[str, tuple[str, ...]], ...]

    @classmethod
    def parse(cls, text: str) -> ClassMap:
        """Read ``spiral=spiral_clockwise|spiral_anticlockwise|edge_on,elliptical=elliptical``.

        Raises
        ------
        InputError
            The text has another form, or a value stands for two classes.
        """
        classes: dict[str, tuple[str, ...]] = {}
        for part in text.split(","):
            name, equals, values = part.partition("=")
            members = tuple(value.strip() for value in values.split("|") if value.strip())
            if not equals or not name.strip() or not members or name.strip() in classes:
                raise InputError(
                    f"classes {text!r}: {part!r} is not CLASS=VALUE|VALUE…, "
                    "such as spiral=spiral_clockwise|edge_on,elliptical=elliptical"
                )
            classes[name.strip()] = members
        values_of_all = [value for members in classes.values() for value in members]
        for value in values_of_all:
            if values_of_all.count(value) > 1:
                raise InputError(f"classes {text!r}: value {value!r} stands for two classes")
        return cls(tuple(classes.items()))

    @property
    def values(self) -> frozenset[str]:
        """Every value that some class names."""
        return frozenset(value for _, members in self.classes for value in members)

    def apply(self, values: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
        """Return the class of each value, an object array of ``str``; None where no class is."""
        class_of = {value: name for name, members in self.classes for value in members}
        return np.asarray([class_of.get(str(value)) for value in values], dtype=object)

    def __str__(self) -> str:
        return ",".join(f"{name}={'|'.join(members)}" for name, members in self.classes)
