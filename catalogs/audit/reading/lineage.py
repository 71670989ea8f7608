"""What made an annotated catalog: its survey, its network and how this was run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from catalogs.annotated import names
from catalogs.errors import SkytallyError
from catalogs.storage.place import open_place

_OF_PLAN = ("survey_name", "survey_uuid", "bundle_sha256")
_OF_OPTIONS = ("provider", "precision", "runtime_version", "decoder", "decoder_version", "crop")


def lineage(source: str | Path) -> dict[str, str | int] | None:
    """Return what a catalog's plan says; None for a table that skytally did not annotate."""
    try:
        plan: Any = json.loads(open_place(source).read(names.PLAN))
        options = plan["options"]
        told = [plan[name] for name in _OF_PLAN] + [options[name] for name in _OF_OPTIONS]
    except (OSError, ValueError, KeyError, TypeError, SkytallyError):
        return None
    return dict(zip((*_OF_PLAN, *_OF_OPTIONS), told, strict=True))
