"""Where the network was trained that annotated a catalog, as far as is known here."""

from __future__ import annotations

import hashlib

from catalogs.audit.reading.lineage import lineage
from export.bundle import shipped
from export.manifest import MANIFEST, SKY


def training_sky_of(catalog: str) -> str | None:
    """Return the file of the training sky of a catalog's bundle.

    A catalog holds its bundle's digest, not where the bundle lies: None unless it is the bundle
    that comes with skytally.
    """
    made = lineage(catalog)
    known = hashlib.sha256((shipped() / MANIFEST).read_bytes()).hexdigest()
    same = made is not None and made["bundle_sha256"] == known
    return str(shipped() / SKY) if same else None
