"""What is to be done, decided before anything is: pure, and the same on every resume.

The plan holds everything that could change an answer. On resume it may only grow; any other
difference is refused by name.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from catalogs.annotated.metadata import CatalogFacts
from catalogs.cutouts.partition import Pixel
from catalogs.cutouts.store import Partition
from catalogs.errors import InputError, IntegrityError
from export.session import Precision

PLAN_VERSION = 4


@dataclass(frozen=True, slots=True)
class Options:
    """The resolved choices that change answers, whoever made them.

    Attributes
    ----------
    crop : int
        Side of the square around the centre that the network sees [px].
    batch : int
        Cutouts per inference call; batches are consecutive rows of a partition.
    decoder, decoder_version : str
        Which decoder, and its release.
    provider, precision, runtime_version : str
        ONNX Runtime's provider, its arithmetic, its release.
    threads : int
        Threads within one operator.
    columns : tuple of str
        Columns of the survey that travel into the catalog.
    skytally_version : str
        Our own release: one catalog is never of two.
    """

    crop: int
    batch: int
    decoder: str
    decoder_version: str
    provider: str
    precision: Precision
    runtime_version: str
    threads: int
    columns: tuple[str, ...]
    skytally_version: str


@dataclass(frozen=True, slots=True)
class Work:
    """One pixel of the catalog: every append's objects that lie in it, and how far it is.

    Attributes
    ----------
    pixel : Pixel
        The unit of work, and one file of the catalog.
    parts : tuple of Partition
        The survey's partitions in this pixel, in the order of their appends.
    done : int
        How many of them the catalog holds already.
    """

    pixel: Pixel
    parts: tuple[Partition, ...]
    done: int = 0

    @property
    def rows(self) -> int:
        """Number of objects still to annotate."""
        return sum(part.rows for part in self.parts[self.done :])


@dataclass(frozen=True, slots=True)
class Plan:
    """A survey, a bundle, the options, and the ordered partitions."""

    survey_uuid: str
    survey_name: str
    bundle_sha256: str
    options: Options
    partitions: tuple[Partition, ...]

    @property
    def rows(self) -> int:
        """Number of objects to annotate."""
        return sum(partition.rows for partition in self.partitions)

    def work(self) -> tuple[Work, ...]:
        """Return the pixels, in the order in which the survey first names them."""
        parts: dict[Pixel, list[Partition]] = {}
        for partition in self.partitions:
            parts.setdefault(partition.pixel, []).append(partition)
        return tuple(Work(pixel, tuple(found)) for pixel, found in parts.items())

    def description(self, url: str) -> tuple[list[Pixel], CatalogFacts]:
        """Return what the metadata of the whole catalog say, which lies at ``url``."""
        name = url.rstrip("/").rpartition("/")[2]
        facts = CatalogFacts(name, self.rows, self.survey_uuid, self.bundle_sha256)
        return [work.pixel for work in self.work()], facts

    @property
    def recipe_id(self) -> str:
        """Digest of all but the partitions: what an answer depends on beside its object."""
        recipe = self.to_json()
        del recipe["partitions"]
        text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {
            "plan_version": PLAN_VERSION,
            "survey_uuid": self.survey_uuid,
            "survey_name": self.survey_name,
            "bundle_sha256": self.bundle_sha256,
            "options": asdict(self.options) | {"columns": list(self.options.columns)},
            "partitions": [
                [p.append, p.pixel.order, p.pixel.number, p.start, p.stop, p.fingerprint]
                for p in self.partitions
            ],
        }

    @classmethod
    def from_json(cls, content: bytes, where: str) -> Plan:
        """Return the plan that `to_json` described.

        Parameters
        ----------
        content : bytes
            JSON.
        where : str
            For messages.

        Raises
        ------
        InputError
            It was written by another version.
        IntegrityError
            It is something else.
        """
        try:
            version = TypeAdapter(_Version).validate_json(content).plan_version
            if version != PLAN_VERSION:
                raise InputError(
                    f"{where} has version {version!r}; this skytally resumes version "
                    f"{PLAN_VERSION}: annotate into another catalog"
                )
            told = TypeAdapter(_Written).validate_json(content, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            at = ".".join(map(str, first["loc"])) or "JSON"
            raise IntegrityError(
                f"{where} is damaged ({at}: {first['msg']}); restore it from a copy"
            ) from None
        partitions = tuple(
            Partition(append, Pixel(order, number), start, stop, fingerprint)
            for append, order, number, start, stop, fingerprint in told.partitions
        )
        return cls(told.survey_uuid, told.survey_name, told.bundle_sha256, told.options, partitions)


@dataclass(frozen=True, slots=True)
class _Version:
    plan_version: Any


@dataclass(frozen=True, slots=True)
class _Written:
    """A plan as it lies on disk."""

    survey_uuid: str
    survey_name: str
    bundle_sha256: str
    options: Options
    partitions: list[tuple[str, int, int, int, int, str]]


def check_resumable(begun: Plan, asked: Plan) -> None:
    """Refuse to go on with a catalog that was begun with anything else.

    Raises
    ------
    InputError
        A field differs; the message names it and both values.
    """
    differences = [
        (name, getattr(begun, name), getattr(asked, name))
        for name in ("survey_uuid", "survey_name", "bundle_sha256")
    ]
    differences += [
        (f"options.{name}", getattr(begun.options, name), getattr(asked.options, name))
        for name in Options.__slots__
    ]
    for name, old, new in differences:
        if old != new:
            raise InputError(
                f"the catalog was begun with {name} = {old!r}, now it is {new!r}; "
                "use the same, or annotate into another catalog"
            )
    known = begun.partitions
    if asked.partitions[: len(known)] != known:
        at = next(
            (
                i
                for i, pair in enumerate(zip(known, asked.partitions, strict=False))
                if len(set(pair)) > 1
            ),
            len(asked.partitions),
        )
        where = known[at]
        raise InputError(
            f"the survey has changed since the catalog was begun: partition {at} (pixel "
            f"{where.pixel}, fingerprint {where.fingerprint[:12]}) is not there any more; "
            "restore the survey, or annotate into another catalog"
        )
