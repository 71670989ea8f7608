"""Parquet files that lie in memory."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq


def read_parquet(content: bytes) -> pa.Table:
    """Return the rows of a Parquet file.

    Everything happens in this thread. `pyarrow.parquet.read_table` reads through a thread of
    Arrow's, which may let go of the bytes only when Python is ending already: that aborts the
    process after its work is done.
    """
    with pq.ParquetFile(pa.BufferReader(content), pre_buffer=False) as file:
        return file.read(use_threads=False)
