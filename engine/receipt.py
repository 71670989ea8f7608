"""Proof that a pixel is done, as it lies on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter, ValidationError

from catalogs.annotated import names
from catalogs.errors import IntegrityError

Text = str | bytes  # a name, since a receipt has bytes of its own


@dataclass(frozen=True, slots=True)
class Part:
    """The objects that one append of the survey brought to a pixel.

    Attributes
    ----------
    append : str
        The append's name in the survey store.
    fingerprint : str
        The partition's content there.
    rows : int
        One per object.
    statuses : dict of str to int
        How many rows have which status.
    id_digest : str
        Digest of the identifiers, in order.
    """

    append: str
    fingerprint: str
    rows: int
    statuses: dict[str, int]
    id_digest: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a pixel's file is whole. Holds nothing that differs between two runs.

    Attributes
    ----------
    pixel : str
        The pixel, ``order-number``.
    recipe : str
        Digest of all that an answer depends on beside its object.
    file, bytes, sha256
        The Parquet file, relative to the catalog, its size and digest.
    parts : tuple of Part
        What it holds, by append, in their order.
    used : dict of str to str
        Decoder, provider, precision and runtime that made it, as they told of themselves.
    """

    pixel: str
    recipe: str
    file: str
    bytes: int
    sha256: str
    parts: tuple[Part, ...]
    used: dict[str, str]

    @property
    def rows(self) -> int:
        """Rows in the file, one per object."""
        return sum(part.rows for part in self.parts)

    @property
    def statuses(self) -> set[str]:
        """The statuses that its rows have."""
        return {status for part in self.parts for status in part.statuses}

    def to_json(self) -> str:
        """Return the receipt as it lies on disk, with its own digest."""
        return json.dumps(asdict(self) | {"digest": self.digest}, indent=1, sort_keys=True)

    @property
    def digest(self) -> str:
        """Digest of all that it says."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_json(cls, content: Text, name: str) -> Receipt:
        """Read what `to_json` wrote.

        Raises
        ------
        IntegrityError
            It is something else.
        """
        remedy = "remove it and annotate again to redo its pixel"
        try:
            receipt = TypeAdapter(cls).validate_json(content, strict=True)
            told = TypeAdapter(_Digest).validate_json(content, strict=True).digest
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "JSON"
            raise IntegrityError(f"{name} is damaged ({where}: {first['msg']}); {remedy}") from None
        # Nobody is led out of the catalog, or to another pixel's file.
        pixel = names.pixel_of(f"{names.RECEIPTS}/{name.rpartition('/')[2]}")
        if pixel is None or receipt.file != names.pixel_file(pixel):
            raise IntegrityError(f"{name} is damaged (file: {receipt.file!r}); {remedy}")
        if told != receipt.digest:
            raise IntegrityError(f"{name} is damaged (it is not what was written); {remedy}")
        return receipt


@dataclass(frozen=True, slots=True)
class _Digest:
    digest: str
