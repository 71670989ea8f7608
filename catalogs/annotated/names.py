"""Every name in an annotated catalog, in one place.

::

    NAME/                         a HATS catalog
      dataset/Norder=K/Dir=D/Npix=N.parquet   one file per partition
      dataset/_metadata  dataset/_common_metadata  partition_info.csv  hats.properties
      run/plan.json                 what is to be done, and with what
      run/receipts/K-N.json         what is done: rows, digests; the only proof that readers trust
      run/timings/K-N.json          how long it took, on which worker
      run/run.json                  the latest command's summary
      run/lock                      held by the one driver
"""

from __future__ import annotations

from pathlib import Path

from catalogs.cutouts.partition import Pixel

DATASET = "dataset"
PROPERTIES = "hats.properties"
PARTITION_INFO = "partition_info.csv"
METADATA = f"{DATASET}/_metadata"
COMMON_METADATA = f"{DATASET}/_common_metadata"
RUN = "run"
PLAN = f"{RUN}/plan.json"
SUMMARY = f"{RUN}/run.json"
LOCK = f"{RUN}/lock"
RECEIPTS = f"{RUN}/receipts"
TIMINGS = f"{RUN}/timings"
TEMPORARY_SUFFIX = ".partial"
PIXELS_PER_FOLDER = 10_000  # HATS' Dir= groups


def pixel_file(pixel: Pixel) -> str:
    """Return the Parquet file of a pixel, relative to the catalog (HATS note, section 3)."""
    folder = pixel.number // PIXELS_PER_FOLDER * PIXELS_PER_FOLDER
    return f"{DATASET}/Norder={pixel.order}/Dir={folder}/Npix={pixel.number}.parquet"


def receipt_file(pixel: Pixel) -> str:
    """Return the receipt of a pixel, relative to the catalog."""
    return f"{RECEIPTS}/{pixel}.json"


def timing_file(pixel: Pixel) -> str:
    """Return the timings of a pixel, relative to the catalog."""
    return f"{TIMINGS}/{pixel}.json"


def is_catalog(path: Path) -> bool:
    """Say whether a folder was begun as an annotated catalog."""
    return (path / PLAN).is_file()
