"""Every name in an annotated catalog, in one place.

::

    NAME/                         a HATS catalog
      dataset/Norder=K/Dir=D/Npix=N.parquet   one file per partition
      dataset/_metadata  dataset/_common_metadata  partition_info.csv  hats.properties
      run/plan.json                 what is to be done, and with what
      run/receipts/K-N.AAAAA.json   what is done of pixel K-N, up to the append AAAAA of the survey:
                                    rows, digests; the only proof that readers trust
      run/next/K-N.parquet          a pixel's file with a later append's objects, until its receipt
                                    is written and it replaces the old one
      run/timings/K-N.AAAAA.json    how long it took, on which worker
      run/progress.json             what the driver that is at work last knew
      run/run.json                  the latest command's summary
      run/lock                      held by the one driver
      run/turn                      which command's workers may write
"""

from __future__ import annotations

import re

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
TURN = f"{RUN}/turn"
RECEIPTS = f"{RUN}/receipts"
TIMINGS = f"{RUN}/timings"
NEXT = f"{RUN}/next"
PROGRESS = f"{RUN}/progress.json"
_PIXEL = r"(\d+)-(\d+)"
PIXELS_PER_FOLDER = 10_000  # HATS' Dir= groups


def pixel_file(pixel: Pixel) -> str:
    """Return the Parquet file of a pixel, relative to the catalog (HATS note, section 3)."""
    folder = pixel.number // PIXELS_PER_FOLDER * PIXELS_PER_FOLDER
    return f"{DATASET}/Norder={pixel.order}/Dir={folder}/Npix={pixel.number}.parquet"


def receipt_file(pixel: Pixel, append: str) -> str:
    """Return the receipt of a pixel up to an append, relative to the catalog."""
    return f"{RECEIPTS}/{pixel}.{append}.json"


def next_file(pixel: Pixel) -> str:
    """Return where a pixel's next file waits for its receipt, relative to the catalog."""
    return f"{NEXT}/{pixel}.parquet"


def timing_file(pixel: Pixel, append: str) -> str:
    """Return the timings of a pixel, relative to the catalog."""
    return f"{TIMINGS}/{pixel}.{append}.json"


def pixel_of(name: str) -> Pixel | None:
    """Return the pixel from the name of a receipt or a waiting file; None for a stranger's."""
    found = re.fullmatch(rf"(?:{RECEIPTS}/{_PIXEL}\.\d+\.json|{NEXT}/{_PIXEL}\.parquet)", name)
    if found is None:
        return None
    order, number = (int(group) for group in found.groups() if group is not None)
    return Pixel(order, number)
