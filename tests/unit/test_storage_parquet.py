"""Parquet in memory: read whole, and let go of."""

from __future__ import annotations

import io
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq

from catalogs.storage.parquet import read_parquet


def test_a_table_comes_back(tmp_path):
    table = pa.table({"id": ["a", None], "x": [1.5, float("nan")], "n": [1, 2]})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    (tmp_path / "t.parquet").write_bytes(sink.getvalue())
    assert read_parquet(sink.getvalue()).schema == pq.read_table(tmp_path / "t.parquet").schema
    assert str(read_parquet(sink.getvalue())) == str(table)


def test_nothing_of_it_is_held_by_threads_afterwards():
    """Or a process that is at its end would be aborted when they let go."""
    code = (
        "import io, sys, pyarrow as pa, pyarrow.parquet as pq\n"
        "from catalogs.storage.parquet import read_parquet\n"
        "sink = io.BytesIO(); pq.write_table(pa.table({'x': range(9)}), sink)\n"
        "content = sink.getvalue(); before = sys.getrefcount(content)\n"
        "rows = read_parquet(content).num_rows\n"
        "assert (rows, sys.getrefcount(content)) == (9, before)\n"
        "assert 'pyarrow.dataset' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
