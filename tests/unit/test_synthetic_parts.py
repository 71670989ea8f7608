"""The files between the two kinds of simulating work."""

import gc
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from catalogs.cutouts.partition import Pixel
from catalogs.synthetic.parts import Job, draw_table, gather
from catalogs.synthetic.simulate import SimulationSettings

THREADS, READINGS = 4, 300


@contextmanager
def eager_collector() -> Iterator[None]:
    """Collect often and run Python meanwhile, as Dask's workers do: threads then take turns."""
    before, interval = gc.get_threshold(), sys.getswitchinterval()

    def busy(*_: object) -> None:
        sum(range(200))

    gc.callbacks.append(busy)
    gc.set_threshold(10)
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        sys.setswitchinterval(interval)
        gc.callbacks.remove(busy)


def test_threads_read_the_table_at_the_same_time(tmp_path):
    # Python 3.11 cannot run ast.literal_eval, numpy's reader of .npy heads, in two threads.
    job = Job(str(tmp_path), SimulationSettings(galaxies=300, seed=3, size=32))
    draw_table(job, 0)
    part = Pixel(0, 4)
    expected = gather(job, part)["index"].tolist()

    def read(deeper: int) -> list[int]:  # a different depth of the stack shows the failure
        return read(deeper - 1) if deeper else gather(job, part)["index"].tolist()

    with ThreadPoolExecutor(THREADS) as threads, eager_collector():
        found = list(threads.map(read, [n % THREADS for n in range(READINGS)]))
    assert len(expected) > 10
    assert found == [expected] * READINGS
