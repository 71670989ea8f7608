"""The ``zarr.json`` documents of a store: parsed, and checked before anything believes them."""

from __future__ import annotations

import json
import math
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from catalogs.cutouts import layout
from catalogs.errors import InputError, IntegrityError

REMEDY = "restore the store from a copy or ingest it again"
Model = TypeVar("Model", bound=BaseModel)


def parse(content: bytes, where: str) -> dict[str, Any]:
    """Return a ``zarr.json`` as JSON values.

    Raises
    ------
    IntegrityError
        It is something else.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{where} cannot be read: {error}; {REMEDY}") from None
    if not isinstance(found, dict):
        raise IntegrityError(f"{where} is no Zarr metadata; {REMEDY}")
    return found


def check_array(where: str, metadata: dict[str, Any]) -> None:
    """Refuse data types, codecs and sizes that no survey store has, before Zarr sees them.

    Raises
    ------
    IntegrityError
        The message names what does not belong there.
    """
    if metadata.get("zarr_format") != 3 or metadata.get("node_type") != "array":
        raise IntegrityError(f"{where} is no array of Zarr format 3; {REMEDY}")
    dtype = metadata.get("data_type")
    if not isinstance(dtype, str) or dtype not in layout.ALLOWED_DTYPES:
        raise IntegrityError(f"{where}: data type {dtype!r} does not belong in a survey store")
    try:
        outer = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        chunk = _check_codecs(where, metadata["codecs"], outer)
        chunks = math.prod(outer) / math.prod(chunk)
        size = math.prod(chunk) * np.dtype(dtype).itemsize
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise IntegrityError(f"{where}: its metadata are damaged ({error!r}); {REMEDY}") from None
    if size > layout.LARGEST_CHUNK or chunks > layout.MOST_CHUNKS_PER_SHARD:
        raise IntegrityError(
            f"{where}: chunks of shape {chunk} in {outer} are larger than a store's ever are"
        )


def _check_codecs(where: str, codecs: list[Any], chunk: list[int]) -> list[int]:
    """Check codecs, and those within; return the shape of the innermost chunks."""
    for codec in codecs:
        name = codec.get("name") if isinstance(codec, dict) else codec
        if name not in layout.ALLOWED_CODECS:
            raise IntegrityError(f"{where}: codec {name!r} does not belong in a survey store")
        configuration = codec.get("configuration", {}) if isinstance(codec, dict) else {}
        _check_codecs(where, configuration.get("index_codecs", []), chunk)
        if "codecs" in configuration:
            inner = configuration["chunk_shape"]
            chunk = _check_codecs(where, configuration["codecs"], inner)
    return chunk


def store_attributes(url: str, document: dict[str, Any]) -> layout.StoreAttributes:
    """Return the root's attributes, compared with their own digest.

    Raises
    ------
    InputError
        It is no survey store, or one of another format.
    IntegrityError
        It is damaged.
    """
    attributes = document.get("attributes")
    own = attributes.get("skytally") if isinstance(attributes, dict) else None
    if not isinstance(own, dict):
        raise InputError(
            f"{url} is a Zarr group but not a survey store; make one with `skytally ingest`"
        )
    if own.get("format_version") != layout.FORMAT_VERSION:
        raise InputError(
            f"{url} is a survey store of format {own.get('format_version')!r}; this skytally reads "
            f"format {layout.FORMAT_VERSION}: ingest the survey again"
        )
    digest = own.get("digest")
    group = (document.get("zarr_format"), document.get("node_type")) == (3, "group")
    if not group or layout.attributes_digest(own) != digest:
        raise IntegrityError(
            f"{url}/{layout.METADATA} is not what was written; restore it from a copy"
        )
    rest = {name: value for name, value in own.items() if name != "digest"}
    return _validated(layout.StoreAttributes, rest, f"{url}/{layout.METADATA}")


def own_attributes(document: dict[str, Any], model: type[Model], where: str) -> Model:
    """Return the attributes of a group below the root.

    Raises
    ------
    IntegrityError
        They are not what a survey store ever holds.
    """
    attributes = document.get("attributes")
    own = attributes.get("skytally") if isinstance(attributes, dict) else None
    return _validated(model, own, where)


def _validated(model: type[Model], values: Any, where: str) -> Model:  # noqa: ANN401
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        raise IntegrityError(f"{where}: {at}: {first['msg']}; {REMEDY}") from None
